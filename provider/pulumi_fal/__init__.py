"""A Pulumi provider for fal Compute, which rents machines with 1 or 8 NVIDIA H100 GPUs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pulumi_fal._version import __version__

if TYPE_CHECKING:
    from pulumi_fal.api.models import Instance, InstanceType, Sector, Status
    from pulumi_fal.compute_cluster import ComputeCluster, ComputeClusterArgs
    from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
    from pulumi_fal.lookups import (
        get_instance,
        get_instance_output,
        get_instances,
        get_instances_output,
    )

__all__ = [
    "ComputeCluster",
    "ComputeClusterArgs",
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

# Names are imported on first use, because the command line and the emulator are part of this
# package and must work without importing Pulumi.
_MODULES = ("api.models", "compute_instance", "compute_cluster", "lookups")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            value = getattr(import_module(f"pulumi_fal.{module}"), name, None)
            if value is not None:
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
