"""The journal's folder in memory, and what puts it in place of the real one.

It loses nothing: a unit test holds the order of the journal's writes. The provider reaches the
disk, the `pulumi` command and the terminal as modules and functions. Each stand-in asks the world
that runs now.
"""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unittest import mock

import click
import filelock

from pulumi_fal.cli import common, delete
from pulumi_fal.machines import creates, journal, records
from pulumi_fal.stacks import cache, state

if TYPE_CHECKING:
    from .plugin import Process
    from .world import World

FOLDER = PurePosixPath("/home/.pulumi/fal-compute/creates")
"""Where the journal is, as far as it knows."""
_FOLDERS = {FOLDER, *FOLDER.parents}
NOTHING, FULL, GONE = "nothing", "full", "gone"
"""What is wrong with a disk: FULL can't be written, and GONE can't be read either."""
READ, WRITTEN, REWRITTEN = "read", "written", "rewritten"
"""What a step does with what it touches. What is rewritten was there before and is still there, so
a list of what there is stays the same."""


class Holder(Protocol):
    """A process. Its end releases its locks."""

    @property
    def is_dead(self) -> bool: ...


@dataclass(eq=False)
class File:
    """A file, which goes on to exist without a name while it is open."""

    content: bytes = b""
    locked_by: Holder | None = None


@dataclass(eq=False)
class Open:
    path: PurePosixPath
    file: File | None = None
    has_lock: bool = False


@dataclass
class Disk:
    """The files, and the descriptors of those that are open."""

    step: Callable[[str, str, str], None]
    """Called before a change or a look at a name: with the moment, the name and what it does.

    It may raise."""
    files: dict[str, File] = field(default_factory=dict)
    trouble: str = NOTHING
    _descriptors: dict[int, Open] = field(default_factory=dict)
    _made: int = 1_000_000  # no descriptor of the real system

    # What the system's calls do.

    def open(self, path: PurePosixPath, *, create: bool) -> int:
        self.check(writing=create)
        if path not in _FOLDERS:
            if path.name not in self.files:
                if not create:
                    raise _error(errno.ENOENT)
                self.files[path.name] = File()
            return self._descriptor(Open(path, self.files[path.name]))
        return self._descriptor(Open(path))

    def new_file(self) -> tuple[int, str]:
        self.check(writing=True)
        self._made += 1
        path = FOLDER / f"{self._made}.tmp"
        self.files[path.name] = File()
        return self._descriptor(Open(path, self.files[path.name])), str(path)

    def opened(self, descriptor: int) -> Open:
        return self._descriptors[descriptor]

    def close(self, descriptor: int) -> None:
        closed = self._descriptors.pop(descriptor)
        if closed.file is not None and closed.has_lock:
            self.step("a release", closed.path.name, WRITTEN)
            closed.file.locked_by = None

    def sync(self, descriptor: int) -> None:
        self._change("a sync", "")

    def rename(self, source: str, target: str) -> None:
        self._change("a rename", target, REWRITTEN if target in self.files else WRITTEN)
        self.files[target] = self.files.pop(source)

    def unlink(self, name: str) -> None:
        """Remove a file. FileNotFoundError if there is none."""
        if name.endswith(".json"):
            self._change("a deletion", name)
        else:  # a temporary file, which may be lost
            self.check(writing=True)
        if name not in self.files:
            raise _error(errno.ENOENT)
        del self.files[name]

    def names(self) -> list[str]:
        self.check(writing=False)
        self.step("a look", "*", READ)
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        self.check(writing=False)
        self.step("a look", name, READ)
        if name not in self.files:
            raise _error(errno.ENOENT)
        return self.files[name].content

    def try_lock(self, descriptor: int, process: Holder) -> bool:
        """Lock a file for a process, unless another one that lives has it."""
        found = self.opened(descriptor)
        self.step("a lock", found.path.name, WRITTEN)
        assert found.file is not None
        holder = found.file.locked_by
        if holder is not None and not holder.is_dead:
            return False
        found.file.locked_by, found.has_lock = process, True
        return True

    def check(self, *, writing: bool) -> None:
        """Raise what the system would."""
        if self.trouble == GONE or (writing and self.trouble == FULL):
            raise _error(errno.EIO if self.trouble == GONE else errno.ENOSPC)

    def _change(self, moment: str, name: str, how: str = WRITTEN) -> None:
        self.step(moment, name, how)
        self.check(writing=True)

    def _descriptor(self, opened: Open) -> int:
        self._made += 1
        self._descriptors[self._made] = opened
        return self._made


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


T = TypeVar("T")
R = TypeVar("R")
_worlds: list[World] = []


@contextmanager
def in_place() -> Iterator[Callable[[World], None]]:
    """Put all stand-ins in place; yield what says which world runs from now on."""
    with ExitStack() as exits:
        # With it, the provider would not ask the simulated `pulumi` for the backend.
        exits.enter_context(mock.patch.dict(os.environ))
        os.environ.pop("PULUMI_BACKEND_URL", None)
        for where, name, stand_in in _STAND_INS:
            exits.enter_context(mock.patch.object(where, name, stand_in))
        before = list(_worlds)
        try:
            yield _enter
        finally:
            _worlds[:] = before


def journal_folder() -> Path:
    return _Path(FOLDER)  # type: ignore[return-value]


