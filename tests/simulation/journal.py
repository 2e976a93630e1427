"""A computer's journal in memory. It loses nothing: a unit test holds the order of its writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import JournalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Entry
from pulumi_fal.stacks.cache import Origin

if TYPE_CHECKING:
    from .plugin import Process

NOTHING, FULL, GONE = "nothing", "full", "gone"
"""What is wrong with a disk: FULL can't be written, and GONE can't be read either."""
READ, WRITTEN, REWRITTEN = "read", "written", "rewritten"
"""What a step does with what it touches. What is rewritten was there before and is still there, so
a list of what there is stays the same."""


class Folder(str):
    """The journal's folder. The path of a file in it is its name."""

    __slots__ = ()

    def __truediv__(self, name: str) -> str:
        return name


@dataclass
class Disk:
    """What a computer has of the journal."""

    entries: dict[str, Entry] = field(default_factory=dict)
    locks: dict[str, Process | None] = field(default_factory=dict)
    """Who has taken each lock. A process that is dead holds none."""
    trouble: str = NOTHING


class Journal(journal.Journal):
    """The journal as a process sees it. Each look and each change is a step of the process."""

    folder: Any

    def __init__(self, process: Process) -> None:
        super().__init__(Folder("/home/.pulumi/fal-compute/creates"))  # type: ignore[arg-type]
        self._process = process
        self._world = process.world
        self._disk = process.world.disks[process.home]

    def read(self, name: str) -> Entry | None:
        """What stands in for the function of the package's journal."""
        self._look(name)
        return self._disk.entries.get(name)

    def write(self, entry: Entry) -> None:
        is_new = entry.file not in self._disk.entries
        self._change("a rename", entry.file, WRITTEN if is_new else REWRITTEN)
        self._world.wrote.setdefault(entry.file, self._world.call().owner)
        self._disk.entries[entry.file] = entry
        self._change("a sync")

    def drop(self, entry: Entry) -> None:
        self._change("a deletion", entry.file)
        self._world.laws.record_ends(self._world.call(), entry.file)
        self._disk.entries.pop(entry.file, None)
        self._change("a sync")

    def try_lock(self, of: Entry | Origin) -> AbstractContextManager[None] | None:
        try:
            return self._lock(of)
        except JournalError:
            self.has_locks = False
            return nullcontext()

    def is_locked(self, entry: Entry) -> bool:
        if str(self._lock_file(entry)) not in self._disk.locks or self._disk.trouble != NOTHING:
            return False
        with (lock := self._lock(entry)) or nullcontext():
            return lock is None

    def clear_leftovers(self) -> None:
        """No write leaves any."""

    def _names(self, *prefixes: str) -> list[str]:
        self._look("*")
        names = sorted(self._disk.entries)
        return [name for name in names if not prefixes or name.startswith(prefixes)]

    def _lock(self, of: Entry | Origin) -> AbstractContextManager[None] | None:
        self._check(writing=True)
        name = str(self._lock_file(of))
        self._process.step("a lock", f"lock {name}", WRITTEN)
        holder = self._disk.locks.get(name)
        if holder is not None and not holder.is_dead:
            self._world.turns.need_others()
            return None
        self._disk.locks[name] = self._process
        return self._held(name)

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._process.step("a release", f"lock {name}", WRITTEN)
            self._disk.locks[name] = None

    def _look(self, name: str) -> None:
        self._check(writing=False)
        self._process.step("a look", f"file {name}")

    def _change(self, moment: str, name: str = "", how: str = WRITTEN) -> None:
        self._process.step(moment, f"file {name}" if name else "", how)
        self._check(writing=True)

    def _check(self, *, writing: bool) -> None:
        trouble = self._disk.trouble
        if trouble == GONE or (writing and trouble == FULL):
            raise JournalError(self.folder, "can't be written" if writing else "can't be read")
