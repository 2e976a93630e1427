"""The resource's operations (diff, create and so on), as functions that every host calls."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import (
    ConfigurationError,
    ConflictError,
    Interrupted,
    InvalidRequestError,
    LifecycleError,
    NoRoomError,
    VanishedError,
)
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
    machines.known.add(id_)
    machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
    if not call.was_checked and news.get("sector") is UNKNOWN:
        # It may turn out to be the one that the machine is in. The next diff knows it.
        news = {**news, "sector": None}
    if IMPORTED in olds and call.was_checked and _has_other_key(olds, news, before):
        call.log(_corrected(call, id_), WARNING)
    replaces = _replacements(olds, news, before)
    # A machine that a wait has found to be gone needs a replacement. What a diff could find out by
    # itself, the preview would not have found out.
    if not replaces and olds.get(UNFINISHED) == GONE:
        return Diff(["instance_type"], changes=True)
    # An unfinished machine needs an update although no input differs.
    return Diff(replaces, changes=True if UNFINISHED in olds else None)


def create(machines: Machines, call: Call, props: Properties) -> Created:
    """Create a machine and wait until it is ready. Raises InitFailed if the wait ends early."""
    if call.preview:
        return Created("", outputs.planned(props))
    # The creates come first, because without a usable key nothing else need be asked.
    creates, origin = machines.creates, machines.origin(call.urn)
    try:
        return _create(machines, call, props, origin)
    except (InvalidRequestError, ConflictError, NoRoomError) as refusal:
        raise cluster.refused(machines, call, refusal) from None
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
        interrupts.explained(machines.journal, origin, new.instance_type),
        repeats.kept(machines, call, origin, props),
        creates.launch(
            new, origin, requested, room.patience(call, props), call.aliases
        ) as instance,
    ):
        made = records.made(origin)
        was_seen = made is not None and made.entry.seen
        wait = Wait(machines, call, instance, props, was_seen=was_seen)
        try:
            outs = wait.until_ready() if inputs.waits(props) else wait.outputs
        except VanishedError:
            records.let_go(origin, machines.facts.clock.wall())
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
    instance = machines.lifecycle.look(id_)
    if instance is None and not in_state:
        raise imports.not_known(id_)
    if instance is None:
        accounts.refuse_elsewhere(machines, call, id_, props)
        if machines.creates.was_never_shown(call.urn, id_):
            call.log(
                f"The API has not shown machine {id_} since its create. It stays in state "
                "unchanged, and may be billed.\nRun `pulumi refresh` again in a minute.",
                WARNING,
            )
            return dict(props)
        instance = machines.lifecycle.find(id_)
    if instance is None:
        machines.creates.note_gone(machines.origin(call.urn), id_, props)
        call.log(
            f"Machine {id_} is gone: the API no longer shows it, so it is removed from state, and "
            "is no longer billed.\nThe next `pulumi up` creates another one, if the program still "
            "has the resource.",
            WARNING,
        )
        return None
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
    machines.known.add(id_)
    changed = _replacements(olds, news, before)
    # The outputs have the inputs as well, except for the sector, which is the machine's own.
    _refuse_change(id_, [name for name in changed if before is not None or name != "sector"])
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
    was_seen = not machines.creates.was_never_shown(call.urn, id_)
    wait = Wait(machines, call, recorded(id_, olds, news), news, was_seen=was_seen)
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


def _refuse_change(id_: str, names: Iterable[str]) -> None:
    """Raise LifecycleError if any inputs are named, which only another machine can have."""
    if words := " and ".join(name.replace("_", " ") for name in names):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not changed: the API can't change the {words} of a machine that "
            "exists. Create another machine, then delete this one.",
        )


def delete(machines: Machines, call: Call, id_: str, props: Properties) -> None:
    """Delete the machine, and return when the API no longer knows it."""
    machines.known.add(id_)
    try:
        creates, origin = machines.creates, machines.origin(call.urn)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}\nMachine {id_} was not deleted, and is billed."
        ) from None
    if id_ in creates.resumed_ids and not creates.records.has_only(origin, id_):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not deleted, because the create of another resource has just "
            "resumed with it. Run `pulumi refresh`, then `pulumi state delete` for the resource "
            "that should not have the machine.",
        )
    # Of a resource that the program no longer has, or in a destroy, the engine has checked nothing.
    is_replaced = props.get(UNFINISHED) == GONE and call.urn in machines.known
    if is_replaced and machines.lifecycle.look(id_) is not None:
        creates.note_gone(origin, id_, props)
        call.log(_came_back(id_), WARNING)
        return
    try:
        accounts.refuse_another(machines, call, id_, props)
        is_deleted = machines.lifecycle.delete(id_, call.timeout or DELETE_TIMEOUT)
    except Interrupted:
        raise LifecycleError(
            id_,
            f"The delete of machine {id_} was interrupted. It stays in state, and may still "
            "run and bill. Run the command again to continue.",
        ) from None
    creates.deleted_ids.add(id_)
    if is_deleted:
        machines.journal.drop_entry_for(call.urn, id_, is_proven=True)
    else:
        creates.note_gone(origin, id_, props)


def _came_back(id_: str) -> str:
    return (
        f"Machine {id_} was gone, which is why it was replaced, and it is there again. So it was "
        "not deleted, but removed from state. It is billed.\n"
        f"If it is not needed:\n  pulumi-fal delete {id_} --force\n"
        "If it is, import it into a stack."
    )
