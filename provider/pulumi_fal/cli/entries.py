"""Finds the journal's entry that an argument of `pulumi-fal pending` means."""

from __future__ import annotations

import click

from pulumi_fal.cli.context import Context
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.origin import Origin


def find(
    context: Context, urn: str, backend: str, organization: str, *, late: bool = False
) -> list[Entry]:
    """Return the entry of the resource with this URN or name, or with `late` its late entries.

    Without another entry, the late ones are returned as well. Entries whose machine is in state
    don't count if there are others: the next `pulumi` removes them. Raises ClickException unless
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
            f"The create for {name_of(entry)} is in progress in another process. Run this command "
            "again when that process has ended."
        )


def name_of(entry: Entry) -> str:
    """Return what a message calls the resource of the entry."""
    return f"resource {entry.origin.name!r}"
