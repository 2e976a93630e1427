"""One account, as the operations of one process work with it, and what they have made.

It is handed whole to whoever asks for a machine, waits for it or deletes it. What needs an API key
is made when it is first needed, so that previews work offline and without a key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ElsewhereError, FalError, JournalError
from pulumi_fal.machines import earlier, lifecycle
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.fleet import Absences, Fleet
from pulumi_fal.machines.journal import Entry, Journal, Phase, new_file
from pulumi_fal.machines.lifecycle import Greeting, Lifecycle
from pulumi_fal.machines.unresolved import as_gone
from pulumi_fal.stacks.cache import Origin, Stacks
from pulumi_fal.stacks.state import StackMachine

if TYPE_CHECKING:
    # It needs requests, which takes long to import, and most previews never call the API.
    from pulumi_fal.api.client import Client

_RECENT_SECONDS = 5.0
"""The maximum age of the list that shows whether two keys belong to the same account."""
_AHEAD_SECONDS = 120.0
"""The time limit of a list that nobody waits for yet. A call with a limit is not retried."""
T = TypeVar("T")


class _Once(Generic[T]):
    """A property that is made when it is first needed, once for all threads."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, account: Account, owner: type) -> T:
        with account.opening:
            if self._name not in vars(account):
                vars(account)[self._name] = self._make(account)
            made: T = vars(account)[self._name]
            return made


class Account:
    """The key, the machines, the journal and the stacks. Can be used from any thread."""

    def __init__(
        self,
        journal: Journal,
        stacks: Stacks,
        clock: Clock,
        settings: Callable[[], Settings],
        *,
        notify: Callable[[str], None] = lambda message: None,
        warn: Callable[[str], None] = lambda message: None,
        send: Callable[..., Any] | None = None,
        greeting: Greeting = lifecycle.ssh_problem,
        provider: str = "",
    ) -> None:
        """`settings` may raise ConfigurationError, as then does whatever needs a key.

        `notify` gets transient messages, in the thread that waits. `warn` gets warnings that stop
        nothing. `send` replaces HTTP in tests. `provider` is the id of the provider resource in the
        stack's state; "" if the host does not tell it.
        """
        self.journal = journal
        self.stacks = stacks
        self.clock = clock
        self.notify = notify
        self.warn = warn
        self.greeting = greeting
        self.in_engine: dict[str, set[str]] = {}
        """By the URN of each resource that the engine has in its state, as its calls show, the ids
        of the machines that it has compared. Its state may be older than the stack's."""
        self.opening = threading.RLock()
        self._resolve = settings
        self._send = send
        self._provider = provider
        self._is_reviewed = False

    @_Once
    def settings(self) -> Settings:
        return self._resolve()

    @_Once
    def client(self) -> Client:
        from pulumi_fal.api.client import Client

        return Client(self.settings, self.clock, send=self._send, notify=self.notify)

    @_Once
    def fleet(self) -> Fleet:
        """The one list of the account's machines."""
        return Fleet(self.client, self.clock, self.settings.poll_interval)

    @_Once
    def absences(self) -> Absences:
        return Absences(self.clock, self.settings.absence_seconds)

    @_Once
    def lifecycle(self) -> Lifecycle:
        """Finds, awaits and deletes machines."""
        return Lifecycle(self)

    @_Once
    def records(self) -> Records:
        """What this process knows of its creates, in memory and in the journal."""
        return Records(self)

    @_Once
    def creates(self) -> Creates:
        """Creates machines, and resumes those that earlier creates left behind."""
        return Creates(self)

    @_Once
    def _own(self) -> set[str]:
        """The keys of every AccountId that is known to be this account's."""
        return self.id.own_keys

    @property
    def id(self) -> AccountId:
        """The account of the key that is set."""
        return self.settings.account_id

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when every create that is in flight is on record, or after `seconds`."""
        if "creates" in vars(self):
            self.creates.wait_until_quiet(seconds)

    def origin(self, urn: str) -> Origin:
        """Return a resource of the stack that this process works for."""
        return Origin(urn, self._provider, self.stacks.backend)

    def in_state(self, urn: str) -> list[StackMachine]:
        """Return the machines in all stacks that may be this process's own."""
        stacks = self.stacks.named(Origin(urn)).stacks
        return [machine for stack in stacks for machine in stack.machines]

    def note_compared(self, urn: str, instance_id: str) -> None:
        """Note that the engine has the resource with this machine in its state."""
        self.in_engine.setdefault(urn, set()).add(instance_id)

    def engine_has(self, urn: str, instance_id: str) -> bool:
        """Whether the engine's state has the resource with this machine, as far as it has shown.

        A forced replacement comes without a diff, so that the machine is not known.
        """
        compared = self.in_engine.get(urn)
        return compared is not None and (not compared or instance_id in compared)

    def review(self, urn: str, *, reads: bool = False) -> None:
        """Warn about unresolved creates of the stack that the URN belongs to.

        Only the first call with a URN does so. It also drops the entries whose machines are in
        state. With `reads`, the call reads a machine next, so the machines are listed meanwhile.
        """
        with self.opening:
            if self._is_reviewed or not urn:
                return
            self._is_reviewed = True
        if reads:
            threading.Thread(target=self._list_ahead, name="list-ahead", daemon=True).start()
        self.journal.clear_leftovers()
        try:
            reminders = earlier.reminders(self, Origin(urn, self._provider))
            for reminder in dict.fromkeys(reminders):  # late entries may all say the same
                self.warn(reminder)
        except JournalError as error:
            self.warn(str(error))

    def _list_ahead(self) -> None:
        # Reading the stack takes about as long. Whoever needs the list finds the same error.
        with suppress(FalError, TimeoutError):
            fleet = self.fleet
            fleet.recent(fleet.interval / 4, self.clock.now() + _AHEAD_SECONDS)

    def is_known_own(self, other: AccountId) -> bool:
        """Whether machines with that AccountId are known to belong to this account.

        An AccountId without account and endpoint counts as this account's.
        """
        return other.key in self._own

    def sees(self, other: AccountId, machines: Callable[[], Iterable[Located]]) -> bool:
        """Whether the key sees the machines with that AccountId: its own, or a rotated key's.

        `machines` returns those that may have the AccountId, among others.
        """
        if not self.is_known_own(other) and shares_account(
            self.id, other, machines, lambda: self.fleet.recent(_RECENT_SECONDS)
        ):
            self._own.add(other.key)
        return self.is_known_own(other)

    def elsewhere(self, instance_id: str, other: AccountId) -> ElsewhereError:
        """Return the error of a machine that is not seen and may belong to another account."""
        return _elsewhere(self.settings, instance_id, other)


