"""The state of a plugin process: its config, its clock and its machines."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

# Modules that import requests are imported when they are first used: most previews never call the
# API, and a program that declares machines imports this module too.
from pulumi_fal import engine
from pulumi_fal.api import settings
from pulumi_fal.clock import Clock
from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.errors import ConfigurationError, FalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.machines import Machines
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.tokens import is_ours

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account

_POST_SECONDS = 200.0
"""How long a POST in flight may take to end after the engine has died."""


class Session:
    """The objects of the plugin process. Other processes create it too, but never configure it."""

    def __init__(self) -> None:
        self._config: Callable[[str], Any] = lambda key: None
        self._clock = Clock()
        self._organization = ""
        self._cluster_sizes: dict[str, int] = {}
        self.import_inputs: dict[str, Mapping[str, Any]] = {}
        """The inputs in the program for each machine that it imports, by the machine's id."""

    @functools.cached_property
    def machines(self) -> Machines:
        """The machines that this process works on."""
        stacks = Stacks()
        folder = journal.home(os.environ)
        return Machines(Journal(folder, stacks.ids), stacks, self._open_account, _warn)

    def configure(self, config: Callable[[str], Any]) -> None:
        """Store the config, and patch this process, and watch for the engine's death."""
        self._config = config
        patches.without_traceback(FalError)
        patches.raise_concurrency(settings.parallel(os.environ, config))
        lifetime.on_cancel(self._clock.interrupt)
        engine.on_death(self._engine_died)
        patches.route_imports(is_ours, request.current().provider_key)

    def register(
        self,
        urn: str,
        organization: str,
        cluster_size: float | None = None,
    ) -> None:
        """Remember what the program passes for a resource, and the engine does not.

        `urn` and `organization` are "" if they are not known. `cluster_size` is that of the
        ComputeCluster that the resource is part of, if any.
        """
        self._organization = organization or self._organization
        if cluster_size is not None:
            self._cluster_sizes[urn] = int(cluster_size)

    def call(self, current: request.EngineRequest) -> Call:
        """Return the Call for a request. The first one warns about unresolved creates."""
        self.machines.review(current.urn, self._organization)
        return Call(
            current.urn,
            self._organization,
            current.timeout,
            log=current.log,
            is_heard=current.is_heard,
        )

    def create_call(self, current: request.EngineRequest) -> Call:
        """Return the Call for a create. Raises ConfigurationError if the SDK hides the URN.

        Without its URN, the create could not be recorded.
        """
        if not current.urn:
            raise ConfigurationError(
                "This version of the `pulumi` package hides from pulumi-fal which resource it "
                "creates, so the create can't be recorded, and no machine is created. Install a "
                "version of `pulumi` with which `pulumi-fal doctor` finds nothing missing."
            )
        return replace(self.call(current), cluster_size=self._cluster_sizes.get(current.urn))

    def _open_account(self) -> Account:
        from pulumi_fal.machines.account import Account

        return Account(
            settings.resolve(os.environ, self._config),
            self._clock,
            self.machines.journal,
            self.machines.stacks,
            notify=_note,
            warn=_warn,
        )

    def _engine_died(self) -> None:
        """End all waits, but let a POST in flight end and be recorded."""
        self._clock.interrupt()
        self.machines.wait_until_quiet(_POST_SECONDS)


def _note(message: str) -> None:
    """Show an ephemeral message on the row of the resource that this thread serves."""
    request.current().log(message, ephemeral=True)


def _warn(message: str) -> None:
    """Show a warning on the stack's row, because its resource may not be part of this run."""
    request.EngineRequest().log(message, WARNING)
