"""What the API speaks of: instances, their types, sectors and statuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


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
        """Whether you can log in: the status is `ready`, and there is an ip."""
        return self.status == Status.READY and self.ip is not None

    @classmethod
    def from_api(cls, body: object) -> Instance:
        """Read one object of an answer.

        Unknown fields are ignored and unknown statuses kept. ValueError says what is amiss when
        it isn't an instance at all.
        """
        found = _object(body)
        return cls(
            id=_text(found, "id", required=True),
            instance_type=_text(found, "instance_type", required=True),
            sector=_text(found, "sector") or None,
            ip=_text(found, "ip") or None,
            status=_text(found, "status") or Status.UNKNOWN.value,
        )

    @classmethod
    def from_list(cls, body: object) -> Instance:
        """Read one object of a list, in which only the `id` is needed.

        A field that can't be read is left out, since the machine may be anybody's: one odd entry
        must not hide all others. `instance_type` is "" then. ValueError where there is no id.
        """
        found = _object(body)
        readable = {name: value for name, value in found.items() if isinstance(value, str)}
        return cls(
            id=_text(found, "id", required=True),
            instance_type=_text(readable, "instance_type"),
            sector=_text(readable, "sector") or None,
            ip=_text(readable, "ip") or None,
            status=_text(readable, "status") or Status.UNKNOWN.value,
        )

    def may_be_of(self, instance_type: str) -> bool:
        """Whether it is of that type, as far as the API tells."""
        return self.instance_type in ("", instance_type)


def _object(body: object) -> Mapping[Any, Any]:
    if not isinstance(body, Mapping):
        raise ValueError(f"expected an object, not {type(body).__name__}")
    return body


def _text(body: Mapping[Any, Any], field: str, *, required: bool = False) -> str:
    value = body.get(field)
    if isinstance(value, str) and (value or not required):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else " " for c in value)  # it goes to terminals
    if value is None and not required:
        return ""
    raise ValueError(f"{field!r} is {'missing' if value in (None, '') else 'not a string'}")
