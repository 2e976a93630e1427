"""What the API speaks of: instances, their types, sectors and statuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class InstanceType(str, Enum):
    """The machines that fal Compute rents out, as the API names them."""

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
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Instance:
    """A machine as the API describes it; the API's name for it is ComputeInstance."""

    id: str
    instance_type: str
    sector: str | None = None
    ip: str | None = None
    status: str = Status.UNKNOWN.value

    @property
    def is_ready(self) -> bool:
        """Whether one can log in: the status says so, and there is an address."""
        return self.status == Status.READY and self.ip is not None

    @classmethod
    def from_api(cls, body: object) -> Instance:
        """Read one object of an answer.

        Unknown fields are ignored and unknown statuses kept. ValueError says what is amiss when
        it isn't an instance at all.
        """
        if not isinstance(body, Mapping):
            raise ValueError(f"expected an object, not {type(body).__name__}")
        return cls(
            id=_text(body, "id", required=True),
            instance_type=_text(body, "instance_type", required=True),
            sector=_text(body, "sector") or None,
            ip=_text(body, "ip") or None,
            status=_text(body, "status") or Status.UNKNOWN.value,
        )


def _text(body: Mapping[Any, Any], field: str, *, required: bool = False) -> str:
    value = body.get(field)
    if isinstance(value, str) and (value or not required):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else " " for c in value)  # it goes to terminals
    if value is None and not required:
        return ""
    raise ValueError(f"{field!r} is {'missing' if value in (None, '') else 'not a string'}")
