"""Where a command runs: the environment, the selected stack's config, the journal, the time."""

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
"""Seconds for which a call is repeated that a command can do without."""


class Context:
    """Each part is made when it is first asked for: most commands need but one or two."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stacks = stack.Stacks()

    @cached_property
    def journal(self) -> journal.Journal:
        return journal.Journal(journal.home(os.environ))

    @cached_property
    def settings(self) -> settings.Settings:
        """ConfigurationError where there is no key."""
        return settings.resolve(os.environ, self.config)

    def client(self, budget: float | None = None) -> Client:
        """The API. `budget`: seconds for which a failing call is repeated."""
        from pulumi_fal.api.client import Client

        given = self.settings
        if budget is not None:
            given = dataclasses.replace(given, retry_budget=min(budget, given.retry_budget))
        return Client(given, self.clock, notify=lambda message: click.echo(message, err=True))

    def config(self, key: str) -> str | None:
        """A value of the selected stack's config; None as well where no stack is selected.

        A secret is decrypted only if it is asked for, which may need the stack's passphrase.
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
