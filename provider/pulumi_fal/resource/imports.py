"""The read of a machine that a program imports, and what it may not differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import LifecycleError, UnknownMachineError
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Entry
from pulumi_fal.machines.whose import Asking, Same, candidates, same
from pulumi_fal.resource import inputs, outputs
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.outputs import IMPORTED, UNFINISHED
from pulumi_fal.resource.wait import not_up
from pulumi_fal.stacks.cache import in_words


def read(account: Account, call: Call, id_: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a machine that a program imports.

    `wanted` are the inputs in the program. Raises LifecycleError if the machine differs from them,
    or belongs to another resource.
    """
    instance = account.lifecycle.look(id_)
    if instance is None:
        raise not_known(id_)
    refuse_taken(account, call, instance)
    problems = "; ".join(failure.reason for failure in inputs.failures(wanted))
    if problems:
        raise LifecycleError(id_, f"Machine {id_} was not imported: {problems}")
    refuse_mismatch(id_, vars(instance), wanted)
    outs = outputs.from_instance(instance, wanted, account.id)
    is_awaited = inputs.waits(wanted) and not_up(account, instance, wanted)
    account.records.note_imported(account.origin(call.urn), id_)
    return imported(outs, is_finished=not is_awaited)


def imported(outs: Mapping[str, Any], *, is_finished: bool) -> dict[str, Any]:
    """Return the outputs of a machine, as those of one that was imported.

    If it is not finished, Pulumi calls update next, which waits for it.
    """
    return {**outs, IMPORTED: True, **({} if is_finished else {UNFINISHED: True})}


def refuse_taken(account: Account, call: Call, instance: Instance) -> None:
    """Raise LifecycleError if another resource has the machine, or its create may have made it.

    Destroying one of two stacks would delete the machine of the other.
    """
    id_, origin = instance.id, account.origin(call.urn)
    asking = Asking(origin, account.stacks.own(origin))
    for entry in account.journal.readable():
        if not _may_have_made(entry, instance) or (
            entry.origin.path == asking.origin.path
            and same(entry, asking, account.stacks)[0] is Same.YES
        ):
            continue
        why = "is on record to have made it" if entry.instance_id else "may have made it"
        raise LifecycleError(
            id_,
            f"Machine {id_} was not imported: a create of {entry.origin.urn} {why}, and the next "
            "`pulumi up` of that resource's stack continues with it.\nIf it is not to do that, "
            f"remove the record:\n  pulumi-fal pending forget {entry.id}",
        )
    found = account.stacks.all()
    for stack in found.stacks:
        is_own = asking.own is not None and stack.name == asking.own.name
        urns = {machine.urn for machine in stack.machines if machine.id == id_}
        if urns - ({call.urn} if is_own else set()):
            raise LifecycleError(
                id_,
                f"Machine {id_} was not imported: it is in the state of the stack {stack.name}: "
                f"{', '.join(urns)}. To move it here, remove it from there with `pulumi state "
                "delete` first, which leaves the machine as it is.",
            )
    if found.unread:
        lines = "".join(f"\n  {line}" for line in in_words(found.unread))
        call.warn_once(f"These stacks could not be read, and may have machine {id_}:{lines}")


def _may_have_made(entry: Entry, instance: Instance) -> bool:
    """Whether a create may have made the machine. A late one has no claim to it any more."""
    if entry.instance_id or entry.is_late:
        return entry.instance_id == instance.id
    return bool(candidates(entry, [instance], ()))


def refuse_mismatch(id_: str, actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise LifecycleError if a machine to import has another type or sector than is wanted."""
    differences = [
        f"its {name} is {actual.get(name)}, but the program says {wanted[name]}"
        for name in ("instance_type", "sector")
        if wanted.get(name) not in (None, actual.get(name))
    ]
    if differences:
        raise LifecycleError(
            id_,
            f"Machine {id_} was not imported: {'; '.join(differences)}. "
            "Correct the program, or import another machine.",
        )


def not_known(id_: str) -> UnknownMachineError:
    """Return the error of a machine that is read by its id, and that the API does not know."""
    return UnknownMachineError(
        id_,
        f"Machine {id_} can't be read: the API does not know it. Correct the id; `pulumi-fal ls` "
        "lists the machines of the account.",
    )
