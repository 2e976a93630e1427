"""The session of a configured provider of the native plugin, with its settings.

The engine starts one process for each provider of a program, so each account has its own process.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.api import settings
from pulumi_fal.api.settings import OPTIONS, AccountId, Settings
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.hosts.session import Session

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
        super().__init__(
            settings=self._resolve,
            prices=lambda: settings.prices(self._environ, self._value),
            notify=self._note,
            warn=warn,
        )
        self._config = config
        self.declared = declared
        self.provider = provider
        self.is_stateless = is_stateless
        self._environ = environment(config, is_default=not (declared or is_stateless))
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


_VARIABLES = {option.name: option.variable for option in OPTIONS}
"""The environment variable for each name in the provider's config."""


def is_default(name: str) -> bool:
    """Whether this is the name of the default provider, which uses the stack's config.

    The engine calls it `default`, with the version and the download URL of the plugin if the
    program's SDK sets them. Old engines send no name.
    """
    return not name or re.fullmatch(r"default(_\d+_\d+_\d+.*|_\w+_/.*)?", name) is not None


def parse(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the config as text, without values that a preview does not know yet."""
    return {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in args.items()
        if isinstance(value, str | int | float) and name != "version"
    }


def problem(config: Mapping[str, str]) -> str | None:
    """Return what is wrong with the config or with the environment, or None."""
    environ = environment(config, is_default=False)
    return settings.problem(environ, lambda key: config.get(key.removeprefix("fal:")))


def unused(config: Mapping[str, str]) -> list[str]:
    """Return the names of the stack's settings that a declared provider with this config ignores.

    They are those that say where machines are, and that neither the provider's arguments nor the
    environment overrides. The engine passes the stack's config in PULUMI_CONFIG.
    """
    try:
        stack = json.loads(os.environ.get("PULUMI_CONFIG") or "{}")
        own = settings.resolve(
            {"FAL_KEY": "none", **environment(config, is_default=False)},
            lambda key: config.get(key.removeprefix("fal:")),
        )
    except (ValueError, ConfigurationError):
        return []  # the first call of the API reports what is wrong
    values = {"api": own.api, "endpoint": own.endpoint}
    return [
        name
        for name, value in values.items()
        if not (name in config or os.environ.get(_VARIABLES[name]))
        and stack.get(name, value).rstrip("/") != value
    ]


def environment(config: Mapping[str, str], *, is_default: bool) -> dict[str, str]:
    """Return the environment without the variables that a declared provider's config overrides.

    Environment variables override the stack's config, as in the dynamic provider. But the arguments
    of a provider that the program declares override environment variables, because the program may
    declare providers for several accounts.
    """
    hidden = set() if is_default else {_VARIABLES[name] for name in config if name in _VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in hidden}
