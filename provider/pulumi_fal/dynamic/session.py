"""What a plugin process has once: its config, its clock, and its machines."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

# What needs requests is imported where it is first needed: most previews never call the API, and
# a program that declares machines imports this module, too.
from pulumi_fal.api import settings
from pulumi_fal.clock import Clock
from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.dynamic.urns import Urns
from pulumi_fal.errors import FalError, JournalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.entry import Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.machines import Machines
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stack import Stacks
from pulumi_fal.tokens import is_ours

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account

_POST_SECONDS = 200.0
"""How long a POST in flight is given to end when the engine has died."""


class Session:
    """Made on import, and configured in the plugin process only."""

    def __init__(self) -> None:
        self._config: Callable[[str], Any] = lambda key: None
        self._clock = Clock()
        self._urns = Urns()
        self._organization = ""
        self.wanted: dict[str, Mapping[str, Any]] = {}
        """By id, the inputs that a program gives for a machine that it imports."""

    @functools.cached_property
    def machines(self) -> Machines:
        """The machines that this process works on."""
        stacks = Stacks()
        records = Journal(journal.home(os.environ), stacks.ids)
        return Machines(records, stacks, self._open_account, _warn)

    def configure(self, config: Callable[[str], Any]) -> None:
        """Take the config, and change the plugin process as `patches` and `lifetime` say."""
        self._config = config
        patches.without_traceback(FalError)
        patches.raise_concurrency(settings.parallel(os.environ, config))
        lifetime.on_cancel(self._clock.interrupt)
        lifetime.on_engine_death(self._engine_died)
        sent = request.current()
        patches.route_imports(is_ours, sent.provider_key)
        self.machines.review(sent.urn)

    def introduce(self, urn: str, organization: str, checked: Mapping[str, Any]) -> None:
        """What the program says of a resource, since the engine tells no organization."""
        self._organization = organization or self._organization
        self._urns.add(urn, checked)
        self.machines.review(urn, self._organization)

    def call(self, sent: request.Request) -> Call:
        """The call that a request makes."""
        return Call(
            sent.urn,
            self._organization,
            sent.timeout,
            log=sent.log,
            is_heard=sent.is_heard,
        )

    def create_call(self, sent: request.Request, props: Mapping[str, Any]) -> Call:
        """The same for a create, which must know its resource."""
        urn = sent.urn or self._urns.take(props, self._left_something)
        if not urn:
            folder = self.machines.journal.folder
            raise JournalError(folder, "can't be kept: the resource's URN is unknown")
        return dataclasses.replace(self.call(sent), urn=urn)

    def _left_something(self, urn: str) -> bool:
        stacks = self.machines.stacks
        origin = stacks.origin(urn, self._organization)
        entry = self.machines.journal.find(origin)
        if entry is None or entry.phase is not Phase.REPORTED:
            return entry is not None
        ids = stacks.ids(origin)
        return ids is None or entry.instance_id not in ids

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
        """Let a POST in flight end and be recorded; end everything else."""
        self._clock.interrupt()
        self.machines.wait_until_quiet(_POST_SECONDS)


def _note(message: str) -> None:
    """On the row of the resource whose call this thread serves, and gone with the next."""
    request.current().log(message, ephemeral=True)


def _warn(message: str) -> None:
    """On the stack's row, since the resource that it is about may not be in this run."""
    request.Request().log(message, WARNING)
