"""The ComputeCluster component: machines in one sector, which share an InfiniBand network."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import pulumi

from pulumi_fal import access, arguments
from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.compute_instance import ComputeInstance
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN

_T = TypeVar("_T")
_HANDED_DOWN = ("custom_timeouts", "delete_before_replace", "depends_on", "retain_on_delete")
"""The options of the component that its machines get. They inherit `protect` anyway."""


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
    """The type of all machines, one with InfiniBand. Changing it replaces all machines."""
    sector: pulumi.Input[str | Sector] | None = None
    """`sector_1`, `sector_2` or `sector_3`. By default the API chooses it for the first machine,
    and the others are created in the same one when the first is ready. Requesting a sector that a
    machine is not in replaces the machine. Requesting the sector that all are in, or no longer
    requesting one, changes nothing."""
    wait: pulumi.Input[bool | None] | None = None
    """Whether create waits until each machine is ready; True by default. Without `sector`, the
    first of several machines is awaited in any case, because its sector is only known then."""
    wait_for_ssh: pulumi.Input[bool | None] | None = None
    """Whether a machine counts as ready only when an SSH server greets on port 22 of its ip, so
    that you can log in; False by default. It needs `wait`."""


class ComputeCluster(pulumi.ComponentResource):
    """Machines of one type in one sector, NAME-0 to NAME-(size-1).

    Each machine is a ComputeInstance. The options `custom_timeouts`, `delete_before_replace`,
    `depends_on`, `protect` and `retain_on_delete` apply to all of them.
    """

    machines: list[ComputeInstance]
    """The machines in the order of their numbers."""
    ips: pulumi.Output[list[str | None]]
    """The addresses of the machines. With `wait=False`, an address is None until a refresh."""
    sector: pulumi.Output[str | None]
    """The sector that the machines are in. If they are in different ones, that of the first, with a
    warning."""
    main_ip: pulumi.Output[str | None]
    """The address of the first machine. With `wait=False`, it may be None until a refresh."""
    hostfile: pulumi.Output[str | None]
    """The host file of Open MPI and DeepSpeed. None until all machines have an ip, and for an
    instance type that this version does not know."""
    torchrun: pulumi.Output[list[str] | None]
    """The arguments of `torchrun` for each machine. None until all machines have an ip, and for an
    instance type that this version does not know."""
    ssh_config: pulumi.Output[str | None]
    """A file for `ssh -F FILE NAME-0`. None until all machines have an ip."""
    inventory: pulumi.Output[str | None]
    """An Ansible inventory with the machines as one group. Its name is the cluster's, with
    underscores in place of other characters than letters and digits. None until all machines have
    an ip."""

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
        wait_for_ssh: pulumi.Input[bool | None] | None = None,
    ) -> None: ...
    def __init__(self, resource_name: str, *positional: Any, **named: Any) -> None:
        """Declare the machines. ComputeClusterArgs documents the inputs.

        Raises RunError if the size is not a whole number of 1 or more, or if the type has no
        InfiniBand.
        """
        opts, inputs = arguments.parse("ComputeCluster", ComputeClusterArgs, *positional, **named)
        size = _checked_size(inputs["size"])
        super().__init__(CLUSTER_TYPE_TOKEN, resource_name, {}, opts)
        self.machines = _declare(self, resource_name, size, inputs, opts)
        self.ips = pulumi.Output.all(*(machine.ip for machine in self.machines))
        self.main_ip = self.machines[0].ip
        sectors = pulumi.Output.all(*(machine.sector for machine in self.machines))
        self.sector = sectors.apply(lambda known: _only_sector(self, known))
        self.hostfile = self._once_known(
            lambda ips, gpus: access.hostfile(ips.values(), gpus) if gpus else None
        )
        self.torchrun = self._once_known(
            lambda ips, gpus: (
                [access.torchrun(list(ips.values()), node, gpus) for node in range(size)]
                if gpus
                else None
            )
        )
        self.ssh_config = self._once_known(lambda ips, _: access.ssh_config(ips))
        self.inventory = self._once_known(lambda ips, _: access.inventory(resource_name, ips))
        self.register_outputs({"ips": self.ips, "main_ip": self.main_ip, "sector": self.sector})

    def _once_known(
        self, write: Callable[[Mapping[str, str], int | None], _T | None]
    ) -> pulumi.Output[_T | None]:
        """Return what `write` makes of the ips by machine name, or None while one is missing.

        `write` also gets the number of GPUs of each machine; None for a type that is not known.
        """

        def write_or_not(values: list[Any]) -> _T | None:
            ips, instance_type = values
            names = [machine.pulumi_resource_name for machine in self.machines]
            by_name = {name: ip for name, ip in zip(names, ips, strict=True) if ip is not None}
            known = InstanceType.known(instance_type)
            gpus = known.gpus if known else None
            return write(by_name, gpus) if len(by_name) == len(ips) else None

        return pulumi.Output.all(self.ips, self.machines[0].instance_type).apply(write_or_not)


# The keywords are those of ComputeInstance, because it is the same resource.
class _Node(ComputeInstance, module="fal", name="ComputeInstance"):
    """A machine of a cluster. It tells the provider the cluster's size, for error messages."""

    def __init__(self, resource_name: str, cluster_size: int, **named: Any) -> None:
        self._cluster_size = cluster_size
        super().__init__(resource_name, **named)

    def _hidden_inputs(self) -> dict[str, Any]:
        return {"__cluster_size": self._cluster_size}


