"""The API's data types: machines, their types, sectors and statuses; and SSH public keys.

Keys are parsed as OpenSSH does: a line of type, base64 and comment (RFC 4253, 6.6).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any

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


def parse_key(text: str) -> str:
    """Return the key without its comment. Raises ValueError with the problem, without the text."""
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"is blank. {HOW}")
    if is_private_key(stripped):
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
    return f"{words[0]} {words[1]}"


def is_private_key(text: str) -> bool:
    """Whether the text contains a private key in one of the formats that have a header."""
    return "PRIVATE KEY" in text


def canonical(text: str) -> str:
    """Return the key without its comment, or the text itself if it is no key."""
    try:
        return parse_key(text)
    except ValueError:
        return text.strip()


def same_key(one: str, other: str) -> bool:
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


class InstanceType(str, Enum):
    """The types of machines that fal Compute offers."""

    gpus: int
    """The number of GPUs."""
    has_infiniband: bool
    """Whether machines of this type in the same sector share an InfiniBand network."""

    def __new__(cls, value: str, gpus: int, has_infiniband: bool) -> InstanceType:
        member = str.__new__(cls, value)
        member._value_ = value
        member.gpus, member.has_infiniband = gpus, has_infiniband
        return member

    GPU_8X_H100_SXM5 = "gpu_8x_h100_sxm5", 8, True
    """Eight NVIDIA H100 SXM5 GPUs with InfiniBand."""
    GPU_1X_H100_SXM5 = "gpu_1x_h100_sxm5", 1, False
    """One NVIDIA H100 SXM5 GPU."""

    @classmethod
    def known(cls, name: object) -> InstanceType | None:
        """Return the type of that name, or None for one that this version does not know."""
        return next((member for member in cls if member == name), None)

    @classmethod
    def has_sector(cls, name: object) -> bool:
        """Whether machines of the type of that name have a sector; True for an unknown one."""
        known = cls.known(name)
        return known is None or known.has_infiniband

    @classmethod
    def with_infiniband(cls) -> list[str]:
        """Return the names of the types that have InfiniBand, and so a sector."""
        return [member.value for member in cls if member.has_infiniband]


class Sector(str, Enum):
    """The sectors of 8x machines. Machines in the same sector share an InfiniBand network."""

    SECTOR_1 = "sector_1"
    SECTOR_2 = "sector_2"
    SECTOR_3 = "sector_3"


class Status(str, Enum):
    """The known statuses of machines. Any other status is kept as text and means "not ready"."""

    PENDING = "pending"
    """Not ready yet."""
    INIT = "init"
    """Not ready yet."""
    PROVISIONING = "provisioning"
    """Not ready yet. The machine may have an address already."""
    READY = "ready"
    """The API reports the machine as ready. Its SSH server may need a moment longer."""
    STOPPED = "stopped"
    """The machine exists but does not run. Only the v1 API has this status."""
    UNKNOWN = "unknown"
    """The API gave no status."""


@dataclass(frozen=True)
class NewInstance:
    """What a create requests, and all that it requests. Two are equal if they request the same."""

    instance_type: str
    ssh_key: str
    """The SSH public key. In the journal it is a hash of the key."""
    sector: str | None = None
    """None to let the API choose."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NewInstance:
        """Return what is requested by these values, among others: inputs, or an entry's fields."""
        return cls(
            **{field.name: values[field.name] for field in fields(cls) if field.name in values}
        )

    @property
    def body(self) -> dict[str, str]:
        """The body of the request, which is the same in both versions of the API."""
        return {name: value for name, value in asdict(self).items() if value}

    def hashed(self) -> NewInstance:
        """Return the same with a hash in place of the key, which is the same for any comment."""
        key = canonical(self.ssh_key).encode()
        return replace(self, ssh_key=hashlib.sha256(key).hexdigest()[:32])


@dataclass(frozen=True)
class Instance:
    """A machine as the API describes it. The API calls it a ComputeInstance."""

    id: str
    """The machine's id at the API, a UUID."""
    instance_type: str
    """The machine's type."""
    sector: str | None = None
    """The sector that the machine is in. 1x machines have none."""
    ip: str | None = None
    """The public address, once the machine has one: `ssh ubuntu@IP`."""
    status: str = Status.UNKNOWN.value
    """The machine's status. Status lists the known values; the API may add more."""
    region: str | None = None
    """The region of the machine: `us-west`, `us-central`, `us-east`, `eu-north`, `eu-west` or
    `other`. Only the v1 API returns it."""
    creator_user_nickname: str | None = None
    """The nickname of the user who created the machine. Only the v1 API returns it."""

    def __str__(self) -> str:
        """The machine on one line, for people."""
        return f"{self.id} ({self.instance_type}, {self.status}, {self.ip or 'no ip'})"

    @property
    def is_ready(self) -> bool:
        """Whether the status is `ready` and there is an ip."""
        return self.status == Status.READY and self.ip is not None

    @property
    def is_stopped(self) -> bool:
        """Whether the machine exists but does not run."""
        return self.status == Status.STOPPED

    def may_be_of(self, instance_type: str) -> bool:
        """Whether the machine may have that type. True if the API did not return its type."""
        return self.instance_type in ("", instance_type)
