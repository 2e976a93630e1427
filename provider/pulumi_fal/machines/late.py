"""Names the machines of late entries: of creates without an answer that others have followed."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import FalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import Facts, as_late
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.facts import FactFinder, unclaimed
from pulumi_fal.stacks.origin import Origin

_LOOK_SECONDS = 5.0
"""How long one look for the machines of late entries may take. Every command waits for it."""


class Late:
    """Finds the machines that late entries may have made, and yields warnings that name them."""

    def __init__(self, facts: FactFinder) -> None:
        self._facts = facts
        self._fleet, self._journal, self._clock = facts.fleet, facts.journal, facts.clock
        self._lock = threading.Lock()
        self._told: set[str] = set()
        """The ids of the machines, and the warnings without one, that this process has told of."""

    def look(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Look for the machines of late entries, record the result, and yield the warnings."""
        for entry, facts in zip(entries, self._about(entries), strict=True):
            if facts.error is not None or not facts.is_own:
                warning = unresolved.may_appear(entry, facts.error)
                self._tell(warning)
                yield warning
                continue
            found = facts.search.candidates
            if found:
                self.name(found)
                yield unresolved.appeared(entry, found, facts.search.unread)
            kept = as_late(entry, found, facts.now)
            if kept != entry:
                self._journal.exchange(entry, kept)

    def shown(self, origin: Origin, known: Container[str]) -> Iterator[str]:
        """Yield warnings of what any list of this process has shown, and none has told of yet.

        A machine may appear after the look, or the list of the look may have come from a stale
        replica. This asks the API for nothing. `known` are the ids of the machines that this
        process itself has made or deleted.
        """
        entries = [
            entry
            for entry in self._journal.late()
            if entry.origin.may_share_stack(origin)
            and self._facts.ownership.is_own(AccountId(entry.endpoint, entry.account))
        ]
        if not entries:
            return
        instances = {
            instance_id: instance
            for instance_id, instance in self._fleet.shown().items()
            if instance_id not in self._told and instance_id not in known
        }
        about = [(entry, self._among(entry, instances)) for entry in entries]
        new = self.name(instance for _, facts in about for instance in facts.search.candidates)
        for entry, facts in about:
            found = [instance for instance in facts.search.candidates if instance.id in new]
            if found:
                yield unresolved.appeared(entry, found, facts.search.unread)
            elif facts.error is not None:
                warning = unresolved.may_appear(entry, facts.error)
                if self._tell(warning):
                    yield warning

    def name(self, machines: Iterable[Instance]) -> set[str]:
        """Note that a warning names these machines. Return the ids that none has named before."""
        return self._tell(*(machine.id for machine in machines))

    def _tell(self, *told: str) -> set[str]:
        with self._lock:
            new = set(told) - self._told
            self._told |= new
        return new

    def _about(self, entries: Sequence[Entry]) -> list[Facts]:
        """Return the facts about late entries, after one short look for the machines of all."""
        error: FalError
        try:
            instances = self._look(entries)
            return [
                self._among(entry, instances)
                if self._facts.is_own(entry)
                else replace(self._facts.offline(entry, entry.origin), is_own=False)
                for entry in entries
            ]
        except TimeoutError:
            error = FalError(f"The API gave no answer within {_LOOK_SECONDS:.0f} s")
        except FalError as failure:
            error = failure
        return [replace(self._facts.offline(entry, entry.origin), error=error) for entry in entries]

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
            machine = self._facts.lifecycle.find(instance_id, seconds)
            if machine is not None:
                instances[instance_id] = machine
        now = self._clock.wall()
        still_there = [
            [instances[instance_id] for instance_id in entry.found if instance_id in instances]
            for entry in entries
        ]
        if any(as_late(*known, now) is None for known in zip(entries, still_there, strict=True)):
            # An entry may be about to be dropped, and the list may come from a stale replica.
            self._clock.sleep(self._fleet.interval)
            instances |= self._fleet.fresh(self._clock.now() + _LOOK_SECONDS)
        return instances

    def _among(self, entry: Entry, instances: Mapping[str, Instance]) -> Facts:
        """Return the facts about an entry of the key's account, if these are the machines."""
        facts = self._facts.offline(entry, entry.origin)
        stacks = self._facts.stacks
        search = unclaimed(entry, instances.values(), self._journal, stacks)
        if search and stacks.ids(entry.origin) is None:
            return replace(facts, error=FalError("The stack of the resource can't be read"))
        return replace(facts, search=search)
