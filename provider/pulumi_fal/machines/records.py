"""Writes to the journal about machines that exist or may exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pulumi_fal.errors import JournalError
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stack import Origin


class Records:
    """Writes and drops entries, and turns a JournalError into a warning.

    After the POST, an error of the journal must not hide the machine or the error of the POST.
    """

    def __init__(self, journal: Journal, warn: Callable[[str], None]) -> None:
        self._journal = journal
        self._warn = warn

    def write(self, entry: Entry) -> None:
        """Put the entry on disk."""
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._journal.write(entry)

    def drop(self, entry: Entry) -> None:
        """Remove the entry."""
        with self._warning(entry.origin.urn):
            self._journal.drop(entry)

    def discard(self, origin: Origin) -> None:
        """Drop the entry of a resource whose machine is gone."""
        with self._warning(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def mark(self, origin: Origin, phase: Phase, *, seen: bool) -> None:
        """Record the phase of the resource's entry, and whether the API has shown the machine."""
        with self._warning(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None and (entry.phase, entry.seen) != (phase, seen or entry.seen):
                self._journal.write(replace(entry, phase=phase, seen=seen or entry.seen))

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")