def _enter(world: World) -> None:
    _worlds[:] = [world]


def _disk() -> Disk:
    return _worlds[-1].disk


class _Path(PurePosixPath):
    __slots__ = ()

    def __truediv__(self, name: str) -> _Path:  # type: ignore[override]
        return _path(f"{self}/{name}")

    def exists(self) -> bool:
        return self == FOLDER or self.name in _disk().files

    def mkdir(self, *args: Any, **kwargs: Any) -> None:
        _disk().check(writing=True)

    def iterdir(self) -> Iterator[_Path]:
        return iter([self / name for name in _disk().names()])

    def read_text(self, *args: Any, **kwargs: Any) -> str:
        return _disk().read(self.name).decode()

    def replace(self, target: PurePosixPath) -> None:
        _disk().rename(self.name, target.name)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            _disk().unlink(self.name)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def stat(self) -> Any:
        return SimpleNamespace(st_mtime=1e12)


_path = functools.lru_cache(_Path)
"""The same few paths are made in every run, and it takes long to make one."""


class _Writer:
    def __init__(self, descriptor: int, *args: Any, **kwargs: Any) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *args: object) -> None:
        _disk().close(self._descriptor)

    def write(self, text: str) -> None:
        opened = _disk().opened(self._descriptor)
        assert opened.file is not None
        opened.file.content += text.encode()

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._descriptor


class _Os:
    O_RDONLY, O_RDWR, O_CREAT = os.O_RDONLY, os.O_RDWR, os.O_CREAT
    fdopen = _Writer

    def open(self, path: PurePosixPath, flags: int, mode: int = 0) -> int:
        return _disk().open(path, create=bool(flags & os.O_CREAT))

    def close(self, descriptor: int) -> None:
        _disk().close(descriptor)

    def fsync(self, descriptor: int) -> None:
        _disk().sync(descriptor)

    def listdir(self, path: PurePosixPath) -> list[str]:
        return _disk().names()


class _Thread:
    """A threading.Thread of a process, which it runs beside its next POST."""

    def __init__(self, target: Callable[[], None], **kwargs: object) -> None:
        self._target = target

    def start(self) -> None:
        _process().beside.append(self._target)


class _SerialPool:
    def __init__(self, *args: object) -> None:
        pass

    def __enter__(self) -> _SerialPool:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def map(self, function: Callable[[T], R], of: Iterable[T]) -> Iterator[R]:
        return map(function, of)

    def submit(self, function: Callable[..., R], *args: object) -> Future[R]:
        future = Future[R]()
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001 - as a pool does
            future.set_exception(error)
        return future


class _Lock:
    """A threading.Lock for which a turn, and not a thread, waits."""

    def __init__(self) -> None:
        self._is_taken = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._is_taken:
            _worlds[-1].turns.block(lambda: not self._is_taken)
        self._is_taken = True
        return True

    def release(self) -> None:
        self._is_taken = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


def _process() -> Process:
    return _worlds[-1].call().process


def _echo(message: object = "", **kwargs: object) -> None:
    _process().output.append(str(message))


def _print(renderable: Any) -> None:
    columns = getattr(renderable, "columns", None)
    cells = [str(renderable)] if columns is None else [str(c) for x in columns for c in x.cells]
    _echo("\n".join(cells))


def _confirm(text: str, **kwargs: object) -> bool:
    _echo(text)
    _process().step("a prompt waits", "prompt", READ)
    if not _worlds[-1].agrees(text):
        raise click.Abort
    return True


def _ask(*args: str, backend: str = "", **kwargs: object) -> Any:
    return _worlds[-1].pulumi(args, backend)


def _try_lock(descriptor: int, *, blocking: bool = True) -> bool:
    return _worlds[-1].try_lock(descriptor)


_moments = itertools.count()
_CLOCK = SimpleNamespace(monotonic=lambda: next(_moments) / 1e6)
"""Of what has real seconds for `pulumi` to answer, which on a busy computer could be over."""

_STAND_INS: list[tuple[Any, str, Any]] = [
    *((module, "time", _CLOCK) for module in (cache, common, creates, state)),
    (journal, "Path", _path),
    (journal, "os", _Os()),
    (
        journal,
        "json",
        SimpleNamespace(
            dumps=lambda data, indent: json.dumps(data),
            loads=functools.lru_cache(4096)(json.loads),
        ),
    ),
    (journal, "secrets", SimpleNamespace(token_hex=lambda size: _process().token())),
    (
        creates,
        "threading",
        SimpleNamespace(Lock=_Lock, Thread=_Thread, Condition=threading.Condition),
    ),
    (records, "threading", SimpleNamespace(Lock=_Lock)),
    (journal, "tempfile", SimpleNamespace(mkstemp=lambda **kwargs: _disk().new_file())),
    (filelock, "lock_descriptor", _try_lock),
    (state, "ask", _ask),
    (state, "folder", lambda: None),
    (state, "project_file", lambda folder: None),
    (state, "ThreadPoolExecutor", _SerialPool),
    (delete, "ThreadPerCall", _SerialPool),
    (cache, "threading", SimpleNamespace(Lock=_Lock)),
    (common, "_print", _print),
    (click, "confirm", _confirm),
    (click, "echo", _echo),
]
