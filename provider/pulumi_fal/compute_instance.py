"""What a Pulumi program writes: the ComputeInstance resource."""

from __future__ import annotations

import pulumi
from pulumi import dynamic
from pulumi.resource import create_urn

from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.stack import TYPE_TOKEN


# The keywords are part of every URN and of every state: they must never change.
class ComputeInstance(dynamic.Resource, module="fal", name="ComputeInstance"):
    """A machine with 1 or 8 NVIDIA H100, rented from fal Compute and billed by the hour.

    A change of instance_type, ssh_key or sector replaces the machine; nothing else does.
    """

    instance_type: pulumi.Output[str]
    """The machine's type, as requested."""
    ssh_key: pulumi.Output[str]
    """The public key that may log in, as requested."""
    sector: pulumi.Output[str | None]
    """The InfiniBand sector that the machine is in, chosen by the API where none was requested."""
    ip: pulumi.Output[str]
    """The public address: `ssh ubuntu@IP`."""
    status: pulumi.Output[str]
    """The machine's status: `ready` after create."""

    def __init__(
        self,
        resource_name: str,
        instance_type: pulumi.Input[str],
        ssh_key: pulumi.Input[str],
        sector: pulumi.Input[str] | None = None,
        wait: pulumi.Input[bool] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """
        :param instance_type: `gpu_1x_h100_sxm5` or `gpu_8x_h100_sxm5`.
        :param ssh_key: an SSH public key, one line as in an `id_ed25519.pub`.
        :param sector: `sector_1`, `sector_2` or `sector_3`, for InfiniBand between 8x machines.
        :param wait: whether to wait until the machine is ready, as is the default. With False, ip
            and status arrive with `pulumi refresh`; True later waits without replacing anything.
        """
        props = {
            "instance_type": instance_type,
            "ssh_key": ssh_key,
            "sector": sector,
            "wait": wait,
            # An output that isn't named here would not exist on the resource.
            "ip": None,
            "status": None,
            # What a provider isn't told; check() takes them out again, so they are in no state.
            "__urn": create_urn(resource_name, TYPE_TOKEN, opts.parent if opts else None),
            "__organization": pulumi.get_organization(),
        }
        super().__init__(ComputeInstanceProvider(), resource_name, props, opts)