@dataclass(frozen=True)
class Made:
    """The machine of a create, as it was last seen."""

    requested: NewInstance
    """What the program requested. The sector in the entry may be that of the cluster instead."""
    entry: Entry
    """The entry, as that of a machine that was not reported."""
    instance: Instance


class Records:
    """The creates of this process: the last one of each resource, its machine, and its entry.

    The engine may call Create again in the same step, if a hook of the program says so. It then
    forgets the result of the first call, even if that had the machine's id. So the outcome of a
    create belongs to the process until the step is over, even if the journal has become unreadable
    meanwhile. After the POST, an error of the journal must not hide the machine or the error of the
    POST, so it becomes a warning.
    """

    def __init__(self, account: Account) -> None:
        self._journal = account.journal
        self._stacks = account.stacks
        self._warn = account.warn
        self._wall = account.clock.wall
        self._lock = threading.Lock()
        self._unwritten: dict[str, Entry] = {}
        """By file, what could not be written, as while the disk is full for a moment."""
        self._claims: dict[str, str] = {}
        # The others are by URN.
        self._numbers: dict[str, int] = {}
        self._since_success: dict[str, int] = {}
        self._requested: dict[str, NewInstance] = {}
        self._made: dict[str, Made] = {}
        self._reported: dict[str, Entry] = {}

    # In memory.

    def begin(self, origin: Origin, requested: NewInstance) -> None:
        """Begin a create, and forget the machine of the last one unless this one repeats it.

        A create with other inputs repeats none, and neither does one whose machine is in state:
        that one replaces the machine.
        """
        with self._lock:
            self._numbers[origin.urn] = self._numbers.get(origin.urn, 0) + 1
            self._since_success[origin.urn] = self.count(origin) + 1
            self._requested[origin.urn] = requested
        if self._numbers[origin.urn] > 1:
            self._stacks.forget(origin)  # the step before may have put the machine into state
        made = self._made.get(origin.urn)
        if made is None:
            return
        if made.requested != requested or made.instance.id in (self._stacks.ids(origin) or ()):
            del self._made[origin.urn]

    def made(self, origin: Origin) -> Made | None:
        """Return the machine of the resource's create, or None if none is known."""
        return self._made.get(origin.urn)

    def machines(self) -> dict[str, str]:
        """Return the ids of the machines of all creates, by the URN of the resource."""
        return {urn: made.instance.id for urn, made in list(self._made.items())}

    def remember(self, origin: Origin, entry: Entry, instance: Instance) -> None:
        """Remember the machine that the resource's present create works on."""
        self._made[origin.urn] = Made(self._requested[origin.urn], entry, instance)

    def saw(self, origin: Origin, instance: Instance, *, seen: bool) -> None:
        """Remember how the machine looks now, and with `seen` that the API has shown it."""
        made = self._made.get(origin.urn)
        if made is not None:
            entry = replace(made.entry, seen=made.entry.seen or seen)
            self._made[origin.urn] = replace(made, entry=entry, instance=instance)

    def succeed(self, origin: Origin) -> None:
        """End a create that the engine has no reason to repeat."""
        self._since_success[origin.urn] = 0

    def count(self, origin: Origin) -> int:
        """Return how often a create of the resource was begun since one succeeded."""
        return self._since_success.get(origin.urn, 0)

    def has_only(self, origin: Origin, instance_id: str) -> bool:
        """Whether the machine is of the resource's last create, and in state only once, as its."""
        made = self._made.get(origin.urn)
        if made is None or made.instance.id != instance_id:
            return False
        self._stacks.forget(origin)
        in_state = self._stacks.machines(origin) or ()
        return [machine.urn for machine in in_state if machine.id == instance_id] == [origin.urn]

    # In the journal. The caller holds the lock of the create, unless a docstring says otherwise.

    def begin_post(self, entry: Entry) -> None:
        """Put the entry of a create on disk, before its POST. Raises JournalError."""
        self._journal.write(entry)
        self._catch_up()

    def write(self, entry: Entry) -> None:
        """Put the entry on disk, or do it with the next write if that fails."""
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        with self._lock:
            self._unwritten.pop(entry.file, None)
        try:
            self._journal.write(entry)
        except JournalError:
            with self._lock:
                self._unwritten[entry.file] = entry
            raise
        self._catch_up()

    def _catch_up(self) -> None:
        """Write what could not be written. Nobody else has a newer version of it meanwhile."""
        with self._lock, suppress(JournalError):
            for entry in list(self._unwritten.values()):
                self._journal.write(entry)
                del self._unwritten[entry.file]

    def claim(self, urn: str, instance_id: str) -> bool:
        """Whether no other resource of this process, and no earlier create, has the machine.

        An answer may be that to another create's request, as from a cache on the way.
        """
        with self._lock:
            is_first = self._claims.setdefault(instance_id, urn) == urn
        return is_first and not self._journal.has_earlier(urn, instance_id)

    def drop(self, entry: Entry) -> None:
        """Remove the entry."""
        with self._warning(entry.origin.urn):
            with self._lock:
                self._unwritten.pop(entry.file, None)
            self._journal.drop(entry)

    def amend(self, entry: Entry) -> None:
        """Write an earlier create's entry, which may be another stack's."""
        with self._warning(entry.origin.urn):
            self._journal.write(entry)

    def note_gone(self, origin: Origin, instance_id: str, props: Mapping[str, Any]) -> None:
        """Put a machine on record that leaves state because it is gone, as it may come back.

        `props` are its outputs in state. An earlier entry of it is kept as a late one. It needs no
        lock.
        """
        account_id, now = AccountId.of(props), self._wall()
        with self._warning(origin.urn):
            for entry in self._journal.readable():
                if entry.instance_id == instance_id:
                    self._journal.exchange(entry, as_gone(entry, now))
                    return
            gone = Entry(
                origin=origin,
                account=account_id.account,
                endpoint=account_id.endpoint,
                requested=NewInstance.of({"instance_type": "", "ssh_key": "", **props}).hashed(),
                before=(),
                started=now,
                instance_id=instance_id,
                file=new_file(origin),
            )
            self._journal.write(as_gone(gone, now))

    def was_never_shown(self, urn: str, instance_id: str) -> bool:
        """Whether the API may never have shown a machine in state, as far as is on record."""
        try:
            entries = self._journal.of(Origin(urn))
        except JournalError:  # it was reported at the start
            return True
        return any(
            entry.instance_id == instance_id and not (entry.seen or entry.is_late)
            for entry in entries
        )

    def forget(self, origin: Origin) -> None:
        """Forget the resource's machine, which may be another stack's."""
        self._made.pop(origin.urn, None)

    def let_go(self, origin: Origin) -> None:
        """Forget the resource's machine, which is gone, and keep its entry as a late one."""
        made = self._made.pop(origin.urn, None)
        if made is not None:
            self.write(as_gone(made.entry, self._wall()))

    def mark_reported(self, origin: Origin, *, seen: bool, has_lock: bool = True) -> None:
        """Record that the machine is about to be reported to Pulumi.

        `seen` says whether the API has shown the machine since the POST. Without the lock, an entry
        that another process changes is left to that process.
        """
        made = self._made.get(origin.urn)
        if made is None:
            return
        with self._warning(origin.urn):
            entry = self._journal.current(made.entry)
            if entry is None:
                return
            reported = replace(
                entry,
                phase=Phase.REPORTED,
                started=self._wall(),  # state has the machine a moment after this
                instance_id=made.instance.id,
                problem="",
                seen=seen or entry.seen,
            )
            if has_lock:
                self._put(reported)
            elif not self._journal.exchange(entry, reported):
                return
            self._reported[origin.urn] = reported

    def note_imported(self, origin: Origin, instance_id: str) -> None:
        """Record that Pulumi is told of a machine because the program imports it.

        Else the next replacement would take it for that of a create that Pulumi was not told of.
        """
        with self._warning(origin.urn):
            for entry in self._journal.of(origin):
                if entry.instance_id == instance_id and not entry.is_late:
                    told = replace(entry, phase=Phase.REPORTED, started=self._wall(), seen=True)
                    self._journal.exchange(entry, told)

    def undelivered(self, origin: Origin) -> Callable[[], None]:
        """Return what is to be called if the report of the present create did not reach Pulumi.

        It needs no lock. gRPC may report the end of a call late: once the engine has called Create
        again, it must have received the result of the call before, and this does nothing.
        """
        number = self._numbers.get(origin.urn)

        def undelivered() -> None:
            with self._lock:
                if self._numbers.get(origin.urn) == number:
                    self.mark_unreported(origin)

        return undelivered

    def mark_unreported(self, origin: Origin) -> None:
        """Take back what `mark_reported` recorded, unless another process has changed it since.

        It needs no lock.
        """
        with self._warning(origin.urn):
            reported = self._reported.pop(origin.urn, None)
            if reported is not None:
                self._journal.exchange(reported, replace(reported, phase=Phase.CREATED))

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")


