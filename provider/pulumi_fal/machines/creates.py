"""Create a machine exactly once, despite crashes and lost responses.

fal's APIs have no names or tags, so they can't show which create made a machine. The journal
therefore records the create before and after the POST. If the API supports idempotency keys, a
create without an answer is sent again with its key. Otherwise, if a create may have made a machine,
but it is not certain which, no other machine is created, and an error names the candidates.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import APIError, ConfigurationError, Interrupted, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import (
    Facts,
    Resume,
    SendAgain,
    StartFresh,
    Stop,
    as_gone,
    as_late,
    decide,
)
from pulumi_fal.machines.facts import FactFinder, unclaimed
from pulumi_fal.machines.journal import Entry, Phase, new_file
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.review import Late
from pulumi_fal.machines.sender import Patience, Queues, Sender
from pulumi_fal.machines.whose import LATE_SECONDS, Asking, Same
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import Stack
from pulumi_fal.tokens import PROVIDER_TYPES

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.api.client import Client

_LOOK_AGAIN_SECONDS = 0.5
"""The time between two checks whether another process still works on a create."""
_BEFORE_SECONDS = 2.0
"""The maximum age of the list of machines that existed before a POST, so that creates can share it.
A machine that somebody else creates in that time may wrongly become a candidate, which is
harmless."""


class Creates:
    """The creates of one process: new ones, and those that earlier processes left behind."""

    def __init__(
        self,
        client: Client,
        facts: FactFinder,
        warn: Callable[[str], None],
        known: Container[str] = frozenset(),
    ) -> None:
        """`warn` gets warnings that stop nothing. `known` is that of Machines."""
        self._client = client
        self._facts = facts
        self._warn = warn
        self._journal, self._stacks, self._clock = facts.journal, facts.stacks, facts.clock
        self.records = Records(self._journal, self._stacks, warn, self._clock.wall)
        self.late = Late(facts)
        self.resumed_ids: set[str] = set()
        """The ids of the machines of earlier creates that this process has resumed."""
        self.deleted_ids: set[str] = set()
        """The ids of the machines that this process has deleted."""
        self._queues = Queues(self._clock, facts.fleet.interval)
        self._sender = Sender(client, facts, self.records)
        self._began: dict[str, float] = {}
        """When the last create of each resource began, by URN, as time.monotonic has it."""
        self._sending = 0
        """How many POSTs have no result on record yet."""
        self._sent = threading.Condition()
        self._known = known
        self._reading: threading.Thread | None = None
        self._starting = threading.Lock()
        self._is_warned = False

    @contextmanager
    def launch(
        self,
        new: NewInstance,
        origin: Origin,
        requested: NewInstance | None = None,
        patience: Patience | None = None,
        aliases: Sequence[str] = (),
    ) -> Iterator[Instance]:
        """Yield the resource's machine: that of an earlier create, or else a new one.

        `requested` is what the program requested, if `new` has the sector of a cluster instead.
        `aliases` are the URNs that the resource may have had. With `patience`, the create waits for
        capacity, and raises CapacityError if there is none in time. The create is locked for other
        processes until the block ends. Raises UnresolvedCreateError if an earlier create or this
        one may have made a machine, but it is not certain which.
        """
        self._began[origin.urn] = time.monotonic()
        self.records.begin(origin, requested or new)
        self._begin_reading(origin)
        with self._locked(origin), ExitStack() as others:
            late: list[Entry] = []
            instance = self._repeat(origin)
            if instance is None:
                instance, late = self._continue(new, origin, aliases, others)
            if instance is None:
                instance = self._start(new, origin, patience, late)
            yield instance

    def was_never_shown(self, urn: str, instance_id: str) -> bool:
        """Whether the API has not shown a machine in state since its create, as is on record."""
        try:
            entries = self._journal.of(Origin(urn))
        except JournalError:  # it was reported at the start
            return False
        return any(
            entry.instance_id == instance_id and not (entry.seen or entry.is_late)
            for entry in entries
        )

    def note_gone(self, origin: Origin, instance_id: str, props: Mapping[str, Any]) -> None:
        """Put a machine on record that leaves state because it is gone, as it may come back.

        `props` are its outputs in state.
        """
        account, now = AccountId.of(props), self._clock.wall()
        requested = {"instance_type": "", "ssh_key": "", **props}
        gone = Entry(
            origin=origin,
            account=account.account,
            endpoint=account.endpoint,
            requested=NewInstance.of(requested).hashed(),
            before=(),
            started=now,
            instance_id=instance_id,
            file=new_file(origin),
        )
        self.records.note_gone(as_gone(gone, now))

    def _repeat(self, origin: Origin) -> Instance | None:
        """Return the machine of the create that the present one repeats; None if there is none.

        Its entry is written again, because the engine has forgotten the report of the machine. If
        the machine is gone, it is kept as late.
        """
        made = self.records.made(origin)
        if made is None:
            return None
        found = self._facts.find(made.entry)
        if found is None and made.entry.seen:
            self.records.let_go(origin, self._clock.wall())
            return None
        entry = replace(made.entry, seen=made.entry.seen or found is not None)
        self.records.remember(origin, entry, found or made.machine)
        self.records.write(entry)
        self.resumed_ids.add(made.machine.id)
        requested = entry.requested
        return found or Instance(made.machine.id, requested.instance_type, requested.sector)

    def _continue(
        self, new: NewInstance, origin: Origin, aliases: Sequence[str], locks: ExitStack
    ) -> tuple[Instance | None, list[Entry]]:
        """Return the machine of an earlier create, or None if the create has to make one.

        No entry of the resource's name is ignored, unless it is of another stack that still exists.
        Also returns the entries that are to be kept as late ones beside that of the new create.
        """
        entries, asking = self._entries_of(origin, aliases, locks)
        if not entries:
            return None, []
        about = zip(entries, self._about(entries, asking, new), strict=True)
        decided = [
            (self._seen(entry, facts), facts, decide(entry, facts)) for entry, facts in about
        ]
        for entry, _, decision in decided:
            if isinstance(decision, Resume):
                return self._resume(entry, decision.instance, new, origin), []
            if isinstance(decision, SendAgain):
                return self._send_again(entry, new, asking), []
        if errors := [decision.error for *_, decision in decided if isinstance(decision, Stop)]:
            for entry, facts, _ in decided:
                if facts.search:  # what this search found must not count as late next time
                    self.records.amend(replace(entry, searched=False))
            raise unresolved.combined(errors)
        left = (
            self._leave(entry, facts, decision)
            for entry, facts, decision in decided
            if isinstance(decision, StartFresh)
        )
        return None, [late for late in left if late is not None]

    def _entries_of(
        self, origin: Origin, aliases: Sequence[str], locks: ExitStack
    ) -> tuple[list[Entry], Asking]:
        """Return the entries that may be the resource's, when no other process works on one.

        They stay locked until `locks` is closed.
        """
        names = dict.fromkeys([origin, *(replace(origin, urn=alias) for alias in aliases)])
        is_told = False
        while True:
            found = [(name, e) for name in names for e in self._journal.of(name) if _counts(e)]
            asking = Asking(origin, self._own(origin) if found else None)
            mine = [
                entry
                for name, entry in found
                if self._facts.same(entry, replace(asking, origin=name)) is not Same.NO
            ]
            busy = self._lock_all(mine, origin, locks)
            if busy is None:
                return mine, asking
            locks.close()
            while self._journal.is_locked(busy) and self._journal.current(busy) == busy:
                if not is_told:
                    self._warn(unresolved.in_progress(origin))
                is_told = True
                self._clock.sleep(_LOOK_AGAIN_SECONDS)
            self._stacks.forget(origin)

    def _lock_all(self, entries: Iterable[Entry], origin: Origin, locks: ExitStack) -> Entry | None:
        """Lock the creates of entries, of which the resource's own is locked already.

        Returns an entry that another process works on, or has changed since it was read.
        """
        held: list[Entry | Origin] = [origin]
        for entry in entries:
            if not any(self._journal.shares_lock(entry, other) for other in held):
                lock = self._journal.try_lock(entry)
                if lock is None:
                    return entry
                locks.enter_context(lock)
                if self._journal.current(entry) != entry:
                    return entry
            held.append(entry)
        return None

    def _seen(self, entry: Entry, facts: Facts) -> Entry:
        """Return the entry, which says from now on that the API has shown the machine if it has."""
        if facts.machine is None or entry.seen or entry.is_late:
            return entry
        seen = replace(entry, seen=True)
        self.records.amend(seen)
        return seen

    def _resume(
        self, entry: Entry, instance: Instance, new: NewInstance, origin: Origin
    ) -> Instance:
        self.resumed_ids.add(instance.id)
        provider = entry.origin.provider or self._provider(origin)
        # An adopted machine may come from a create that requested something else.
        resumed = replace(
            entry,
            origin=replace(origin, provider=provider),
            phase=Phase.CREATED,
            requested=new.hashed(),
        )
        if entry.origin.path != origin.path:  # it was found by an alias
            resumed = replace(resumed, file=new_file(origin))
        self.records.remember(origin, resumed, instance)
        self.records.write(resumed)
        if resumed.file != entry.file:
            self.records.drop(entry)
        return instance

    def _about(self, entries: Sequence[Entry], asking: Asking, new: NewInstance) -> list[Facts]:
        """Return the facts about entries, with whether the engine knows of their machines."""
        own = asking.own.machines if asking.own else ()
        # An `up` before this one has left what it replaced to be deleted.
        replaced = {machine.id for machine in own if machine.is_replaced}

        def is_known(entry: Entry) -> bool:
            names = (asking.origin.urn, entry.instance_id)
            return entry.instance_id in replaced or any(name in self._known for name in names)

        about = zip(entries, self._facts.about(entries, asking, new), strict=True)
        return [replace(facts, is_known=is_known(entry)) for entry, facts in about]

    def _send_again(self, entry: Entry, new: NewInstance, asking: Asking) -> Instance | None:
        """Send an earlier create again with its idempotency key, and return its machine.

        None if the machine is in state, where its record could not be written: then the present
        create replaces it.
        """
        with self.sending():
            made, instance = self._sender.send(entry, new, may_be_sent=True)
            # The machine may already be in state, if only the record could not be written.
            if instance.id not in (self._stacks.ids(asking.origin) or ()):
                self.records.remember(asking.origin, made, instance)
        (facts,) = self._about([made], asking, new)
        decision = decide(made, facts)
        if isinstance(decision, Stop):
            raise decision.error
        if isinstance(decision, StartFresh):
            self._leave(made, facts, decision)
            return None
        return self._resume(made, instance, new, asking.origin)

    def _leave(self, entry: Entry, facts: Facts, decision: StartFresh) -> Entry | None:
        """Drop an entry that the new create follows, or return it as it is to be kept as late."""
        if decision.warning:
            self._warn(decision.warning)
        if entry.is_late or (facts.in_state and not entry.seen):
            return None  # it stays as it is, since the machine may come back, or appear
        if facts.holder and facts.same is Same.UNKNOWN:
            return None  # the stack that has the machine sees to it
        if entry.instance_id is not None and facts.machine is None and not facts.in_state:
            gone = as_gone(entry, facts.now)
            self._warn(unresolved.gone(entry))
            self.records.amend(gone)
            return None
        if facts.same is Same.UNKNOWN:  # it may be another stack's: only what is proven dead goes
            if entry.instance_id or facts.now - entry.started > LATE_SECONDS:
                self.records.drop(entry)
            return None
        late = None
        if entry.instance_id is None:  # its machine may still appear
            late = as_late(entry, facts.search.candidates, facts.now)
        if late is None:
            self.records.drop(entry)
        return late

    def _start(
        self, new: NewInstance, origin: Origin, patience: Patience | None, late: list[Entry]
    ) -> Instance:
        """Create a machine, and with `patience` wait until there is capacity for it.

        `late` are the entries of earlier creates without an answer, to be kept beside the new one.
        """
        refused: list[Entry] = []
        if patience is None:
            return self._ask(new, origin, late, refused)
        send = functools.partial(
            self._ask, new, origin, late, refused, gives_up=retry.lacks_capacity
        )
        return self._queues.ask(origin.name, new, patience, send)

    def _ask(
        self,
        new: NewInstance,
        origin: Origin,
        late: list[Entry],
        refused: list[Entry],
        gives_up: Callable[[APIError], bool] = lambda error: False,
    ) -> Instance:
        """Create a machine. A request that fails with an error that `gives_up` is not retried.

        `refused` are the entries of those that the API has refused since it was last looked whether
        one of them has made a machine all the same.
        """
        account = self._facts.account_id
        before = self._facts.fleet.recent(_BEFORE_SECONDS)
        entry = Entry(
            origin=replace(origin, provider=self._provider(origin)),
            account=account.account,
            endpoint=account.endpoint,
            requested=new.hashed(),
            before=tuple(sorted(before)),
            started=self._clock.wall(),
            idempotency_key=self._client.new_idempotency_key(),
            first_sent=self._clock.wall(),
            file=new_file(origin),
        )
        self._refuse_if_cut_off(entry, origin)
        self._refuse_if_made(refused, before.values())
        for earlier in late:
            self._journal.write(earlier)
        try:
            with self.sending():
                made, instance = self._sender.send(entry, new, gives_up=gives_up)
                self.records.remember(origin, made, instance)
        except (APIError, ConfigurationError, Interrupted) as error:  # it certainly made no machine
            for earlier in late:
                self.records.amend(replace(earlier, phase=Phase.REQUESTED, found=()))
            refused.append(replace(entry, problem=str(error)))
            raise
        return instance

    def _refuse_if_cut_off(self, entry: Entry, origin: Origin) -> None:
        """Raise if another computer's create of this resource was cut off, and may have made one.

        State then has its operation beside that of this create. It keeps it until somebody clears
        it, also when the resource has long been created, so a record or a machine comes first.
        """
        own = self._own(origin)
        if own is not None and origin.urn in own.creating:
            # What was read before this create began may have the other operation alone.
            self._stacks.forget(origin, self._began[origin.urn])
            own = self._own(origin)
        if own is None or own.creating.count(origin.urn) < 2 or self._is_on_record(origin, own):
            return
        # Its key is not known, and with this one a second machine would be made.
        cut_off = replace(entry, before=(), idempotency_key="", first_sent=0.0)
        (search,) = self._facts.search([cut_off])
        if search:
            cut_off = replace(cut_off, problem=unresolved.CUT_OFF)
            self._journal.write(cut_off)
            raise unresolved.unanswered(cut_off, search.candidates, search.unread)

    def _is_on_record(self, origin: Origin, own: Stack) -> bool:
        """Whether state has a machine of the resource, or the journal a create of it."""
        asking = Asking(origin, own)
        present = {machine.urn for machine in own.machines if not machine.is_replaced}
        return origin.urn in present or any(
            self._facts.same(entry, asking) is Same.YES for entry in self._journal.of(origin)
        )

    def _refuse_if_made(self, refused: list[Entry], instances: Iterable[Instance]) -> None:
        """Raise if a machine has appeared since the API refused this create, which may be its own.

        While other POSTs have no result, their machines would look like it.
        """
        if not refused or self._sending:
            return
        known = {*self.deleted_ids, *self.records.machines().values()}
        new = [instance for instance in instances if instance.id not in known]
        search = unclaimed(refused[0], new, self._journal, self._stacks)
        if search:
            self._journal.write(refused[0])
            raise unresolved.unanswered(refused[0], search.candidates, search.unread)
        refused.clear()

    def _begin_reading(self, origin: Origin) -> None:
        """Begin to read the stack's state, beside whatever else comes before the first POST."""
        with self._starting:
            if self._reading is None:
                read = functools.partial(self._stacks.own, origin)
                self._reading = threading.Thread(target=read, daemon=True)
                self._reading.start()

    def _provider(self, origin: Origin) -> str:
        """Return the id of the provider resource in the stack's state; "" if it is not known.

        Python's dynamic host does not pass it on, but it is in the stack's state before the engine
        creates the first machine.
        """
        if origin.provider:
            return origin.provider
        own = self._own(origin)
        providers = own.providers if own else {}
        return next((id_ for id_, type_ in providers.items() if type_ in PROVIDER_TYPES), "")

    def _own(self, origin: Origin) -> Stack | None:
        """Return the stack that this create works for; None if that is not known."""
        return self._stacks.own(origin, self._began[origin.urn])

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Count a POST from before it is sent until its result is on record."""
        with self._sent:
            self._sending += 1
        try:
            yield
        finally:
            with self._sent:
                self._sending -= 1
                self._sent.notify_all()

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when the result of every POST is on record, or after `seconds`."""
        with self._sent:
            self._sent.wait_for(lambda: not self._sending, seconds)

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
        if looks:
            self._stacks.forget(origin)
        if not self._journal.has_locks:
            self._warn_of_locks()
        with lock:
            yield

    def _warn_of_locks(self) -> None:
        with self._starting:
            is_first, self._is_warned = not self._is_warned, True
        if is_first:
            self._warn(
                f"The file system of {self._journal.folder} can't lock files, so another `pulumi` "
                "on this computer could create the same machines at the same time. Run one at a "
                "time, or set PULUMI_HOME to a folder on a local disk."
            )


def _counts(entry: Entry) -> bool:
    """Whether a create takes up the entry: late ones only if their machine may be back."""
    return not entry.is_late or entry.instance_id is not None
