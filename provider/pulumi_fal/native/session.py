"""The session of a configured provider of the native plugin, with its settings.

The engine starts one process for each provider of a program, so each account has its own process.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.api import settings
from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.native import config as configs
from pulumi_fal.session import Session

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.api.client import Client


class NativeSession(Session):
    """The objects that a process needs once it is configured."""

    def __init__(
        self,
        config: Mapping[str, str],
        *,
        declared: str,
        warn: Callable[[str], None],
        is_stateless: bool = False,
        provider: str = "",
    ) -> None:
        """`declared` is the name of the provider in the program, or "" for the default provider.

        `is_stateless` says that `pulumi do` works without a stack. The config is then what the
        command was given, and overrides the environment.
        Raises ConfigurationError if `parallel` is not a positive number.
        """
        super().__init__(settings=self._resolve, notify=self._note, warn=warn)
        self._config = config
        self.declared = declared
        self.provider = provider
        self.is_stateless = is_stateless
        self._environ = configs.environment(config, is_default=not (declared or is_stateless))
        self._logs = threading.local()
        self.slots = threading.Semaphore(settings.parallel(self._environ, self._value))
        """Limits the number of machines that the process works on at the same time."""

    @functools.cached_property
    def client(self) -> Client:
        """A client for functions. Raises ConfigurationError if a setting is unusable."""
        from pulumi_fal.api.client import Client

        return Client(self._resolve(), self.clock)

    def _resolve(self) -> Settings:
        """Return the settings. Raises ConfigurationError if one of them is unusable."""
        resolved = replace(settings.resolve(self._environ, self._value), provider=self.declared)
        if not self._config.get("apiKey"):
            return resolved
        if self.is_stateless:
            return replace(resolved, key_source="the provider's config that `pulumi do` was given")
        if not self.declared:
            return resolved
        # Refresh and destroy use the key in state.
        source = f"the apiKey of the provider {self.declared!r} as of the last `pulumi up`"
        return replace(resolved, key_source=source)

    def saw_last(self, outputs: Mapping[str, Any]) -> bool:
        """Whether the key that is set is the one that the machine in state was last seen with.

        This opens no account, because that imports requests, and most previews don't need it.
        """
        try:
            return AccountId.of(outputs).key in self._settings().account_id.own_keys
        except ConfigurationError:
            return False

    def notify_through(self, log: Callable[[str], None]) -> None:
        """Use `log` for messages about failing calls to the API in this thread."""
        self._logs.current = log

    def _note(self, message: str) -> None:
        log = getattr(self._logs, "current", None)
        if log is not None:
            log(message)

    def _value(self, key: str) -> str | None:
        return self._config.get(key.removeprefix("fal:"))
