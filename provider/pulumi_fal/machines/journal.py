"""Records on disk the creates whose machines may not be in state yet.

There is one small file per create. It is written before the POST and gets the machine's id from the
answer. It is removed when the API has shown the machine and state has it, or when it is certain
that there is no machine. A process that works on a create locks a file beside it, and only that
process may write or drop the entry. Any other process changes it with `exchange`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from pulumi_fal.errors import JournalError
from pulumi_fal.machines import files, locks
from pulumi_fal.machines.entry import Entry
from pulumi_fal.stacks.origin import Origin

_LATE = "-late-"
"""Part of the names of the files of late entries, and of no others."""
_TMP_SECONDS = 3600.0
"""The age from which a temporary file counts as left behind by a killed process."""


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return the journal's folder. It is below PULUMI_HOME, which is ~/.pulumi by default."""
    pulumi_home = environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return Path(pulumi_home) / "fal-compute" / "creates"


def file_name(origin: Origin, suffix: str = ".json") -> str:
    """Return the name of an entry's file: a hash of the URN, and one of URN, stack and backend.

    The second hash distinguishes stacks of the same name in different backends.
    """
    return f"{_digest(origin.urn)}-{_digest(*vars(origin).values())}{suffix}"


def _read(paths: Iterable[Path]) -> Iterator[Entry | JournalError]:
    """Yield the entry of each file that is still there, or the error if it can't be read."""
    for path in paths:
        try:
            entry = files.read(path)
        except JournalError as error:
            yield error
        else:
            if entry is not None:
                yield entry


