"""A Pulumi provider for fal Compute: rented machines with 1 or 8 NVIDIA H100."""

from pulumi_fal._version import __version__
from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
from pulumi_fal.functions import (
    get_instance,
    get_instance_output,
    get_instances,
    get_instances_output,
)
from pulumi_fal.models import Instance, InstanceType, Sector, Status

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
