"""Writes to the journal about machines that exist or may exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pulumi_fal.errors import JournalError
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.origin import Origin


class Records:
    """Writes and drops entries, and turns a JournalError into a warning.

    After the POST, an error of the journal must not hide the machine or the error of the POST.
    """

    def __init__(self, journal: Journal, warn: Callable[[str], None]) -> None:
        self._journal = journal
        self._warn = warn
        self._reported: dict[Origin, Entry] = {}

    def write(self, entry: Entry) -> None:
        """Put the entry on disk. This process holds its lock."""
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._journal.write(entry)

    def drop(self, entry: Entry) -> None:
        """Remove the entry. This process holds its lock."""
        with self._warning(entry.origin.urn):
            self._journal.drop(entry)

    def exchange(self, read: Entry, new: Entry | None) -> None:
        """Replace or drop an entry whose lock this process does not hold, if it is unchanged."""
        with self._warning(read.origin.urn):
            self._journal.exchange(read, new)

    def discard(self, origin: Origin) -> None:
        """Drop the entry of a resource whose machine is gone."""
        with self._warning(origin.urn):
            entry = self._find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def mark_reported(self, origin: Origin, *, seen: bool) -> None:
        """Record that the machine was reported, and whether the API has shown it."""
        with self._warning(origin.urn):
            entry = self._find(origin)
            if entry is None:
                return
            reported = replace(entry, phase=Phase.REPORTED, seen=seen or entry.seen)
            if reported != entry:
                self._journal.write(reported)
            self._reported[origin] = reported

    def mark_unreported(self, origin: Origin) -> None:
        """Take back what `mark_reported` recorded, unless another process has changed it since."""
        with self._warning(origin.urn):
            reported = self._reported.pop(origin, None)
            if reported is not None:
                self._journal.exchange(reported, replace(reported, phase=Phase.CREATED))

    def put_back(self, late: Entry) -> None:
        """Make a late entry the entry of its resource again, because it got no other machine."""
        with self._warning(late.origin.urn):
            self._journal.write(replace(late, phase=Phase.REQUESTED, found=()))
            self._journal.drop(late)

    def _find(self, origin: Origin) -> Entry | None:
        entry = self._journal.find(origin)
        return entry if entry is not None and entry.origin == origin else None

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")
