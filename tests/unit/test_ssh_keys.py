"""What is an SSH public key, and what is said of everything else."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulumi_fal.api.ssh_keys import HOW, PublicKey, parse, same

from ..fakes import ECDSA, ED25519, RSA, blob

SK = b"sk-ssh-ed25519@openssh.com"
KINDS = {
    "ssh-ed25519": ED25519,
    "ssh-rsa": RSA,
    "ecdsa-sha2-nistp256": ECDSA,
    SK.decode(): f"{SK.decode()} {blob(SK, bytes(32), b'ssh:')}",
}
DAMAGED = f"is damaged: its base64 part was cut off or changed. {HOW}"
PATH = f"is the name of a file, not a key: read the file in your program. {HOW}"
OPTIONS = f"starts with authorized_keys options, which are not part of the key. {HOW}"
BEGIN = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the callers compare the text
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["{}", "{} me@laptop", "{} a comment of words\n", "\n  {}\r\n"])
def test_a_key_is_its_type_and_blob(kind: str, around: str) -> None:
    """A key is its type and blob, and comment and white space don't count."""
    line = KINDS[kind]
    assert parse(around.format(line)) == PublicKey(kind, line.split()[1])


@pytest.mark.parametrize("text", ["", " ", "\n\t\n"])
def test_blank_is_called_blank(text: str) -> None:
    """A blank text, as from an unset variable, is called blank."""
    assert refusal(text) == f"is blank. {HOW}"


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN}\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH " + "PRIVATE KEY-----",
        "-----BEGIN RSA " + "PRIVATE KEY----- MIIEpAIB",
        f"{BEGIN} {ED25519}",
    ],
)
def test_a_private_key_is_called_one_and_is_not_repeated(text: str) -> None:
    """A private key is called one, and no part of it is repeated."""
    said = refusal(text)
    assert said.startswith(
        "is a PRIVATE key, which must not leave your computer, and was not sent."
    )
    assert "b3BlbnNz" not in said
    assert "MIIEpAIB" not in said


def test_several_keys_are_counted() -> None:
    """Several keys are counted, since the API takes one."""
    said = f"has 3 lines; it must be one key on one line. {HOW}"
    assert refusal(f"{ED25519}\n{RSA}\n\n{ECDSA}\n") == said


@pytest.mark.parametrize(
    "text",
    [
        "~/.ssh/id_ed25519.pub",
        "~/keys/mine",
        "/home/me/.ssh/id_ed25519.pub",
        "./id_rsa.pub",
        "../keys/id_rsa",
        "C:\\Users\\me\\.ssh\\id_rsa.pub",
        "file:///home/me/id.pub",
        "id_ed25519.pub",
        "keys/id_ed25519",
    ],
)
def test_a_file_name_is_called_one(text: str) -> None:
    """A file name in place of the file's contents is the most common mistake."""
    assert refusal(text) == PATH


def test_authorized_keys_options_are_called_so() -> None:
    """Options of an authorized_keys file are no part of a key."""
    assert refusal(f"no-pty,command=true {ED25519}") == OPTIONS


def test_a_dsa_key_is_called_one() -> None:
    """A DSA key is called one, since OpenSSH once took them."""
    assert refusal("ssh-dss AAAAB3NzaC1kc3M=").startswith("is a DSA key, which OpenSSH no longer")


@pytest.mark.parametrize(
    "text", ["hunter2", "AAAAC3NzaC1lZDI1NTE5", "ssh-ed448 AAAA", "SSH-RSA AA"]
)
def test_another_beginning_lists_the_known_types_and_not_the_text(text: str) -> None:
    """The text may be a secret that got into the wrong variable."""
    said = refusal(text)
    assert said.startswith("does not start with a known key type (ssh-ed25519, ssh-rsa, ")
    assert text not in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_alone_is_not_a_key(kind: str) -> None:
    """A type alone is no key, as when a line was cut at its first space."""
    assert refusal(kind) == f"has a type and nothing after it. {HOW}"


@pytest.mark.parametrize(
    "line",
    [
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
)
def test_a_damaged_key_is_called_damaged(line: str) -> None:
    """A key that lost its end when it was copied is called damaged."""
    assert refusal(line) == DAMAGED


def test_a_blob_of_another_type_is_told_apart() -> None:
    """A type and a blob of another type don't belong together."""
    said = f"says ssh-rsa, but its base64 part has another type. {HOW}"
    assert refusal(f"ssh-rsa {ED25519.split()[1]}") == said


def test_an_rsa_key_that_openssh_would_refuse_is_refused() -> None:
    """An RSA key that OpenSSH would refuse could never be used to log in."""
    weak = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xc5" * 64)
    assert refusal(weak) == "is an RSA key of under 1024 bits, which OpenSSH refuses."


def test_the_same_key_with_another_comment_is_the_same() -> None:
    """The same key with another comment is the same, and costs no machine."""
    assert same(f"{ED25519} me@laptop", f"  {ED25519} me@desk\n")
    assert not same(ED25519, RSA)


def test_what_is_no_key_equals_only_itself() -> None:
    """State may hold what an older version let pass."""
    assert same("anything\n", "anything")
    assert not same("anything", "another thing")
    assert not same(ED25519, "anything")


@given(st.binary(min_size=32, max_size=32), st.text())
def test_a_parsed_key_written_out_parses_to_itself(key: bytes, comment: str) -> None:
    """A key that is parsed and written out is the same key."""
    comment = " ".join(comment.replace("PRIVATE KEY", "").splitlines())
    parsed = parse(f"ssh-ed25519 {blob(b'ssh-ed25519', key)} {comment}")
    assert parse(parsed.line) == parsed
    assert parsed.line == f"ssh-ed25519 {blob(b'ssh-ed25519', key)}"


ANYTHING = st.one_of(
    st.text(),
    st.builds(
        "{} {}".format,
        st.sampled_from(sorted(KINDS)),
        st.one_of(st.text(), st.binary().map(lambda data: base64.b64encode(data).decode())),
    ),
    st.builds(
        lambda kind, fields: f"{kind} {blob(kind.encode(), *fields)}",
        st.sampled_from(sorted(KINDS)),
        st.lists(st.binary(max_size=40), max_size=4),
    ),
)


@given(ANYTHING)
@example("ssh-ed25519 /w==")
def test_no_text_does_worse_than_valueerror(text: str) -> None:
    """A check that crashes shows a traceback in place of the reason."""
    with contextlib.suppress(ValueError):
        assert parse(text).line
