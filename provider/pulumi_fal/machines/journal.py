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
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import JournalError
from pulumi_fal.stacks.cache import Origin, without_user

VERSION = 5
"""The version of the format. Earlier versions, which lack some fields, can be read as well."""
KEY_SECONDS = 540.0
"""Seconds after the first POST for which a create may be sent again with its idempotency key. This
is less than the time for which the API keeps the key (api.dialects.KEPT_SECONDS), to allow for late
answers and for clocks that differ.
"""
LATE_SECONDS = 600.0
"""If a search found no machine, one that first appears this many seconds after the POST was most
likely not made by it. A warning names it, and the new create goes ahead."""
BACK_SECONDS = 3600.0
"""For how long a machine stays on record that left state, or a create's hands, as it was gone."""
_TMP_SECONDS = 3600.0
"""The age from which a temporary file counts as left behind by a killed process."""
_PARTS = 3
"""The parts of the name of an entry's file. Earlier versions used two, and four for late ones."""
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between the attempts of an operation on a file that the system may refuse briefly."""
_T = TypeVar("_T")


class Phase(str, Enum):
    """The progress of a create. The values are stored on disk."""

    REQUESTED = "asked"
    """There is no answer to the POST yet, or it was lost."""
    CREATED = "waiting"
    """The machine's id is known, but was not reported to Pulumi."""
    REPORTED = "returned"
    """The machine was reported to Pulumi, but may not be in state."""
    ADOPTED = "adopted"
    """A person assigned a machine to the create."""
    LATE = "late"
    """There was no answer, or the machine is gone, and another create may have followed since. The
    machine may still appear, or come back."""


@dataclass(frozen=True)
class Entry:
    """A create in the journal, which messages call a record."""

    origin: Origin
    """The resource that the machine was requested for."""
    account: str
    """A hash of the endpoint and the API key that the create was made with."""
    requested: NewInstance
    """What the create requested, with a hash in place of the SSH key."""
    before: tuple[str, ...]
    """The ids of the account's machines before the POST."""
    started: float
    """When the last event on record happened, in seconds since the epoch: the POST was sent or
    ended, or the machine was reported, adopted or gone."""
    phase: Phase = Phase.REQUESTED
    instance_id: str | None = None
    problem: str = ""
    """The error of the POST if its answer had no machine id, else ""."""
    seen: bool = False
    """Whether the API has shown the machine since the POST, in a list or in response to a GET."""
    idempotency_key: str = ""
    """The idempotency key of the POST; "" with the legacy API, which does not support keys."""
    first_sent: float = 0.0
    """When the create was first sent with that key, in seconds since the epoch."""
    endpoint: str = ""
    """The endpoint that the create was sent to; "" in entries of version 2 and earlier."""
    searched: bool = False
    """Whether a search, after the machine had time to appear, found no candidate."""
    found: tuple[str, ...] = ()
    """The ids of the machines that appeared after another create had been started, in the phase
    LATE. Each may be the machine of this create."""
    file: str = field(default="", compare=False)
    """The name of its file in the journal."""

    @property
    def id(self) -> str:
        """What `pulumi-fal pending` calls the entry: the last part of its file's name."""
        return self.file.removesuffix(".json").rpartition("-")[2][:8]

    @property
    def is_late(self) -> bool:
        """Whether nobody works on this create any more, but its machine may appear or come back."""
        return self.phase is Phase.LATE

    def key_seconds_left(self, now: float) -> float:
        """Return for how long the create may still be sent again with its key; 0 if it may not.

        If the create was first sent in the future, a clock was set back, and it is not known how
        much time has passed.
        """
        if not self.idempotency_key or now < self.first_sent:
            return 0.0
        return max(0.0, self.first_sent + KEY_SECONDS - now)

    @property
    def instance_type(self) -> str:
        """The type of the machine that was requested."""
        return self.requested.instance_type

    def is_for(self, new: NewInstance) -> bool:
        """Whether this create requested the same."""
        return self.requested == new.hashed()

    def as_created(self, instance_id: str) -> Entry:
        """Return the entry with the machine's id from the answer to the POST."""
        return replace(self, phase=Phase.CREATED, instance_id=instance_id, problem="")

    def as_late(self, found: Iterable[Instance], now: float) -> Entry | None:
        """Return the entry as it is kept beside the resource's new create; None if it is over.

        `found` are the machines that a create without an answer may have made, or the machine of
        the entry if it is back. The first must appear in time, and the second for as long as a
        machine that is gone stays on record.
        """
        ids = tuple(instance.id for instance in found)
        seconds = LATE_SECONDS if self.instance_id is None else BACK_SECONDS
        if not ids and now - self.started > seconds:
            return None
        return replace(self, phase=Phase.LATE, found=() if self.instance_id else ids)

    def as_gone(self, now: float) -> Entry:
        """Return the entry of a machine that is gone, and may come back within an hour."""
        return replace(self, phase=Phase.LATE, started=now, seen=True)

    def may_appear(self, now: float) -> bool:
        """Whether the machine is so new that the API may show it for the first time yet."""
        return not (self.seen or self.is_late) and now - self.started <= LATE_SECONDS

    def as_forgotten(self, shown: Iterable[str], now: float) -> Entry | None:
        """Return the entry as it is kept when a person forgets the create; None if it is removed.

        `shown` are the ids of the machines that do not belong to it, as the person says. But if the
        create got no answer a short time ago, the API may still make its machine, which nobody
        could know of.
        """
        if self.is_late or self.instance_id is not None:
            return None
        before = tuple(sorted({*self.before, *shown}))
        return replace(self, before=before).as_late((), now)

    def as_json(self) -> dict[str, Any]:
        """Return the entry in the format that is stored on disk, which has no nested request."""
        values = {**vars(self), "origin": vars(self.origin)}
        del values["file"]
        return {"version": VERSION, **vars(values.pop("requested")), **values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: str = "") -> Entry:
        """Return the entry for the output of `as_json`, which the journal has in that file.

        Raises ValueError, KeyError or TypeError if the format is wrong.
        """
        requested = NewInstance.of(data)
        origin = {name: value for name, value in data["origin"].items() if name != "organization"}
        origin["backend"] = without_user(origin.get("backend", ""))
        values = {
            **{name: value for name, value in data.items() if name not in vars(requested)},
            "origin": Origin(**origin),
            "requested": requested,
            "before": tuple(data["before"]),
            "found": tuple(data.get("found", ())),
            "phase": Phase(data["phase"]),
        }
        del values["version"]
        return cls(**values, file=file)


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return the journal's folder. It is below PULUMI_HOME, which is ~/.pulumi by default."""
    pulumi_home = environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return Path(pulumi_home) / "fal-compute" / "creates"


