"""`pulumi-fal pending` lists creates whose machines are not in state yet, and resolves them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click

from pulumi_fal import backend as backends
from pulumi_fal.cli import show
from pulumi_fal.cli.cases import Case, look_into
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.errors import JournalError, NotFoundError
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stack import Origin
from pulumi_fal.tokens import is_ours


@click.group()
def pending() -> None:
    """Show and settle creates that state does not know of yet."""


@pending.command("ls")
@show.json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """Show every create that is not settled, and what to do.

    The machines are looked up if there is a key; without one, what the disk has is shown.
    """
    found = list(context.journal.entries())
    entries = [item for item in found if isinstance(item, Entry)]
    unreadable = [item for item in found if isinstance(item, JournalError)]
    cases = look_into(context, entries) if entries else []
    if as_json:
        broken = [{"unreadable": error.path, "problem": error.problem} for error in unreadable]
        show.print_json([*(case.as_json() for case in cases), *broken])
        return
    settled = [case for case in cases if case.facts.in_state]
    for case in cases:
        if case not in settled:
            _print(context, case)
    for error in unreadable:
        show.print_record(
            error.path,
            {
                "phase": f"unreadable: it {error.problem}",
                "to do": "Fix the file, or delete it if no machine hangs on it: `pulumi-fal "
                "audit` names those that no stack has.",
            },
        )
    if len(found) == len(settled):
        show.print_lines("No create is pending.")
    if settled:
        show.print_lines(
            f"In state by now, so the next run of `pulumi` drops their records: {len(settled)}."
        )


URN = click.argument("urn", metavar="URN")
BACKEND = click.option(
    "--backend",
    default="",
    callback=lambda ctx, param, url: _as_recorded(url),
    help="The URL of the backend that it was in.",
)
ORGANIZATION = click.option("--organization", default="", help="The organization that it was in.")


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
    callback=lambda ctx, param, urn: _of_ours(urn),
    help="The resource's URN of today, where its stack or project was renamed.",
)
@pass_context
def adopt(
    context: Context, urn: str, instance_id: str, backend: str, organization: str, new_urn: str
) -> None:
    """Say that machine ID is the resource's: the next `pulumi up` goes on with it.

    URN may also be the resource's name where only one has it.
    """
    entry = _find(context.journal, urn, backend, organization)
    origin = _completed(entry.origin, backend, organization)
    adopted = replace(
        entry,
        origin=replace(origin, urn=new_urn or origin.urn),
        phase=Phase.ADOPTED,
        instance_id=instance_id,
        problem="",
    )
    _refuse_another_ones(context, entry, adopted.origin, instance_id)
    others = context.journal.readable()
    if any(other.origin == adopted.origin and other != entry for other in others):
        raise click.ClickException(
            f"A create of {adopted.origin.urn} is pending already, and there can be only one: "
            "`pulumi-fal pending ls` shows it. Settle that one first."
        )
    context.journal.write(adopted)
    if adopted.origin != entry.origin:
        context.journal.drop(entry)
    show.print_lines(
        f"Machine {instance_id} is {_name(entry)}'s: the next `pulumi up` of "
        f"{adopted.origin.project}/{adopted.origin.stack} goes on with it."
    )


@pending.command()
@URN
@BACKEND
@ORGANIZATION
@show.yes_option
@pass_context
def forget(context: Context, urn: str, backend: str, organization: str, yes: bool) -> None:
    """Drop the record of a create. Its machine, if there is one, is not touched.

    URN may also be the resource's name where only one has it.
    """
    entry = _find(context.journal, urn, backend, organization)
    (case,) = look_into(context, [entry])
    for machine in case.may_run:
        show.print_lines(f"This may still run and bill, and no state knows of it: {machine}")
    if not yes:
        click.confirm(f"Forget the create of {_name(entry)}?", abort=True)
    context.journal.drop(entry)
    show.print_lines(f"Forgotten: the next `pulumi up` makes a new machine for {_name(entry)}.")


def _print(context: Context, case: Case) -> None:
    show.print_record(
        case.name,
        {
            "urn": case.entry.origin.urn,
            "stack": case.stack,
            "since": show.since(case.entry.started, context.clock.wall()),
            "phase": case.phase,
            "machine": case.machines,
            "note": "The key that is set now is not the one that it was made with."
            if case.other_key and not case.unknown
            else "",
            "to do": case.what_to_do,
        },
    )


def _find(journal: Journal, urn: str, backend: str, organization: str) -> Entry:
    """Return the one entry that the arguments name. Raises ClickException if it is not one."""
    entries = list(journal.entries())
    named = [
        entry
        for entry in entries
        if isinstance(entry, Entry) and urn in (entry.origin.urn, _short(entry.origin.urn))
    ]
    found = [
        entry
        for entry in named
        if entry.origin.may_be(Origin(entry.origin.urn, organization, backend))
    ]
    if len(found) == 1:
        _refuse_one_under_way(journal, found[0])
        return found[0]
    if not found:
        unreadable = [entry for entry in entries if isinstance(entry, JournalError)]
        if unreadable and not named:
            raise unreadable[0]
        where = " there" if named else ""
        raise click.ClickException(
            f"No create of {urn!r} is pending{where}: `pulumi-fal pending ls` shows those that are."
        )
    lines = "".join(
        f"\n  {entry.origin.urn} --organization {entry.origin.organization or '?'} "
        f"--backend {entry.origin.backend or '?'}"
        for entry in found
    )
    one_urn = len({entry.origin.urn for entry in found}) == 1
    how = "with --organization and --backend" if one_urn else "by its URN"
    raise click.ClickException(f"Several creates are meant by {urn!r}. Say which {how}:{lines}")


def _refuse_one_under_way(journal: Journal, entry: Entry) -> None:
    """Refuse to change an entry while a process works on its create."""
    if journal.is_locked(entry.origin):
        raise click.ClickException(
            f"The create for {_name(entry)} is under way: a process works on it. Run this again "
            "when that has ended."
        )


def _of_ours(urn: str) -> str:
    if urn and not is_ours(urn):
        raise click.BadParameter("that is not the URN of a ComputeInstance")
    return urn


def _completed(origin: Origin, backend: str, organization: str) -> Origin:
    """Add what only the user knows to the origin, since `pulumi up` resumes nothing uncertain."""
    completed = replace(
        origin,
        backend=origin.backend or backend,
        organization=origin.organization or organization,
    )
    missing = [name for name in ("backend", "organization") if not getattr(completed, name)]
    if missing:
        options = " and ".join(f"--{name}" for name in missing)
        raise click.ClickException(
            f"The record does not say in which {' and '.join(missing)} this create was, and "
            f"`pulumi up` takes up nothing on a guess. Say it with {options}."
        )
    return completed


def _refuse_another_ones(context: Context, entry: Entry, origin: Origin, instance_id: str) -> None:
    """Refuse a machine that this create can't have made, or that belongs to another resource."""
    refused = f"Machine {instance_id} can't be adopted for {_name(entry)}: "
    if entry.phase not in (Phase.REQUESTED, Phase.ADOPTED) and entry.instance_id != instance_id:
        raise click.ClickException(f"{refused}its create made {entry.instance_id}.")
    for other in context.journal.readable():
        if other != entry and other.instance_id == instance_id:
            raise click.ClickException(f"{refused}it is pending for {other.origin.urn}.")
    if instance_id in entry.before:
        raise click.ClickException(
            f"{refused}it was there before this create. To have a machine that exists in a stack, "
            "import it."
        )
    try:
        machine = context.client().get_instance(instance_id)
    except NotFoundError as error:
        raise click.ClickException(f"{refused}there is no such machine. ({error})") from None
    for what, wanted, found in (
        ("type", entry.instance_type, machine.instance_type),
        ("sector", entry.sector, machine.sector),
    ):
        if wanted and found and wanted != found:
            raise click.ClickException(f"{refused}its {what} is {found}, and {wanted} was asked.")
    if instance_id in (context.stacks.ids(origin) or ()):
        raise click.ClickException(
            f"{refused}it is in the state of its stack already. If this create needs nothing more: "
            f"`pulumi-fal pending forget {shlex.quote(entry.origin.urn)}`."
        )


def _as_recorded(backend: str) -> str:
    """Return the URL as the journal records it: a folder has its real, full path."""
    return backends.absolute(backend, Path.cwd())


def _short(urn: str) -> str:
    return urn.rpartition("::")[2]


def _name(entry: Entry) -> str:
    return f"resource {_short(entry.origin.urn)!r}"
