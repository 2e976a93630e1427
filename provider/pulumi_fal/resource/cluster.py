"""What is special about creating a machine of a ComputeCluster: its sector, and its errors.

The machines of a cluster differ only in the number at the end of their names, so their URNs show
which belong together.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pulumi_fal.errors import (
    ConflictError,
    IncompleteClusterError,
    InvalidRequestError,
    NoRoomError,
    NotReplacedError,
)
from pulumi_fal.machines.process import Machines
from pulumi_fal.resource import replaced
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import TYPE_TOKEN

_QUIET_SECONDS = 10.0
"""For how long an error waits until no create of the cluster's other machines is in flight."""


def sector(machines: Machines, call: Call) -> str | None:
    """Return the sector that the cluster's other machines are in, or else the machine itself was.

    None if it is not part of a cluster, or the first machine of one. A machine that replaces
    another, or one that is gone, must not end up in another sector than the rest. So this raises
    IncompleteClusterError if the first machine is to tell it, but has no result.
    """
    if call.cluster_size is None:
        return None
    in_state = _in_state(machines, call)
    if follows(call):
        in_state = [machine for machine in in_state or () if machine.urn != _first(call)]
    elif in_state is None:
        call.log(
            "The stack's state can't be read, so the API chooses this machine's sector. If it is "
            "not that of the cluster's other machines, set `sector` on the cluster.",
            WARNING,
        )
    # The best witness is another machine that stays, the last one the machine itself.
    witness = min(
        (machine for machine in in_state or () if machine.sector),
        key=lambda machine: (machine.urn == call.urn, machine.is_replaced),
        default=None,
    )
    if witness is None and follows(call):
        raise IncompleteClusterError(_no_sector(call))
    return witness.sector if witness else None


def follows(call: Call) -> bool:
    """Whether the machine is one of a cluster that are created after its first machine."""
    return call.cluster_size is not None and call.urn != _first(call)


@contextmanager
def counted(machines: Machines, call: Call) -> Iterator[None]:
    """Add to the error of a create that the API refuses which machines exist nevertheless.

    They are those of the cluster, or the one that was to be replaced.
    """
    try:
        yield
    except (InvalidRequestError, ConflictError, NoRoomError) as refusal:
        if call.cluster_size is None:
            if kept := replaced.outcome(machines, call):
                raise NotReplacedError(f"{refusal}\n{kept}") from None
            raise
        there = _count(machines, call, call.cluster_size)
        happened = refusal.happened if isinstance(refusal, NoRoomError) else refusal
        raise IncompleteClusterError(f"{happened}\n{there}") from None


def billing(machines: Machines, call: Call) -> str:
    """Return how much of the cluster bills while one of its machines waits; "" if nothing does.

    It is asked often, so it does not read the state again.
    """
    if call.cluster_size is None:
        return ""
    cluster, deleted = _cluster(call.urn), machines.creates.deleted_ids
    name = cluster.rpartition("::")[2]
    in_state = _in_state(machines, call)
    if in_state is None:
        return f"Those machines of cluster {name} that exist bill meanwhile."
    created = machines.creates.records.machines()
    urns = {m.urn for m in in_state if not m.is_replaced and m.id not in deleted}
    count = len(_numbers(cluster, call.cluster_size, urns | created.keys()))
    if not count:
        return ""
    return (
        f"{count} of the {call.cluster_size} machines of cluster {name} exist and bill meanwhile."
    )


def _count(machines: Machines, call: Call, size: int) -> str:
    cluster = _cluster(call.urn)
    name = cluster.rpartition("::")[2]
    again = "If the sector is full, run `pulumi up` again when it has room"
    unknown = (
        f"it is not known how many of the {size} machines of cluster {name} exist.\n"
        f"To list the account's machines, run `pulumi-fal ls`.\n{again}."
    )
    creating = machines.creates.in_flight.urns(lambda urn: _cluster(urn) == cluster, _QUIET_SECONDS)
    # What this process has read of the state before may be of machines that are deleted by now.
    machines.stacks.forget(Origin(call.urn))
    in_state = _in_state(machines, call)
    if in_state is None:
        return f"The stack's state can't be read, so {unknown}"
    urns = {machine.urn for machine in in_state if not machine.is_replaced}
    if call.urn in urns:
        return f"The machine was not replaced, and the present one stays.\n{again}."
    created, unanswered = _on_record(machines, call)
    urns |= created
    unresolved = sorted((creating | unanswered) - urns)
    if unresolved:
        names = ", ".join(urn.rpartition("::")[2] for urn in unresolved)
        return f"The creates of other machines have no result yet ({names}), so {unknown}"
    numbers = _numbers(cluster, size, urns)
    if not numbers:
        return f"None of the {size} machines of cluster {name} exists so far.\n{again}."
    count = len(numbers)
    missing = ", ".join(f"{name}-{number}" for number in range(size) if number not in numbers)
    smaller = f", or set `size` to {count} to do without the rest" if numbers[-1] < count else ""
    return (
        f"{count} of the {size} machines of cluster {name} exist, and keep running and billing; "
        f"missing: {missing}.\n{again}{smaller}.\nSetting another `sector` replaces all machines."
    )


def _numbers(cluster: str, size: int, urns: Container[str]) -> list[int]:
    """Return the numbers of those machines of the cluster whose URNs are given."""
    return [number for number in range(size) if f"{cluster}-{number}" in urns]


def _in_state(machines: Machines, call: Call) -> list[StackMachine] | None:
    """Return the cluster's machines in state; None if the state can't be read.

    All have URNs with the type of this one. In a stack that moves to the native plugin, each has
    the dynamic provider's until its own turn comes.
    """
    in_stack = machines.stacks.machines(machines.origin(call.urn))
    if in_stack is None:
        return None
    cluster, type_ = _cluster(call.urn), call.urn.rpartition("::")[0].rpartition("$")[2]
    named = [
        replace(machine, urn=machine.urn.replace(f"${TYPE_TOKEN}::", f"${type_}::"))
        for machine in in_stack
    ]
    return [machine for machine in named if _cluster(machine.urn) == cluster]


def _on_record(machines: Machines, call: Call) -> tuple[set[str], set[str]]:
    """Return the URNs of the cluster's other machines whose create the journal has.

    The first set has those whose machine is known, the second those without an answer.
    """
    cluster, backend = _cluster(call.urn), machines.stacks.backend
    entries = [
        entry
        for entry in machines.journal.readable()
        if _cluster(entry.origin.urn) == cluster
        and entry.origin.backend in ("", backend)
        and entry.origin.urn != call.urn
    ]
    created = {entry.origin.urn for entry in entries if entry.instance_id}
    return created, {entry.origin.urn for entry in entries} - created


def _first(call: Call) -> str:
    return f"{_cluster(call.urn)}-0"


def _no_sector(call: Call) -> str:
    first, name = (urn.rpartition("::")[2] for urn in (_first(call), call.urn))
    return (
        f"Machine {name} was not created: it is to be in the sector of {first}, which has no "
        "result in this run, or whose sector the API does not show.\n"
        f"Run `pulumi up` again, for {first} as well, or set `sector` on the cluster."
    )


def _cluster(urn: str) -> str:
    """Return the part of a URN that the machines of a cluster have in common."""
    return urn.rpartition("-")[0]
