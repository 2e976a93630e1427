"""What the API speaks of: instances, their types, sectors and statuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class InstanceType(str, Enum):
    """The types of machine that fal Compute rents out, by the API's names."""

    GPU_8X_H100_SXM5 = "gpu_8x_h100_sxm5"
    """Eight NVIDIA H100 SXM5 with InfiniBand."""
    GPU_1X_H100_SXM5 = "gpu_1x_h100_sxm5"
    """One NVIDIA H100 SXM5."""


class Sector(str, Enum):
    """Machines of one sector share an InfiniBand network; 8x machines only."""

    SECTOR_1 = "sector_1"
    SECTOR_2 = "sector_2"
    SECTOR_3 = "sector_3"


class Status(str, Enum):
    """The statuses known today. Others are kept as text, and mean "not ready"."""

    PENDING = "pending"
    INIT = "init"
    PROVISIONING = "provisioning"
    READY = "ready"
    STOPPED = "stopped"
    """Under the v1 API only."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Instance:
    """A machine as the API describes it; the API's name for it is ComputeInstance."""

    id: str
    instance_type: str
    sector: str | None = None
    ip: str | None = None
    status: str = Status.UNKNOWN.value
    region: str | None = None
    """Where the machine is; None under the legacy API, as is the next."""
    creator_user_nickname: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether you can log in: the status is `ready`, and there is an ip."""
        return self.status == Status.READY and self.ip is not None

    @property
    def is_stopped(self) -> bool:
        """Whether it exists and does not run."""
        return self.status == Status.STOPPED

    def may_be_of(self, instance_type: str) -> bool:
        """Whether it is of that type, as far as the API tells."""
        return self.instance_type in ("", instance_type)
