"""One account, as the operations of one process work with it, and what they have made.

It is handed whole to whoever asks for a machine, waits for it or deletes it. What needs an API key
is made when it is first needed, so that previews work offline and without a key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ElsewhereError, FalError, JournalError
from pulumi_fal.machines import earlier, lifecycle
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.lifecycle import Greeting, Lifecycle
from pulumi_fal.machines.records import Records
from pulumi_fal.stacks.cache import Origin, Stacks
from pulumi_fal.stacks.state import StackMachine

if TYPE_CHECKING:
    # It needs requests, which takes long to import, and most previews never call the API.
    from pulumi_fal.api.client import Client

_RECENT_SECONDS = 5.0
"""The maximum age of the list that shows whether two keys belong to the same account."""
_AHEAD_SECONDS = 120.0
"""The time limit of a list that nobody waits for yet. A call with a limit is not retried."""
_T = TypeVar("_T")


class _Once(Generic[_T]):
    """A property that is made when it is first needed, once for all threads."""

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, account: Account, owner: type) -> _T:
        with account.opening:
            if self._name not in vars(account):
                vars(account)[self._name] = self._make(account)
            made: _T = vars(account)[self._name]
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
        self.greeting = greeting
        self.in_engine: dict[str, set[str]] = {}
        """By the URN of each resource that the engine has in its state, as its calls show, the ids
        of the machines that it has compared. Its state may be older than the stack's."""
        self.opening = threading.RLock()
        self._warned: set[str] = set()
        self._warn = warn
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
        return Fleet(
            self.client, self.clock, self.settings.poll_interval, self.settings.absence_seconds
        )

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

    def warn(self, message: str) -> None:
        """Show a warning that stops nothing, unless it was shown before."""
        if self.is_new(message):
            self._warn(message)

    def is_new(self, warning: str) -> bool:
        """Whether this process has not shown the warning before. From now on it counts as shown."""
        with self.opening:
            is_new = warning not in self._warned
            self._warned.add(warning)
            return is_new

    def wait_until_quiet(self) -> None:
        """Return when every create that is in flight is on record, or some minutes later."""
        if "creates" in vars(self):
            self.creates.wait_until_quiet()

    def origin(self, urn: str) -> Origin:
        """Return a resource of the stack that this process works for."""
        return Origin(urn, self._provider, self.stacks.backend)

    def note_in_engine(self, urn: str, *compared: str) -> None:
        """Note that the engine has the resource in its state, with a machine that it compares."""
        self.in_engine.setdefault(urn, set()).update(compared)

    def engine_has(self, urn: str, instance_id: str) -> bool:
        """Whether the engine's state has the resource with this machine, as far as it has shown.

        A forced replacement comes without a diff, so that the machine is not known.
        """
        compared = self.in_engine.get(urn)
        return compared is not None and (not compared or instance_id in compared)

    def list_ahead(self) -> None:
        """Begin to list the machines beside the first review, which takes about as long.

        This is for a call that reads a machine next, which finds the same error if the list fails.
        """

        def read() -> None:
            with suppress(FalError, TimeoutError):
                fleet = self.fleet
                fleet.recent(fleet.interval / 4, self.clock.now() + _AHEAD_SECONDS)

        if not self._is_reviewed:
            threading.Thread(target=read, name="list-ahead", daemon=True).start()

    def review(self, urn: str) -> None:
        """Warn about unresolved creates of the stack that the URN belongs to.

        Only the first call with a URN does so. It also drops the entries whose machines are in
        state.
        """
        with self.opening:
            if self._is_reviewed or not urn:
                return
            self._is_reviewed = True
        self.journal.clear_leftovers()
        try:
            for reminder in earlier.reminders(self, Origin(urn, self._provider)):
                self.warn(reminder)
        except JournalError as error:
            self.warn(str(error))

    def is_known_own(self, other: AccountId) -> bool:
        """Whether machines with that AccountId are known to belong to this account.

        An AccountId without account and endpoint counts as this account's.
        """
        return other.key in self._own

    def sees(self, other: AccountId, origin: Origin, before: Iterable[str] = ()) -> bool:
        """Whether the key sees the machines with that AccountId: its own, or a rotated key's.

        Those in stacks with the origin's names may have it, and those with an id in `before` do. It
        may have to list the machines to find out. Raises FalError if that fails.
        """

        def machines() -> Iterator[StackMachine]:
            yield from (StackMachine(id_, "", other) for id_ in before)
            for stack in self.stacks.named(origin).stacks:
                yield from stack.machines

        if not self.is_known_own(other) and shares_account(
            self.id, other, machines, lambda: self.fleet.recent(_RECENT_SECONDS)
        ):
            self._own.add(other.key)
        return self.is_known_own(other)


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


def elsewhere(settings: Settings, instance_id: str, other: AccountId) -> ElsewhereError:
    """Return the error of a machine that is not seen and may belong to another account."""
    declared = settings.provider
    if other.endpoint not in ("", settings.endpoint):
        last, now = f"at {other.endpoint}", f"the endpoint that is set now, {settings.endpoint},"
        way_out = (
            f"Give the provider {declared!r} in the program the endpoint where it was last "
            "seen, or the api that it was made with, and run `pulumi up`."
            if declared
            else "Set FAL_COMPUTE_ENDPOINT or fal:endpoint to the endpoint where it was last "
            "seen, or FAL_COMPUTE_API or fal:api to the API that it was made with."
        )
    else:
        last = f"with the key of another account ({other.account})"
        now = f"the key that is set now (account {settings.account}, from {settings.key_source})"
        then = (
            ", and run `pulumi up`"
            if declared
            else "; `pulumi-fal doctor` prints the account of the key that is set"
        )
        way_out = f"Set a key of the account that it was made with, {settings.set_key}{then}."
    return ElsewhereError(
        instance_id,
        f"Machine {instance_id} was last seen {last}, and {now} does not see it. It may still run "
        f"and bill, and it stays in state.\n{way_out}\nIf the machine no longer exists there, "
        "remove it from state with `pulumi state delete`.",
    )
