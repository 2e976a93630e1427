"""Gathers the facts for `decision` from the API, the journal and the stacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.clock import Clock
from pulumi_fal.errors import FalError
from pulumi_fal.machines.decision import (
    Facts,
    Search,
    can_be_sent_again,
    candidates,
)
from pulumi_fal.machines.entry import GRACE_SECONDS, Entry
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.machines.ownership import Ownership
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine


def unclaimed(
    entry: Entry, instances: Iterable[Instance], journal: Journal, stacks: Stacks
) -> Search:
    """Return the machines that the entry's POST may have made, of those that nobody else has.

    Others are the stacks in the same backend, and the creates that are on record.
    """
    entries = journal.readable()
    pending = {other.instance_id for other in entries if other.instance_id}
    found = candidates(entry, instances, pending, entries)
    if found:  # reading stacks is slow
        held = {machine.id for machine in stacks.possible_machines(entry.origin)}
        found = candidates(entry, found, held)
    if not found:
        return Search()
    others = stacks.elsewhere(entry.origin)
    return Search(tuple(candidates(entry, found, others.ids)), others.unread)


def offline(entry: Entry, origin: Origin, stacks: Stacks, now: float, account: str = "") -> Facts:
    """Return the facts about an entry that can be had without the API and without a key."""
    in_state = None
    if entry.instance_id is not None:
        in_state = stacks.has(origin, entry.instance_id)
    return Facts(origin, None, account, now, in_state)


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

    def about(self, entry: Entry, origin: Origin, new: NewInstance) -> Facts:
        """Return the facts about an entry that decide how `origin` gets its machine.

        It gathers only those that the decision needs, because commands and searches are slow.
        """
        facts = replace(self.offline(entry, origin), requested=new)
        is_certain = entry.origin == origin and origin.is_certain
        is_doubtful = entry.origin.may_be(origin) and not is_certain
        if (is_doubtful and not facts.in_state) or (facts.in_state and not entry.is_new(facts.now)):
            return facts  # they are enough to decide without the API
        if entry.instance_id is None and can_be_sent_again(entry, facts):
            return facts
        try:
            machine = self.find(entry, wait=bool(facts.in_state))
            is_own = machine is not None or self.is_own(entry)
            search = Search()
            if entry.instance_id is None and is_own:
                search = self.search(entry)
        except FalError as error:
            return replace(facts, error=error)
        now = self.clock.wall()  # a search takes a while
        return replace(facts, now=now, machine=machine, is_own=is_own, search=search)

    def at_a_glance(self, entries: Iterable[tuple[Entry, Origin]]) -> list[Facts]:
        """Return the facts about entries that can be had almost without waiting, for a person.

        Each comes with the resource that a machine is requested for now. The same list of machines
        serves all. If it lacks a machine, a second one is read, because a person may forget the
        create, and a single list may come from a stale replica.
        """
        known = [(entry, self.offline(entry, origin)) for entry, origin in entries]
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

    def find(self, entry: Entry, *, wait: bool = False) -> Instance | None:
        """Return the entry's machine, or None if the API does not show it.

        With `wait`, wait until the machine appears or is no longer new. The caller does so if the
        machine is in state, because the new create is about to overwrite this entry, and only the
        entry keeps a refresh from reporting a new machine as gone.
        """
        if entry.instance_id is None:
            return None
        machine = self.lifecycle.find(entry.instance_id)
        if machine is None and wait:
            for answer in self.fleet.watch(entry.started + GRACE_SECONDS - self.clock.wall()):
                machine = answer.instances.get(entry.instance_id)
                if machine is not None:
                    break
        return machine

    def search(self, entry: Entry) -> Search:
        """Find the machines that a POST without an answer may have made.

        Lists machines until any that the POST made has had time to appear. Raises FalError if the
        machines can't be listed.
        """
        # If the process ended before the answer, it may have sent its POST, or the last retry of
        # it, just before. Only an entry with a problem has the time at which the POST ended.
        since = max(0.0, self.clock.wall() - entry.started) if entry.problem else 0.0
        # A single list may come from a stale replica, so at least two are read, and a machine in
        # any of them counts. If the last one fails it is retried, because it is the most complete.
        instances = dict(self.fleet.fresh())
        for answer in self.fleet.watch(max(self._settle_seconds - since, self.fleet.interval)):
            instances |= self.fleet.fresh() if answer.error else answer.instances
        return unclaimed(entry, instances.values(), self.journal, self.stacks)

    def offline(self, entry: Entry, origin: Origin) -> Facts:
        """Return the facts about an entry that can be had without the API."""
        now, account = self.clock.wall(), self.account_id.account
        return offline(entry, origin, self.stacks, now, account)

    def is_own(self, entry: Entry) -> bool:
        """Whether the key sees the machines of the account that the entry was written with.

        It may have to list the machines to find out. Raises FalError if that fails.
        """
        account_id = AccountId(entry.endpoint, entry.account)

        def machines() -> Iterator[StackMachine]:
            yield from (StackMachine(id_, "", account_id) for id_ in entry.before)
            yield from self.stacks.possible_machines(entry.origin)

        return self.ownership.sees(account_id, machines)
