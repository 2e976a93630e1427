"""What every host needs in its process: a clock, the journal, the stacks and the account."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.hosts import engine
from pulumi_fal.machines import lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.resource.bill import Bill
from pulumi_fal.stacks.cache import Stacks

_POST_SECONDS = 200.0
"""Seconds that a POST in flight has to end after the engine has died."""
_CALL_SECONDS = 1.0
"""Seconds that calls have to end after Cancel, so that its answer is about them as well."""


class Session:
    """The objects of a host's process. Each host has a subclass, which adds what only it needs."""

    provider = ""
    """The id of the provider resource in the stack's state; "" if the host does not tell it."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        prices: Callable[[], Mapping[str, float]] = dict,
        notify: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """`settings` is called when the API is first needed. It and `prices` may raise
        ConfigurationError.

        `notify` gets transient messages, in the thread that waits. `warn` gets warnings that stop
        nothing.
        """
        self.clock = Clock()
        self.warned: dict[str, object] = {}
        """The warnings that this process has shown once and for all."""
        self.checked: set[str] = set()
        """The URNs of the resources whose inputs this process has checked."""
        self.aliases: dict[str, tuple[str, ...]] = {}
        """The URNs that a resource may have had, by its own, as far as the program tells."""
        self.bill = Bill(prices)
        self._settings = settings
        self._notify = notify
        self._warn = warn
        self._account: Account | None = None
        self._lock = threading.Lock()

    @property
    def account(self) -> Account:
        """The account that this process works with, and what it makes there."""
        with self._lock:  # a second Account would not know what the first one creates
            if self._account is None:
                stacks = Stacks()
                journal = Journal(default_folder(os.environ), stacks.has)
                self._account = Account(
                    journal,
                    stacks,
                    self.clock,
                    self._settings,
                    notify=self._notify,
                    warn=self._warn,
                    greeting=lifecycle.chosen_greeting(os.environ),
                    provider=self.provider,
                )
            return self._account

    def register(self, urn: str, aliases: object = None) -> None:
        """Remember that a resource's inputs are checked, and what only its program tells."""
        if isinstance(aliases, list):
            self.aliases[urn] = tuple(map(str, aliases))
        self.checked.add(urn)

    def cancel(self) -> str:
        """End all waits, and return what began and ended to bill, unless calls still run.

        The engine sends Cancel at Ctrl-C, and at the end of every command.
        """
        self.clock.interrupt()
        try:
            is_over = self.bill.prices and engine.in_progress.wait_until_none(_CALL_SECONDS)
        except ConfigurationError:  # the first check has refused the settings
            return ""
        return self.bill.told() if is_over else ""

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        self.clock.interrupt()
        self.account.wait_until_quiet(_POST_SECONDS)
