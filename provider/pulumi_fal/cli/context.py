"""What commands share: settings, the API client, the journal, stacks and the clock."""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pulumi_fal import pulumi_cli, stack
from pulumi_fal.api import settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import StackError
from pulumi_fal.machines import journal

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client

IMPATIENT = 5.0
"""Seconds for which a call is retried if the command also works without its answer."""


class Context:
    """What a command needs. Each part is created on first use, as most commands need only some."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stacks = stack.Stacks()

    @cached_property
    def journal(self) -> journal.Journal:
        return journal.Journal(journal.home(os.environ))

    @cached_property
    def settings(self) -> settings.Settings:
        """The key, the endpoint and other settings. Raises ConfigurationError without a key."""
        return settings.resolve(os.environ, self.config)

    def client(self, budget: float | None = None) -> Client:
        """Return a client of the API that retries a failing call for at most `budget` seconds."""
        from pulumi_fal.api.client import Client

        given = self.settings
        if budget is not None:
            given = dataclasses.replace(given, retry_budget=min(budget, given.retry_budget))
        return Client(given, self.clock, notify=lambda message: click.echo(message, err=True))

    def config(self, key: str) -> str | None:
        """Return a value from the config of the selected stack; None if there is no such stack.

        Only the requested secret is decrypted, which may need the stack's passphrase.
        """
        if key not in self._config:
            return None
        value = self._config[key]
        return pulumi_cli.pulumi("config", "get", key).rstrip("\n") if value is None else value

    @cached_property
    def _config(self) -> dict[str, str | None]:
        if not pulumi_cli.project_file(Path.cwd()):
            return {}
        try:
            return stack.config()
        except StackError:
            return {}


pass_context = click.make_pass_decorator(Context, ensure=True)
