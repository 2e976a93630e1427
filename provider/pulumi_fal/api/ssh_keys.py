"""Parses SSH public keys as OpenSSH does: a line of type, base64 and comment (RFC 4253, 6.6)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

_FIELDS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
"""The key types that OpenSSH accepts, with the number of fields after the type's name."""

HOW = "Use the line in the public key's file, as `cat ~/.ssh/id_ed25519.pub` prints it."


PRIVATE = (
    "is a PRIVATE key, which must not leave your computer, and was not sent. Use the public key "
    "in its place, the line that `cat ~/.ssh/id_ed25519.pub` prints."
)


@dataclass(frozen=True)
class PublicKey:
    """A public key without its comment. Keys are equal if type and blob are."""

    type: str
    blob: str

    @property
    def line(self) -> str:
        return f"{self.type} {self.blob}"


def parse(text: str) -> PublicKey:
    """Return the key in `text`. Raises ValueError with the problem, without quoting the text."""
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"is blank. {HOW}")
    if is_private(stripped):
        raise ValueError(PRIVATE)
    lines = [line for line in stripped.splitlines() if line.strip()]
    if len(lines) > 1:
        raise ValueError(f"has {len(lines)} lines; it must be one key on one line. {HOW}")
    if _looks_like_a_path(stripped):
        raise ValueError(f"is the name of a file, not a key: read the file in your program. {HOW}")
    words = stripped.split()
    if words[0] not in _FIELDS:
        raise ValueError(_wrong_start(words))
    if len(words) < 2:
        raise ValueError(f"has a type and nothing after it. {HOW}")
    _check_blob(words[0], words[1])
    return PublicKey(words[0], words[1])


def is_private(text: str) -> bool:
    """Whether the text contains a private key in one of the formats that have a header."""
    return "PRIVATE KEY" in text


def canonical(text: str) -> str:
    """Return the key without its comment, or the text itself if it is no key."""
    try:
        return parse(text).line
    except ValueError:
        return text.strip()


def same(one: str, other: str) -> bool:
    """Whether two texts are the same key."""
    return canonical(one) == canonical(other)


def _looks_like_a_path(text: str) -> bool:
    return bool(re.match(r"(~|\.{0,2}/|[A-Za-z]:\\|file:)", text)) or (
        " " not in text and text.endswith((".pub", "id_rsa", "id_ed25519", "id_ecdsa"))
    )


def _wrong_start(words: list[str]) -> str:
    if any(word in _FIELDS for word in words[1:]):
        return f"starts with authorized_keys options, which are not part of the key. {HOW}"
    if words[0] == "ssh-dss":
        return (
            "is a DSA key, which OpenSSH no longer accepts; make one with `ssh-keygen -t ed25519`"
        )
    return f"does not start with a known key type ({', '.join(_FIELDS)}). {HOW}"


def _check_blob(key_type: str, blob: str) -> None:
    """Raise ValueError unless the base64 contains the type, then the type's number of fields."""
    damaged = f"is damaged: its base64 part was cut off or changed. {HOW}"
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(damaged) from None
    fields = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length or not length:
            raise ValueError(damaged)
        fields.append(data[4 : 4 + length])
        data = data[4 + length :]
    if not fields or fields[0] != key_type.encode():
        raise ValueError(f"says {key_type}, but its base64 part has another type. {HOW}")
    short = key_type == "ssh-ed25519" and len(fields[-1]) != 32
    weak = key_type == "ssh-rsa" and len(fields[-1]) < 128
    curve = re.search(r"nistp\d+", key_type)
    other_curve = curve is not None and fields[1:2] != [curve[0].encode()]
    if len(fields) != 1 + _FIELDS[key_type] or short or other_curve:
        raise ValueError(damaged)
    if weak:
        raise ValueError("is an RSA key of under 1024 bits, which OpenSSH refuses.")
