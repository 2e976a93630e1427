"""`pulumi-fal delete` deletes machines that no stack and no pending create has."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import common
from pulumi_fal.cli.common import Context, Reader, pass_context
from pulumi_fal.cli.machines import find
from pulumi_fal.errors import FalError, Interrupted, JournalError, StillThereError
from pulumi_fal.hosts.engine import ThreadPerCall
from pulumi_fal.machines.whose import Evidence, Row, Whose
from pulumi_fal.resource.operations import DELETE_TIMEOUT

_STOPPING_SECONDS = 15.0
"""How long Ctrl-C waits for requests that are under way."""


@click.command()
@click.argument(
    "given", metavar="MACHINE...", nargs=-1, callback=lambda ctx, param, given: _checked(given)
)
@click.option(
    "--expired",
    is_flag=True,
    help="Delete the machines of stacks that are older than their max_age, in place of a MACHINE.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Delete a machine even if a stack or a pending create has it, or if that is not known.",
)
@common.yes_option
@pass_context
def delete(context: Context, given: tuple[str, ...], expired: bool, force: bool, yes: bool) -> None:
    """Delete machines that no stack has, or that are expired.

    MACHINE is an id, or a name as `ls` shows it, also as STACK/NAME.

    The command waits until they are gone. Before, it reads all stacks of the backend that `pulumi`
    uses here. Nothing is deleted if the API does not know one of the machines, if a stack or a
    pending create has one, or if a stack can't be read. --force overrides all of these but the
    first.

    With --expired, it deletes the machines of stacks that are older than their max_age, and no
    others. It deletes nothing if a stack can't be read.
    """
    if expired:
        if given or force:
            raise click.UsageError("--expired finds the machines: leave out MACHINE and --force.")
        _delete_expired(context, yes)
        return
    if not given:
        raise click.UsageError("Missing argument 'MACHINE...'.")
    reader = Reader(context)
    named = find(reader, given, is_strict=True, nothing="Nothing was deleted. ")
    instances = [*{instance.id: instance for instance in named.values()}.values()]
    ids = [instance.id for instance in instances]
    evidence = reader.read(instances)
    found = _objections(evidence, instances)
    refused = [one for one in found if not (force or (one.is_question and not yes))]
    if refused:
        raise click.ClickException(
            "Nothing was deleted, because not all of these machines are forgotten:"
            f"{_reasons(refused, evidence)}\nTo end a machine of a stack, take it out of its "
            "program and run `pulumi up`. To delete the machines all the same, add --force; "
            "without --yes, the command then says what follows, and asks."
        )
    if not yes:
        _ask(instances, found)
    evidence = reader.read(instances)  # a stack may have imported one meanwhile
    new = [one for one in _objections(evidence, instances) if one not in found]
    if new:
        raise click.ClickException(
            "Nothing was deleted, because something has changed since this command began:"
            f"{_reasons(new, evidence)}\nRun the command again."
        )
    _end(context, ids, lambda left: f"{shlex.join(left)}{' --force' if force else ''}")
    for objection in found:
        common.print_lines(objection.then)


def _delete_expired(context: Context, yes: bool) -> None:
    """Delete the machines of stacks that are older than their max_age."""
    instances, reader = context.client().list_instances(), Reader(context)
    found = _expired(reader, instances)
    if not found:
        common.print_lines("No machine is older than its max_age.")
        return
    rows = [common.aged(row, row.max_age) for row in found]
    with suppress(BrokenPipeError) if yes else nullcontext():  # with `| head -1`, too
        common.print_table(("EXPIRED", *common.AGED), rows)
        for row in found:
            common.print_lines(_dropped(row))
    if not yes:
        what = f"Delete {_machines(len(found))}, with everything on their disks?"
        click.confirm(what, abort=True)
    still = {row.instance.id for row in _expired(reader, instances)}  # a stack may have changed
    ids = [row.instance.id for row in found]
    with suppress(BrokenPipeError):
        for id_ in ids:
            if id_ not in still:
                common.print_lines(f"Machine {id_} is left alone, because its stack has changed.")
    _end(context, [id_ for id_ in ids if id_ in still], lambda left: "--expired")


def _expired(reader: Reader, instances: Sequence[Instance]) -> list[Row]:
    """Return the machines that are older than each stack allows, of which all must be read."""
    evidence = reader.read(instances)
    if evidence.reasons:
        raise click.ClickException(
            "Nothing was deleted, because what could not be read may have any of the machines, "
            "with a longer max_age or none. Those that are too old keep billing:"
            f"{_reasons([], evidence)}\nCorrect that, and run the command again."
        )
    return [row for row in evidence.whose(instances) if row.exceeds(row.max_age)]


def _checked(given: tuple[str, ...]) -> tuple[str, ...]:
    if not all(text.strip() for text in given):
        raise click.BadParameter(
            "an id or a name is empty. Is a variable that should have it not set?"
        )
    twice = [text for text, count in Counter(given).items() if count > 1]
    if twice:
        raise click.BadParameter(f"{', '.join(twice)} is given more than once.")
    return given


@dataclass(frozen=True)
class Objection:
    """A reason not to delete a machine."""

    id: str
    why: str
    """The reason, as what follows the machine's name in a sentence."""
    then: str
    """What happens if the machine is deleted all the same, in full sentences."""
    is_question: bool = False
    """Whether it is enough that a person confirms the delete."""


