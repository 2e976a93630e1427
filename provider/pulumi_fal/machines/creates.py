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

from pulumi_fal.api import room
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    Interrupted,
    JournalError,
)
from pulumi_fal.machines import unresolved
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
from pulumi_fal.machines.in_flight import InFlight
from pulumi_fal.machines.late import Late
from pulumi_fal.machines.queues import Patience, Queues
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.sender import Sender
from pulumi_fal.stacks.origin import Origin

_LOOK_AGAIN_SECONDS = 0.5
"""The time between two checks whether another process still works on a create."""
_BEFORE_SECONDS = 2.0
"""The maximum age of the list of machines that existed before a POST, so that creates can share it.
A machine that somebody else creates in that time may wrongly become a candidate, which is
harmless."""


class Creates:
    """The creates of one process: new ones, and those that earlier processes left behind."""

    def __init__(self, client: Client, facts: FactFinder, warn: Callable[[str], None]) -> None:
        """`warn` gets warnings that stop nothing."""
        self._client = client
        self._facts = facts
        self._warn = warn
        self._journal, self._stacks, self._clock = facts.journal, facts.stacks, facts.clock
        self.records = Records(self._journal, self._stacks, warn)
        self.late = Late(facts)
        self.resumed_ids: set[str] = set()
        """The ids of the machines of earlier creates that this process has resumed."""
        self.deleted_ids: set[str] = set()
        """The ids of the machines that this process has deleted."""
        self._queues = Queues(self._clock, facts.fleet.interval)
        self._sender = Sender(client, facts, self.records)
        self.in_flight = InFlight()

    @contextmanager
    def launch(
        self,
        new: NewInstance,
        origin: Origin,
        requested: NewInstance | None = None,
        patience: Patience | None = None,
    ) -> Iterator[Instance]:
        """Yield the resource's machine: that of an earlier create, or else a new one.

        `requested` is what the program requested, if `new` has the sector of a cluster instead.
        With `patience`, the create waits for room, and raises NoRoomError if there is none in time.
        The create is locked for other processes until the block ends. Raises UnresolvedCreateError
        if an earlier create or this one may have made a machine, but it is not certain which.
        """
        try:
            with self.in_flight.counted(origin.urn) as is_recorded:
                self.records.begin(origin, requested or new)
                with self._locked(origin):
                    instance = self._repeat(origin)
                    if instance is None:
                        entry = self._journal.find(origin)
                        instance = (
                            self._resume(entry, new, origin, patience)
                            if entry
                            else self._start(new, origin, patience)
                        )
                    is_recorded()
                    yield instance
        finally:
            self._name_late(origin)

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

    def _repeat(self, origin: Origin) -> Instance | None:
        """Return the machine of the create that the present one repeats; None if there is none.

        Its entry is written again, because the engine has forgotten the report of the machine. It
        is dropped if the machine is gone.
        """
        made = self.records.made(origin)
        if made is None:
            return None
        found = self._facts.find(made.entry)
        if found is None and not made.entry.is_new(self._clock.wall()):
            self.records.discard(origin)
            return None
        entry = replace(made.entry, seen=made.entry.seen or found is not None)
        self.records.remember(entry, found or made.machine)
        self.records.write(entry)
        self.resumed_ids.add(made.machine.id)
        requested = entry.requested
        return found or Instance(made.machine.id, requested.instance_type, requested.sector)

    def _resume(
        self, entry: Entry, new: NewInstance, origin: Origin, patience: Patience | None
    ) -> Instance:
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
                self.records.remember(entry, instance)
                self.records.write(entry)
                return instance
            case SendAgain():
                # The machine may already be in state, if only the record could not be written.
                made, instance = self._sender.send(entry, new, may_be_sent=True)
                if instance.id not in (self._stacks.ids(origin) or ()):
                    self.records.remember(made, instance)
                return self._resume(made, new, origin, patience)
            case StartFresh(warning):
                if warning:
                    self.late.name(facts.search.candidates)
                    self._warn(warning)
                late = None
                if entry.instance_id is None:  # its machine may still appear
                    late = as_late(entry, facts.search.candidates, facts.now)
                if late is None:
                    self._change(entry, None, origin)
                return self._start(new, origin, patience, late)
            case Stop(error):
                if facts.search:  # the candidates of this search must not count as late next time
                    self.records.write(replace(entry, searched=False))
                raise error

    def _change(self, entry: Entry, new: Entry | None, origin: Origin) -> None:
        """Replace or drop an earlier entry, which may be another stack's.

        This create holds the lock of its own origin, and no other.
        """
        if entry.origin != origin:
            self.records.exchange(entry, new)
        elif new is None:
            self.records.drop(entry)
        else:
            self.records.write(new)

    def _start(
        self,
        new: NewInstance,
        origin: Origin,
        patience: Patience | None,
        late: Entry | None = None,
    ) -> Instance:
        """Create a machine, and with `patience` wait until there is room for it.

        `late` is the entry of an earlier create without an answer, to be kept beside the new one.
        """
        self._refuse_if_renamed(new, origin)
        if patience is None:
            return self._ask(new, origin, late)
        # While the create waits, it is known that it has made no machine.
        self.in_flight.discount(origin.urn)

        def send() -> Instance:
            with self.in_flight.counted(origin.urn):
                return self._ask(new, origin, late, gives_up=room.is_missing)

        return self._queues.ask(origin.urn.rpartition("::")[2], new, patience, send)

    def _ask(
        self,
        new: NewInstance,
        origin: Origin,
        late: Entry | None,
        gives_up: Callable[[APIError], bool] = lambda error: False,
    ) -> Instance:
        """Create a machine. A request that fails with an error that `gives_up` is not retried."""
        account = self._facts.account_id
        entry = Entry(
            origin=origin,
            account=account.account,
            endpoint=account.endpoint,
            requested=new.hashed(),
            before=tuple(sorted(self._facts.fleet.recent(_BEFORE_SECONDS))),
            started=self._clock.wall(),
            idempotency_key=self._client.new_idempotency_key(),
            first_sent=self._clock.wall(),
        )
        if late is not None:
            self._journal.write(late)
        self._name_late(origin)
        try:
            made, instance = self._sender.send(entry, new, gives_up=gives_up)
        except (APIError, ConfigurationError, Interrupted):  # the API certainly made no machine
            if late is not None:
                self.records.put_back(late)
            raise
        self.records.remember(made, instance)
        return instance

    def _refuse_if_renamed(self, new: NewInstance, origin: Origin) -> None:
        """Raise if this stack may be a renamed one that has an unresolved create for this resource.

        The journal still has the creates of a renamed stack or project under its old name.
        """
        if not origin.is_certain:
            return  # without the backend, an entry could belong to any stack of that name
        problems = []
        for entry in self._earlier_entries:
            if entry.is_late or not entry.origin.may_be_renamed_to(origin):
                continue
            if self._journal.is_locked(entry.origin):
                continue
            is_gone = self._stacks.is_gone(entry.origin)
            if is_gone is False:
                continue
            facts = self._facts.about(entry, origin, new)
            match decide_renamed(entry, facts, is_gone=bool(is_gone)):
                case StartFresh():
                    self.records.exchange(entry, None)
                case Stop(error):
                    problems.append(error)
        if problems:
            raise unresolved.combined(problems)

    @cached_property
    def _earlier_entries(self) -> list[Entry]:
        """All entries, read only once: a stack that no longer exists makes no new ones."""
        return self._journal.readable()

    def _name_late(self, origin: Origin) -> None:
        """Warn of the machines of late creates that the lists of this process have shown so far.

        While other creates are in flight, their machines would look like those of a late create.
        The last one of them to end names what there is.
        """
        if self.in_flight.urns(lambda urn: urn != origin.urn):
            return
        try:
            known = {*self.deleted_ids, *self.records.machines().values()}
            for warning in self.late.shown(origin, known):
                self._warn(warning)
        except JournalError as error:  # it must not hide what the create has come to
            self._warn(str(error))

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
