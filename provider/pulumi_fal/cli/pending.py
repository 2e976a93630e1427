"""The commands `pulumi-fal pending`, which list and resolve creates that are not in state yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.cases import Case, investigate, is_in_state
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.evidence import Reader
from pulumi_fal.errors import JournalError, NotFoundError
from pulumi_fal.machines.journal import Entry, Phase, new_file
from pulumi_fal.machines.unresolved import as_forgotten
from pulumi_fal.machines.whose import Evidence
from pulumi_fal.stacks.cache import in_words
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.tokens import PROVIDER_TYPES, is_ours


@click.group()
def pending() -> None:
    """List and resolve creates that are not in state yet."""


@pending.command("ls")
@show.json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List every unresolved create, and what to do about it.

    The machines are looked up with the API. Without a key, only what is on disk is shown.
    """
    found = list(context.journal.entries())
    entries = [entry for entry in found if isinstance(entry, Entry)]
    unreadable = [error for error in found if isinstance(error, JournalError)]
    cases = investigate(context, entries) if entries else []
    if as_json:
        broken = [{"unreadable": error.path, "problem": error.problem} for error in unreadable]
        show.print_json([*(case.as_json() for case in cases), *broken])
        return
    in_state = [case for case in cases if case.facts.in_state]
    for case in cases:
        if case not in in_state:
            _print(context, case)
    for error in unreadable:
        show.print_record(
            error.path,
            {
                "phase": f"unreadable: it {error.problem}",
                "to do": "Fix the file, or delete it if no machine depends on it: `pulumi-fal "
                "audit` shows the machines that are in no stack.",
            },
        )
    if len(found) == len(in_state):
        show.print_lines("No create is pending.")
    if in_state:
        show.print_lines(
            f"Records of creates whose machine is in state: {len(in_state)}. The next run of "
            "`pulumi` removes them."
        )


CREATE = click.argument("create", metavar="CREATE")
_CHANGED = (
    "The record of this create has changed since this command read it, so nothing was done. Run "
    "`pulumi-fal pending ls` again."
)


@pending.command()
@CREATE
@click.argument("instance_id", metavar="ID")
@click.option(
    "--for",
    "new_urn",
    default="",
    metavar="URN",
    callback=lambda ctx, param, urn: _checked_urn(urn),
    help="The resource's current URN, if its stack or project was renamed.",
)
@click.option(
    "--stack",
    default="",
    metavar="STACK",
    help="The full name of the resource's stack, if several organizations have one of that name.",
)
@click.option(
    "--yes", is_flag=True, expose_value=False, help="Taken as by other commands: it asks nothing."
)
@pass_context
def adopt(context: Context, create: str, instance_id: str, new_urn: str, stack: str) -> None:
    """Assign machine ID to a resource.

    The next `pulumi up` continues with that machine. CREATE is the record that `pulumi-fal pending
    ls` shows, or the resource's URN or name if only one pending create has it. All stacks of the
    backend are read before, because a machine must not be in two stacks.
    """
    (entry, *_) = _find(context, create)
    if entry.is_late:
        raise click.ClickException(
            f"This create of {_name(entry)} was followed by another one or forgotten, so the "
            f"resource can't have {instance_id}. Import the machine into a stack instead."
        )
    reader, machine = Reader(context), _machine(context, entry, instance_id)
    for _ in range(2):  # while many stacks are read, one of them may have imported the machine
        evidence = reader.read([machine])
        origin = _origin(context, entry, new_urn, stack, evidence)
        why = next(_objections(entry, origin, machine, evidence), "")
        if why:
            raise click.ClickException(_refused(entry, instance_id) + why)
    adopted = replace(
        entry,
        origin=origin,
        phase=Phase.ADOPTED,
        instance_id=instance_id,
        problem="",
        started=context.clock.wall(),
        file=new_file(origin),
    )
    if not context.journal.exchange(entry, adopted):
        raise click.ClickException(_CHANGED)
    show.print_lines(
        f"Machine {instance_id} is assigned to {_name(entry)}. The next `pulumi up` of "
        f"{origin.project}/{origin.stack} continues with it."
    )


