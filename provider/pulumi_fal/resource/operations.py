"""The resource's operations (diff, create and so on), as functions that every host calls."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import FalError, Interrupted, LifecycleError, VanishedError
from pulumi_fal.machines.process import Machines
from pulumi_fal.resource import (
    accounts,
    cluster,
    imports,
    inputs,
    interrupts,
    outputs,
    refresh,
    repeats,
    room,
)
from pulumi_fal.resource.call import UNKNOWN, WARNING, Call, InitFailed
from pulumi_fal.resource.outputs import GONE, IMPORTED, UNFINISHED
from pulumi_fal.resource.wait import Wait, has_to_wait, not_up, recorded
from pulumi_fal.stacks.origin import Origin

DELETE_TIMEOUT = 1200.0
"""Seconds that delete waits, unless `custom_timeouts` sets another timeout."""
_PREVIEW_SECONDS = 5.0
"""Seconds that a diff may take to find out whether an unfinished machine still exists."""

Properties = Mapping[str, Any]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class Diff:
    """The result of a diff: `replaces` names the inputs whose change replaces the machine.

    `changes` is None to let the engine compare the inputs, so that it honours `ignore_changes`. It
    is True if there is work left to do even though no input differs.
    """

    replaces: list[str]
    changes: bool | None = None


@dataclass(frozen=True)
class Created:
    """A created machine. The host must call `undelivered` if this did not reach the engine."""

    id: str
    outputs: Outputs
    undelivered: Callable[[], None] = lambda: None


def diff(
    machines: Machines,
    call: Call,
    id_: str,
    olds: Properties,
    news: Properties,
    before: Properties | None = None,
) -> Diff:
    """Find the changes that replace the machine.

    `olds` are the old outputs, `news` the new inputs, and `before` the old inputs if they are
    known.
    """
    machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
    if not call.was_checked and news.get("sector") is UNKNOWN:
        # It may turn out to be the one that the machine is in. The next diff knows it.
        news = {**news, "sector": None}
    if IMPORTED in olds and call.was_checked and _has_other_key(olds, news, before):
        call.log(_corrected(call, id_), WARNING)
    replaces = _replacements(olds, news, before)
    is_unfinished = UNFINISHED in olds
    # A machine that is gone needs a replacement, because a wait can't tell the engine that the
    # machine no longer exists.
    is_awaited = has_to_wait(olds, news) and not recorded(id_, olds, news).is_ready
    if not replaces and (is_unfinished or is_awaited) and _has_vanished(machines, call, id_, olds):
        return Diff(["instance_type"], changes=True)
    # An unfinished machine needs an update although no input differs.
    return Diff(replaces, changes=True if is_unfinished else None)


def create(machines: Machines, call: Call, props: Properties) -> Created:
    """Create a machine and wait until it is ready. Raises InitFailed if the wait ends early."""
    if call.preview:
        return Created("", outputs.planned(props))
    # The creates come first, because without a usable key nothing else need be asked.
    creates, origin = machines.creates, machines.stacks.origin(call.urn, call.organization)
    try:
        return _create(machines, call, props, origin)
    except InitFailed as failed:
        if not repeats.is_last(creates.records, origin):
            raise
        repeats.warn_of_limit(call, failed)
        return Created(failed.instance_id, failed.outputs, failed.undelivered)


def _create(machines: Machines, call: Call, props: Properties, origin: Origin) -> Created:
    creates, records = machines.creates, machines.creates.records
    requested = NewInstance.of(props)
    props = {**props, "sector": requested.sector or cluster.sector(machines, call)}
    new = replace(requested, sector=props["sector"])
    with (
        cluster.counted(machines, call),
        interrupts.explained(machines.journal, origin, new.instance_type),
        repeats.kept(machines, call, origin, props),
        creates.launch(new, origin, requested, room.patience(machines, call, props)) as instance,
    ):
        wait = Wait(machines, call, instance, props)
        try:
            outs = wait.until_ready() if inputs.waits(props) else wait.outputs
        except VanishedError as error:
            if error.was_listed:
                records.discard(origin)
            raise
        except InitFailed:
            records.saw(origin, wait.machine, seen=wait.was_seen)
            if call.is_heard():
                # Recorded before the call ends, because the engine has the result after that.
                records.mark_reported(origin, seen=wait.was_seen)
            raise
        records.mark_reported(origin, seen=wait.was_seen)
    records.succeed(origin)
    return Created(instance.id, outs, records.undelivered(origin))


def read(machines: Machines, call: Call, id_: str, props: Properties) -> Outputs | None:
    """Return the machine's current outputs, or None if its own account shows that it is gone.

    `props` are its outputs in state; they are empty if a program reads a machine by its id. Raises
    InitFailed if an unfinished machine is still not ready, because the engine would take a plain
    result as a sign that the create has succeeded after all.
    """
    in_state = "instance_type" in props
    instance = machines.lifecycle.find(id_)
    if instance is None and not in_state:
        raise imports.not_known(id_)
    if instance is None:
        accounts.refuse_elsewhere(machines, call, id_, props)
        if not machines.creates.may_still_appear(call.urn, id_):
            machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
            return None
        call.log(
            f"Machine {id_} was created a moment ago, and the API does not show it yet. It stays "
            "in state unchanged.\nRun `pulumi refresh` again in a minute.",
            WARNING,
        )
        return dict(props)
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)
    outs = outputs.from_instance(instance, props, machines.account_id)
    if UNFINISHED in props and (reason := not_up(machines, instance, props)):
        raise InitFailed(id_, {**outs, UNFINISHED: True}, reason)
    if warning := refresh.warning(call, instance, props):
        call.log(warning, WARNING)
    return outs


def update(
    machines: Machines,
    call: Call,
    id_: str,
    olds: Properties,
    news: Properties,
    before: Properties | None = None,
) -> Outputs:
    """Record changes that need no call to the API, and resume an unfinished wait for the machine.

    `olds` are the old outputs, `news` the new inputs, and `before` the old inputs if they are
    known. Raises InitFailed if the wait ends early, and LifecycleError if a new input would replace
    the machine.
    """
    changed = _replacements(olds, news, before)
    # The outputs have the inputs as well, except for the sector, which is the machine's own.
    refuse_change(id_, [name for name in changed if before is not None or name != "sector"])
    machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
    marks = (UNFINISHED, IMPORTED)
    kept = {name: value for name, value in olds.items() if name not in (*inputs.ONLY, *marks)}
    if IMPORTED in olds and not _has_other_key(olds, news, before):
        news = {**news, IMPORTED: True}
    if not has_to_wait(olds, news):
        return {**kept, **outputs.requested(news)}
    if call.preview:
        return {**outputs.unknown(), **kept, "status": UNKNOWN, **outputs.requested(news)}
    accounts.refuse_another(machines, call, id_, olds)
    wait = Wait(machines, call, recorded(id_, olds, news), news)
    try:
        outs = wait.until_ready()
    except VanishedError as error:
        # Recorded, so that the next diff replaces the machine even if it can't ask the API in time.
        reason = f"{error.happened} Run `pulumi up` again: it replaces the machine with a new one."
        raise InitFailed(id_, {**wait.outputs, UNFINISHED: GONE}, reason) from error
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)
    return outs


def _replacements(olds: Properties, news: Properties, before: Properties | None) -> list[str]:
    """Return the names of the inputs whose change replaces the machine.

    An input that is what it was does not, as with ignore_changes, whatever the machine has become.
    """
    replaces = inputs.replacements({**(before or {}), **olds}, news)
    return [
        name
        for name in replaces
        if (before is None or before.get(name) != news.get(name))
        and not (name == "ssh_key" and IMPORTED in olds)
    ]


def _has_other_key(olds: Properties, news: Properties, before: Properties | None) -> bool:
    """Whether another SSH key is requested than the one in state."""
    keys = {"ssh_key": {**(before or {}), **olds}.get("ssh_key")}
    return bool(inputs.replacements(keys, {"ssh_key": news.get("ssh_key")}))


def _corrected(call: Call, id_: str) -> str:
    return (
        f"The SSH key of machine {id_} changes in state only. The earlier one came with its "
        "import, and the API does not say which key the machine has.\n"
        "If that is not the new one, replace the machine:\n"
        f"  pulumi up --target-replace {shlex.quote(call.urn)}"
    )


def refuse_change(id_: str, names: Iterable[str]) -> None:
    """Raise LifecycleError if any inputs are named, which only another machine can have."""
    if words := " and ".join(name.replace("_", " ") for name in names):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not changed: the API can't change the {words} of a machine that "
            "exists. Create another machine, then delete this one.",
        )


def delete(machines: Machines, call: Call, id_: str, props: Properties) -> None:
    """Delete the machine, and return when the API no longer knows it."""
    creates, origin = machines.creates, machines.stacks.origin(call.urn, call.organization)
    if id_ in creates.resumed_ids and not creates.records.has_only(origin, id_):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not deleted, because the create of another resource has just "
            "resumed with it. Run `pulumi refresh`, then `pulumi state delete` for the resource "
            "that should not have the machine.",
        )
    is_new = creates.may_still_appear(call.urn, id_)
    try:
        accounts.refuse_another(machines, call, id_, props)
        machines.lifecycle.delete(id_, call.timeout or DELETE_TIMEOUT, is_new=is_new)
    except Interrupted:
        raise LifecycleError(
            id_,
            f"The delete of machine {id_} was interrupted. It stays in state, and may still "
            "run and bill. Run the command again to continue.",
        ) from None
    creates.deleted_ids.add(id_)
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)


def _has_vanished(machines: Machines, call: Call, id_: str, olds: Properties) -> bool:
    """Whether the machine is gone. False if the API can't be reached, as in an offline preview."""
    if olds.get(UNFINISHED) == GONE:
        return True
    try:
        if not machines.ownership.is_own(AccountId.of(olds)):
            return False
        if machines.creates.may_still_appear(call.urn, id_):
            return False
        return machines.lifecycle.find(id_, _PREVIEW_SECONDS) is None
    except (FalError, TimeoutError):
        return False
