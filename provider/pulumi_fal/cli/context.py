"""The context of a command: settings, the selected stack's config, the journal and the clock."""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pulumi_fal.api import settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import StackError
from pulumi_fal.machines import journal
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import Stacks

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client

SHORT_BUDGET = 5.0
"""The retry budget in seconds for calls that a command can do without."""


class Context:
    """The objects that commands need. Each is created on first use."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stacks = Stacks()

    @cached_property
    def journal(self) -> journal.Journal:
        return journal.Journal(journal.default_folder(os.environ))

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings. Raises ConfigurationError if there is no key."""
        return settings.resolve(os.environ, self.config)

    def client(self, budget: float | None = None) -> Client:
        """Return a client. `budget` limits the seconds for which a failing call is retried."""
        from pulumi_fal.api.client import Client

        settings = self.settings
        if budget is not None:
            budget = min(budget, settings.retry_budget)
            settings = dataclasses.replace(settings, retry_budget=budget)
        return Client(settings, self.clock, notify=lambda message: click.echo(message, err=True))

    def config(self, key: str) -> str | None:
        """Return a value of the selected stack's config, or None if it is not set.

        Decrypting a secret may need the stack's passphrase.
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
            return state.config()
        except StackError:
            return {}


pass_context = click.make_pass_decorator(Context, ensure=True)
