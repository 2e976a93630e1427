"""Reviews the creates that earlier processes left unresolved, at the start of each command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pulumi_fal.errors import ConfigurationError, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.machines.late import Late


def is_due(journal: Journal, origin: Origin) -> bool:
    """Whether an entry may be of this stack, or can't be read. The origin may lack its backend.

    The last `up` of every other stack has left entries, until the next command of that stack.
    """
    return any(
        isinstance(entry, JournalError) or entry.origin.may_share_stack(origin)
        for entry in journal.entries()
    )


def reminders(
    journal: Journal, stacks: Stacks, finder: Callable[[], Late], origin: Origin
) -> Iterator[str]:
    """Yield a warning for each unresolved create of the origin's stack.

    Drops the entries whose machines are in state. `finder` is called only for creates without an
    answer that others have followed, because the API has to be asked about those.
    """
    # Asking the stack is slow. A create that another process finishes meanwhile would be missing in
    # the answer, so find out before which creates are in progress.
    entries = list(_entries_of_ended_creates(journal, origin))
    for entry in entries:
        if isinstance(entry, JournalError):
            yield str(entry)
        elif not entry.is_late and _is_unresolved(journal, stacks, entry, origin):
            yield unresolved.reminder(entry)
    late = [entry for entry in entries if isinstance(entry, Entry) and entry.is_late]
    if late:
        try:
            yield from finder().look(late)
        except ConfigurationError as error:
            yield from (unresolved.may_appear(entry, error) for entry in late)


def _entries_of_ended_creates(journal: Journal, origin: Origin) -> Iterator[Entry | JournalError]:
    """Yield the entries that may be of this stack, and errors for those that can't be read."""
    for entry in journal.entries():
        if isinstance(entry, JournalError):
            yield entry
        elif entry.origin.may_share_stack(origin):
            if journal.is_locked(entry.origin) and not entry.is_late:
                continue  # it is in progress
            # The create may have ended after its entry was read.
            current = journal.current(entry)
            if current is not None:
                yield current


def _is_unresolved(journal: Journal, stacks: Stacks, entry: Entry, origin: Origin) -> bool:
    """Whether the entry's machine may be running but not be in state, without asking the API.

    Drops the entry if its machine is in state and was seen.
    """
    if entry.instance_id is None:
        return True
    is_in_state = stacks.has(replace(entry.origin, urn=origin.urn), entry.instance_id)
    if is_in_state is None:
        # A machine that was reported is most likely in state; a create checks more closely.
        return entry.phase is not Phase.REPORTED
    if is_in_state and entry.seen:
        # A create may have overwritten it while the stack was asked.
        journal.exchange(entry, None)
    return not is_in_state
