"""The API's data types: machines, their types, sectors and statuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any

from pulumi_fal.api import ssh_keys


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
        key = ssh_keys.canonical(self.ssh_key).encode()
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
