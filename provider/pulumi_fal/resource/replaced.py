"""What is said of a resource's other machines if a create or an update does not succeed.

While a resource is being replaced, state has more than one machine of it. After each replacement
that was interrupted, it has one more, until an update succeeds.
"""

from __future__ import annotations

from pulumi_fal.machines.process import Machines
from pulumi_fal.resource.call import Call
from pulumi_fal.stacks.state import StackMachine


def advice(machines: Machines, call: Call, id_: str) -> str:
    """Return what else is billed while the machine is not ready, and how to delete all of it.

    Reading the state takes a moment, so this returns nothing if the engine has gone.
    """
    if not call.is_heard():
        return ""
    deleted, shown = machines.creates.deleted_ids, machines.facts.fleet.latest()
    others = [
        machine.id
        for machine in _in_state(machines, call)
        if machine.id in shown and machine.id not in {id_, *deleted}
    ]
    if not others:
        return call.to_delete("it")
    return (
        "Until it is ready, what it replaces is billed as well: machine "
        f"{' and machine '.join(others)}.\n{call.to_delete('all of them')}"
    )


def outcome(machines: Machines, call: Call) -> str | None:
    """Return what the refusal of a create means for the machine that was to be replaced, if any."""
    # What this process has read of the state before may be of machines that are deleted by now.
    machines.stacks.forget(machines.origin(call.urn))
    in_state, deleted = _in_state(machines, call), machines.creates.deleted_ids
    for machine in in_state:
        if not machine.is_replaced and machine.id not in deleted:
            return f"Machine {machine.id} was not replaced. It stays, and is billed."
    for machine in in_state:
        if machine.id in deleted:
            return (
                f"Machine {machine.id} was deleted first, so the resource has no machine now.\n"
                "Run `pulumi up` again to create one."
            )
    return None


def _in_state(machines: Machines, call: Call) -> list[StackMachine]:
    """Return the machines of the resource in state; none if that can't be read."""
    in_stack = machines.stacks.machines(machines.origin(call.urn))
    return [machine for machine in in_stack or () if machine.urn == call.urn]
