"""The machines of a ComputeCluster, and what it makes of their outputs.

The component of the Python package and that of the native plugin differ only in the type of the
machines that they declare.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import pulumi

from pulumi_fal.api.models import InstanceType
from pulumi_fal.hosts import access
from pulumi_fal.resource.inputs import NAMES

LARGEST = 1000
"""The most machines of a cluster. A larger number is a mistake, which would cost too much."""
_HANDED_DOWN = (
    "custom_timeouts",
    "delete_before_replace",
    "depends_on",
    "hooks",
    "retain_on_delete",
)
"""The options of the component that its machines get. They inherit `protect` anyway."""
_T = TypeVar("_T")


class Machine(Protocol):
    """A machine that was declared. Its outputs are those of the resource."""

    @property
    def id(self) -> pulumi.Output[str]: ...
    @property
    def instance_type(self) -> pulumi.Output[str]: ...
    @property
    def ip(self) -> pulumi.Output[str]: ...
    @property
    def sector(self) -> pulumi.Output[str | None]: ...


_M = TypeVar("_M", bound=Machine)


def names(cluster: str, size: int) -> list[str]:
    """Return the names of the machines. The number at the end is all in which they differ."""
    return [f"{cluster}-{number}" for number in range(size)]


def checked_size(size: Any) -> int:
    """Return the size. Raises RunError if it is no number of machines, or not known yet."""
    if isinstance(size, pulumi.Output) or inspect.isawaitable(size):
        raise pulumi.RunError(
            "size can't be an Output, because a preview has to know how many machines there are. "
            "Use a number, or a value of the stack's config that is not a secret."
        )
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise pulumi.RunError(f"size must be a whole number of 1 or more, not {size!r}.")
    if size > LARGEST:
        raise pulumi.RunError(f"size must be {LARGEST} or less.")
    return size


def declare(
    component: pulumi.Resource,
    name: str,
    size: int,
    inputs: Mapping[str, Any],
    opts: pulumi.ResourceOptions | None,
    new: Callable[[str, dict[str, Any], pulumi.ResourceOptions], _M],
) -> list[_M]:
    """Declare the machines of the component, all with its inputs.

    `new` declares one machine, by its name, inputs and options. Without a requested sector, the
    machines follow the first one, unless their type has none.
    """
    handed_down = {option: getattr(opts, option, None) for option in _HANDED_DOWN}
    common = {input_: inputs.get(input_) for input_ in NAMES}
    first_name, *other_names = names(name, size)

    def node(node_name: str, ignore_changes: list[str] | None = None, **differences: Any) -> _M:
        node_opts = pulumi.ResourceOptions(
            parent=component, ignore_changes=ignore_changes, **handed_down
        )
        return new(node_name, {**common, **differences}, node_opts)

    if common["sector"] is not None:
        requested = pulumi.Output.from_input(common["sector"]).apply(_refuse_no_request, True)
        return [node(node_name, sector=requested) for node_name in (first_name, *other_names)]
    if size == 1 or not InstanceType.has_sector(common["instance_type"]):
        return [node(node_name) for node_name in (first_name, *other_names)]
    first = node(first_name, wait=_wait_of_first(common))
    sector = _sector_of(first)
    # What happens to the first machine later must not replace the others.
    return [first, *(node(other, ["sector"], sector=sector) for other in other_names)]


def _wait_of_first(inputs: Mapping[str, Any]) -> pulumi.Input[bool | None] | None:
    """Return None, so that the first machine is awaited, but leave wrong inputs to the check."""
    if inputs["wait_for_ssh"] is None:
        return None
    both = pulumi.Output.all(inputs["wait"], inputs["wait_for_ssh"])
    return both.apply(lambda values: values[0] if values[1] else None)


def outputs(
    component: pulumi.Resource, name: str, machines: Sequence[Machine], sector: Any
) -> dict[str, pulumi.Output[Any]]:
    """Return the outputs of the component. ComputeCluster documents them.

    `sector` is the one that the program requests, or None.
    """
    ips = pulumi.Output.all(*(machine.ip for machine in machines))
    ids = pulumi.Output.all(*(machine.id for machine in machines))
    node_names = names(name, len(machines))

    def once_known(write: Callable[..., _T | None], *others: Any) -> pulumi.Output[_T | None]:
        """Return what `write` makes of the ips by machine name, or None while one is missing.

        `write` also gets the values of `others`.
        """

        def write_or_not(values: list[Any]) -> _T | None:
            found, *more = values
            by_name = dict(zip(node_names, found, strict=True))
            return write(by_name, *more) if all(found) else None

        return pulumi.Output.all(ips, *others).apply(write_or_not)

    def hostfile(known: Mapping[str, str], type_: str) -> str | None:
        gpus = _gpus(type_)
        return access.hostfile(known.values(), gpus) if gpus else None

    def torchrun(known: Mapping[str, str], type_: str) -> list[str] | None:
        gpus = _gpus(type_)
        if gpus is None:
            return None
        return [access.torchrun(list(known.values()), node, gpus) for node in range(len(known))]

    def ssh_config(known: Mapping[str, str], found: list[str]) -> str:
        return access.ssh_config(known, dict(zip(node_names, found, strict=True)))

    type_ = machines[0].instance_type
    sectors = (machine.sector for machine in machines)
    return {
        "ips": ips,
        "main_ip": machines[0].ip,
        "sector": _only_sector(component, machines, sector),
        "hostfile": once_known(hostfile, type_),
        "torchrun": once_known(torchrun, type_),
        "ssh_config": once_known(ssh_config, ids),
        "inventory": once_known(lambda known: access.inventory(name, known)),
        "skypilot": once_known(lambda known: access.skypilot(name, known.values())),
        "dstack": once_known(
            lambda known, *found: access.dstack(name, known.values(), found), *sectors
        ),
    }


def _gpus(type_: str) -> int | None:
    """Return the number of GPUs of each machine; None for a type that is not known."""
    known = InstanceType.known(type_)
    return known.gpus if known else None


def _refuse_no_request(sector: Any) -> Any:
    if sector is None:
        raise pulumi.RunError(
            "sector is an Output that is None, so the API would choose another one for each "
            "machine. Leave `sector` out to let it choose one for all."
        )
    return sector


def _sector_of(first: Machine) -> pulumi.Output[str | None]:
    """Return the first machine's sector as an output that depends on no resource.

    With a dependency, the engine would delete the first only after all others, refuse to delete it
    alone, and corrupt the state if a run leaves it out before it exists.
    """
    return pulumi.Output(
        set(),
        asyncio.ensure_future(first.sector.future()),
        asyncio.ensure_future(first.sector.is_known()),
        asyncio.ensure_future(first.sector.is_secret()),
    )


def _only_sector(
    component: pulumi.Resource, machines: Sequence[Machine], requested: Any
) -> pulumi.Output[str | None]:
    """Return the sector of the first machine whose sector is known.

    In a preview, those of machines that are to be created are not, but they will be in the same
    one. Warns if they are in different ones.
    """

    def only(sectors: list[str | None]) -> Any:
        known = [sector for sector in sectors if sector is not None]
        if len(set(known)) > 1:
            pulumi.log.warn(
                "The machines of this cluster are in different sectors "
                f"({', '.join(sorted(set(known)))}), so they have no InfiniBand network in common. "
                "Set `sector` on the cluster: machines that are not in it are replaced.",
                component,
            )
        if known:
            return known[0]
        return machines[0].sector if requested is None else requested

    shown = (machine.sector.apply(_unless_unknown, True) for machine in machines)
    return pulumi.Output.all(*shown).apply(only)


def _unless_unknown(sector: object) -> str | None:
    return sector if isinstance(sector, str) else None
