"""A Pulumi provider for fal Compute: rented machines with 1 or 8 NVIDIA H100."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pulumi_fal._version import __version__

if TYPE_CHECKING:
    from pulumi_fal.api.models import Instance, InstanceType, Sector, Status
    from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
    from pulumi_fal.lookups import (
        get_instance,
        get_instance_output,
        get_instances,
        get_instances_output,
    )

__all__ = [
    "ComputeInstance",
    "ComputeInstanceArgs",
    "Instance",
    "InstanceType",
    "Sector",
    "Status",
    "__version__",
    "get_instance",
    "get_instance_output",
    "get_instances",
    "get_instances_output",
]

# Each name is looked for when it is first used: the command line and the emulator live in this
# package too, and need no Pulumi.
_HOMES = ("api.models", "compute_instance", "lookups")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            found = getattr(import_module(f"pulumi_fal.{home}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
