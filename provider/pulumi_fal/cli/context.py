"""The context of a command: settings, the selected stack's config, the journal and the clock."""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pulumi_fal.api import settings
from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import StackError
from pulumi_fal.machines import journal, lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import Stacks

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client

_SHORT_BUDGET = 5.0
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
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError if there is no key."""
        return settings.resolve(os.environ, self.config)

    @cached_property
    def machines(self) -> Account:
        """What a plugin knows of creates. A failing call is retried for a short time only."""
        return Account(
            self.journal,
            self.stacks,
            self.clock,
            self._short_settings,
            notify=self._note,
            greeting=lifecycle.chosen_greeting(os.environ),
        )

    def client(self, *, is_short: bool = False) -> Client:
        """Return a client. With `is_short`, a failing call is retried for a short time only."""
        from pulumi_fal.api.client import Client

        used = self._short_settings() if is_short else self.settings
        return Client(used, self.clock, notify=self._note)

    def _short_settings(self) -> Settings:
        budget = min(_SHORT_BUDGET, self.settings.retry_budget)
        return dataclasses.replace(self.settings, retry_budget=budget)

    def _note(self, message: str) -> None:
        click.echo(message, err=True)

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
