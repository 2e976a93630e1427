"""Reviews the creates that earlier processes left unresolved, at the start of each command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pulumi_fal.errors import ConfigurationError, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.whose import Asking, Same, same
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.machines.late import Late


def reminders(
    journal: Journal, stacks: Stacks, finder: Callable[[], Late], origin: Origin
) -> Iterator[str]:
    """Yield a warning for each unresolved create of the origin's stack, or of what may be it.

    Drops the entries whose machines are in state. `finder` is called only for creates without an
    answer that others have followed, because the API has to be asked about those.
    """
    late: list[Entry] = []
    # Asking the stack is slow. A create that another process finishes meanwhile would be missing in
    # the answer, so find out before which creates are in progress.
    for entry in list(_entries_of_ended_creates(journal, origin)):
        if isinstance(entry, JournalError):
            yield str(entry)
        elif not _is_of(entry, replace(origin, backend=stacks.backend), stacks):
            continue
        elif entry.is_late:
            late.append(entry)
        elif _is_unresolved(journal, stacks, entry, origin):
            yield unresolved.reminder(entry)
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
        elif _may_be(entry, origin):
            if journal.is_locked(entry) and not entry.is_late:
                continue  # it is in progress
            # The create may have ended after its entry was read.
            current = journal.current(entry)
            if current is not None:
                yield current


def _may_be(entry: Entry, origin: Origin) -> bool:
    """Whether the entry may be of the origin's stack, as far as that can be told for nothing.

    After a rename, only the id of the provider shows it. The last `up` of every other stack has
    left entries, until the next command of that stack, so those are not looked into.
    """
    one = entry.origin
    if one.names == origin.names:
        return True
    if origin.provider:
        return one.provider == origin.provider
    return bool(one.provider) and entry.phase is not Phase.REPORTED


def _is_of(entry: Entry, origin: Origin, stacks: Stacks) -> bool:
    """Whether the entry is of the origin's stack, or can't be told to be another stack's."""
    if entry.phase is Phase.REPORTED and entry.origin.backend not in ("", origin.backend):
        return entry.origin.provider == origin.provider != ""
    asking = Asking(origin, stacks.own(origin))
    return same(entry, asking, stacks)[0] is not Same.NO


def _is_unresolved(journal: Journal, stacks: Stacks, entry: Entry, origin: Origin) -> bool:
    """Whether the entry's machine may be running but not be in state, without asking the API.

    Drops the entry if its machine is in state and was seen.
    """
    if entry.instance_id is None:
        return True
    is_in_state = stacks.has(origin, entry.instance_id)
    if is_in_state is None:
        # A machine that was reported is most likely in state; a create checks more closely.
        return entry.phase is not Phase.REPORTED
    if is_in_state and entry.seen:
        # A create may have overwritten it while the stack was asked.
        journal.exchange(entry, None)
    return not (is_in_state or stacks.has(entry.origin, entry.instance_id))
