"""A folder that loses, when the power fails, what was not synced: files' contents, and renames."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from pulumi_fal.machines import journal

NOTHING, FULL, GONE = "nothing", "full", "gone"
"""What is wrong with a disk: FULL can't be written, and GONE can't be read either."""


class Disk:
    """What is on disk for sure, beside what the system shows."""

    def __init__(self, folder: Path, step: Callable[[str], None]) -> None:
        """`step` is called before whatever changes the disk, and may raise."""
        self.folder = folder
        self.trouble: Callable[[], str] = lambda: NOTHING
        self._step = step
        self._synced: dict[int, bytes] = {}
        self._sure: dict[str, bytes] = {}
        self._pending: list[tuple[str, bytes | None]] = []
        self._sure_folders: set[Path] = set()

    def sync(self, descriptor: int) -> None:
        """What os.fsync does."""
        found = os.fstat(descriptor)
        self._change("a sync")
        if found.st_ino == self.folder.stat().st_ino:
            self._settle(len(self._pending))
        elif stat.S_ISDIR(found.st_mode):
            own = (self.folder, self.folder.parent)
            self._sure_folders |= {
                each for each in own if each.parent.stat().st_ino == found.st_ino
            }
        else:
            self._synced[found.st_ino] = os.pread(descriptor, found.st_size, 0)

    def rename(self, source: Path, target: Path) -> None:
        self._change("a rename")
        content = self._synced.pop(source.stat().st_ino, b"")
        os.replace(source, target)  # noqa: PTH105 - the method is the one that calls this
        self._pending.append((target.name, content))

    def unlink(self, path: Path) -> None:
        self._change("a deletion")
        if path.exists():
            self._synced.pop(path.stat().st_ino, None)
            os.unlink(path)  # noqa: PTH108 - as above
            self._pending.append((path.name, None))

    def lose_power(self, kept: int) -> None:
        """Everything that was not synced is lost, but for the first `kept` renames and deletions.

        A file that was renamed before its contents were synced is empty then, and a folder that is
        in none for sure is lost with all that is in it.
        """
        self._settle(min(kept, len(self._pending)))
        self._pending.clear()
        if len(self._sure_folders) < 2:
            self._sure.clear()
        for path in self.folder.iterdir() if self.folder.exists() else ():
            os.unlink(path)  # noqa: PTH108 - not through the disk that is just failing
        for name, content in self._sure.items():
            (self.folder / name).write_bytes(content)

    def check(self, *, writing: bool) -> None:
        """Raise what the system would."""
        trouble = self.trouble()
        if trouble == GONE or (writing and trouble == FULL):
            number = errno.EIO if trouble == GONE else errno.ENOSPC
            raise OSError(number, os.strerror(number))

    def _change(self, what: str) -> None:
        self._step(what)
        self.check(writing=True)

    def _settle(self, count: int) -> None:
        for name, content in self._pending[:count]:
            if content is None:
                self._sure.pop(name, None)
            else:
                self._sure[name] = content
        del self._pending[:count]


_disks: list[Disk] = []


class _DiskPath(type(Path())):  # type: ignore[misc]
    """A path whose changes go through the disk that is in place."""

    __slots__ = ()

    def replace(self, target: Any) -> Any:
        return _disks[-1].rename(Path(self), Path(target))

    def unlink(self, missing_ok: bool = False) -> None:
        _disks[-1].unlink(Path(self))

    def iterdir(self) -> Iterator[Any]:
        _disks[-1].check(writing=False)
        return iter(list(super().iterdir()))

    def read_text(self, *args: Any, **kwargs: Any) -> str:
        _disks[-1].check(writing=False)
        return str(super().read_text(*args, **kwargs))


@contextmanager
def in_place(disk: Disk) -> Iterator[Path]:
    """The journal's folder is on this disk; yields the folder for it."""
    _disks.append(disk)
    paths = mock.patch.object(journal, "Path", _DiskPath)
    with mock.patch.object(os, "fsync", lambda each: disk.sync(each)), paths:
        try:
            yield _DiskPath(disk.folder)
        finally:
            _disks.pop()
