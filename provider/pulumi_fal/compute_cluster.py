"""The ComputeCluster component: machines of one type, in one sector if it has InfiniBand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import pulumi

from pulumi_fal import compute_instance
from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.compute_instance import ComputeInstance
from pulumi_fal.hosts import nodes
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN


@dataclass(kw_only=True)
class ComputeClusterArgs:
    """The inputs of a ComputeCluster."""

    size: int
    """The number of machines, 1 or more. Increasing it adds machines with the next numbers;
    decreasing it deletes those with the highest."""
    ssh_key: pulumi.Input[str]
    """The SSH public key that may log in to all machines: one line, as in `id_ed25519.pub`.
    Changing the key replaces all machines; changing only its comment does not."""
    instance_type: pulumi.Input[str | InstanceType] = InstanceType.GPU_8X_H100_SXM5
    """The type of all machines; `gpu_8x_h100_sxm5` by default. Machines of `gpu_1x_h100_sxm5` have
    no InfiniBand, and so no sector. Changing the type replaces all machines."""
    sector: pulumi.Input[str | Sector] | None = None
    """`sector_1`, `sector_2` or `sector_3`. By default the API chooses it for the first machine,
    and the others are created in the same one when the first is ready. Machines that are not in a
    requested sector are replaced."""
    wait: pulumi.Input[bool | None] | None = None
    """Whether create waits until each machine is ready; True by default. Without `sector`, the
    first of several machines is awaited in any case, because its sector is only known then."""
    wait_for_capacity: pulumi.Input[str | None] | None = None
    """For how long the create of each machine is retried while the API has no capacity, such as
    `6h`, `30m` or `1h30m`, counted from the first refusal. By default it fails at once. The
    machines that exist are billed while the others wait."""
    wait_for_ssh: pulumi.Input[bool | None] | None = None
    """Whether a machine counts as ready only when an SSH server answers on port 22 of its ip, so
    that you can log in; False by default. It needs `wait`."""
    max_age: pulumi.Input[str | None] | None = None
    """For how long each machine is meant to run, such as `12h` or `1d12h`, counted from when Pulumi
    recorded it. It doesn't end by itself: `pulumi-fal delete --expired` deletes machines that are
    older, and `pulumi-fal audit` finds them."""


class ComputeCluster(pulumi.ComponentResource):
    """Machines of one type, NAME-0 to NAME-(size-1), in one sector if the type has InfiniBand.

    Each machine is a ComputeInstance. The options `custom_timeouts`, `delete_before_replace`,
    `depends_on`, `hooks`, `protect` and `retain_on_delete` apply to all of them.
    """

    machines: list[ComputeInstance]
    """The machines in the order of their numbers."""
    ips: pulumi.Output[list[str | None]]
    """The addresses of the machines. With `wait=False`, an address is None until a refresh."""
    sector: pulumi.Output[str | None]
    """The sector that the machines are in. If they are in different ones, that of the first, with a
    warning. 1x machines have none."""
    main_ip: pulumi.Output[str | None]
    """The address of the first machine. With `wait=False`, it may be None until a refresh."""
    hostfile: pulumi.Output[str | None]
    """The host file of Open MPI and DeepSpeed. It is None until all machines have an ip, and for an
    instance type that this version does not know."""
    torchrun: pulumi.Output[list[str] | None]
    """The arguments of `torchrun` for each machine. It is None until all machines have an ip, and
    for an instance type that this version does not know."""
    ssh_config: pulumi.Output[str | None]
    """A file for `ssh -F FILE NAME-0`. It is None until all machines have an ip."""
    inventory: pulumi.Output[str | None]
    """An Ansible inventory with the machines as one group, named as the cluster, with underscores
    in place of all but letters and digits. It is None until all machines have an ip."""
    skypilot: pulumi.Output[str | None]
    """A file for `sky ssh up --file FILE` of SkyPilot: an SSH node pool, with the private key
    `~/.ssh/id_ed25519`. It is None until all machines have an ip."""
    dstack: pulumi.Output[str | None]
    """A file for `dstack apply -f FILE`: an SSH fleet, with the private key `~/.ssh/id_ed25519`.
    It is None until all machines have an ip."""

    @overload
    def __init__(
        self,
        resource_name: str,
        args: ComputeClusterArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        resource_name: str,
        opts: pulumi.ResourceOptions | None = None,
        *,
        size: int,
        ssh_key: pulumi.Input[str],
        instance_type: pulumi.Input[str | InstanceType] = InstanceType.GPU_8X_H100_SXM5,
        sector: pulumi.Input[str | Sector] | None = None,
        wait: pulumi.Input[bool | None] | None = None,
        wait_for_capacity: pulumi.Input[str | None] | None = None,
        wait_for_ssh: pulumi.Input[bool | None] | None = None,
        max_age: pulumi.Input[str | None] | None = None,
    ) -> None: ...
    def __init__(self, resource_name: str, *positional: Any, **named: Any) -> None:
        """Declare the machines. ComputeClusterArgs documents the inputs.

        Raises RunError if the size is not a whole number from 1 to 1000.
        """
        what = f"ComputeCluster {resource_name}"
        opts, inputs = compute_instance.parse(what, ComputeClusterArgs, *positional, **named)
        size = nodes.checked_size(inputs["size"])
        super().__init__(CLUSTER_TYPE_TOKEN, resource_name, {}, opts)

        def new(
            name: str, node_inputs: dict[str, Any], node_opts: pulumi.ResourceOptions
        ) -> ComputeInstance:
            return ComputeInstance(name, node_opts, **node_inputs)

        self.machines = nodes.declare(self, resource_name, size, inputs, opts, new)
        for name, output in nodes.outputs(
            self, resource_name, self.machines, inputs["sector"]
        ).items():
            setattr(self, name, output)
        self.register_outputs({"ips": self.ips, "main_ip": self.main_ip, "sector": self.sector})
