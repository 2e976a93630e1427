"""What a plugin process has once: its stack, its config, and from the first API call a client."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pulumi_fal import stack
from pulumi_fal.api import settings
from pulumi_fal.api.settings import Home
from pulumi_fal.clock import Clock
from pulumi_fal.dynamic import plugin_host
from pulumi_fal.errors import FalError, JournalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stack import Origin

# What needs requests is imported where it is first needed: most previews never call the API, and
# a program that declares machines imports this module, too.
from pulumi_fal.tokens import is_ours

if TYPE_CHECKING:
    from pulumi_fal.machines.accounts import Accounts
    from pulumi_fal.machines.launcher import Launcher
    from pulumi_fal.machines.lifecycle import Lifecycle

_POST_SECONDS = 200.0
"""How long a POST under way is given to end when the engine has died."""


class Session:
    """Made on import, and configured in the plugin process only."""

    def __init__(self) -> None:
        self.config: Callable[[str], Any] = lambda key: None
        self.clock = Clock()
        self.wanted: dict[str, Mapping[str, Any]] = {}
        """By id, the inputs that a program gives for a machine that it imports."""
        self._organization = ""
        self._urns: dict[str, list[str]] = {}
        self._lock = threading.RLock()
        self._reviewed = False
        self._stacks = stack.Stacks()
        self._made: tuple[Accounts, Lifecycle, Launcher] | None = None

    def configure(self, config: Callable[[str], Any]) -> None:
        """Take the config, and settle into the plugin process."""
        self.config = config
        plugin_host.hide_tracebacks(FalError)
        plugin_host.widen(settings.parallel(os.environ, config))
        plugin_host.on_cancel(self.clock.interrupt)
        plugin_host.on_engine_death(self._engine_died)
        call = plugin_host.current_call()
        plugin_host.supply_provider(is_ours, call.provider_key)
        self._review(call)

    def introduce(self, urn: str, organization: str, checked: Mapping[str, Any]) -> None:
        """What the program says of a resource, for where the host doesn't say it at create."""
        with self._lock:
            self._organization = organization or self._organization
            urns = self._urns.setdefault(_key(checked), [])
            if urn and urn not in urns:
                urns.append(urn)
        self._review(plugin_host.Call(urn=urn))

    def origin(self, call: plugin_host.Call, props: Mapping[str, Any]) -> Origin:
        """Which resource of which stack a create is for.

        Where the host doesn't tell, it is one that was checked with the same inputs: machines of
        one stack with equal inputs are as good as one another. But first come those whose earlier
        create left a machine that state doesn't have.
        """
        urn = call.urn
        if not urn:
            with self._lock:
                urns = self._urns.get(_key(props)) or [""]
                urn = next((each for each in urns if self._left_something(each)), urns[-1])
                urns.remove(urn)
        if not urn:
            raise JournalError(self.journal.folder, "can't be kept: the resource's URN is unknown")
        return self._origin(urn)

    @functools.cached_property
    def journal(self) -> Journal:
        return Journal(journal.home(os.environ), self._stacks.ids)

    @property
    def accounts(self) -> Accounts:
        """ConfigurationError where there is no usable key or endpoint; so below."""
        return self._machines()[0]

    @property
    def lifecycle(self) -> Lifecycle:
        return self._machines()[1]

    @property
    def launcher(self) -> Launcher:
        return self._machines()[2]

    @property
    def home(self) -> Home:
        """The endpoint and the account with which machines are seen here."""
        return self.accounts.home

    def refuse_elsewhere(
        self, call: plugin_host.Call, instance_id: str, props: Mapping[str, Any]
    ) -> None:
        """Raise ElsewhereError where a machine that isn't seen may be another account's."""
        self.accounts.refuse_elsewhere(
            instance_id, Home.of(props), lambda: self._stacks.machines(self._origin(call.urn)) or ()
        )

    def _machines(self) -> tuple[Accounts, Lifecycle, Launcher]:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> tuple[Accounts, Lifecycle, Launcher]:
        from pulumi_fal.api.client import Client
        from pulumi_fal.machines.accounts import Accounts
        from pulumi_fal.machines.fleet import Fleet
        from pulumi_fal.machines.launcher import Launcher
        from pulumi_fal.machines.lifecycle import Lifecycle

        resolved = settings.resolve(os.environ, self.config)
        client = Client(resolved, self.clock, notify=self._note)
        fleet = Fleet(client, self.clock, resolved.poll_interval)
        lifecycle = Lifecycle(client, fleet, self.clock, notify=self._note)
        accounts = Accounts(Home(resolved.endpoint, resolved.account), resolved.key_source, fleet)
        launcher = Launcher(
            client,
            fleet,
            lifecycle,
            self.journal,
            self.clock,
            accounts=accounts,
            settle_seconds=resolved.settle,
            stacks=self._stacks,
            warn=self._warn,
        )
        return accounts, lifecycle, launcher

    def _origin(self, urn: str) -> Origin:
        named = Origin(urn)
        backend = self._stacks.backend(named.stack, named.project)
        return Origin(urn, self._organization or stack.own_organization(backend), backend)

    def _left_something(self, urn: str) -> bool:
        origin = self._origin(urn)
        entry = self.journal.find(origin)
        if entry is None or entry.phase != journal.RETURNED:
            return entry is not None
        ids = self._stacks.ids(origin)
        return ids is None or entry.instance_id not in ids

    def _review(self, call: plugin_host.Call) -> None:
        """Once, as soon as the stack is known: what earlier creates have left behind."""
        with self._lock:
            if self._reviewed or not call.urn:
                return
            self._reviewed = True
        from pulumi_fal.machines.unresolved import review

        self.journal.clear_leftovers()
        try:
            if not any(self.journal.entries()):
                return  # to ask for the backend is slow
            for reminder in review(self.journal, self._origin(call.urn), self._stacks.ids):
                self._warn(reminder)
        except JournalError as error:
            self._warn(str(error))

    @staticmethod
    def _note(message: str) -> None:
        """On the row of the resource whose call this thread serves, and gone with the next."""
        plugin_host.current_call().log(message, ephemeral=True)

    @staticmethod
    def _warn(message: str) -> None:
        """On the stack's row, since the resource that it is about may not be in this run."""
        plugin_host.Call().log(message, plugin_host.WARNING)

    def _engine_died(self) -> None:
        """Let a POST under way end and be recorded; end everything else."""
        self.clock.interrupt()
        if self._made is not None:
            self._made[2].wait_until_quiet(_POST_SECONDS)


def _key(props: Mapping[str, Any]) -> str:
    return json.dumps({k: str(v) for k, v in props.items() if k != "__provider"}, sort_keys=True)