def new_file(origin: Origin) -> str:
    """Return a name for the file of a new create, which no other create has.

    It begins with a hash of the resource, which a rename of the stack does not change, and with one
    of what is known of the stack now: creates in which both are equal are locked together.
    """
    return f"{_prefix(origin)}-{secrets.token_hex(4)}.json"


def _prefix(origin: Origin) -> str:
    stack = _digest(origin.provider) if origin.provider else _digest(origin.urn, origin.backend)
    return f"{_resource(origin)}-{stack}"


def _resource(origin: Origin) -> str:
    return _digest(origin.path)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _lock_name(of: Entry | Origin) -> str:
    if isinstance(of, Origin):
        return f"{_prefix(of)}.lock"
    return "-".join(of.file.removesuffix(".json").split("-")[:2]) + ".lock"


def _is_of_earlier_version(name: str) -> bool:
    return name.count("-") != _PARTS - 1


class Journal:
    """The folder of entries. Its methods raise JournalError if one can't be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_synced = False
        self.has_locks = True
        """Whether the file system has let all locks be taken, as far as any was tried."""

    def of(self, origin: Origin) -> list[Entry]:
        """Return the entries of all resources with this name and type, whatever their stack.

        Raises JournalError if one of them can't be read.
        """
        names = {
            *self._names(f"{_resource(origin)}-", f"{_digest(origin.urn)}-"),
            *self._names_of_earlier_versions.get(origin.path, ()),
        }
        found = (read(self.folder / name) for name in sorted(names))
        return [entry for entry in found if entry is not None]

    def readable(self) -> list[Entry]:
        """Return all entries that can be read."""
        return [entry for entry in self.entries() if isinstance(entry, Entry)]

    def entries(self) -> Iterator[Entry | JournalError]:
        """Yield all entries. An entry that can't be read yields its error."""
        seen: set[str] = set()
        while names := [name for name in self._names() if name not in seen]:
            seen.update(names)
            found = list(_read(self.folder / name for name in names))
            yield from found
            if len(found) == len(names):  # else one may have been written to another file meanwhile
                return

    def current(self, entry: Entry) -> Entry | None:
        """Return what the file of an entry that was read earlier holds now; None if it is gone."""
        return read(self.folder / entry.file)

    def exchange(self, old: Entry, new: Entry | None) -> bool:
        """Replace an entry with a `new` one, or drop it, while no process works on its create.

        The `new` entry may be in another file. Returns False and changes nothing if a process works
        on the create, or if the file no longer holds the `old` entry.
        """
        locked = {_lock_name(entry): entry for entry in (old, new or old)}
        with contextlib.ExitStack() as locks_held:
            for entry in locked.values():
                lock = self.try_lock(entry)
                if lock is None:
                    return False
                locks_held.enter_context(lock)
            if self.current(old) != old:
                return False
            if new is not None:
                self.write(new)
            if new is None or new.file != old.file:
                self.drop(old)
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
                path = self.folder / entry.file
                patiently(lambda: Path(temporary).replace(path))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            sync(self.folder)
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def drop(self, entry: Entry) -> None:
        """Remove the entry, whose machine must be in state or certainly not exist.

        The caller holds the lock of the entry's create.
        """
        try:
            path = self.folder / entry.file
            patiently(lambda: path.unlink(missing_ok=True))
            sync(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(self.folder, f"can't be written: {error.strerror}") from None

    def try_lock(self, of: Entry | Origin) -> AbstractContextManager[object] | None:
        """Return the lock of a create, for the caller to release; None if it is taken.

        An entry has the lock that its create had, and a resource that of its next create. If the
        file system does not support locks or is read-only, the result locks nothing.
        """
        try:
            self._make_folder()
            return try_lock(self._lock_file(of))
        except OSError:
            self.has_locks = False
            return contextlib.nullcontext()

    def is_locked(self, entry: Entry) -> bool:
        """Whether a process is working on the entry's create."""
        return is_locked(self._lock_file(entry))

    def shares_lock(self, entry: Entry, other: Entry | Origin) -> bool:
        """Whether the entry's create has the same lock as another one, or as a resource's next."""
        return self._lock_file(entry) == self._lock_file(other)

    def clear_leftovers(self) -> None:
        """Remove the temporary files that killed processes left in the folder."""
        try:
            paths = [path for path in self.folder.iterdir() if path.suffix == ".tmp"]
        except OSError:
            return
        for path in paths:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _TMP_SECONDS:
                    path.unlink(missing_ok=True)

    def _lock_file(self, of: Entry | Origin) -> Path:
        return self.folder / _lock_name(of)

    @cached_property
    def _names_of_earlier_versions(self) -> Mapping[str, list[str]]:
        """The files that earlier versions named after URN, organization and backend, by resource.

        They are read only once. A file that can't be read is found by the hash of its URN.
        """
        names = defaultdict(list)
        earlier = filter(_is_of_earlier_version, self._names())
        for entry in _read(self.folder / name for name in earlier):
            if isinstance(entry, Entry):
                names[entry.origin.path].append(entry.file)
        return names

    def _names(self, *prefixes: str) -> list[str]:
        """Return the names of all entries' files, or of those that begin with one of `prefixes`."""
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
            name
            for name in sorted(names)
            if name.endswith(".json") and (not prefixes or name.startswith(prefixes))
        ]

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_synced:  # a synced entry is lost if its parent folders are not synced
            for parent in (self.folder.parent, self.folder.parent.parent):
                sync(parent)
            self._is_synced = True


