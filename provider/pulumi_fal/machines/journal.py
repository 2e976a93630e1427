"""Creates that state may not know of yet, on disk: what a crash or a lost answer would lose.

One small file for each create, written before the POST, completed with the machine's id when it is
known, and removed only when the API has shown the machine and state has it, or on proof that there
is no machine. While a process works on a create, it holds a lock beside the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from pulumi_fal.errors import JournalError
from pulumi_fal.machines import locks
from pulumi_fal.machines.entry import VERSION, Entry
from pulumi_fal.stack import Origin

T = TypeVar("T")

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between tries of what the system may refuse for a moment."""
_TMP_SECONDS = 3600.0
"""How old a half-written file is before it is taken for one of a process that was killed."""


def home(environ: Mapping[str, str]) -> Path:
    """Where the journal is kept: below PULUMI_HOME, which is ~/.pulumi by default."""
    pulumi_home = environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return Path(pulumi_home) / "fal-compute" / "creates"


def file_name(origin: Origin, suffix: str = ".json") -> str:
    """The first part is the resource's, the second tells stacks of the same name apart."""
    return f"{_digest(origin.urn)}-{_digest(*asdict(origin).values())}{suffix}"


class Journal:
    """The folder of entries. Its methods raise JournalError where one can't be read or written."""

    def __init__(
        self,
        folder: Path,
        ids_in_state: Callable[[Origin], frozenset[str] | None] = lambda origin: None,
    ) -> None:
        """`ids_in_state`: the machines that a resource's stack has; None if not known."""
        self.folder = folder
        self._ids_in_state = ids_in_state
        self._earlier: dict[tuple[str, str], Path] | None = None
        self._is_synced = False

    def find(self, origin: Origin) -> Entry | None:
        """The entry of a resource, or of one that may be the same."""
        own = _read(self.folder / file_name(origin))
        if own is not None:
            return own
        for path in self._files(f"{_digest(origin.urn)}-"):
            entry = _read(path)
            if entry is not None and entry.origin.may_be(origin):
                return entry
        return None

    def readable(self, urn: str = "") -> list[Entry]:
        """The entries that can be read, of all resources or of one."""
        return [each for each in self.entries(urn) if isinstance(each, Entry)]

    def entries(self, urn: str = "") -> Iterator[Entry | JournalError]:
        """All entries, or those of one URN; in place of an unreadable one, its error."""
        for path in self._files(f"{_digest(urn)}-" if urn else ""):
            try:
                entry = _read(path)
            except JournalError as error:
                yield error
            else:
                if entry is not None:
                    yield entry

    def write(self, entry: Entry) -> None:
        """Put the entry on disk, whole or not at all, synced when this returns."""
        text = json.dumps(entry.as_json(), indent=1)
        try:
            self._make_folder()
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp made it 0600
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                path = self.folder / file_name(entry.origin)
                _patiently(lambda: Path(temporary).replace(path))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync(self.folder)
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop(self, entry: Entry) -> None:
        """Remove the entry: there is proof that state has its machine, or that there is none."""
        try:
            path = self.folder / file_name(entry.origin)
            _patiently(lambda: path.unlink(missing_ok=True))
            _sync(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop_entry_for(self, urn: str, instance_id: str, *, is_proven: bool) -> None:
        """State has this machine under this URN: drop the entry of an earlier process about it.

        `is_proven`: whether the API has just shown the machine, or has shown that it is gone.
        Without that, the entry goes only if the machine was seen before. The entry stays where its
        own stack has no such machine: then the machine may be one that a program only reads or a
        preview imports, and the URN that of another backend's stack.
        """
        # What fails here was reported when the process began, and the next create asks the stack.
        with contextlib.suppress(OSError, JournalError):
            path = self._earlier_paths().get((urn, instance_id))
            entry = _read(path) if path is not None else None
            if path is None or entry is None or not (is_proven or entry.seen):
                return
            ids = self._ids_in_state(entry.origin)
            if ids is not None and instance_id not in ids:
                return
            # By now the file may be about the machine that replaces this one.
            if entry.instance_id == instance_id:
                _patiently(lambda: path.unlink(missing_ok=True))
            self._earlier_paths().pop((urn, instance_id), None)

    def try_lock(self, origin: Origin) -> AbstractContextManager[None] | None:
        """The lock of a resource's create, for the caller to release; None where it is taken.

        Where the system has no such locks, or the folder can't be written, nothing is locked.
        """
        try:
            self._make_folder()
            return locks.try_lock(self.folder / file_name(origin, ".lock"))
        except OSError:
            return contextlib.nullcontext()

    def is_locked(self, origin: Origin) -> bool:
        """Whether a process works on this resource's create."""
        return locks.is_locked(self.folder / file_name(origin, ".lock"))

    def clear_leftovers(self) -> None:
        """Remove what killed processes left beside the entries: locks, and half-written files."""
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return
        for path in paths:
            with contextlib.suppress(OSError):
                if path.suffix == ".tmp" and time.time() - path.stat().st_mtime > _TMP_SECONDS:
                    path.unlink(missing_ok=True)
                elif path.suffix == ".lock":
                    locks.is_locked(path)  # which removes the file of a lock that nobody holds

    def _earlier_paths(self) -> dict[tuple[str, str], Path]:
        """Where the machines of earlier processes' entries are on record.

        The folder is read once: a refresh of hundreds of machines asks for each of them, and what
        this process writes itself is not earlier.
        """
        if self._earlier is None:
            earlier: dict[tuple[str, str], Path] = {}
            with contextlib.suppress(JournalError):
                for each in self.readable():
                    if each.instance_id:
                        path = self.folder / file_name(each.origin)
                        earlier[each.origin.urn, each.instance_id] = path
            self._earlier = earlier
        return self._earlier

    def _files(self, prefix: str = "") -> list[Path]:
        try:
            # Not by Path.glob, which takes a folder that can't be read for an empty one.
            paths = list(self.folder.iterdir()) if self.folder.exists() else []
        except OSError as error:
            raise JournalError(self.folder, f"can't be read: {error.strerror}") from None
        return sorted(
            path for path in paths if path.name.startswith(prefix) and path.name.endswith(".json")
        )

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_synced:  # an entry is no safer than the folders that it is in
            for parent in (self.folder.parent, self.folder.parent.parent):
                _sync(parent)
            self._is_synced = True


def _read(path: Path) -> Entry | None:
    """None where it was dropped meanwhile."""
    try:
        data = json.loads(_patiently(lambda: path.read_text(encoding="utf-8")))
        if data["version"] > VERSION:
            raise JournalError(path, "was written by a newer pulumi-fal; use that version")
        return Entry.from_json(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        broken = path.parent if isinstance(error, NotADirectoryError) else path
        raise JournalError(broken, f"can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JournalError(path, "is damaged") from None


def _sync(folder: Path) -> None:
    """Put the names in a folder on disk, on systems that open folders; Windows refuses to."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _patiently(change: Callable[[], T]) -> T:
    """Read, replace or remove a file; again after a moment where the system refuses.

    Windows refuses while another thread or process reads or replaces the same file.
    """
    for seconds in _PAUSES:
        try:
            return change()
        except PermissionError:
            time.sleep(seconds)
    return change()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
