"""Creates under way, on disk: what a killed process, or a lost answer, would otherwise lose.

One small file per create, written before the POST, completed with the machine's id when it is
known, and dropped only on proof that state has it, or that there is no machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pulumi_fal.errors import JournalError

VERSION = 1
ASKED, WAITING, RETURNED, ADOPTED = "asked", "waiting", "returned", "adopted"
"""A create's phases. ASKED: before the POST's answer. WAITING: the machine is known, and the
engine was not told of it. RETURNED: it was told; whether it took it in is not known. ADOPTED: a
person said which machine it is."""


@dataclass(frozen=True)
class Origin:
    """The resource that a create was for. "" stands for what could not be found out."""

    urn: str
    """It names the project and the stack as well."""
    organization: str = ""
    backend: str = ""

    @property
    def stack(self) -> str:
        return self._part(1)

    @property
    def project(self) -> str:
        return self._part(2)

    def _part(self, place: int) -> str:
        # urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
        parts = self.urn.removeprefix("urn:pulumi:").split("::")
        return parts[place - 1] if len(parts) > 3 else ""

    def may_be(self, other: Origin) -> bool:
        """Whether both can be the same resource, as far as is known."""
        mine, others = (self.organization, self.backend), (other.organization, other.backend)
        return self.urn == other.urn and all(
            a == b or not a or not b for a, b in zip(mine, others, strict=True)
        )

    @property
    def is_certain(self) -> bool:
        """Whether nothing about it is unknown."""
        return bool(self.urn and self.organization and self.backend)


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
    """Seconds since the epoch: when the POST was sent, or when it ended without an answer."""
    phase: str = ASKED
    instance_id: str | None = None
    problem: str = ""
    """What the POST ended with, where it brought no machine's id."""

    @property
    def file_name(self) -> str:
        """The first part is the resource's, the second tells stacks of one name apart."""
        return f"{_digest(self.origin.urn)}-{_digest(*asdict(self.origin).values())}.json"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        fields = {**data, "origin": Origin(**data["origin"]), "before": tuple(data["before"])}
        del fields["version"]
        return cls(**fields)


def home(environ: Mapping[str, str]) -> Path:
    """Where the journal is kept: below PULUMI_HOME, which is ~/.pulumi by default."""
    pulumi_home = environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return Path(pulumi_home) / "fal-compute" / "creates"


class Journal:
    """The folder of entries. JournalError where one can't be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._earlier: dict[str, Path] | None = None
        self._is_sure = False

    def find(self, origin: Origin) -> Entry | None:
        """The entry of a resource, or of one that may be the same; JournalError if unreadable."""
        for path in self._files(f"{_digest(origin.urn)}-"):
            entry = _read(path)
            if entry is not None and entry.origin.may_be(origin):
                return entry
        return None

    def entries(self) -> Iterator[Entry | JournalError]:
        """All entries, and in the place of an unreadable one the error that says so."""
        for path in self._files():
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

    @contextlib.contextmanager
    def held(self, entry: Entry) -> Iterator[None]:
        """Show other processes, while the block runs, that this create's POST is under way.

        The system ends the hold with the process. Where it has no such locks, nothing is shown.
        """
        path = self._lock_of(entry)
        descriptor = None
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 - no part of the record, so nothing to be synced
                os.close(descriptor)

    def is_held(self, entry: Entry) -> bool:
        """Whether a process still waits for the answer to this create's POST."""
        try:
            descriptor = os.open(self._lock_of(entry), os.O_RDWR)
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

    def settle(self, instance_id: str) -> None:
        """State has this machine: drop the entry of an earlier process that was about it."""
        # What fails here was reported when the process began, and the stack's own word settles it
        # at the next create.
        with self._lock, contextlib.suppress(OSError, JournalError):
            if self._earlier is None:
                self._earlier = {}
                self._earlier = {
                    each.instance_id: self.folder / each.file_name
                    for each in self.entries()
                    if isinstance(each, Entry) and each.instance_id
                }
            path = self._earlier.pop(instance_id, None)
            entry = _read(path) if path is not None else None
            # By now the file may be about the machine that replaces this one.
            if path is not None and entry is not None and entry.instance_id == instance_id:
                path.unlink(missing_ok=True)

    def _lock_of(self, entry: Entry) -> Path:
        return (self.folder / entry.file_name).with_suffix(".lock")

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
        raise JournalError(path, f"can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JournalError(path, "is damaged") from None


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