def _objections(evidence: Evidence, instances: Sequence[Instance]) -> list[Objection]:
    """Return the reasons not to delete the machines: none for forgotten ones."""
    return [
        _objection(evidence, row)
        for row in evidence.whose(instances)
        if row.whose is not Whose.FORGOTTEN
    ]


def _objection(evidence: Evidence, row: Row) -> Objection:
    id_, whose, claim = row.instance.id, row.whose, row.claim
    if claim is None:
        return Objection(
            id_,
            "may be in a stack or a record that can't be read",
            f"A stack that has {id_} drops it from state at the next `pulumi refresh`, and makes "
            "a new machine at the next `pulumi up`.",
        )
    resource, entry = f"{claim.name!r} of {claim.stack}", claim.entry
    if entry is None:
        names = " and ".join(f"{held.stack} ({held.urn})" for held in row.holders)
        return Objection(id_, f"is in the state of {names}", _dropped(row))
    is_running = entry.file in evidence.in_progress
    state = ", which is in progress in another process" if is_running else ""
    has_stack = entry.file not in evidence.gone
    if entry.instance_id is None:
        return Objection(
            id_,
            f"may have been made by the create of {resource}{state or ', which got no answer'}",
            f"If {claim.name!r} has no other machine, the next `pulumi up` of {claim.stack} makes "
            "a new one."
            if has_stack
            else "The record of that create stays until `pulumi-fal pending forget` removes it.",
            is_question=not (
                is_running or evidence.unread or entry.file in evidence.unread_elsewhere
            ),
        )
    then = (
        f", and the next `pulumi up` of {claim.stack} makes a new machine for {claim.name!r} if "
        "the program still has it"
    )
    how = whose.value if whose is not Whose.UNKNOWN else Whose.PENDING.value
    unread = "" if whose is not Whose.UNKNOWN else ", and may be in a stack that can't be read"
    return Objection(
        id_,
        f"was made by the {how} create of {resource}{state}{unread}",
        f"The record of that create is dropped{then if has_stack else ''}.",
    )


def _dropped(row: Row) -> str:
    return " ".join(
        f"The next `pulumi refresh` of {held.stack} drops {held.id} from state, and the next "
        f"`pulumi up` makes a new machine for {held.name!r} if the program still has it."
        for held in row.holders
    )


def _reasons(objections: Sequence[Objection], evidence: Evidence) -> str:
    reasons = "".join(f"\n  Machine {one.id} {one.why}." for one in objections)
    unread = evidence.reasons.items()
    return reasons + "".join(f"\n  Unreadable: {what}: {why}" for what, why in unread)


def _ask(instances: Sequence[Instance], found: Sequence[Objection]) -> None:
    by_id = {objection.id: objection for objection in found}
    common.print_lines("These machines will be deleted, with everything on their disks:")
    for instance in instances:
        common.print_lines(f"  {instance}")
        if objection := by_id.get(instance.id):
            common.print_lines(f"    It {objection.why}.\n    {objection.then}")
    click.confirm(f"Delete {_machines(len(instances))}?", abort=True)


def _end(context: Context, ids: Sequence[str], arguments: Callable[[Iterable[str]], str]) -> None:
    """Delete the machines. Raises ClickException if one may still exist.

    `arguments` are those of the command that continues, for the ids that are left.
    """
    left = _delete_all(context, ids)
    _drop_records(context, [id_ for id_ in ids if id_ not in left])
    if left:
        reasons = "".join(f"\n  {why}" for why in left.values())
        raise click.ClickException(
            f"{_machines(len(left))} may still run and bill:{reasons}\nTo continue, run:\n"
            f"  pulumi-fal delete {arguments(left)}"
        )
    click.echo(nl=False)  # fails if stdout has not taken all lines


def _delete_all(context: Context, ids: Sequence[str]) -> dict[str, str]:
    """Delete the machines at the same time, with one shared poll, and report each that is gone.

    Returns the ids of those that may still exist, each with the reason in a sentence.
    """
    delete_one, threads = context.account.lifecycle.delete, ThreadPerCall()
    calls = {threads.submit(delete_one, id_, DELETE_TIMEOUT): id_ for id_ in ids}
    left = {id_: f"The delete of machine {id_} was interrupted." for id_ in ids}

    def report(call: futures.Future[None]) -> None:
        id_, error = calls.pop(call), call.exception()
        if error is None:
            del left[id_]
            with suppress(OSError):  # with `| head -1`, the others are deleted all the same
                common.print_lines(f"Machine {id_} is gone.")
        elif isinstance(error, StillThereError):
            left[id_] = error.happened
        elif not isinstance(error, FalError):
            raise error
        elif not isinstance(error, Interrupted):
            left[id_] = str(error)

    try:
        for call in futures.as_completed(calls):
            report(call)
    except KeyboardInterrupt:
        context.clock.interrupt()
        for call in futures.wait(calls, _STOPPING_SECONDS).done:
            report(call)
    return left


def _drop_records(context: Context, ids: Sequence[str]) -> None:
    """Drop the entries of the creates that made these machines, which are gone."""
    try:
        entries = context.journal.readable()
    except JournalError:
        return  # it was among what could not be read, and --force was given
    for entry in entries:
        if entry.instance_id in ids:
            context.journal.exchange(entry, None)


def _machines(count: int) -> str:
    return f"{count} machine{'' if count == 1 else 's'}"
