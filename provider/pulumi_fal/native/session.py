"""A configured provider: its settings, its clock, and its machines.

The engine starts one process for each provider of a program, so each account has its own process.
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
"""The environment variable for each name in the provider's config."""


class Session:
    """The objects that a process needs once it is configured."""

    def __init__(
        self, config: Mapping[str, str], *, is_default: bool, warn: Callable[[str], None]
    ) -> None:
        """`is_default` says whether this is the default provider, which uses the stack's config.

        Environment variables override the stack's config, as in the dynamic provider. But the
        arguments of a provider that the program declares override environment variables, because
        the program may declare providers for several accounts.
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
        """Limits the number of machines that the process works on at the same time."""

    @property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError if the key or another setting is unusable."""
        return settings.resolve(self._environ, self._value)

    def notify_through(self, log: Callable[[str], None]) -> None:
        """Use `log` for messages about failing calls to the API in this thread."""
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
    """Return the environment without the variables that a declared provider's config overrides."""
    hidden = set() if is_default else {_VARIABLES[name] for name in config if name in _VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in hidden}
