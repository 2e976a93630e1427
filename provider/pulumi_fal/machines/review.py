"""Reviews the creates that earlier processes left unresolved, at the start of each command.

Of some of them a machine may still appear, or come back: Late looks for those, and names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import ConfigurationError, FalError, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import Facts, Search, as_late
from pulumi_fal.machines.facts import FactFinder, unclaimed
from pulumi_fal.machines.journal import Entry, Journal, Phase
from pulumi_fal.machines.whose import Asking, Same, same
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin

_LOOK_SECONDS = 5.0
"""How long one look for the machines of late entries may take. Every command waits for it."""


class Late:
    """Finds the machines that late entries may have made, and yields warnings that name them."""

    def __init__(self, facts: FactFinder) -> None:
        self._facts = facts
        self._fleet, self._journal, self._clock = facts.fleet, facts.journal, facts.clock

    def look(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Look for the machines of late entries, record the result, and yield the warnings."""
        for entry, facts in zip(entries, self._about(entries), strict=True):
            if entry.instance_id and facts.error is None and not facts.is_own:
                continue  # A machine that was gone: the process of its own account asks for it.
            if facts.error is not None or not facts.is_own:
                yield unresolved.may_appear(entry, facts.error)
                continue
            found = facts.search.candidates
            if found:
                yield unresolved.appeared(entry, found, facts.search.unread)
            kept = as_late(entry, found, facts.now)
            if kept != entry:
                self._journal.exchange(entry, kept)

    def _about(self, entries: Sequence[Entry]) -> list[Facts]:
        """Return the facts about late entries, after one short look for the machines of all."""
        error: FalError
        try:
            instances = self._look(entries)
            return [
                self._among(entry, instances)
                if self._facts.is_own(entry)
                else replace(self._facts.offline(entry), is_own=False)
                for entry in entries
            ]
        except TimeoutError:
            error = FalError(f"The API gave no answer within {_LOOK_SECONDS:.0f} s")
        except FalError as failure:
            error = failure
        return [replace(self._facts.offline(entry), error=error) for entry in entries]

    def _look(self, entries: Sequence[Entry]) -> dict[str, Instance]:
        """Return the machines by id, as a list and a second look at what it lacks show them.

        Raises TimeoutError if one look takes too long.
        """
        instances = dict(
            self._fleet.recent(self._fleet.interval, self._clock.now() + _LOOK_SECONDS)
        )
        missing = {instance_id for entry in entries for instance_id in entry.found}
        for instance_id in missing - instances.keys():
            seconds = _LOOK_SECONDS + self._fleet.interval
            machine = self._facts.lifecycle.look(instance_id, seconds)
            if machine is not None:
                instances[instance_id] = machine
        now = self._clock.wall()
        still_there = [
            [instances[id_] for id_ in (*entry.found, entry.instance_id) if id_ in instances]
            for entry in entries
        ]
        if any(as_late(*known, now) is None for known in zip(entries, still_there, strict=True)):
            # An entry may be about to be dropped, and the list may come from a stale replica.
            self._clock.sleep(self._fleet.interval)
            instances |= self._fleet.fresh(self._clock.now() + _LOOK_SECONDS)
        return instances

    def _among(self, entry: Entry, instances: Mapping[str, Instance]) -> Facts:
        """Return the facts about an entry of the key's account, if these are the machines."""
        facts = self._facts.offline(entry)
        stacks = self._facts.stacks
        if entry.instance_id is not None:
            machine = instances.get(entry.instance_id)
            is_free = machine is not None and not self._is_had(entry, machine.id)
            return replace(facts, search=Search((machine,) if machine and is_free else ()))
        search = unclaimed(entry, instances.values(), self._journal, stacks)
        if search and facts.unread:
            return replace(facts, error=FalError("The stack of the resource can't be read"))
        return replace(facts, search=search)

    def _is_had(self, entry: Entry, instance_id: str) -> bool:
        """Whether a stack, or a create that is not late, has the machine of a late entry."""
        stacks = self._facts.stacks
        read = stacks.named(entry.origin) | stacks.all()
        return any(instance_id in stack.ids for stack in read.stacks) or any(
            other.instance_id == instance_id and not other.is_late
            for other in self._journal.readable()
        )


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
