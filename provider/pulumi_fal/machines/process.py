"""What the operations of one process share: the journal, the stacks, and what needs an API key."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import JournalError
from pulumi_fal.machines import lifecycle, review
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.lifecycle import Greeting
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

if TYPE_CHECKING:
    # They need requests, which takes long to import, and most previews never call the API.
    from pulumi_fal.machines.absence import Ownership
    from pulumi_fal.machines.creates import Creates
    from pulumi_fal.machines.facts import FactFinder
    from pulumi_fal.machines.lifecycle import Lifecycle

_RECENT_SECONDS = 5.0
"""The maximum age of the list that shows whether two keys belong to the same account."""


@dataclass(frozen=True)
class _Account:
    """The objects that work with one API key. They share one poll of the API."""

    id: AccountId
    lifecycle: Lifecycle
    ownership: Ownership
    facts: FactFinder
    creates: Creates


class Machines:
    """The objects that resource.operations works with. Can be used from any thread.

    Some need an API key. They are made when the first of them is needed, so that previews work
    offline and without a key. That raises ConfigurationError if a setting is unusable.
    """

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
        """`settings` may raise ConfigurationError. `send` replaces HTTP in tests. `provider` is the
        id of the provider resource in the stack's state; "" if the host does not tell it.

        `notify` gets transient messages, in the thread that waits. `warn` gets warnings that stop
        nothing.
        """
        self.journal = journal
        self.stacks = stacks
        self._clock = clock
        self._settings = settings
        self._notify = notify
        self._warn = warn
        self._send = send
        self._greeting = greeting
        self._provider = provider
        self.known: set[str] = set()
        """The ids of the machines and the URNs of the resources that the engine has in its state,
        as its calls show. Its state may be older than the stack's."""
        self._opened: _Account | None = None
        self._reviewed = False
        self._lock = threading.Lock()

    @property
    def account_id(self) -> AccountId:
        """The account of the key that is set."""
        return self._account.id

    @property
    def lifecycle(self) -> Lifecycle:
        """Finds, awaits and deletes machines."""
        return self._account.lifecycle

    @property
    def ownership(self) -> Ownership:
        """Knows which machines belong to the account."""
        return self._account.ownership

    @property
    def facts(self) -> FactFinder:
        """Gathers what is known about a create."""
        return self._account.facts

    @property
    def creates(self) -> Creates:
        """Creates machines, and resumes those that earlier creates left behind."""
        return self._account.creates

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when every create that is in flight is on record, or after `seconds`."""
        if self._opened is not None:
            self._opened.creates.wait_until_quiet(seconds)

    def origin(self, urn: str) -> Origin:
        """Return a resource of the stack that this process works for."""
        return Origin(urn, self._provider, self.stacks.backend)

    def in_state(self, urn: str) -> list[StackMachine]:
        """Return the machines in all stacks that may be this process's own."""
        stacks = self.stacks.named(Origin(urn)).stacks
        return [machine for stack in stacks for machine in stack.machines]

    def review(self, urn: str) -> None:
        """Warn about unresolved creates of the stack that the URN belongs to.

        Only the first call with a URN does so. It also drops the entries whose machines are in
        state.
        """
        with self._lock:
            if self._reviewed or not urn:
                return
            self._reviewed = True
        self.journal.clear_leftovers()
        try:
            origin = Origin(urn, self._provider)
            reminders = review.reminders(
                self.journal, self.stacks, lambda: self.creates.late, origin
            )
            for reminder in dict.fromkeys(reminders):  # late entries may all say the same
                self._warn(reminder)
        except JournalError as error:
            self._warn(str(error))

    @property
    def _account(self) -> _Account:
        with self._lock:
            if self._opened is None:
                self._opened = self._open(self._settings())
            return self._opened

    def _open(self, settings: Settings) -> _Account:
        from pulumi_fal.api.client import Client
        from pulumi_fal.machines.absence import Absences, Ownership
        from pulumi_fal.machines.creates import Creates
        from pulumi_fal.machines.facts import FactFinder
        from pulumi_fal.machines.fleet import Fleet
        from pulumi_fal.machines.lifecycle import Lifecycle

        client = Client(settings, self._clock, send=self._send, notify=self._notify)
        fleet = Fleet(client, self._clock, settings.poll_interval)
        absences = Absences(self._clock, settings.absence_seconds)
        lifecycle = Lifecycle(client, fleet, self._clock, absences, self._notify, self._greeting)
        ownership = Ownership(settings, lambda: fleet.recent(_RECENT_SECONDS))
        facts = FactFinder(
            fleet,
            lifecycle,
            ownership,
            self.journal,
            self.stacks,
            self._clock,
            settings.settle_seconds,
        )
        creates = Creates(client, facts, self._warn, self.known)
        return _Account(settings.account_id, lifecycle, ownership, facts, creates)