@pending.command()
@CREATE
@click.option(
    "--late",
    is_flag=True,
    help="Remove the records of creates that got no answer and were followed by another one.",
)
@show.yes_option
@pass_context
def forget(context: Context, create: str, late: bool, yes: bool) -> None:
    """Remove the record of a create. Its machine, if there is one, is not touched.

    A create that got no answer in the last ten minutes stays on record as late. CREATE is the
    record that `pulumi-fal pending ls` shows, or the resource's URN or name if only one pending
    create has it.
    """
    entries = _find(context, create, late=late)
    name, cases = _name(entries[0]), investigate(context, entries)
    for machine in dict.fromkeys(machine for case in cases for machine in case.may_run):
        show.print_lines(f"This machine may still run and bill, but is not in state: {machine}")
    if not yes:
        click.confirm(f"Forget the create of {name}?", abort=True)
    now = context.clock.wall()
    kept = [
        as_forgotten(entry, (found.id for found in case.facts.search.candidates), now)
        for entry, case in zip(entries, cases, strict=True)
    ]
    for entry, new in zip(entries, kept, strict=True):
        if not context.journal.exchange(entry, new):
            raise click.ClickException(_CHANGED)
    then = f"The next `pulumi up` creates a new machine for {name}."
    if any(kept):
        then += "\nIf the API still makes the machine of this create, every command names it."
    elif entries[0].is_late:
        then = f"The present machine of {name} is not affected."
    elif cases[0].is_gone:
        then = "No machine was touched."
    elif cases[0].facts.in_state:
        then = f"Machine {entries[0].instance_id} stays in state."
    show.print_lines(f"Removed the record. {then}")


def _find(context: Context, create: str, *, late: bool = False) -> list[Entry]:
    """Return the entry that an argument means, or with `late` the late entries of one resource.

    Without another entry, the late ones are returned as well. Entries whose machine is in state
    don't count if there are others: the next `pulumi` removes them. Raises ClickException unless
    exactly one resource matches.
    """
    found = list(context.journal.entries())
    named = [
        entry
        for entry in found
        if isinstance(entry, Entry)
        and show.plain(create) in map(show.plain, (entry.id, entry.origin.urn, entry.origin.name))
        and (entry.is_late or not late)
    ]
    named = [entry for entry in named if not entry.is_late] or named
    if len(named) > 1:
        named = [entry for entry in named if not is_in_state(entry, context.stacks)] or named
    if not named:
        for error in found:
            if isinstance(error, JournalError):
                raise error
        raise click.ClickException(
            f"No create of {create!r} is pending. `pulumi-fal pending ls` lists the pending "
            "creates."
        )
    is_one = len({entry.origin.urn for entry in named}) == 1 and named[0].is_late
    if len(named) > 1 and not is_one:
        lines = "".join(
            f"\n  {entry.id}  {entry.origin.urn} {entry.origin.backend}".rstrip() for entry in named
        )
        raise click.ClickException(
            f"Several creates match {create!r}. Name one by its record:{lines}"
        )
    if context.journal.is_locked(named[0]) and not named[0].is_late:
        raise click.ClickException(
            f"The create for {_name(named[0])} is in progress in another process. Run this command "
            "again when that process has ended."
        )
    return named


def _machine(context: Context, entry: Entry, instance_id: str) -> Instance:
    """Return the machine. Raises ClickException if there is none, as far as the key can tell."""
    refused, settings = _refused(entry, instance_id), context.settings
    try:
        return context.client().get_instance(instance_id)
    except NotFoundError as error:
        if entry.account in ("", settings.account):
            raise click.ClickException(f"{refused}there is no such machine. ({error})") from None
    where = f" at {entry.endpoint}" if entry.endpoint else ""
    raise click.ClickException(
        f"{refused}its create used account {entry.account}{where}, and the key that is set now "
        f"(account {settings.account} at {settings.endpoint}, from {settings.key_source}) does not "
        "see the machine. Run this command again with FAL_ADMIN_API_KEY set to a key of that "
        "account, and FAL_COMPUTE_ENDPOINT to its endpoint. If the program declares a provider for "
        "the resource, that key is its apiKey."
    )


