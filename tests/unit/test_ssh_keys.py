"""What is an SSH public key, and what is said of everything else."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulumi_fal.api.models import HOW, parse_key, same_key

from ..fakes import ECDSA, ED25519, RSA, blob

SK = b"sk-ssh-ed25519@openssh.com"
KINDS = {
    "ssh-ed25519": ED25519,
    "ssh-rsa": RSA,
    "ecdsa-sha2-nistp256": ECDSA,
    SK.decode(): f"{SK.decode()} {blob(SK, bytes(32), b'ssh:')}",
}
BEGIN = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["{}", "{} me@laptop", "{} a comment of words\n", "\n  {}\r\n"])
def test_key(kind: str, around: str) -> None:
    """A key is its type and blob, and comment and white space don't count."""
    line = KINDS[kind]
    assert parse_key(around.format(line)) == " ".join(line.split()[:2])


WEAK = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xc5" * 64)
REFUSED: dict[str, list[str]] = {
    f"is blank. {HOW}": ["", " ", "\n\t\n"],
    "is a PRIVATE key, which must not leave your computer, and was not sent": [
        f"{BEGIN}\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH " + "PRIVATE KEY-----",
        "-----BEGIN RSA " + "PRIVATE KEY----- MIIEpAIB",
        f"{BEGIN} {ED25519}",
    ],
    f"has 3 lines; it must be one key on one line. {HOW}": [f"{ED25519}\n{RSA}\n\n{ECDSA}\n"],
    f"is the name of a file, not a key: read the file in your program. {HOW}": [
        "~/keys/mine",
        "/home/me/.ssh/id_ed25519.pub",
        "../keys/id_rsa",
        "C:\\Users\\me\\.ssh\\id_rsa.pub",
        "file:///home/me/id.pub",
        "id_ed25519.pub",
        "keys/id_ed25519",
    ],
    f"starts with authorized_keys options, which are not part of the key. {HOW}": [
        f"no-pty,command=true {ED25519}"
    ],
    "is a DSA key, which OpenSSH no longer": ["ssh-dss AAAAB3NzaC1kc3M="],
    "does not start with a known key type (ssh-ed25519, ssh-rsa, ": [
        "hunter2",
        "AAAAC3NzaC1lZDI1NTE5",
        "ssh-ed448 AAAA",
        "SSH-RSA AA",
    ],
    f"has a type and nothing after it. {HOW}": [*KINDS],
    f"is damaged: its base64 part was cut off or changed. {HOW}": [
        ED25519[:-4],
        ED25519[:-1],
        ED25519 + "AAAA",
        ED25519 + "!!!!",
        RSA[:-40],
        "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(31)),
        "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(33)),
        "ssh-ed25519 " + blob(b"ssh-ed25519"),
        "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(32), b"more"),
        "ssh-ed25519 " + blob(b"ssh-ed25519", b"", bytes(32)),
        "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1"),
        "ssh-ed25519 " + base64.b64encode(b"\0\0").decode(),
        "ssh-ed25519 schlüssel",
    ],
    f"says ssh-rsa, but its base64 part has another type. {HOW}": [f"ssh-rsa {ED25519.split()[1]}"],
    "is an RSA key of under 1024 bits, which OpenSSH refuses.": [WEAK],
}


@pytest.mark.parametrize(
    "text, said", [(text, said) for said, texts in REFUSED.items() for text in texts]
)
def test_refused(text: str, said: str) -> None:
    """A text that is no key is called what it is, and no part of a secret is repeated."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is compared
        parse_key(text)
    assert str(caught.value).startswith(said)
    assert str(caught.value) == said or not said.endswith(".")
    for secret in ("b3BlbnNz", "MIIEpAIB", "hunter2", "AAAA"):
        assert secret not in str(caught.value).removesuffix(HOW)


def test_same() -> None:
    """The comment of a key doesn't count, and a text that is no key equals only itself."""
    assert same_key(f"{ED25519} me@laptop", f"  {ED25519} me@desk\n")
    assert not same_key(ED25519, RSA)
    assert same_key("anything\n", "anything")
    assert not same_key("anything", "another thing")
    assert not same_key(ED25519, "anything")


ANYTHING = st.one_of(
    st.text(),
    st.builds("{} {}".format, st.sampled_from(sorted(KINDS)), st.text()),
    st.builds(
        lambda kind, fields: f"{kind} {blob(kind.encode(), *fields)}",
        st.sampled_from(sorted(KINDS)),
        st.lists(st.binary(max_size=40), max_size=4),
    ),
)


@settings(max_examples=30)
@given(ANYTHING)
@example("ssh-ed25519 /w==")
def test_any_text(text: str) -> None:
    """A check that crashes shows a traceback in place of the reason. What is read is a key."""
    with contextlib.suppress(ValueError):
        parsed = parse_key(text)
        assert parse_key(parsed) == parsed
