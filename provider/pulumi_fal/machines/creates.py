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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    FalError,
    Interrupted,
    UnresolvedCreateError,
)
from pulumi_fal.machines import earlier, unresolved
from pulumi_fal.machines.capacity import Patience, Queues
from pulumi_fal.machines.journal import Entry, Phase, new_file
from pulumi_fal.machines.unresolved import (
    Decision,
    Facts,
    Resume,
    SendAgain,
    StartFresh,
    Stop,
)
from pulumi_fal.machines.whose import Asking, Same, same
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Stack, StackMachine
from pulumi_fal.tokens import PROVIDER_TYPES

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account

_CHECK_LOCK_SECONDS = 0.5
"""The time between two checks whether others still work on a create."""
_POST_SECONDS = 200.0
"""How long a POST with its retries may take."""
_BEFORE_SECONDS = 2.0
"""The maximum age of the list of machines that existed before a POST, so that creates can share it.
A machine that somebody else creates in that time may wrongly become a candidate, which is
harmless."""


class _OvertakenError(Exception):
    """Another create of the resource is on record by now, or the machine of one is back."""


class Creates:
    """The creates of one process, and what each has to know of the others."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.resumed_ids: set[str] = set()
        """The ids of the machines of earlier creates that this process has resumed."""
        self.deleted_ids: set[str] = set()
        """The ids of the machines that this process has deleted."""
        self.queues = Queues(account.clock, account.fleet.interval)
        self.began: dict[str, float] = {}
        """When the last create of each resource began, by URN, as time.monotonic has it.

        What was read of the stack before is too old for it, and an alias with a create of its own
        is another resource.
        """
        self.pending: dict[str, tuple[str, ...]] = {}
        """The URNs of the creates that were pending when a stack was first read, by its name.

        An update keeps those that earlier ones left, so no others are of an earlier update.
        """
        self.in_flight = 0
        """How many POSTs have no result on record yet."""
        self._sent = threading.Condition()
        self._has_read = False

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
        self.began[origin.urn] = time.monotonic()
        self._account.records.begin(origin, requested or new)
        self._begin_reading(origin)
        create = Create(self._account, new, origin, patience, aliases)
        with create.locked(), create.others:
            yield create.instance()

    def _begin_reading(self, origin: Origin) -> None:
        """Begin to read the stack's state, beside whatever else comes before the first POST."""
        if not self._has_read:
            self._has_read = True
            read = functools.partial(self._account.stacks.own, origin)
            threading.Thread(target=read, daemon=True).start()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Count a POST from before it is sent until its result is on record."""
        with self._sent:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._sent:
                self.in_flight -= 1
                self._sent.notify_all()

    def wait_until_quiet(self) -> None:
        """Return when the result of every POST is on record, or after as long as one may take."""
        with self._sent:
            self._sent.wait_for(lambda: not self.in_flight, _POST_SECONDS)

    def wait_for_others(self) -> None:
        """Do the same for a create that goes on afterwards, or raise Interrupted."""
        clock = self._account.clock
        end = clock.now() + _POST_SECONDS
        while self.in_flight and clock.now() < end:
            clock.sleep(_CHECK_LOCK_SECONDS)


@dataclass(eq=False)
class Create:
    """One create of a resource."""

    account: Account
    new: NewInstance
    origin: Origin
    patience: Patience | None
    aliases: Sequence[str]
    others: ExitStack = field(default_factory=ExitStack)
    """The locks of earlier creates."""
    known: list[Entry] = field(default_factory=list)
    """The entries that may be the resource's, as far as this create has looked at them."""
    late: list[Entry] = field(default_factory=list)
    """Those of them that got no answer, as they are to be kept beside the one of this create."""
    gone: set[str] = field(default_factory=set)
    """The ids of machines of theirs that were not there."""
    refused: list[Entry] = field(default_factory=list)
    """What the API has refused since it was last looked whether one of them made a machine."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the create of this resource; wait while another process works on it.

        Another process may be the plugin of a killed engine, which runs until the API has answered
        its POST.
        """
        account, looks = self.account, 0
        while (lock := account.journal.try_lock(self.origin)) is None:
            if looks:  # a process that only changes the entry has the lock for a moment
                account.warn(unresolved.in_progress_warning(self.origin))
            looks += 1
            account.clock.sleep(_CHECK_LOCK_SECONDS)
        if looks:
            account.stacks.forget(self.origin)
        if not account.journal.has_locks:
            account.warn(
                f"The file system of {account.journal.folder} can't lock files, so another "
                "`pulumi` on this computer could create the same machines at the same time. Run "
                "one at a time, or set PULUMI_HOME to a folder on a local disk."
            )
        with lock:
            yield

    def instance(self) -> Instance:
        """Return the resource's machine, which is on record."""
        instance = self._repeat()
        while instance is None:
            instance = self._continue()
            with suppress(_OvertakenError):
                instance = instance or self._start()
        return instance

    def _repeat(self) -> Instance | None:
        """Return this process's machine if the engine calls Create again in the same step.

        Its entry is written again, as that of a machine that was not reported. If the machine is
        gone, its entry is kept as a late one.
        """
        records = self.account.records
        made = records.made(self.origin)
        if made is None:
            return None
        found = earlier.machine_of(self.account, made.entry)
        if found is None and made.entry.seen:
            records.let_go(self.origin)
            return None
        entry = replace(made.entry, seen=made.entry.seen or found is not None)
        records.remember(self.origin, entry, found or made.instance)
        records.write(entry)
        self.account.creates.resumed_ids.add(made.instance.id)
        requested = entry.requested
        return found or Instance(made.instance.id, requested.instance_type, requested.sector)

    def _continue(self) -> Instance | None:
        """Return the machine of an earlier create, or None if this create has to make one.

        No entry of the resource's name is ignored, unless it is of another stack that still exists.
        """
        self.known, self.late, self.gone = [], [], set()
        self.known = self._entries_of()
        if not self.known:
            return None
        lost = [entry for entry in self.known if entry.instance_id is None]
        # A search is slow, so one serves all.
        listed = functools.cache(lambda: earlier.long_list(self.account, lost))
        decided: list[tuple[Entry, Facts, Decision]] = []
        error: FalError | None = None
        for one in self.known:
            facts, decision = earlier.decided(
                self.account, one, self._asking, self.new, listed, error
            )
            error = error or facts.error
            entry = self._mark_seen(one, facts)
            if isinstance(decision, Resume):
                return self._resume(entry, decision.instance)
            if isinstance(decision, SendAgain):
                if instance := self._send_again(entry):
                    return instance
                continue
            decided.append((entry, facts, decision))
        if errors := [decision.error for *_, decision in decided if isinstance(decision, Stop)]:
            for entry, facts, _ in decided:
                if facts.search:  # what this search found must not count as late next time
                    self.account.records.amend(replace(entry, searched=False))
            raise unresolved.combined_error(errors)
        for entry, facts, decision in decided:
            if isinstance(decision, StartFresh):
                self._leave(entry, facts, decision)
        return None

    def _entries_of(self) -> list[Entry]:
        """Return the entries that may be the resource's, when no other process works on one.

        They stay locked until `others` is closed.
        """
        account, journal = self.account, self.account.journal
        names = [replace(self.origin, urn=urn) for urn in self._urns]
        while True:
            self.others.close()
            mine = self._possibly_own(names)
            busy = self._lock_all(mine)
            if busy is None:
                return mine
            while journal.is_locked(busy) and journal.current(busy) == busy:
                account.warn(unresolved.in_progress_warning(self.origin))
                account.clock.sleep(_CHECK_LOCK_SECONDS)
            account.stacks.forget(self.origin)

    def _possibly_own(self, names: Iterable[Origin]) -> list[Entry]:
        """Return the entries under these names that may be the resource's and are not known yet."""
        journal, stacks = self.account.journal, self.account.stacks
        files = {entry.file for entry in self.known}
        found = [
            (name, entry)
            for name in names
            for entry in journal.of(name)
            if _counts(entry) and entry.file not in files
        ]
        return [
            entry
            for name, entry in found
            if same(entry, replace(self._asking, origin=name), stacks)[0] is not Same.NO
        ]

    def _lock_all(self, entries: Iterable[Entry]) -> Entry | None:
        """Lock the creates of entries, of which the resource's own is locked already.

        Returns an entry that another process works on, or has changed since it was read.
        """
        journal = self.account.journal
        held: list[Entry | Origin] = [self.origin]
        for entry in entries:
            if not any(journal.shares_lock(entry, other) for other in held):
                lock = journal.try_lock(entry)
                if lock is None:
                    return entry
                self.others.enter_context(lock)
                if journal.current(entry) != entry:
                    return entry
            held.append(entry)
        return None

    def _mark_seen(self, entry: Entry, facts: Facts) -> Entry:
        """Return the entry, which says from now on that the API has shown the machine if it has."""
        if facts.instance is None or entry.seen or entry.is_late:
            return entry
        seen = replace(entry, seen=True)
        self.account.records.amend(seen)
        return seen

    def _resume(self, entry: Entry, instance: Instance) -> Instance:
        account, records = self.account, self.account.records
        account.creates.resumed_ids.add(instance.id)
        # An adopted machine may come from a create that requested something else.
        resumed = replace(
            entry,
            origin=replace(self.origin, provider=entry.origin.provider or self._provider()),
            account=account.id.account,  # which has shown the machine, with a rotated key too
            endpoint=account.id.endpoint,
            phase=Phase.CREATED,
            requested=self.new.hashed(),
        )
        if entry.origin.path != self.origin.path:  # it was found by an alias
            resumed = replace(resumed, file=new_file(self.origin))
        records.remember(self.origin, resumed, instance)
        records.write(resumed)
        if resumed.file != entry.file:
            records.drop(entry)
        return instance

    def _send_again(self, entry: Entry) -> Instance | None:
        """Send an earlier create again with its idempotency key, and return its machine.

        None if the machine is in state, where its entry could not be written: then the present
        create replaces it.
        """
        if not self._key_is_kept(entry):  # a wait for a lock may have taken long
            raise self._without_an_answer(entry)
        records = self.account.records
        # A command that has read the entry must not drop it once this has been sent.
        entry = self._stamp(entry)
        with self.account.creates.sending():
            made, instance = self._send(entry, is_repeat=True)
            # The machine may already be in state, if only the entry could not be written.
            if instance.id not in (self.account.stacks.ids(self.origin) or ()):
                records.remember(self.origin, made, instance)
        # It has an id, so nothing is searched for.
        facts, decision = earlier.decided(self.account, made, self._asking, self.new, tuple)
        if isinstance(decision, Stop):
            if facts.holder:  # another stack has it in state, so this one must not
                records.forget(self.origin)
            raise decision.error
        if isinstance(decision, StartFresh):
            self._leave(made, facts, decision)
            return None
        return self._resume(made, instance)

    def _leave(self, entry: Entry, facts: Facts, decision: StartFresh) -> None:
        """Drop an entry that the new create follows, or leave it as it is, or as one that is gone.

        One that is to be kept as a late one is written once the new create is on record.
        """
        if decision.warning:
            self.account.warn(decision.warning)
        if entry.instance_id and facts.instance is None and not facts.in_state:
            self.gone.add(entry.instance_id)
        is_unsure = facts.same is Same.UNKNOWN
        if entry.is_late or (facts.in_state and not entry.seen) or (is_unsure and facts.holder):
            return  # the machine may come back, or appear, or its stack sees to it
        if entry.instance_id is None:
            late = entry.as_late(facts.search.candidates, facts.now)
            if late is None:
                self.account.records.drop(entry)
            elif not is_unsure:  # one that may be another stack's stays as it is
                self.late.append(late)
        elif facts.instance is None and not facts.in_state:
            self.account.warn(unresolved.gone_warning(entry))
            self.account.records.amend(entry.as_gone(facts.now))
        else:
            self.account.records.drop(entry)

    def _start(self) -> Instance:
        """Create a machine, and with `patience` wait until there is capacity for it.

        Raises _OvertakenError if there is something by now that `_continue` has to decide about.
        """
        if self.patience is None:
            return self._create()
        turns = self.account.creates.queues.turns(self.origin.name, self.new, self.patience)
        for turn in turns:
            with turn:
                instance = self._create()
        return instance

    def _create(self) -> Instance:
        account, records = self.account, self.account.records
        before = account.fleet.recent(_BEFORE_SECONDS)
        entry = Entry(
            origin=replace(self.origin, provider=self._provider()),
            account=account.id.account,
            endpoint=account.id.endpoint,
            requested=self.new.hashed(),
            before=tuple(sorted(before)),
            started=account.clock.wall(),
            idempotency_key=account.client.new_idempotency_key(),
            first_sent=account.clock.wall(),
            file=new_file(self.origin),
        )
        self._refuse_if_cut_off(entry)
        self._refuse_if_made(before.values())
        # A search, or the wait for capacity, may have taken long.
        if not self.gone.isdisjoint(account.fleet.recent(_BEFORE_SECONDS)):
            raise _OvertakenError
        try:
            with account.creates.sending():
                records.begin_post(entry)
                self._refuse_if_overtaken(entry)
                for late in self.late:  # not before: this create may fail to get on record
                    records.amend(late)
                made, instance = self._send(entry)
                records.remember(self.origin, made, instance)
        except (APIError, ConfigurationError, Interrupted) as error:  # it certainly made no machine
            for late in self.late:
                records.amend(replace(late, phase=Phase.REQUESTED, found=()))
            self.refused.append(replace(entry, problem=str(error)))
            raise
        return instance

    def _send(self, entry: Entry, *, is_repeat: bool = False) -> tuple[Entry, Instance]:
        """Send the create, record its result, and return the entry with the machine.

        `is_repeat` says that an earlier process may have sent the same create. Raises an
        APIError if the API certainly made no machine, and UnresolvedCreateError if it may have.
        """
        failures: list[APIError] = []
        try:
            instance = self._post(entry, failures, is_repeat=is_repeat)
        except (APIError, ConfigurationError, Interrupted) as error:
            unanswered = list(filter(retry.may_have_made_a_machine, failures))
            if not (unanswered or is_repeat):  # the API did not accept any request
                self.account.records.drop(entry)
                raise
            last = next(reversed(failures), None) if isinstance(error, Interrupted) else error
            if last is not None:
                problem = unresolved.problem_of(entry, next(reversed(unanswered), None), last)
                entry = self._stamp(entry, problem=problem)
            raise self._without_an_answer(entry) from None
        is_new = instance.id not in entry.before
        if is_new and self.account.records.claim(entry.origin.urn, instance.id):
            # The POST may have been retried, so the entry gets the current time.
            made = self._stamp(entry.as_created(instance.id))
            kind = instance.instance_type or self.new.instance_type  # the answer needs only an id
            return made, replace(instance, instance_type=kind)
        had = "which another resource has" if is_new else "which existed before it"
        problem = f"the API answered with {instance.id}, {had}."
        raise self._without_an_answer(self._stamp(entry, problem=problem))

    def _post(self, entry: Entry, failures: list[APIError], *, is_repeat: bool) -> Instance:
        """Send the POST, and again where that makes no second machine.

        Each error is added to `failures`, because one before the last may have made a machine. If
        the create waits for capacity, its queue decides when the API is asked for that again.
        """
        client, key = self.account.client, entry.idempotency_key
        waits = self.patience is not None and not is_repeat
        # The client counts these seconds with a clock that stands still while a laptop sleeps, but
        # can't be set. Of the wall clock, which _key_is_kept asks, the opposite is true.
        seconds = entry.key_seconds_left(self.account.clock.wall())
        patient = client.within(seconds) if key else client
        for attempt in patient.attempts(is_idempotent=bool(key) and client.has_idempotency_keys):
            if attempt.number > 1 and not self._note_repeat(entry):
                raise failures[-1]
            with attempt:
                try:
                    instance = client.within(0).create_instance(self.new, key)
                except APIError as error:
                    failures.append(error)
                    attempt.is_last = waits and retry.lacks_capacity(error)
                    raise
        return instance

    def _note_repeat(self, entry: Entry) -> bool:
        """Put on record that the create is about to be sent again. Returns whether it may be."""
        if not self._key_is_kept(entry):
            return False
        self._stamp(entry)
        return True

    def _key_is_kept(self, entry: Entry) -> bool:
        """Whether the create may still be sent again with its key, by the wall clock."""
        return not entry.idempotency_key or entry.key_seconds_left(self.account.clock.wall()) > 0

    def _stamp(self, entry: Entry, **changes: Any) -> Entry:
        """Record the entry with these changes and the current time, and return it.

        For a POST that is about to be sent again, or that has just ended.
        """
        entry = replace(entry, started=self.account.clock.wall(), **changes)
        self.account.records.write(entry)
        return entry

    def _without_an_answer(self, entry: Entry) -> UnresolvedCreateError:
        try:
            search = earlier.search(self.account, entry)
        except FalError as error:
            return unresolved.unseen_error(entry, error)
        if not search:
            self.account.records.write(replace(entry, searched=True))
        return unresolved.unanswered_error(entry, search)

    def _refuse_if_cut_off(self, entry: Entry) -> None:
        """Raise if another computer's create of this resource was cut off, and may have made one.

        State then has its operation beside that of this create. It keeps it until somebody clears
        it, also when the resource has long been created, so an entry or a machine comes first.
        """
        account, own = self.account, self._own()
        if own is None:
            return
        pending = account.creates.pending.setdefault(own.name, own.creating)
        if not any(urn in pending for urn in self._urns):
            return  # the operation that state may have by now is that of this create
        # What was read before this create began may have the other operation alone.
        account.stacks.forget(self.origin, self._began)
        own = self._own() or own
        if not self._cut_off(own):
            return
        listed = earlier.long_list(account, [entry])
        account.creates.wait_for_others()  # what they have just made may be in the list
        # The second read failed, and what the first one has may be this create.
        if own.asked < self._began:
            account.stacks.forget(self.origin)
            own = self._own() or own
        for requested in self._cut_off(own):
            # Its key is not known, and with this one a second machine would be made.
            cut_off = replace(
                entry,
                requested=requested,
                before=(),
                problem=unresolved.CUT_OFF,
                idempotency_key="",
                first_sent=0.0,
            )
            if search := earlier.unclaimed(account, cut_off, listed):
                account.journal.write(cut_off)
                raise unresolved.unanswered_error(cut_off, search)

    def _cut_off(self, own: Stack) -> list[NewInstance]:
        """Return what creates of the resource requested that were cut off, as state shows.

        Without this create, and those that made the machine in state or are on record.
        """

        def requested(one: StackMachine) -> NewInstance:
            return one.requested(self.new).hashed()

        urns, this = self._urns, self.new.hashed()
        creates = [one for one in own.pending if one.urn in urns]
        mine = [one for one in creates if one.urn == self.origin.urn]
        if mine and own.asked >= self._began:
            creates.remove(min(mine, key=lambda one: requested(one) != this))
        # With a secret key, it may have been requested with another one.
        present = [
            requested(one)
            for one in own.machines
            if one.urn in urns and not one.is_replaced and one.ssh_key
        ]
        left = [one for one in map(requested, creates) if one not in present]
        return [one for one in left if not self._is_on_record(one, own)]

    def _is_on_record(self, requested: NewInstance, own: Stack) -> bool:
        """Whether the journal has a create that state may say was cut off.

        Or had it when this create began. One whose machine is in state, or was, is another.
        """
        return any(
            entry.requested == requested
            and same(entry, self._asking, self.account.stacks)[0] is Same.YES
            for entry in (*self.known, *self.account.journal.of(self.origin))
            if entry.instance_id is None or not (entry.is_late or entry.instance_id in own.ids)
        )

    def _refuse_if_made(self, instances: Iterable[Instance]) -> None:
        """Raise if a machine has appeared since the API refused this create, which may be its own.

        While other POSTs have no result, their machines would look like it.
        """
        account, refused = self.account, self.refused
        if not refused or account.creates.in_flight:
            return
        known = {*account.creates.deleted_ids, *account.records.machines().values()}
        new = [instance for instance in instances if instance.id not in known]
        search = earlier.unclaimed(account, refused[0], new)
        if search:
            account.journal.write(refused[0])
            raise unresolved.unanswered_error(refused[0], search)
        refused.clear()

    def _refuse_if_overtaken(self, entry: Entry) -> None:
        """Raise if another create of the resource was put on record since those that are known.

        Its lock has another name if one of the two does not know the stack's provider or backend.
        Both look once their own entry is on record, so at least one of them finds the other's.
        """
        self.known.append(entry)  # also where it can't be removed once the API has refused it
        with ExitStack() as unsent:
            unsent.callback(self.account.records.drop, entry)
            if self._possibly_own([self.origin]):
                raise _OvertakenError
            unsent.pop_all()

    def _provider(self) -> str:
        """Return the id of the provider resource in the stack's state; "" if it is not known.

        Python's dynamic host does not pass it on, but it is in the stack's state before the engine
        creates the first machine.
        """
        if self.origin.provider:
            return self.origin.provider
        own = self._own()
        providers = own.providers if own else {}
        return next((id_ for id_, type_ in providers.items() if type_ in PROVIDER_TYPES), "")

    @property
    def _began(self) -> float:
        return self.account.creates.began[self.origin.urn]

    @property
    def _urns(self) -> list[str]:
        """What the resource is and was called. Of two that swap names, each keeps its own."""
        began = self.account.creates.began
        free = (alias for alias in self.aliases if alias not in began)
        return list(dict.fromkeys([self.origin.urn, *free]))

    @property
    def _asking(self) -> Asking:
        return Asking(self.origin, self._own())

    def _own(self) -> Stack | None:
        """Return the stack that this create works for; None if that is not known."""
        return self.account.stacks.own(self.origin, self._began)


def _counts(entry: Entry) -> bool:
    """Whether a create takes up the entry: late ones only if their machine may be back."""
    return not entry.is_late or entry.instance_id is not None
