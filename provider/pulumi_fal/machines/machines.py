"""The machines of one process: the journal, the stacks, and the account once it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pulumi_fal.errors import JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stack import Origin

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.machines.account import Account


class Machines:
    """What resource.operations works on. Any thread may use it."""

    def __init__(
        self,
        journal: Journal,
        stacks: Stacks,
        open_account: Callable[[], Account],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`open_account` is called once, when the API is first needed; a preview works offline.

        ConfigurationError where there is no usable key or endpoint.
        """
        self.journal = journal
        self.stacks = stacks
        self._open_account = open_account
        self._warn = warn
        self._account: Account | None = None
        self._reviewed = False
        self._lock = threading.Lock()

    @property
    def account(self) -> Account:
        """The account of the key that is set."""
        with self._lock:
            if self._account is None:
                self._account = self._open_account()
            return self._account

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is in flight and every answer is on disk, or after `seconds`."""
        if self._account is not None:
            self._account.launcher.wait_until_quiet(seconds)

    def review(self, urn: str, organization: str = "") -> None:
        """Once, as soon as a resource of the stack is known: warn of what earlier creates left."""
        with self._lock:
            if self._reviewed or not urn:
                return
            self._reviewed = True
        self.journal.clear_leftovers()
        try:
            if not any(self.journal.entries()):
                return  # finding out the backend is slow
            for reminder in self._reminders(self.stacks.origin(urn, organization)):
                self._warn(reminder)
        except JournalError as error:
            self._warn(str(error))

    def _reminders(self, of: Origin) -> Iterator[str]:
        """Drop the entries whose machines are in state; name what is left, one by one."""
        for entry in self.journal.entries():
            if isinstance(entry, JournalError):
                yield str(entry)
            elif self._may_be_of_this_stack(entry, of) and self._is_left(entry, of):
                yield unresolved.reminder(entry)

    def _may_be_of_this_stack(self, entry: Entry, of: Origin) -> bool:
        same = (entry.origin.stack, entry.origin.project) == (of.stack, of.project)
        is_of = same and replace(entry.origin, urn=of.urn).may_be(of)
        return is_of and not self.journal.is_locked(entry.origin)  # else its create is under way

    def _is_left(self, entry: Entry, of: Origin) -> bool:
        """Whether a machine may run that state lacks, for all that is known without the API."""
        if entry.instance_id is None:
            return True
        ids = self.stacks.ids(replace(entry.origin, urn=of.urn))
        if ids is None:
            # Most likely all is well where Pulumi was told; a create would look more closely.
            return entry.phase is not Phase.REPORTED
        if entry.instance_id in ids and entry.seen:
            self.journal.drop(entry)
        return entry.instance_id not in ids