def _origin(context: Context, entry: Entry, urn: str, stack: str, evidence: Evidence) -> Origin:
    """Return the resource that gets the machine, and its stack's id, by which `up` finds it.

    Without `urn`, it is that of the entry in its stack as that is called now, if the stack's id is
    known. Raises ClickException if there is no such stack, or if several have its name.
    """
    origin = Origin(urn or entry.origin.urn, "", context.stacks.backend)
    meant = [held for held in evidence.stacks if stack in ("", held.name)]
    known = [held for held in meant if entry.origin.provider in held.providers]
    if not urn and len(known) == 1:
        origin = entry.origin.moved(known[0].name, origin.backend)
    there = [held for held in meant if origin.is_in(held.name)]
    there = [held for held in there if held in known] or there
    if len(there) > 1:
        names = ", ".join(held.name for held in there)
        raise click.ClickException(f"Several stacks have that name: {names}. Add --stack.")
    if not there and not evidence.unread:
        elsewhere = entry.origin.backend
        where = f" If it is in {elsewhere}, set PULUMI_BACKEND_URL to that." if elsewhere else ""
        raise click.ClickException(
            f"There is no stack {origin.project}/{origin.stack} in the backend that `pulumi` uses "
            f"here.{where if elsewhere != origin.backend else ''} If it was renamed, add --for "
            "with the resource's current URN. If it was removed, import the machine into another "
            f"stack, or delete it:\n  pulumi-fal delete {entry.instance_id or 'ID'} --force"
        )
    if origin.urn != entry.origin.urn and any(
        other.origin.urn == origin.urn and not other.is_late for other in evidence.entries
    ):
        raise click.ClickException(
            f"A create of {origin.urn} is already pending. Resolve that one first: `pulumi-fal "
            "pending ls` shows it."
        )
    if not there:  # it could not be read, and a rename leaves the id as it is
        return replace(origin, provider=entry.origin.provider)
    ids = there[0].providers.items()
    return replace(origin, provider=next((id_ for id_, of in ids if of in PROVIDER_TYPES), ""))


def _objections(
    entry: Entry, origin: Origin, machine: Instance, evidence: Evidence
) -> Iterator[str]:
    """Yield why this create can't have made the machine, or who else has it or may have it."""
    is_known = entry.phase not in (Phase.REQUESTED, Phase.ADOPTED)
    if is_known and entry.instance_id != machine.id:
        yield f"its create made {entry.instance_id}."
    for other in evidence.entries:
        if other != entry and other.instance_id == machine.id:
            yield f"it is pending for {other.origin.urn}."
    if machine.id in entry.before:
        yield "it existed before this create. Import it instead, if it should be in a stack."
    for held in evidence.holders(machine.id):
        if origin.is_in(held.stack):
            yield (
                "it is already in the state of its stack. If this create left nothing else, remove "
                f"its record:\n  pulumi-fal pending forget {entry.id}"
            )
        yield (
            f"it is in the state of the stack {held.stack}. If both stacks had it, destroying one "
            "would delete the machine of the other."
        )
    if evidence.unread and entry.instance_id != machine.id:
        lines = "".join(f"\n  {line}" for line in in_words(evidence.unread))
        yield (
            f"these could not be read, and may have the machine:{lines}\nCorrect that, and run "
            "the command again."
        )
    for what, requested, actual in (
        ("type", entry.instance_type, machine.instance_type),
        ("sector", entry.requested.sector, machine.sector),
    ):
        if requested and actual and requested != actual:
            yield f"its {what} is {actual}, but {requested} was requested."


def _print(context: Context, case: Case) -> None:
    show.print_record(
        case.name,
        {
            "record": case.entry.id,
            "urn": case.entry.origin.urn,
            "stack": case.stack,
            "since": show.since(case.entry.started, context.clock.wall()),
            "phase": case.phase,
            "machine": case.machines,
            "not read": case.unread,
            "note": "It was created with another key than the one that is set now."
            if case.other_key and not case.unknown
            else "",
            "to do": case.what_to_do,
        },
    )


def _name(entry: Entry) -> str:
    """Return what a message calls the resource of the entry."""
    return f"resource {entry.origin.name!r}"


def _refused(entry: Entry, instance_id: str) -> str:
    return f"Machine {instance_id} can't be adopted for {_name(entry)}: "


def _checked_urn(urn: str) -> str:
    if urn and not is_ours(urn):
        raise click.BadParameter("that is not the URN of a ComputeInstance")
    return urn