class Journal:
    """The folder of entries. Its methods raise JournalError if one can't be read or written."""

    def __init__(
        self,
        folder: Path,
        ids_in_state: Callable[[Origin], frozenset[str] | None] = lambda origin: None,
    ) -> None:
        """`ids_in_state` returns the ids of the machines in a stack's state; None if unknown."""
        self.folder = folder
        self._ids_in_state = ids_in_state
        self._reading_earlier = threading.Lock()
        self._earlier: dict[tuple[str, str], Entry] | None = None
        self._is_synced = False

    def find(self, origin: Origin) -> Entry | None:
        """Return the entry of a resource, or one that may belong to the same resource.

        Late entries are never returned, because they must not stop a create.
        """
        own = files.read(self.folder / file_name(origin))
        if own is not None:
            return own
        for path in self._files(f"{_digest(origin.urn)}-"):
            entry = None if _LATE in path.name else files.read(path)
            if entry is not None and entry.origin.may_be(origin):
                return entry
        return None

    def readable(self, urn: str = "") -> list[Entry]:
        """Return the entries that can be read: all of them, or those of one URN."""
        return [entry for entry in self.entries(urn) if isinstance(entry, Entry)]

    def entries(self, urn: str = "") -> Iterator[Entry | JournalError]:
        """Yield all entries, or those of one URN. An entry that can't be read yields its error."""
        yield from _read(self._files(f"{_digest(urn)}-" if urn else ""))

    def late(self) -> list[Entry]:
        """Return the late entries that can be read. The review at the start tells of the others."""
        late = _read(self._files(part=_LATE))
        return [entry for entry in late if isinstance(entry, Entry)]

    def current(self, entry: Entry) -> Entry | None:
        """Return what the file of an entry that was read earlier holds now; None if it is gone."""
        return files.read(self._path(entry))

    def exchange(self, read: Entry, new: Entry | None) -> bool:
        """Replace an entry with a `new` one, or drop it, while no process works on its create.

        A `new` entry may be for another resource that has none. Returns False and changes nothing
        if a process works on one of the creates, or if a file no longer holds what was `read`.
        """
        entries = [read] if new is None else [read, new]
        with contextlib.ExitStack() as locks_held:
            for origin in {entry.origin for entry in entries}:
                lock = self.try_lock(origin)
                if lock is None:
                    return False
                locks_held.enter_context(lock)
            if self.current(read) != read:
                return False
            is_moved = new is None or self._path(new) != self._path(read)
            if new is not None:
                if is_moved and self.current(new) is not None:
                    return False
                self.write(new)
            if is_moved:
                self.drop(read)
        return True

    def write(self, entry: Entry) -> None:
        """Write the entry to disk atomically. It is synced when this returns.

        The caller holds the lock of the entry's create.
        """
        text = json.dumps(entry.as_json(), indent=1)
        try:
            self._make_folder()
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp made it 0600
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                path = self._path(entry)
                files.patiently(lambda: Path(temporary).replace(path))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            files.sync(self.folder)
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop(self, entry: Entry) -> None:
        """Remove the entry, whose machine must be in state or certainly not exist.

        The caller holds the lock of the entry's create.
        """
        try:
            path = self._path(entry)
            files.patiently(lambda: path.unlink(missing_ok=True))
            files.sync(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop_entry_for(self, urn: str, instance_id: str, *, is_proven: bool) -> None:
        """Drop an earlier process's entry for a machine that is in state under this URN.

        `is_proven` says whether the API has just shown the machine, or has shown that it is gone.
        Otherwise the entry is dropped only if the machine was seen before. The entry is kept if its
        own stack does not have the machine: a program may only read it, a preview may import it, or
        the URN may belong to a stack in another backend.
        """
        # Errors are ignored: they were reported at the start, and the next create checks the stack.
        with contextlib.suppress(OSError, JournalError):
            earlier = self._earlier_entries().get((urn, instance_id))
            entry = self.current(earlier) if earlier is not None else None
            # The file may have been overwritten for the machine that replaces this one.
            if entry is None or entry.instance_id != instance_id:
                return
            if not (is_proven or entry.seen):
                return
            ids = self._ids_in_state(entry.origin)  # it may be overwritten during this as well
            if ids is not None and instance_id not in ids:
                return
            self.exchange(entry, None)
            self._earlier_entries().pop((urn, instance_id), None)

    def try_lock(self, origin: Origin) -> AbstractContextManager[None] | None:
        """Return the lock of a resource's create, for the caller to release; None if it is taken.

        If the file system does not support locks or is read-only, the result locks nothing.
        """
        try:
            self._make_folder()
            return locks.try_lock(self.folder / file_name(origin, ".lock"))
        except OSError:
            return contextlib.nullcontext()

    def is_locked(self, origin: Origin) -> bool:
        """Whether a process is working on this resource's create."""
        return locks.is_locked(self.folder / file_name(origin, ".lock"))

    def clear_leftovers(self) -> None:
        """Remove the lock files and temporary files that killed processes left in the folder."""
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return
        for path in paths:
            with contextlib.suppress(OSError):
                if path.suffix == ".tmp" and time.time() - path.stat().st_mtime > _TMP_SECONDS:
                    path.unlink(missing_ok=True)
                elif path.suffix == ".lock":
                    locks.is_locked(path)  # it removes the file if no process has the lock

    def _path(self, entry: Entry) -> Path:
        # A resource may have several late entries, for creates that were started at other times.
        suffix = f"{_LATE}{round(entry.started * 1000)}.json" if entry.is_late else ".json"
        return self.folder / file_name(entry.origin, suffix)

    def _earlier_entries(self) -> dict[tuple[str, str], Entry]:
        """Return the entries of earlier processes, by URN and machine id.

        The folder is read only once, because a refresh calls this for hundreds of machines at the
        same time. Entries that this process writes later are not needed.
        """
        with self._reading_earlier:
            if self._earlier is None:
                earlier: dict[tuple[str, str], Entry] = {}
                with contextlib.suppress(JournalError):
                    for entry in self.readable():
                        if entry.instance_id:
                            earlier[entry.origin.urn, entry.instance_id] = entry
                self._earlier = earlier
            return self._earlier

    def _files(self, prefix: str = "", part: str = "") -> list[Path]:
        try:
            # Path.glob and Path.exists would hide that the folder can't be read. Every create looks
            # through the names, so with hundreds of them a Path for each would take long.
            names = os.listdir(self.folder)  # noqa: PTH208
        except FileNotFoundError:
            # Windows says the same of a folder below a file.
            for parent in self.folder.parents:
                if parent.is_file():
                    raise JournalError(self.folder, f"can't be read: {parent} is a file") from None
            return []
        except OSError as error:
            raise JournalError(self.folder, f"can't be read: {error.strerror}") from None
        return [
            self.folder / name
            for name in sorted(names)
            if name.startswith(prefix) and part in name and name.endswith(".json")
        ]

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_synced:  # a synced entry is lost if its parent folders are not synced
            for parent in (self.folder.parent, self.folder.parent.parent):
                files.sync(parent)
            self._is_synced = True


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
