"""Creates under way, on disk: what a killed process, or a lost answer, would otherwise lose.

One small file per create, written before the POST, completed with the machine's id when it is
known, and dropped only when the API has shown the machine and state has it, or on proof that there
is no machine. While a process works on a create, it holds a lock beside the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pulumi_fal.errors import JournalError
from pulumi_fal.stack import Origin

VERSION = 2
"""What is read: this, and 1, which lacked `seen` and `searched`."""
ASKED, WAITING, RETURNED, ADOPTED = "asked", "waiting", "returned", "adopted"
"""A create's phases. ASKED: before the POST's answer. WAITING: the machine is known, and the
engine was not told of it. RETURNED: it was told; whether it took it in is not known. ADOPTED: a
person said which machine it is."""
_TMP_SECONDS = 3600.0
"""How old a half-written file is before it is taken for one of a process that was killed."""


@dataclass(frozen=True)
class Entry:
    """One create."""

    origin: Origin
    account: str
    """Tells one endpoint and key from another, without telling the key."""
    instance_type: str
    ssh_key: str
    """The public key's fingerprint."""
    sector: str | None
    before: tuple[str, ...]
    """The account's machines before the POST."""
    started: float
    """Seconds since the epoch: when the POST was sent; once it has ended, when that was."""
    phase: str = ASKED
    instance_id: str | None = None
    problem: str = ""
    """What the POST ended with, where it brought no machine's id."""
    seen: bool = False
    """Whether the API has shown the machine since, in a list or when asked for it."""
    searched: bool = False
    """Whether a look found no machine that the POST may have made, once there was time for one."""

    @property
    def file_name(self) -> str:
        return f"{file_stem(self.origin)}.json"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        fields = {**data, "origin": Origin(**data["origin"]), "before": tuple(data["before"])}
        del fields["version"]
        return cls(**fields)


def file_stem(origin: Origin) -> str:
    """The first part is the resource's, the second tells stacks of the same name apart."""
    return f"{_digest(origin.urn)}-{_digest(*asdict(origin).values())}"


def home(environ: Mapping[str, str]) -> Path:
    """Where the journal is kept: below PULUMI_HOME, which is ~/.pulumi by default."""
    pulumi_home = environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return Path(pulumi_home) / "fal-compute" / "creates"


class Journal:
    """The folder of entries. JournalError where one can't be read or written."""

    def __init__(
        self,
        folder: Path,
        ids_in_state: Callable[[Origin], frozenset[str] | None] = lambda origin: None,
    ) -> None:
        """`ids_in_state`: the machines that the stack of a resource has; None if not known."""
        self.folder = folder
        self._ids_in_state = ids_in_state
        self._lock = threading.Lock()
        self._earlier: dict[tuple[str, str], Path] | None = None
        self._is_sure = False

    def find(self, origin: Origin) -> Entry | None:
        """The entry of a resource, or of one that may be the same; JournalError if unreadable."""
        own = _read(self.folder / f"{file_stem(origin)}.json")
        if own is not None:
            return own
        for path in self._files(f"{_digest(origin.urn)}-"):
            entry = _read(path)
            if entry is not None and entry.origin.may_be(origin):
                return entry
        return None

    def entries(self, urn: str = "") -> Iterator[Entry | JournalError]:
        """All entries, or those of one URN; in the place of an unreadable one, its error."""
        for path in self._files(f"{_digest(urn)}-" if urn else ""):
            try:
                entry = _read(path)
            except JournalError as error:
                yield error
            else:
                if entry is not None:
                    yield entry

    def write(self, entry: Entry) -> None:
        """Put it on disk, whole or not at all, and there to stay when this returns."""
        text = json.dumps({"version": VERSION, **asdict(entry)}, indent=1)
        try:
            self._make_folder()
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp made it 0600
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.folder / entry.file_name)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync(self.folder)
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop(self, entry: Entry) -> None:
        """Forget it: there is proof that it is in state, or that there is no machine."""
        try:
            (self.folder / entry.file_name).unlink(missing_ok=True)
            _sync(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def try_lock(self, origin: Origin) -> AbstractContextManager[None] | None:
        """The lock of a resource's create, to be released by the caller; None where another has it.

        The system releases it with the process. Where it has no such locks, or the folder can't be
        written, nothing is locked.
        """
        path = self._lock_of(origin)
        try:
            self._make_folder()
            return _release(path, _acquire(path))
        except BlockingIOError:
            return None
        except OSError:
            return contextlib.nullcontext()

    def is_locked(self, origin: Origin) -> bool:
        """Whether a process works on this resource's create."""
        try:
            descriptor = os.open(self._lock_of(origin), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    def settle(self, urn: str, instance_id: str, *, is_proven: bool) -> None:
        """State has this machine under this URN: drop the entry of an earlier process about it.

        `is_proven`: whether the API has just shown the machine, or has shown that it is gone.
        Otherwise the entry goes only if the machine was seen before. Nor does it go where the stack
        of the entry has no such machine: it may be one that is only read, or imported by a preview,
        and the URN that of another backend's stack.
        """
        # What fails here was reported when the process began, and the stack's own word settles it
        # at the next create.
        with self._lock, contextlib.suppress(OSError, JournalError):
            if self._earlier is None:
                self._earlier = {}
                self._earlier = {
                    (each.origin.urn, each.instance_id): self.folder / each.file_name
                    for each in self.entries()
                    if isinstance(each, Entry) and each.instance_id
                }
            path = self._earlier.get((urn, instance_id))
            entry = _read(path) if path is not None else None
            if path is None or entry is None or not (is_proven or entry.seen):
                return
            ids = self._ids_in_state(entry.origin)
            if ids is not None and instance_id not in ids:
                return
            # By now the file may be about the machine that replaces this one.
            if entry.instance_id == instance_id:
                path.unlink(missing_ok=True)
            del self._earlier[urn, instance_id]

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
                    with _release(path, _acquire(path)):
                        pass

    def _lock_of(self, origin: Origin) -> Path:
        return self.folder / f"{file_stem(origin)}.lock"

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
        if not self._is_sure:  # an entry is no safer than the folders that it is in
            for parent in (self.folder.parent, self.folder.parent.parent):
                _sync(parent)
            self._is_sure = True


def _read(path: Path) -> Entry | None:
    """None where it was dropped meanwhile."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
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


def _acquire(path: Path) -> int:
    """A descriptor that holds the lock; BlockingIOError where another one does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the file in the meantime.
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):  # noqa: PTH116
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _release(path: Path, descriptor: int) -> Iterator[None]:
    """Let go of a lock at the end of the block. It is no part of the record: nothing is synced."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def with_machine(entry: Entry, instance_id: str) -> Entry:
    """The entry once the machine is known."""
    return replace(entry, phase=WAITING, instance_id=instance_id, problem="")