class Located(Protocol):
    """A machine, with the endpoint and the account that it was last seen with."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> AccountId: ...


def shares_account(
    own: AccountId,
    other: AccountId,
    machines: Callable[[], Iterable[Located]],
    listed: Callable[[], Container[str]],
) -> bool:
    """Whether a key sees machines of another AccountId than its own, so that both are one account.

    Machine ids are unique, so it suffices if it sees one. That says nothing about another endpoint,
    which may use other ids. `listed` returns the ids of the machines that the key sees, possibly
    some seconds old.
    """
    if other.key in own.own_keys:
        return True
    if other.endpoint not in ("", own.endpoint):
        return False
    ids = listed()
    return any(one.id in ids for one in machines() if one.account_id.key == other.key)


def _elsewhere(settings: Settings, instance_id: str, other: AccountId) -> ElsewhereError:
    declared = settings.provider
    if other.endpoint not in ("", settings.endpoint):
        way_out = (
            f"Give the provider {declared!r} in the program the endpoint where it was last "
            "seen, or the api that it was made with, and run `pulumi up`."
            if declared
            else "Set FAL_COMPUTE_ENDPOINT or fal:endpoint to the endpoint where it was last "
            "seen, or FAL_COMPUTE_API or fal:api to the API that it was made with."
        )
        return ElsewhereError(
            instance_id,
            f"Machine {instance_id} was last seen at {other.endpoint}, and the endpoint that "
            f"is set now, {settings.endpoint}, does not know it. It may still run and "
            f"bill, and it stays in state.\n{way_out}\nIf it no longer exists there, remove "
            "it from state with `pulumi state delete`.",
        )
    then = (
        ", and run `pulumi up`"
        if declared
        else "; `pulumi-fal doctor` prints the account of the key that is set"
    )
    return ElsewhereError(
        instance_id,
        f"Machine {instance_id} was last seen with the key of another account "
        f"({other.account}), and the key that is set now (account {settings.account}, "
        f"from {settings.key_source}) does not see it. It may still run and bill, and it "
        "stays in state.\nSet a key of the account that it was made with, "
        f"{settings.set_key}{then}.\nIf the machine no longer exists, remove it from "
        "state with `pulumi state delete`.",
    )
