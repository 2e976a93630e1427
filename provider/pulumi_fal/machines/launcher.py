"""Create a machine exactly once, despite crashes and lost responses.

fal's APIs have no names or tags, so they can't show which create made a machine. The journal
therefore records the create before and after the POST. If the API supports idempotency keys, a
create without an answer is sent again with its key. Otherwise, if a create may have made a machine,
but it is not certain which, no other machine is created, and an error names the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, ConfigurationError, Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.attempts import Attempts
from pulumi_fal.machines.decision import (
    Resume,
    SendAgain,
    StartFresh,
    Stop,
    as_late,
    decide,
    decide_renamed,
)
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.facts import FactFinder
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.sender import Sender
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stacks.origin import Origin

_LOOK_AGAIN_SECONDS = 0.5
"""The time between two checks whether another process still works on a create."""
_BEFORE_SECONDS = 2.0
"""The maximum age of the list of machines that existed before a POST, so that creates can share it.
A machine that somebody else creates in that time may wrongly become a candidate, which is
harmless."""


class Launcher:
    """Creates machines, and resumes those that earlier creates left behind."""

    def __init__(
        self,
        sender: Sender,
        fleet: Fleet,
        facts: FactFinder,
        journal: Journal,
        records: Records,
        stacks: Stacks,
        clock: Clock,
        home: AccountId,
        new_key: Callable[[], str],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`home` is that of the API key that is set. `new_key` returns a new idempotency key, or ""
        if the API does not support them. `warn` gets warnings that stop nothing."""
        self._sender = sender
        self._fleet = fleet
        self._facts = facts
        self._journal = journal
        self._records = records
        self._stacks = stacks
        self._clock = clock
        self._home = home
        self._new_key = new_key
        self._warn = warn
        self.resumed_ids: set[str] = set()
        """The ids of the machines of earlier creates that this process has resumed."""
        self.attempts = Attempts(facts, records, stacks, clock)

    @contextmanager
    def launch(
        self, new: NewInstance, origin: Origin, requested: NewInstance | None = None
    ) -> Iterator[Instance]:
        """Yield the resource's machine: that of an earlier create, or else a new one.

        `requested` is what the program requested, if `new` has the sector of a cluster instead.
        The create is locked for other processes until the block ends. Raises UnresolvedCreateError
        if an earlier create or this one may have made a machine, but it is not certain which.
        """
        self.attempts.begin(origin, requested or new)
        with self._locked(origin):
            instance = self.attempts.repeat(origin)
            if instance is not None:
                self.resumed_ids.add(instance.id)
            else:
                entry = self._journal.find(origin)
                instance = self._resume(entry, new, origin) if entry else self._start(new, origin)
            yield instance

    def mark_reported(self, origin: Origin, *, seen: bool) -> None:
        """Record that the machine is about to be reported to Pulumi.

        `seen` says whether the API has shown the machine since the POST.
        """
        self._records.mark_reported(origin, seen=seen)

    def mark_unreported(self, origin: Origin) -> None:
        """Record that the report of the machine did not reach Pulumi."""
        self._records.mark_unreported(origin)

    def discard(self, origin: Origin) -> None:
        """Drop the entry of a resource whose machine is gone."""
        self.attempts.discard(origin)

    def may_still_appear(self, urn: str, instance_id: str) -> bool:
        """Whether a machine in state is so new that the API may not show it yet.

        That is so if the create of this URN made it in the last GRACE_SECONDS, and the API has not
        shown it since.
        """
        return any(
            entry.instance_id == instance_id and entry.is_new(self._clock.wall())
            for entry in self._journal.readable(urn)
            if entry.origin.urn == urn
        )

    def _resume(self, entry: Entry, new: NewInstance, origin: Origin) -> Instance:
        """Return the machine of an earlier create, or a new one if it left none."""
        facts = self._facts.about(entry, origin, new)
        if facts.machine is not None and not entry.seen:  # from now on it can count as gone
            seen = replace(entry, seen=True)
            self._change(entry, seen, origin)
            entry = seen
        match decide(entry, facts):
            case Resume(instance):
                self.resumed_ids.add(instance.id)
                # An adopted machine may come from a create that requested something else.
                entry = replace(entry, phase=Phase.CREATED, requested=new.hashed())
                self.attempts.remember(entry, instance)
                self._records.write(entry)
                return instance
            case SendAgain():
                # The machine may already be in state, if only the record could not be written.
                made, instance = self._sender.send(entry, new, may_be_sent=True)
                if instance.id not in (self._stacks.ids(origin) or ()):
                    self.attempts.remember(made, instance)
                return self._resume(made, new, origin)
            case StartFresh(warning):
                if warning:
                    self._warn(warning)
                late = None
                if entry.instance_id is None:  # its machine may still appear
                    late = as_late(entry, facts.search.candidates, facts.now)
                if late is None:
                    self._change(entry, None, origin)
                return self._start(new, origin, late)
            case Stop(error):
                if facts.search:  # the candidates of this search must not count as late next time
                    self._records.write(replace(entry, searched=False))
                raise error

    def _change(self, entry: Entry, new: Entry | None, origin: Origin) -> None:
        """Replace or drop an earlier entry, which may be another stack's.

        This create holds the lock of its own origin, and no other.
        """
        if entry.origin != origin:
            self._records.exchange(entry, new)
        elif new is None:
            self._records.drop(entry)
        else:
            self._records.write(new)

    def _start(self, new: NewInstance, origin: Origin, late: Entry | None = None) -> Instance:
        """Create a machine.

        `late` is the entry of an earlier create without an answer, to be kept beside the new one.
        """
        self._refuse_if_renamed(new, origin)
        entry = Entry(
            origin=origin,
            account=self._home.account,
            endpoint=self._home.endpoint,
            requested=new.hashed(),
            before=tuple(sorted(self._fleet.recent(_BEFORE_SECONDS))),
            started=self._clock.wall(),
            idempotency_key=self._new_key(),
            first_sent=self._clock.wall(),
        )
        if late is not None:
            self._journal.write(late)
        try:
            made, instance = self._sender.send(entry, new)
        except (APIError, ConfigurationError, Interrupted):  # the API certainly made no machine
            if late is not None:
                self._records.put_back(late)
            raise
        self.attempts.remember(made, instance)
        return instance

    def _refuse_if_renamed(self, new: NewInstance, origin: Origin) -> None:
        """Raise if this stack may be a renamed one that has an unresolved create for this resource.

        The journal still has the creates of a renamed stack or project under its old name.
        """
        if not origin.is_certain:
            return  # without the backend, an entry could belong to any stack of that name
        problems = []
        for entry in self._earlier_entries:
            if entry.is_late or not _may_be_renamed(entry.origin, origin):
                continue
            if self._journal.is_locked(entry.origin):
                continue
            is_gone = self._stacks.is_gone(entry.origin)
            if is_gone is False:
                continue
            facts = self._facts.about(entry, origin, new)
            match decide_renamed(entry, facts, is_gone=bool(is_gone)):
                case StartFresh():
                    self._records.exchange(entry, None)
                case Stop(error):
                    problems.append(error)
        if problems:
            raise unresolved.combined(problems)

    @cached_property
    def _earlier_entries(self) -> list[Entry]:
        """All entries, read only once: a stack that no longer exists makes no new ones."""
        return self._journal.readable()

    @contextmanager
    def _locked(self, origin: Origin) -> Iterator[None]:
        """Lock the create of this resource; wait while another process works on it.

        Another process may be the plugin of a killed engine, which runs until the API has answered
        its POST.
        """
        looks = 0
        while (lock := self._journal.try_lock(origin)) is None:
            looks += 1
            if looks == 2:  # a process that only changes the entry has the lock for a moment
                self._warn(unresolved.in_progress(origin))
            self._clock.sleep(_LOOK_AGAIN_SECONDS)
        with lock:
            yield


def _may_be_renamed(earlier: Origin, origin: Origin) -> bool:
    """Whether the stack of `earlier` may be that of `origin` under an earlier name."""
    same = (origin.name, origin.organization, origin.backend)
    return earlier.urn != origin.urn and same == (
        earlier.name,
        earlier.organization,
        earlier.backend,
    )
