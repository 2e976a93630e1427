"""What is special about creating a machine of a ComputeCluster: its sector, and its errors.

A machine's URN shows that it is one of a cluster, because the type of its parent is in it. The
machines of a cluster differ only in the number at the end of their names.
"""

from __future__ import annotations

from dataclasses import replace

from pulumi_fal.api.models import InstanceType, NewInstance
from pulumi_fal.errors import CapacityError, FalError, IncompleteClusterError, NotReplacedError
from pulumi_fal.machines.account import Account
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, TYPE_TOKEN


def sector(account: Account, call: Call, new: NewInstance) -> str | None:
    """Return the sector that the cluster's other machines are in, or else the machine itself was.

    None if it is not part of a cluster, or the first machine of one, or if its type has no sector.
    A machine that replaces another, or one that is gone, must not end up in another sector than the
    rest. So this raises IncompleteClusterError if the first machine is to tell it, but has no
    result.
    """
    if not _is_in_cluster(call.urn) or not InstanceType.has_sector(new.instance_type):
        return None
    in_state = _in_state(account, call)
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
    return _is_in_cluster(call.urn) and call.urn != _first(call)


def refused(account: Account, call: Call, refusal: FalError) -> FalError:
    """Return the error of a create that the API refuses, with what is billed nevertheless.

    That is the machine that was to be replaced, the others of the cluster, or those of this `up`.
    """
    name = _name(call.urn)
    happened = f"Machine {name} was not created: {refusal}"
    if isinstance(refusal, CapacityError):  # its advice is for a machine that is alone
        happened = f"{refusal.happened}\nNothing was made, and nothing is billed for it."
    if kept := _of_replaced(account, call):
        return NotReplacedError(f"{happened}\n{kept}")
    if _is_in_cluster(call.urn):
        return IncompleteClusterError(
            f"{happened}\n"
            "If there is no capacity, run `pulumi up` again when there is.\n"
            f"Other machines of cluster {_cluster(name)} may exist, and are billed. To list them:\n"
            "  pulumi-fal ls"
        )
    if isinstance(refusal, CapacityError):
        return CapacityError(f"{happened}{_others(account, call)}", refusal.what_to_do)
    return refusal


def _in_state(account: Account, call: Call) -> list[StackMachine] | None:
    """Return the cluster's machines in state; None if the state can't be read.

    All have URNs with the type of this one. In a stack that moves to the native plugin, each has
    the dynamic provider's until its own turn comes.
    """
    in_stack = account.stacks.machines(account.origin(call.urn))
    if in_stack is None:
        return None
    cluster, type_ = _cluster(call.urn), call.urn.rpartition("::")[0].rpartition("$")[2]
    named = [
        replace(machine, urn=machine.urn.replace(f"${TYPE_TOKEN}::", f"${type_}::"))
        for machine in in_stack
    ]
    return [machine for machine in named if _cluster(machine.urn) == cluster]


def _first(call: Call) -> str:
    return f"{_cluster(call.urn)}-0"


def _no_sector(call: Call) -> str:
    first, name = _name(_first(call)), _name(call.urn)
    return (
        f"Machine {name} was not created: it is to be in the sector of {first}, which has no "
        "result in this run, or whose sector the API does not show.\n"
        f"Run `pulumi up` again, for {first} as well, or set `sector` on the cluster."
    )


def _is_in_cluster(urn: str) -> bool:
    """Whether the URN is that of a cluster's machine.

    A program may give the component other children, whose names need not end in a number.
    """
    types = "".join(urn.split("::")[2:3]).split("$")
    return types[-2:-1] == [CLUSTER_TYPE_TOKEN] and urn.rpartition("-")[2].isdecimal()


def _cluster(urn: str) -> str:
    """Return the part of a URN, or of a name, that the machines of a cluster have in common."""
    return urn.rpartition("-")[0]


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def also_billed(account: Account, call: Call, id_: str) -> str:
    """Return what else is billed while the machine is not ready, and how to delete all of it.

    Reading the state takes a moment, so this returns nothing if the engine has gone.
    """
    if not call.is_heard():
        return ""
    deleted, shown = account.creates.deleted_ids, account.fleet.latest()
    others = [
        machine.id
        for machine in _of_resource(account, call)
        if machine.id in shown and machine.id not in {id_, *deleted}
    ]
    if not others:
        return call.to_delete("it")
    return (
        "Until it is ready, what it replaces is billed as well: machine "
        f"{' and machine '.join(others)}.\n{call.to_delete('all of them')}"
    )


def _of_replaced(account: Account, call: Call) -> str | None:
    """Return what the refusal of a create means for the machine that was to be replaced, if any."""
    # What this process has read of the state before may be of machines that are deleted by now.
    account.stacks.forget(account.origin(call.urn))
    in_state, deleted = _of_resource(account, call), account.creates.deleted_ids
    for machine in in_state:
        if not machine.is_replaced and machine.id not in deleted:
            return (
                f"Machine {machine.id} was not replaced. It stays, and is billed.\n"
                "Run `pulumi up` again to replace it."
            )
    for machine in in_state:
        if machine.id in deleted:
            return (
                f"Machine {machine.id} was deleted first, so the resource has no machine now.\n"
                "Run `pulumi up` again to create one."
            )
    return None


def _others(account: Account, call: Call) -> str:
    """Return how many machines the other creates of this process have, if any."""
    made = {id_ for urn, id_ in account.records.machines().items() if urn != call.urn}
    made -= account.creates.deleted_ids
    if not made:
        return ""
    return f" Other machines of this `up` exist, and are billed: {len(made)} so far."


def _of_resource(account: Account, call: Call) -> list[StackMachine]:
    """Return the machines of the resource in state; none if that can't be read."""
    in_stack = account.stacks.machines(account.origin(call.urn))
    return [machine for machine in in_stack or () if machine.urn == call.urn]
