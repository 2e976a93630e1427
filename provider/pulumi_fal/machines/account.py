"""Wires up the objects that work with one API key at one endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from pulumi_fal.api.client import Client
from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.machines.facts import FactFinder
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.launcher import Launcher
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.machines.ownership import Ownership
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.sender import Sender
from pulumi_fal.machines.stacks import Stacks

_RECENT_SECONDS = 5.0
"""The maximum age of the list that shows whether two keys belong to the same account."""


class Account:
    """The objects that work with one API key. All threads share one poll of the API."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        journal: Journal,
        stacks: Stacks,
        *,
        send: Callable[..., Any] | None = None,
        notify: Callable[[str], None] = lambda message: None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Wire up the objects.

        `send` replaces HTTP in tests. `notify` gets transient messages, in the thread that waits.
        `warn` gets warnings that stop nothing.
        """
        client = Client(settings, clock, send=send, notify=notify)
        fleet = Fleet(client, clock, settings.poll_interval)
        self.id = settings.account_id
        self.lifecycle = Lifecycle(client, fleet, clock, notify)
        self.ownership = Ownership(settings, lambda: fleet.recent(_RECENT_SECONDS))
        self.facts = facts = FactFinder(
            fleet, self.lifecycle, self.ownership, journal, stacks, clock, settings.settle_seconds
        )
        takes_keys = settings.api == "v1"

        def new_key() -> str:
            return str(uuid.uuid4()) if takes_keys else ""

        records = Records(journal, warn)
        self.sender = Sender(client, facts, journal, records, clock)
        self.launcher = Launcher(
            self.sender,
            fleet,
            facts,
            journal,
            records,
            stacks,
            clock,
            self.id,
            new_key,
            warn,
        )
