"""Finding out what `decision` needs: from the API, the journal and the stacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Home
from pulumi_fal.clock import Clock
from pulumi_fal.errors import FalError
from pulumi_fal.machines.decision import Facts, Search, can_be_sent_again, candidates
from pulumi_fal.machines.entry import GRACE_SECONDS, Entry, Spec
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.machines.ownership import Ownership
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stack import Origin, StackMachine


class FactFinder:
    """Asks no more than a decision needs: a stack takes a command, a search its time."""

    def __init__(
        self,
        fleet: Fleet,
        lifecycle: Lifecycle,
        ownership: Ownership,
        journal: Journal,
        stacks: Stacks,
        clock: Clock,
        appear_seconds: float,
    ) -> None:
        """`appear_seconds`: how long after a POST without an answer its machine may appear."""
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._journal = journal
        self._stacks = stacks
        self._clock = clock
        self._appear_seconds = appear_seconds

    def about(self, entry: Entry, origin: Origin, spec: Spec) -> Facts:
        """What is to be known of an entry before `origin` gets a machine."""
        facts = Facts(
            origin=origin,
            spec=spec,
            account=self._ownership.home.account,
            now=self._clock.wall(),
            in_state=self._in_state(entry, origin),
        )
        is_certain = entry.origin == origin and origin.is_certain
        is_doubtful = entry.origin.may_be(origin) and not is_certain
        if (is_doubtful and not facts.in_state) or (facts.in_state and not entry.is_new(facts.now)):
            return facts  # which is decided without the API
        if entry.instance_id is None and can_be_sent_again(entry, facts):
            return facts
        try:
            machine = self._look_for(entry, wait=bool(facts.in_state))
            is_own = machine is not None or self._is_own(entry)
            search = Search()
            if entry.instance_id is None and is_own:
                search = self.search(entry)
        except FalError as error:
            return replace(facts, error=error)
        now = self._clock.wall()  # a search takes its time
        return replace(facts, now=now, machine=machine, is_own=is_own, search=search)

    def _look_for(self, entry: Entry, *, wait: bool) -> Instance | None:
        """The entry's machine. With `wait`, until it appears or its absence counts.

        The entry of a machine that state has is about to be replaced by that of another machine,
        and nothing else keeps a refresh from taking the new one's absence for its end.
        """
        if entry.instance_id is None:
            return None
        machine = self._lifecycle.find(entry.instance_id)
        if machine is None and wait:
            for answer in self._fleet.watch(entry.started + GRACE_SECONDS - self._clock.wall()):
                machine = answer.instances.get(entry.instance_id)
                if machine is not None:
                    break
        return machine

    def search(self, entry: Entry) -> Search:
        """Look for the machine of an unanswered POST until it must have appeared. FalError."""
        # A process that ended before the answer may have sent its POST, or the last of several, a
        # moment ago: the entry says when only where the process has seen the end.
        since = max(0.0, self._clock.wall() - entry.started) if entry.problem else 0.0
        # One list alone may be a lapse, so there are at least two, and a machine in any of them
        # counts. A failing last one is repeated: it is the one that has everything.
        instances = dict(self._fleet.fresh())
        for answer in self._fleet.watch(max(self._appear_seconds - since, self._fleet.interval)):
            instances |= self._fleet.fresh() if answer.error else answer.instances
        pending = {each.instance_id for each in self._journal.readable() if each.instance_id}
        found = candidates(entry, instances.values(), pending)
        if found:  # asking stacks is slow
            found = candidates(entry, found, self._stacks.ids(entry.origin) or ())
        if not found:
            return Search()
        others = self._stacks.elsewhere(entry.origin)
        return Search(tuple(candidates(entry, found, others.ids)), others.unread)

    def _in_state(self, entry: Entry, origin: Origin) -> bool | None:
        if entry.instance_id is None:
            return None
        ids = self._stacks.ids(origin)
        return None if ids is None else entry.instance_id in ids

    def _is_own(self, entry: Entry) -> bool:
        home = Home(entry.endpoint, entry.account)

        def machines() -> Iterator[StackMachine]:
            yield from (StackMachine(each, "", home) for each in entry.before)
            yield from self._stacks.machines(entry.origin) or ()

        return self._ownership.sees(home, machines)
