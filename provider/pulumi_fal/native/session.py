"""One configured provider: its settings, its clock, and its machines.

The engine starts a process for each provider of a program, so two accounts are two processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from pulumi_fal.api import settings
from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.machines import journal
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.machines import Machines
from pulumi_fal.stack import Stacks

_VARIABLES = {
    "apiKey": "FAL_ADMIN_API_KEY",
    "api": "FAL_COMPUTE_API",
    "endpoint": "FAL_COMPUTE_ENDPOINT",
    "pollInterval": "FAL_COMPUTE_POLL_INTERVAL",
    "retryBudget": "FAL_COMPUTE_RETRY_BUDGET",
    "settle": "FAL_COMPUTE_SETTLE",
    "parallel": "FAL_COMPUTE_PARALLEL",
}
"""By the names of the provider's config: the variables that may say the same."""


class Session:
    """What a process has from Configure on."""

    def __init__(
        self, config: Mapping[str, str], *, is_default: bool, warn: Callable[[str], None]
    ) -> None:
        """`is_default`: whether the program leaves the provider to the stack's config.

        There a variable wins, as with the dynamic provider. What a program gives a provider that
        it declares wins over every variable: it may be one of several accounts.
        """
        self._config = config
        self._environ = environment(config, is_default=is_default)
        self._notify = threading.local()
        self._warn = warn
        self.clock = Clock()
        stacks = Stacks()
        records = Journal(journal.home(os.environ), stacks.ids)
        self.machines = Machines(records, stacks, self._open_account, warn)
        self.slots = threading.Semaphore(settings.parallel(self._environ, self._value))
        """How many machines the process works on at once."""

    @property
    def settings(self) -> Settings:
        """ConfigurationError where there is no usable key, endpoint or number."""
        return settings.resolve(self._environ, self._value)

    def notify_through(self, log: Callable[[str], None]) -> None:
        """Have what this thread's calls are told of the API go to a resource's row."""
        self._notify.log = log

    def _open_account(self) -> Account:
        return Account(
            self.settings,
            self.clock,
            self.machines.journal,
            self.machines.stacks,
            notify=self._note,
            warn=self._warn,
        )

    def _note(self, message: str) -> None:
        log = getattr(self._notify, "log", None)
        if log is not None:
            log(message)

    def _value(self, key: str) -> str | None:
        return self._config.get(key.removeprefix("fal:"))


def environment(config: Mapping[str, str], *, is_default: bool) -> dict[str, str]:
    """The environment without the variables that a declared provider's config stands for."""
    hidden = set() if is_default else {_VARIABLES[name] for name in config if name in _VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in hidden}
