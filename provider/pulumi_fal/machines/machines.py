"""What the operations of one process share: the journal, the stacks and the account."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pulumi_fal.errors import ConfigurationError, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import as_late
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stacks.origin import Origin

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.machines.account import Account


class Machines:
    """The objects that resource.operations works with. Can be used from any thread."""

    def __init__(
        self,
        journal: Journal,
        stacks: Stacks,
        open_account: Callable[[], Account],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`open_account` is called when the API is first needed, so that previews work offline.

        It may raise ConfigurationError. `warn` gets warnings about earlier creates.
        """
        self.journal = journal
        self.stacks = stacks
        self._open_account = open_account
        self._warn = warn
        self._account: Account | None = None
        self._reviewed = False
        self._lock = threading.Lock()
        self._creating: set[str] = set()
        self._fewer_creating = threading.Condition()

    @property
    def account(self) -> Account:
        """The account of the current key. Raises ConfigurationError if there is no usable key."""
        with self._lock:
            if self._account is None:
                self._account = self._open_account()
            return self._account

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is in flight and every answer is recorded, or after `seconds`."""
        if self._account is not None:
            self._account.sender.wait_until_quiet(seconds)

    @contextmanager
    def creating(self, urn: str) -> Iterator[Callable[[], None]]:
        """Count the create of this resource as in flight until its block ends.

        The function that this yields ends that earlier, as soon as the machine is on record.
        """

        def end() -> None:
            with self._fewer_creating:
                self._creating.discard(urn)
                self._fewer_creating.notify_all()

        with self._fewer_creating:
            self._creating.add(urn)
        try:
            yield end
        finally:
            end()

    def still_creating(self, is_asked_for: Callable[[str], bool], seconds: float) -> set[str]:
        """Return the URNs of such creates that are in flight. Wait for up to `seconds` for none."""

        def found() -> set[str]:
            return set(filter(is_asked_for, self._creating))

        with self._fewer_creating:
            self._fewer_creating.wait_for(lambda: not found(), seconds)
            return found()

    def review(self, urn: str, organization: str = "") -> None:
        """Warn about unresolved creates of the stack that the URN belongs to.

        Only the first call with a URN does so. It also drops the entries whose machines are in
        state.
        """
        with self._lock:
            if self._reviewed or not urn:
                return
            self._reviewed = True
        self.journal.clear_leftovers()
        try:
            if not any(self.journal.entries()):
                return  # finding the backend is slow
            reminders = self._reminders(self.stacks.origin(urn, organization))
            for reminder in dict.fromkeys(reminders):  # late entries may all say the same
                self._warn(reminder)
        except JournalError as error:
            self._warn(str(error))

    def _reminders(self, origin: Origin) -> Iterator[str]:
        # Asking the stack is slow. A create that another process finishes meanwhile would be
        # missing in the answer, so find out before which creates are in progress.
        entries = list(self._entries_of_ended_creates(origin))
        for entry in entries:
            if isinstance(entry, JournalError):
                yield str(entry)
            elif not entry.is_late and self._is_unresolved(entry, origin):
                yield unresolved.reminder(entry)
        late = [entry for entry in entries if isinstance(entry, Entry) and entry.is_late]
        if late:
            yield from self._late_reminders(late)

    def _entries_of_ended_creates(self, origin: Origin) -> Iterator[Entry | JournalError]:
        """Yield the entries that may be of this stack, and errors for those that can't be read."""
        for entry in self.journal.entries():
            if isinstance(entry, JournalError):
                yield entry
            elif entry.origin.may_share_stack(origin):
                if self.journal.is_locked(entry.origin) and not entry.is_late:
                    continue  # it is in progress
                # The create may have ended after its entry was read.
                current = self.journal.current(entry)
                if current is not None:
                    yield current

    def _late_reminders(self, entries: list[Entry]) -> Iterator[str]:
        """Look for the machines of creates that others have followed, and record the result."""
        try:
            found = self.account.facts.about_late(entries)
        except ConfigurationError as error:
            yield from (unresolved.may_appear(entry, error) for entry in entries)
            return
        for entry, facts in zip(entries, found, strict=True):
            if facts.error is not None or not facts.is_own:
                yield unresolved.may_appear(entry, facts.error)
                continue
            if facts.search:
                yield unresolved.appeared(entry, facts.search.candidates, facts.search.unread)
            kept = as_late(entry, facts.search.candidates, facts.now)
            if kept != entry:
                self.journal.exchange(entry, kept)

    def _is_unresolved(self, entry: Entry, origin: Origin) -> bool:
        """Whether the entry's machine may be running but not be in state, without asking the API.

        Drops the entry if its machine is in state and was seen.
        """
        if entry.instance_id is None:
            return True
        is_in_state = self.stacks.has(replace(entry.origin, urn=origin.urn), entry.instance_id)
        if is_in_state is None:
            # A machine that was reported is most likely in state; a create checks more closely.
            return entry.phase is not Phase.REPORTED
        if is_in_state and entry.seen:
            # A create may have overwritten it while the stack was asked.
            self.journal.exchange(entry, None)
        return not is_in_state
