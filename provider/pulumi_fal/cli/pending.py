"""The commands `pulumi-fal pending`, which list and resolve creates that are not in state yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pulumi_fal.cli import show
from pulumi_fal.cli.adoption import completed, refuse_wrong_machine, warn_of_namesakes
from pulumi_fal.cli.cases import Case, investigate
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.entries import find, name_of
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.decision import as_forgotten
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.stacks import backend as backends
from pulumi_fal.tokens import is_ours


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
    (entry, *_) = find(context, urn, backend, organization)
    if entry.is_late:
        raise click.ClickException(
            f"This create of {name_of(entry)} was followed by another one or forgotten, so the "
            f"resource can't have {instance_id}. Import the machine into a stack instead."
        )
    if entry.origin.is_stateless:
        raise click.ClickException(
            f"`pulumi do` made the create {entry.origin.name!r}, so no resource can continue with "
            "its machine. Import the machine into a stack, or keep it without one, then remove the "
            f"record:\n  pulumi-fal pending forget {entry.origin.name}"
        )
    origin = completed(context, entry.origin, backend, organization)
    adopted = replace(
        entry,
        origin=replace(origin, urn=new_urn or origin.urn),
        phase=Phase.ADOPTED,
        instance_id=instance_id,
        problem="",
    )
    refuse_wrong_machine(context, entry, adopted.origin, instance_id)
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
        f"Machine {instance_id} is assigned to {name_of(entry)}. The next `pulumi up` of "
        f"{adopted.origin.project}/{adopted.origin.stack} continues with it."
    )
    warn_of_namesakes(context, adopted.origin)


@pending.command()
@URN
@BACKEND
@ORGANIZATION
@click.option(
    "--late",
    is_flag=True,
    help="Remove the records of creates that got no answer and were followed by another one.",
)
@show.yes_option
@pass_context
def forget(
    context: Context, urn: str, backend: str, organization: str, late: bool, yes: bool
) -> None:
    """Remove the record of a create. Its machine, if there is one, is not touched.

    A create that got no answer in the last ten minutes stays on record as late. Instead of the URN
    you can give the resource's name, if only one pending create has it.
    """
    entries = find(context, urn, backend, organization, late=late)
    name, cases = name_of(entries[0]), investigate(context, entries)
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
    elif entries[0].origin.is_stateless:
        then = "No machine was touched."
    elif cases[0].facts.in_state:
        then = f"Machine {entries[0].instance_id} stays in state."
    show.print_lines(f"Removed the record. {then}")


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


def _checked_urn(urn: str) -> str:
    if urn and not is_ours(urn):
        raise click.BadParameter("that is not the URN of a ComputeInstance")
    return urn


def _as_recorded(backend: str) -> str:
    """Return the URL as it is in the journal, where a folder has its real and absolute path."""
    return backends.absolute(backend, Path.cwd())
