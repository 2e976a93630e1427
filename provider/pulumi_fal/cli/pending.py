"""The commands `pulumi-fal pending`, which list and resolve creates that are not in state yet."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click

from pulumi_fal.cli import show
from pulumi_fal.cli.cases import Case, investigate
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.errors import JournalError, NotFoundError
from pulumi_fal.machines.decision import made_at_another_time
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks import backend as backends
from pulumi_fal.stacks.origin import ORGANIZATION_VARIABLE, Origin
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, is_ours


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
            f"Creates in state, whose records the next run of `pulumi` drops: {len(in_state)}."
        )


URN = click.argument("urn", metavar="URN")
BACKEND = click.option(
    "--backend",
    default="",
    callback=lambda ctx, param, url: _as_recorded(url),
    help="The URL of the backend of the create's stack.",
)
ORGANIZATION = click.option(
    "--organization", default="", help="The organization of the create's stack."
)
_CHANGED = (
    "The record of this create has changed since this command read it, so nothing was done. Run "
    "`pulumi-fal pending ls` again."
)


@pending.command()
@URN
@click.argument("instance_id", metavar="ID")
@BACKEND
@ORGANIZATION
@click.option(
    "--for",
    "new_urn",
    default="",
    metavar="URN",
    callback=lambda ctx, param, urn: _checked_urn(urn),
    help="The resource's current URN, if its stack or project was renamed.",
)
@pass_context
def adopt(
    context: Context, urn: str, instance_id: str, backend: str, organization: str, new_urn: str
) -> None:
    """Assign machine ID to a resource.

    The next `pulumi up` continues with that machine. Instead of the URN you can give the
    resource's name, if only one pending create has it.
    """
    (entry, *_) = _find(context, urn, backend, organization)
    if entry.is_late:
        raise click.ClickException(
            f"Another machine was requested for {_name(entry)} since this create, so it can't have "
            f"{instance_id} as well. Import the machine into a stack instead."
        )
    origin = _completed(context, entry.origin, backend, organization)
    adopted = replace(
        entry,
        origin=replace(origin, urn=new_urn or origin.urn),
        phase=Phase.ADOPTED,
        instance_id=instance_id,
        problem="",
    )
    _refuse_wrong_machine(context, entry, adopted.origin, instance_id)
    if adopted.origin != entry.origin and any(
        other.origin == adopted.origin and not other.is_late for other in context.journal.readable()
    ):
        raise click.ClickException(
            f"A create of {adopted.origin.urn} is already pending. Resolve that one first: "
            "`pulumi-fal pending ls` shows it."
        )
    if not context.journal.exchange(entry, adopted):
        raise click.ClickException(_CHANGED)
    show.print_lines(
        f"Machine {instance_id} is assigned to {_name(entry)}. The next `pulumi up` of "
        f"{adopted.origin.project}/{adopted.origin.stack} continues with it."
    )
    _warn_of_namesakes(context, adopted.origin)


@pending.command()
@URN
@BACKEND
@ORGANIZATION
@click.option(
    "--late",
    is_flag=True,
    help="Drop the records of creates that got no answer and were followed by another one.",
)
@show.yes_option
@pass_context
def forget(
    context: Context, urn: str, backend: str, organization: str, late: bool, yes: bool
) -> None:
    """Drop the record of a create. Its machine, if there is one, is not touched.

    Instead of the URN you can give the resource's name, if only one pending create has it.
    """
    entries = _find(context, urn, backend, organization, late=late)
    name, cases = _name(entries[0]), investigate(context, entries)
    for machine in dict.fromkeys(machine for case in cases for machine in case.may_run):
        show.print_lines(f"This machine may still run and bill, but is not in state: {machine}")
    if not yes:
        click.confirm(f"Forget the create of {name}?", abort=True)
    for entry in entries:
        if not context.journal.exchange(entry, None):
            raise click.ClickException(_CHANGED)
    then = f"The next `pulumi up` creates a new machine for {name}."
    if entries[0].is_late:
        then = f"The present machine of {name} is not affected."
    elif cases[0].facts.in_state:
        then = f"Machine {entries[0].instance_id} stays in state."
    show.print_lines(f"Dropped the record. {then}")


def _print(context: Context, case: Case) -> None:
    show.print_record(
        case.name,
        {
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


def _find(
    context: Context, urn: str, backend: str, organization: str, *, late: bool = False
) -> list[Entry]:
    """Return the entry of the resource with this URN or name, or with `late` its late entries.

    Without another entry, the late ones are returned as well. Entries whose machine is in state
    don't count if there are others: the next `pulumi` drops them. Raises ClickException unless
    exactly one resource matches.
    """
    journal = context.journal
    entries = list(journal.entries())
    named = [
        entry
        for entry in entries
        if isinstance(entry, Entry)
        and urn in (entry.origin.urn, entry.origin.name)
        and (entry.is_late or not late)
    ]
    found = [
        entry
        for entry in named
        if entry.origin.may_be(Origin(entry.origin.urn, organization, backend))
    ]
    found = [entry for entry in found if not entry.is_late] or found
    if len(found) > 1:
        found = [entry for entry in found if not _is_in_state(context, entry)] or found
    if len({entry.origin for entry in found}) == 1:
        _refuse_one_in_progress(journal, found[0])
        return found
    if not found:
        unreadable = [error for error in entries if isinstance(error, JournalError)]
        if unreadable and not named:
            raise unreadable[0]
        where = " there" if named else ""
        raise click.ClickException(
            f"No create of {urn!r} is pending{where}. `pulumi-fal pending ls` lists the pending "
            "creates."
        )
    lines = "".join(
        f"\n  {entry.origin.urn} --organization {entry.origin.organization or '?'} "
        f"--backend {entry.origin.backend or '?'}"
        for entry in found
    )
    one_urn = len({entry.origin.urn for entry in found}) == 1
    how = "with --organization and --backend" if one_urn else "by its URN"
    raise click.ClickException(f"Several creates match {urn!r}. Say which {how}:{lines}")


def _is_in_state(context: Context, entry: Entry) -> bool:
    return bool(entry.instance_id and context.stacks.has(entry.origin, entry.instance_id))


def _refuse_one_in_progress(journal: Journal, entry: Entry) -> None:
    if journal.is_locked(entry.origin):
        raise click.ClickException(
            f"The create for {_name(entry)} is in progress in another process. Run this command "
            "again when that process has ended."
        )


def _checked_urn(urn: str) -> str:
    if urn and not is_ours(urn):
        raise click.BadParameter("that is not the URN of a ComputeInstance")
    return urn


def _completed(context: Context, origin: Origin, backend: str, organization: str) -> Origin:
    """Return the origin with the given backend and organization where the record lacks them.

    If only one organization has a stack of that name, it need not be given. Raises ClickException
    if one is still missing, because `pulumi up` would not resume the create.
    """
    completed = replace(
        origin,
        backend=origin.backend or backend,
        organization=origin.organization or organization,
    )
    possible = context.stacks.possible(completed)
    if len(possible) == 1:
        return possible[0]
    if completed.unknown:
        options = " and ".join(f"--{name}" for name in completed.unknown)
        lacks = " and the ".join(completed.unknown)
        raise click.ClickException(
            f"The record of this create lacks the {lacks} of its stack, which "
            f"`pulumi up` needs to resume it. Add {options}."
        )
    return completed


def _warn_of_namesakes(context: Context, origin: Origin) -> None:
    """Name the setting without which the native plugin can't know the stack's organization.

    The Python package needs none for a create, because the program tells the organization.
    """
    if not is_ours(origin.urn, (NATIVE_TYPE_TOKEN,)):
        return
    namesakes = context.stacks.possible(replace(origin, organization=""))
    if len(namesakes) > 1:
        names = ", ".join(stack.organization for stack in namesakes)
        show.print_lines(
            f"Several organizations have a stack of that name ({names}), so run it with "
            f"{ORGANIZATION_VARIABLE}={origin.organization} in the environment."
        )


def _refuse_wrong_machine(context: Context, entry: Entry, origin: Origin, instance_id: str) -> None:
    """Raise ClickException for a machine that this create can't have made, or that is assigned."""
    refused = f"Machine {instance_id} can't be adopted for {_name(entry)}: "
    if entry.phase not in (Phase.REQUESTED, Phase.ADOPTED) and entry.instance_id != instance_id:
        raise click.ClickException(f"{refused}its create made {entry.instance_id}.")
    for other in context.journal.readable():
        if other != entry and other.instance_id == instance_id:
            raise click.ClickException(f"{refused}it is pending for {other.origin.urn}.")
    if instance_id in entry.before:
        raise click.ClickException(
            f"{refused}it existed before this create. Import it instead, if it should be in a "
            "stack."
        )
    if made_at_another_time(entry, instance_id, context.journal.readable()):
        raise click.ClickException(
            f"{refused}it was made long before or after this create, as the records of other "
            "creates show. Import it instead, if it should be in a stack."
        )
    try:
        machine = context.client().get_instance(instance_id)
    except NotFoundError as error:
        _refuse_another_account(context, entry, refused)
        raise click.ClickException(f"{refused}there is no such machine. ({error})") from None
    for what, requested, actual in (
        ("type", entry.instance_type, machine.instance_type),
        ("sector", entry.requested.sector, machine.sector),
    ):
        if requested and actual and requested != actual:
            raise click.ClickException(
                f"{refused}its {what} is {actual}, but {requested} was requested."
            )
    if instance_id in (context.stacks.ids(origin) or ()):
        raise click.ClickException(
            f"{refused}it is already in the state of its stack. If nothing else is left of this "
            f"create, run `pulumi-fal pending forget {shlex.quote(entry.origin.urn)}`."
        )
    others = context.stacks.elsewhere(origin)
    if instance_id in others.ids:
        raise click.ClickException(
            f"{refused}it is in the state of the stack {others.ids[instance_id]}. If both stacks "
            "had it, destroying one would delete the machine of the other."
        )
    for name, why in others.unread.items():
        show.print_lines(f"This could not be read, and may have the machine: {name}: {why}")


def _refuse_another_account(context: Context, entry: Entry, refused: str) -> None:
    """Raise ClickException if the create used another account, whose machines are not seen here."""
    settings = context.settings
    if entry.account in ("", settings.account):
        return
    where = f" at {entry.endpoint}" if entry.endpoint else ""
    raise click.ClickException(
        f"{refused}its create used account {entry.account}{where}, and the key that is set now "
        f"(account {settings.account} at {settings.endpoint}, from {settings.key_source}) does not "
        "see the machine. Run this command again with FAL_ADMIN_API_KEY set to a key of that "
        "account, and FAL_COMPUTE_ENDPOINT to its endpoint. If the program declares a provider for "
        "the resource, that key is its apiKey."
    )


def _as_recorded(backend: str) -> str:
    """Return the URL as it is in the journal, where a folder has its real and absolute path."""
    return backends.absolute(backend, Path.cwd())


def _name(entry: Entry) -> str:
    return f"resource {entry.origin.name!r}"
