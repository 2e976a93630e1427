"""Gathers the facts for `decision` from the API, the journal and the stacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.clock import Clock
from pulumi_fal.errors import FalError
from pulumi_fal.machines.absence import Ownership
from pulumi_fal.machines.decision import Facts, Search, can_be_sent_again
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Entry, Journal
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.machines.whose import (
    LATE_SECONDS,
    Asking,
    Same,
    at_home,
    candidates,
    everywhere,
    same,
    where,
)
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine


def unclaimed(
    entry: Entry, instances: Iterable[Instance], journal: Journal, stacks: Stacks
) -> Search:
    """Return the machines that the entry's POST may have made, of those that nobody else has.

    Others are all stacks of the backend and of the entry's, and the creates that are on record.
    """
    named = {other.instance_id for other in journal.readable() if other.instance_id}
    found = candidates(entry, instances, named)
    if not found:  # reading stacks is slow
        return Search()
    read = everywhere(entry, stacks)
    held = {instance_id for stack in read.stacks for instance_id in stack.ids}
    return Search(tuple(candidates(entry, found, held)), read.unread)


def offline(
    entry: Entry,
    asking: Asking,
    stacks: Stacks,
    now: float,
    account: str = "",
    new: NewInstance | None = None,
) -> Facts:
    """Return the facts about an entry that can be had without the API, and without a key."""
    is_same, unread = same(entry, asking, stacks)
    in_state, holder = None, ""
    if entry.instance_id is not None:
        in_state = entry.instance_id in asking.own.ids if asking.own else None
        if not in_state:
            read = everywhere(entry, stacks)
            held = (stack.name for stack in read.stacks if entry.instance_id in stack.ids)
            holder = next(held, "")
    return Facts(asking.origin, new, account, now, is_same, in_state, holder=holder, unread=unread)


class FactFinder:
    """Gathers facts about creates, with the key of one account."""

    def __init__(
        self,
        fleet: Fleet,
        lifecycle: Lifecycle,
        ownership: Ownership,
        journal: Journal,
        stacks: Stacks,
        clock: Clock,
        settle_seconds: float,
    ) -> None:
        """`settle_seconds` is how long after a POST without an answer its machine may appear."""
        self.fleet = fleet
        self.journal = journal
        self.stacks = stacks
        self.clock = clock
        self.lifecycle = lifecycle
        self.ownership = ownership
        self._settle_seconds = settle_seconds

    @property
    def account_id(self) -> AccountId:
        """The account of the key that is set."""
        return self.ownership.account_id

    def asking(self, origin: Origin) -> Asking:
        """Return what is known of the stack that asks for a machine for this resource."""
        return Asking(origin, self.stacks.own(origin))

    def same(self, entry: Entry, asking: Asking) -> Same:
        """Return whether the entry is of the stack that is asking."""
        return same(entry, asking, self.stacks)[0]

    def about(self, entries: Sequence[Entry], asking: Asking, new: NewInstance) -> list[Facts]:
        """Return the facts about entries that decide how a resource gets its machine.

        It gathers only those that the decision needs, because commands and searches are slow. One
        search serves all entries.
        """
        known = [self._offline(entry, asking, new) for entry in entries]
        try:
            found = [
                (entry, facts) if _is_enough(entry, facts) else (entry, self._asked(entry, facts))
                for entry, facts in zip(entries, known, strict=True)
            ]
            lost = [entry for entry, facts in found if _needs_search(entry, facts)]
            searches = self.search(lost) if lost else []
        except FalError as error:
            return [
                facts if _is_enough(entry, facts) else replace(facts, error=error)
                for entry, facts in zip(entries, known, strict=True)
            ]
        now, searched = self.clock.wall(), iter(searches)  # a search takes a while
        return [
            replace(facts, now=now, search=next(searched)) if _needs_search(entry, facts) else facts
            for entry, facts in found
        ]

    def _offline(self, entry: Entry, asking: Asking, new: NewInstance | None = None) -> Facts:
        now, account = self.clock.wall(), self.account_id.account
        return offline(entry, asking, self.stacks, now, account, new)

    def _asked(self, entry: Entry, facts: Facts) -> Facts:
        machine = self.find(entry)
        is_own = machine is not None or self.is_own(entry)
        return replace(facts, now=self.clock.wall(), machine=machine, is_own=is_own)

    def at_a_glance(self, entries: Sequence[Entry]) -> list[Facts]:
        """Return what the next `up` of each entry's own stack will find, almost without waiting.

        The same list of machines serves all. If it lacks a machine, a second one is read, because a
        person may forget the create, and a single list may come from a stale replica.
        """
        known = [(entry, self._offline(entry, at_home(entry, self.stacks))) for entry in entries]
        try:
            instances = dict(self.fleet.fresh())
            found = [self._with_list(entry, facts, instances) for entry, facts in known]
            if any(facts.machine is None and not facts.search for facts in found):
                self.clock.sleep(self.fleet.interval)
                instances |= self.fleet.fresh()
                found = [self._with_list(entry, facts, instances) for entry, facts in known]
        except FalError as error:
            return [replace(facts, error=error) for _, facts in known]
        return found

    def _with_list(self, entry: Entry, facts: Facts, instances: Mapping[str, Instance]) -> Facts:
        machine = instances.get(entry.instance_id or "")
        is_own = machine is not None or self.is_own(entry)
        search = Search()
        if entry.instance_id is None and is_own:
            search = unclaimed(entry, instances.values(), self.journal, self.stacks)
        return replace(facts, machine=machine, is_own=is_own, search=search)

    def find(self, entry: Entry) -> Instance | None:
        """Return the entry's machine; None if it is gone, or if the API has not shown it yet."""
        if entry.instance_id is None:
            return None
        machine = self.lifecycle.look(entry.instance_id)
        may_be_gone = entry.seen and not entry.is_late
        if machine is None and may_be_gone and self.is_own(entry):
            return self.lifecycle.find(entry.instance_id)
        return machine

    def search(self, entries: Sequence[Entry]) -> list[Search]:
        """Find the machines that POSTs without an answer may have made.

        Lists machines until any that the POSTs made has had time to appear. Raises FalError if the
        machines can't be listed.
        """
        now = self.clock.wall()
        since = min(max(0.0, now - _ended(entry)) for entry in entries)
        # A single list may come from a stale replica, so at least two are read, and a machine in
        # any of them counts. If the last one fails it is retried, because it is the most complete.
        instances = dict(self.fleet.fresh())
        for answer in self.fleet.watch(max(self._settle_seconds - since, self.fleet.interval)):
            instances |= self.fleet.fresh() if answer.error else answer.instances
        found = instances.values()
        return [unclaimed(entry, found, self.journal, self.stacks) for entry in entries]

    def offline(self, entry: Entry) -> Facts:
        """Return the facts about a late entry that can be had without the API."""
        now, account = self.clock.wall(), self.account_id.account
        return Facts(entry.origin, None, account, now, unread=where(entry, self.stacks).unread)

    def is_own(self, entry: Entry) -> bool:
        """Whether the key sees the machines of the account that the entry was written with.

        It may have to list the machines to find out. Raises FalError if that fails.
        """
        account_id = AccountId(entry.endpoint, entry.account)

        def machines() -> Iterator[StackMachine]:
            yield from (StackMachine(id_, "", account_id) for id_ in entry.before)
            for stack in self.stacks.named(entry.origin).stacks:
                yield from stack.machines

        return self.ownership.sees(account_id, machines)


def _is_enough(entry: Entry, facts: Facts) -> bool:
    """Whether the decision needs nothing from the API."""
    if facts.in_state:
        return True
    return entry.instance_id is None and can_be_sent_again(entry, facts)


def _needs_search(entry: Entry, facts: Facts) -> bool:
    return entry.instance_id is None and facts.is_own and not _is_enough(entry, facts)


def _ended(entry: Entry) -> float:
    """Return the time by which the entry's last POST had certainly been sent.

    If the process ended before the answer, it may have sent it just before, or its last retry. Each
    retry is recorded, so that is not long after the time in the entry.
    """
    return entry.started if entry.problem else entry.started + LATE_SECONDS
