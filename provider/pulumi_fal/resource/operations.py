"""The resource's operations, as functions that every host calls.

They are check, diff, create, read, import, update and delete, in this order. At the end stands what
refuses the key of another account than the machine's: only a machine's own account can show that it
is gone.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from pulumi_fal.api.models import Instance, InstanceType, NewInstance, Status
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    Interrupted,
    LifecycleError,
    UnknownMachineError,
    VanishedError,
)
from pulumi_fal.machines.account import Account, elsewhere
from pulumi_fal.machines.earlier import sees_account_of
from pulumi_fal.machines.journal import Entry
from pulumi_fal.machines.whose import Asking, Same, candidates, same
from pulumi_fal.resource import inputs, wait
from pulumi_fal.resource.call import UNKNOWN, WARNING, Call, InitFailed
from pulumi_fal.resource.inputs import GONE, IMPORTED, UNFINISHED, Failure
from pulumi_fal.resource.wait import Wait, has_to_wait, not_up, recorded
from pulumi_fal.stacks.cache import Origin, in_words

DELETE_TIMEOUT = 1200.0
"""Seconds that delete waits, unless `custom_timeouts` sets another timeout."""
LIMIT = 100
"""The engine's limit of attempts. It would record the machine of the last one without its id, if
that one failed, and the engine crashes wherever it finds such a resource in state."""
_COMING_UP = (Status.PENDING, Status.INIT, Status.PROVISIONING, Status.UNKNOWN)

Properties = Mapping[str, Any]
Outputs = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


def _naming_interrupts(
    operation: Callable[Concatenate[Account, Call, str, P], T],
) -> Callable[Concatenate[Account, Call, str, P], T]:
    """Decorate an operation so that the error of an interrupt names its machine."""
    what = operation.__name__.removeprefix("read_")

    @functools.wraps(operation)
    def named(account: Account, call: Call, id_: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return operation(account, call, id_, *args, **kwargs)
        except Interrupted:
            raise LifecycleError(
                id_,
                f"The {what} of machine {id_} was interrupted. State did not change, and the "
                "machine may still run and bill.\nRun the command again to continue.",
            ) from None

    return named


@dataclass(frozen=True)
class Checked:
    """The inputs as they are stored in state, and every problem with them."""

    inputs: dict[str, Any]
    failures: list[Failure]


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


def check(call: Call, olds: Properties, news: Properties) -> Checked:
    """Return the normalized inputs and all problems with them. Works offline.

    A key that differs from the old one only in its comment is replaced by the old one. `olds` are
    the old inputs; they are empty for a new resource and before a replacement.
    """
    checked = {
        name: value
        for name in inputs.NAMES
        # Setting what is the default must not count as a change.
        if (value := news.get(name)) is not None and value is not inputs.DEFAULTS.get(name)
    }
    failures = [
        failure
        for failure in inputs.failures(news)
        # The others have the sector that the API chose for the first, or that the first's check has
        # found a problem with.
        if not (failure.property == "sector" and wait.follows(call))
    ]
    if not failures and not inputs.replacements(
        {"ssh_key": olds.get("ssh_key")}, {"ssh_key": news["ssh_key"]}
    ):
        checked["ssh_key"] = olds.get("ssh_key") or news["ssh_key"]
    for warning in () if failures else inputs.unknown(checked):
        call.warn_once(warning)
    if call.preview and not (olds or failures):
        call.bill.planned[call.urn] = _typed("", checked)
    return Checked(checked, failures)


def diff(
    account: Account,
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
    account.note_in_engine(call.urn, id_)
    account.records.settle(call.urn, id_, is_proven=False)
    if not call.was_checked and news.get("sector") is UNKNOWN:
        # It may turn out to be the one that the machine is in. The next diff knows it.
        news = {**news, "sector": None}
    if IMPORTED in olds and call.was_checked and _has_other_key(olds, news, before):
        call.log(_corrected(call, id_), WARNING)
    replaces = _replacements(olds, news, before)
    if replaces and olds.get(UNFINISHED) != GONE:
        call.warn_once(_loses_disk(id_, [name for name in replaces if news.get(name) != UNKNOWN]))
        if call.was_checked:
            call.bill.replaced[id_] = _typed(id_, olds)
    # A machine that a wait has found to be gone needs a replacement. What a diff could find out by
    # itself, the preview would not have found out.
    if not replaces and olds.get(UNFINISHED) == GONE:
        return Diff(["instance_type"], changes=True)
    # An unfinished machine needs an update although no input differs.
    return Diff(replaces, changes=True if UNFINISHED in olds else None)


def _loses_disk(id_: str, changed: Iterable[str]) -> str:
    """Return what a replacement costs. Whether the program has it deleted first is not known."""
    undo = f"\nTo keep it, undo the change of its {_words(changed)}." if changed else ""
    return (
        f"The replacement of machine {id_} deletes everything on its disk. Both machines are "
        f"billed until the new one is ready, unless this one is deleted first.{undo}"
    )


def create(account: Account, call: Call, props: Properties) -> Created:
    """Create a machine and wait until it is ready. Raises InitFailed if the wait ends early.

    The engine may repeat a create, if a hook of the program says so, and forgets the results of all
    attempts but the last. So each of them has to bring the machine into state.
    """
    if call.preview:
        call.bill.planned[call.urn] = _typed("", props)
        return Created("", inputs.planned_outputs(props))
    # The creates come first, because without a usable key nothing else need be asked.
    creates, records, origin = account.creates, account.records, account.origin(call.urn)
    requested = NewInstance.of(props)
    props = {**props, "sector": requested.sector or wait.sector(account, call, requested)}
    new, patience = replace(requested, sector=props["sector"]), wait.patience(call, props)
    try:
        with creates.launch(new, origin, requested, patience, call.aliases) as instance:
            call.bill.began[instance.id] = _typed(instance.id, props)
            outs = _awaited(account, call, origin, instance, props)
    except VanishedError as error:
        call.bill.began.pop(error.instance_id, None)
        raise
    except InitFailed as error:
        failed = error
    except Exception as error:  # noqa: BLE001 - a machine that exists is recorded
        made = records.made(origin)
        if made is None:
            raise wait.without_machine(account, call, origin, new, error) from None
        failed = wait.unfinished(account, call, made.instance, props, error)
        if call.is_heard():
            # Otherwise a later create that replaces the machine could resume with it.
            records.mark_reported(origin, seen=made.entry.seen, has_lock=False)
    else:
        records.succeed(origin)
        return Created(instance.id, outs, records.undelivered(origin))
    failed.undelivered = records.undelivered(origin)
    if records.count(origin) < LIMIT:
        raise failed
    call.log(
        f"{failed.reason}\nPulumi stops after {LIMIT} attempts, so the machine is recorded in "
        "state as it is.",
        WARNING,
    )
    return Created(failed.instance_id, failed.outputs, failed.undelivered)


def _awaited(
    account: Account, call: Call, origin: Origin, instance: Instance, props: Properties
) -> Outputs:
    """Return the outputs of a new machine, which is ready unless the program does not wait.

    What became of it is recorded before the call ends, because the engine has the result then.
    """
    records = account.records
    made = records.made(origin)
    ready = Wait(account, call, instance, props, seen=made is not None and made.entry.seen)
    try:
        outs = ready.until_ready() if inputs.waits(props) else ready.outputs
    except VanishedError:
        records.let_go(origin)
        raise
    except InitFailed:
        records.saw(origin, ready.instance, seen=ready.seen)
        if call.is_heard():
            records.mark_reported(origin, seen=ready.seen)
        raise
    records.mark_reported(origin, seen=ready.seen)
    return outs


@_naming_interrupts
def read(account: Account, call: Call, id_: str, props: Properties) -> Outputs | None:
    """Return the machine's current outputs, or None if its own account shows that it is gone.

    `props` are its outputs in state; they are empty if a program reads a machine by its id. Raises
    InitFailed if an unfinished machine is still not ready, because the engine would take a plain
    result as a sign that the create has succeeded after all.
    """
    in_state = "instance_type" in props
    instance = account.lifecycle.look(id_)
    if instance is None and not in_state:
        raise not_known(id_)
    if instance is None:
        refuse_elsewhere(account, call, id_, props)
        if account.records.was_never_shown(call.urn, id_):
            unshown = (
                f"The API has not shown machine {id_} since its create. It stays in state "
                "unchanged, and may be billed.\nRun `pulumi refresh` again in a minute."
            )
            if UNFINISHED in props:
                raise InitFailed(id_, dict(props), unshown)
            call.log(unshown, WARNING)
            return dict(props)
        instance = account.lifecycle.confirm_gone(id_)
    if instance is None:
        then = "Correct its id in the program, or remove the resource."
        if _is_managed(props):  # a create adopts what is on record
            account.records.note_gone(account.origin(call.urn), id_, props)
            then = "The next `pulumi up` creates another one, if the program still has it."
        call.log(
            f"Machine {id_} is gone: the API no longer shows it, so it is removed from state, and "
            f"is no longer billed.\n{then}",
            WARNING,
        )
        return None
    account.records.settle(call.urn, id_, is_proven=True)
    outs = inputs.outputs_of(instance, props, account.id)
    if UNFINISHED in props and (reason := not_up(account, instance, props)):
        raise InitFailed(id_, {**outs, UNFINISHED: True}, reason)
    if trouble := _trouble(call, instance, props):
        call.log(trouble, WARNING)
    return outs


def _is_managed(props: Properties) -> bool:
    """Whether these are the outputs of a machine that Pulumi may replace or delete.

    Those of a machine that a program only reads by its id have no key.
    """
    return "ssh_key" in props or IMPORTED in props


def _trouble(call: Call, instance: Instance, props: Properties) -> str | None:
    """Return what a person has to know of the machine that was read, or None if nothing.

    `props` are its outputs in state.
    """
    is_managed = _is_managed(props)
    if instance.is_stopped:
        advice = f"\n{call.to_delete('it')}" if is_managed else ""
        return (
            f"Machine {instance.id} is stopped, so you can't log in. It may still be billed.\n"
            f"Start it on the fal dashboard.{advice}"
        )
    if not is_managed:
        return _without_sector(instance)
    was_ready = inputs.waits(props) or props.get("status") == Status.READY
    if not instance.is_ready and (was_ready or instance.status not in _COMING_UP):
        lacks = "" if instance.ip else ", and it has no ip"
        return (
            f"Machine {instance.id} is not ready: its status is {instance.status}{lacks}. It may "
            "still be billed.\nIf it does not recover, replace it:\n"
            f"  pulumi up --target-replace {shlex.quote(call.urn)}"
        )
    if instance.ip and props.get("ip") not in (None, instance.ip):  # the ip may be a secret
        return (
            f"Machine {instance.id} has another ip than before.\n"
            "Run `pulumi up` to update what uses it."
        )
    return None


def _without_sector(instance: Instance) -> str | None:
    has_sector = InstanceType.has_sector(instance.instance_type)
    if instance.sector or instance.is_ready or not has_sector:
        return None
    return (
        f"Machine {instance.id} is not ready, and the API does not show its sector yet. A machine "
        "that is to be created in its sector now may end up in another one.\n"
        "Run the command again when the machine is ready."
    )


@_naming_interrupts
def read_import(account: Account, call: Call, id_: str, wanted: Properties) -> Outputs:
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
    outs = inputs.outputs_of(instance, wanted, account.id)
    is_awaited = inputs.waits(wanted) and not_up(account, instance, wanted)
    account.records.note_imported(account.origin(call.urn), id_)
    return imported(outs, is_finished=not is_awaited)


def imported(outs: Properties, *, is_finished: bool) -> Outputs:
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
    entries = account.journal.readable()  # before the stacks: an entry ends once state has it
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
    for entry in entries:
        if not _may_have_made(account, entry, instance) or (
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
    if found.unread:
        lines = "".join(f"\n  {line}" for line in in_words(found.unread))
        call.warn_once(f"These stacks could not be read, and may have machine {id_}:{lines}")


def _may_have_made(account: Account, entry: Entry, instance: Instance) -> bool:
    """Whether a create may have made the machine. A late one has no claim to it any more."""
    if entry.instance_id or entry.is_late:
        return entry.instance_id == instance.id
    return bool(candidates(entry, [instance], ())) and sees_account_of(account, entry)


def refuse_mismatch(id_: str, actual: Properties, wanted: Properties) -> None:
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


@_naming_interrupts
def update(
    account: Account,
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
    account.note_in_engine(call.urn, id_)
    changed = _replacements(olds, news, before)
    # The outputs have the inputs as well, except for the sector, which is the machine's own.
    if words := _words(name for name in changed if before is not None or name != "sector"):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not changed: the API can't change the {words} of a machine that "
            "exists. Create another machine, then delete this one.",
        )
    account.records.settle(call.urn, id_, is_proven=False)
    marks = (UNFINISHED, IMPORTED)
    kept = {name: value for name, value in olds.items() if name not in (*inputs.ONLY, *marks)}
    if IMPORTED in olds and not _has_other_key(olds, news, before):
        news = {**news, IMPORTED: True}
    if not has_to_wait(olds, news):
        return {**kept, **inputs.requested(news)}
    if call.preview:
        return {**inputs.unknown_outputs(), **kept, "status": UNKNOWN, **inputs.requested(news)}
    refuse_another(account, call, id_, olds)
    seen = not account.records.was_never_shown(call.urn, id_)
    ready = Wait(account, call, recorded(id_, olds, news), news, seen=seen)
    try:
        outs = ready.until_ready()
    except VanishedError as error:
        # Recorded, so that the next diff replaces the machine even if it can't ask the API in time.
        reason = f"{error.happened} Run `pulumi up` again: it replaces the machine with a new one."
        raise InitFailed(id_, {**ready.outputs, UNFINISHED: GONE}, reason) from error
    account.records.settle(call.urn, id_, is_proven=True)
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


def _words(names: Iterable[str]) -> str:
    return " and ".join(name.replace("_", " ") for name in names)


@_naming_interrupts
def delete(account: Account, call: Call, id_: str, props: Properties) -> None:
    """Delete the machine, and return when the API no longer knows it."""
    try:
        creates, origin = account.creates, account.origin(call.urn)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}\nMachine {id_} was not deleted, and is billed."
        ) from None
    if id_ in creates.resumed_ids and not account.records.has_only(origin, id_):
        raise LifecycleError(
            id_,
            f"Machine {id_} was not deleted, because the create of another resource has just "
            "resumed with it. Run `pulumi refresh`, then `pulumi state delete` for the resource "
            "that should not have the machine.",
        )
    # In an `up` that has checked nothing of the resource, the program no longer has it. Whether
    # state has a newer machine tells nothing, because a refresh may have dropped that one.
    is_replaced = props.get(UNFINISHED) == GONE and call.was_checked
    try:
        if is_replaced and account.lifecycle.look(id_) is not None:
            account.records.note_gone(origin, id_, props)
            call.log(_came_back(id_), WARNING)
            return
        refuse_another(account, call, id_, props)
        is_deleted = account.lifecycle.delete(id_, call.timeout or DELETE_TIMEOUT)
    except (APIError, ConfigurationError) as error:
        raise LifecycleError(
            id_, f"{error}\nMachine {id_} was not deleted, and may still be billed."
        ) from None
    creates.deleted_ids.add(id_)
    if is_deleted:
        account.records.settle(call.urn, id_, is_proven=True)
        _end_billing(account, call, origin, _typed(id_, props))
    else:
        account.records.note_gone(origin, id_, props)


def _end_billing(account: Account, call: Call, origin: Origin, instance: Instance) -> None:
    """Say what a machine has cost. Only the stack's state tells since when."""

    def recorded() -> dict[str, float]:
        in_stack = account.stacks.machines(origin) or ()
        account.stacks.forget(origin)  # whoever asks later needs a newer state
        return {held.id: held.created for held in in_stack if held.created is not None}

    if not call.bill.prices or not call.is_heard():
        return
    cost = call.bill.end(instance, account.clock.wall(), recorded)
    if cost is not None:
        call.log(f"Machine {instance.id} cost {cost:.2f} since Pulumi recorded it.")


def _typed(id_: str, props: Properties) -> Instance:
    """Return a machine of which only the id and the type are known."""
    return Instance(id_, str(props.get("instance_type") or ""))


def _came_back(id_: str) -> str:
    return (
        f"Machine {id_} was gone, which is why it was replaced, and it is there again. So it was "
        "not deleted, but removed from state. It is billed.\n"
        f"If it is not needed:\n  pulumi-fal delete {id_} --force\n"
        "If it is, import it into a stack."
    )


def refuse_another(account: Account, call: Call, id_: str, props: Properties) -> None:
    """Raise ElsewhereError unless this account sees the machine, or is the one in state.

    Called before a wait or a delete, because only a machine's own account can show that it is gone.
    """
    if not account.is_known_own(AccountId.of(props)) and not account.lifecycle.look(id_):
        refuse_elsewhere(account, call, id_, props)


def refuse_elsewhere(account: Account, call: Call, id_: str, props: Properties) -> None:
    """Raise ElsewhereError if a machine that is not seen may belong to another account."""
    account_id = AccountId.of(props)
    if not account.sees(account_id, account.origin(call.urn)):
        raise elsewhere(account.settings, id_, account_id)