def _declare(
    cluster: ComputeCluster,
    name: str,
    size: int,
    inputs: dict[str, Any],
    opts: pulumi.ResourceOptions | None,
) -> list[ComputeInstance]:
    handed_down = {option: getattr(opts, option, None) for option in _HANDED_DOWN}
    instance_type = _with_infiniband(inputs["instance_type"])

    def node(number: int, **differences: Any) -> ComputeInstance:
        named = {
            "instance_type": instance_type,
            "ssh_key": inputs["ssh_key"],
            "sector": inputs["sector"],
            "wait": inputs["wait"],
            "wait_for_ssh": inputs["wait_for_ssh"],
            "opts": pulumi.ResourceOptions(parent=cluster, **handed_down),
            **differences,
        }
        return _Node(f"{name}-{number}", size, **named)

    if inputs["sector"] is not None:
        requested = pulumi.Output.from_input(inputs["sector"]).apply(_refuse_no_request)
        return [node(number, sector=requested) for number in range(size)]
    if size == 1:
        return [node(0)]
    first = node(0, wait=_wait_of_first(inputs))
    # What happens to the first machine later must not replace the others.
    follow = pulumi.ResourceOptions(parent=cluster, ignore_changes=["sector"], **handed_down)
    sector = _sector_of(first)
    return [first, *(node(number, sector=sector, opts=follow) for number in range(1, size))]


def _wait_of_first(inputs: Mapping[str, Any]) -> pulumi.Input[bool | None] | None:
    """Return None, so that the first machine is awaited, but leave wrong inputs to the check."""
    if inputs["wait_for_ssh"] is None:
        return None
    both = pulumi.Output.all(inputs["wait"], inputs["wait_for_ssh"])
    return both.apply(lambda values: values[0] if values[1] else None)


def _checked_size(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise pulumi.RunError(
            f"size must be a whole number of 1 or more, not {size!r}. It can't be an Output, "
            "because a preview has to know how many machines there are."
        )
    return size


def _with_infiniband(instance_type: Any) -> Any:
    """Return the type. Raises RunError for one that is known to have no InfiniBand."""
    if isinstance(instance_type, pulumi.Output) or inspect.isawaitable(instance_type):
        return pulumi.Output.from_input(instance_type).apply(_with_infiniband)
    known = InstanceType.known(instance_type)
    if known and not known.has_infiniband:
        raise pulumi.RunError(
            f"instance_type {known.value} has no InfiniBand, so it can't be that of a cluster. Use "
            f"{' or '.join(InstanceType.with_infiniband())}, or ComputeInstance resources without "
            "a cluster."
        )
    return instance_type


def _refuse_no_request(sector: str | None) -> str:
    if sector is None:
        raise pulumi.RunError(
            "sector is an Output that is None, so the API would choose another one for each "
            "machine. Leave `sector` out to let it choose one for all."
        )
    return sector


def _sector_of(first: ComputeInstance) -> pulumi.Output[str | None]:
    """Return the first machine's sector as an output that depends on no resource.

    With a dependency, a replacement of the first that deletes it before it creates the new one
    would delete all others as well: the engine then takes every input that depends on a replaced
    resource for changed, even if the resource ignores that change.
    """
    is_known = asyncio.ensure_future(first.sector.is_known())

    async def wait() -> str | None:
        sector = await first.sector.future()
        if sector is None and await is_known:
            raise pulumi.RunError(
                "The API does not show the sector of the cluster's first machine, so the others "
                "can't be created in the same one. Set `sector` on the cluster."
            )
        return sector

    return pulumi.Output(
        set(),
        asyncio.ensure_future(wait()),
        is_known,
        asyncio.ensure_future(first.sector.is_secret()),
    )


def _only_sector(cluster: ComputeCluster, sectors: list[str | None]) -> str | None:
    """Return the sector of the first machine. Warns if the others are not in the same one."""
    known = sorted({sector for sector in sectors if sector is not None})
    if len(known) > 1:
        pulumi.log.warn(
            f"The machines of this cluster are in different sectors ({', '.join(known)}), so they "
            "have no InfiniBand network in common. Set `sector` on the cluster: machines that are "
            "not in it are replaced.",
            cluster,
        )
    return sectors[0]