def read(path: Path) -> Entry | None:
    """Return the entry, or None if the file no longer exists."""
    try:
        data = json.loads(patiently(lambda: path.read_text(encoding="utf-8")))
        if data["version"] > VERSION:
            raise JournalError(path, "was written by a newer pulumi-fal; use that version")
        return Entry.from_json(data, path.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        broken = path.parent if isinstance(error, NotADirectoryError) else path
        raise JournalError(broken, f"can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise JournalError(path, "is damaged") from None


def _read(paths: Iterable[Path]) -> Iterator[Entry | JournalError]:
    """Yield the entry of each file that is still there, or the error if it can't be read."""
    for path in paths:
        try:
            entry = read(path)
        except JournalError as error:
            yield error
        else:
            if entry is not None:
                yield entry


def try_lock(path: Path) -> AbstractContextManager[object] | None:
    """Return the lock, which is released at the end of its `with` block; None if it is taken.

    Raises OSError if the file can't be created, or the operating system can't lock it.
    """
    # Imported late, because every program that declares machines imports this module.
    from filelock import lock_descriptor

    with contextlib.ExitStack() as opened:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        opened.callback(os.close, descriptor)
        return opened.pop_all() if lock_descriptor(descriptor, blocking=False) else None


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; False if unknown."""
    if not path.exists():
        return False
    try:
        lock = try_lock(path)
    except OSError:
        return False
    if lock is None:
        return True
    with lock:
        return False


def sync(folder: Path) -> None:
    """Sync a folder's names to disk, on systems that can open folders. Windows can't."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def patiently(change: Callable[[], _T]) -> _T:
    """Return the result of `change`, which is retried if the system refuses permission.

    Windows refuses to read, replace or remove a file while another thread or process uses it.
    """
    for seconds in _PAUSES:
        try:
            return change()
        except PermissionError:
            time.sleep(seconds)
    return change()
