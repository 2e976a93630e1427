"""The journal's folder in memory. A power failure loses what was not synced: contents and renames.

The provider's `journal` and `locks` use it through `pathlib`, `os` and `tempfile`; in_place.py puts
the classes of this module in their place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

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
    synced: bytes = b""
    """What a power failure leaves of it."""
    locked_by: Holder | None = None


@dataclass(eq=False)
class Open:
    """A descriptor: of a file, or of a folder."""

    path: PurePosixPath
    file: File | None = None
    has_lock: bool = False


@dataclass
class Disk:
    """The files, and what of them is on disk for sure."""

    step: Callable[[str, str, str], None]
    """Called before a change or a look at a name: with the moment, the name and what it does.

    It may raise."""
    files: dict[str, File] = field(default_factory=dict)
    trouble: str = NOTHING
    _descriptors: dict[int, Open] = field(default_factory=dict)
    _made: int = 1_000_000  # no descriptor of the real system
    _sure: dict[str, bytes] = field(default_factory=dict)
    _pending: list[tuple[str, bytes | None]] = field(default_factory=list)
    _sure_folders: set[PurePosixPath] = field(default_factory=set)

    # What the system's calls do.

    def open(self, path: PurePosixPath, *, create: bool) -> int:
        """Return a descriptor."""
        self.check(writing=create)
        if path not in _FOLDERS:
            if path.name not in self.files:
                if not create:
                    raise _error(errno.ENOENT)
                self.files[path.name] = File()
            return self._descriptor(Open(path, self.files[path.name]))
        return self._descriptor(Open(path))

    def new_file(self) -> tuple[int, str]:
        """Return the descriptor and the name of a new temporary file."""
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
        """What os.fsync does."""
        found = self.opened(descriptor)
        self._change("a sync", "")
        if found.file is not None:
            found.file.synced = found.file.content
        elif found.path == FOLDER:
            self._settle(len(self._pending))
        else:
            own = (FOLDER, FOLDER.parent)
            self._sure_folders |= {folder for folder in own if folder.parent == found.path}

    def rename(self, source: str, target: str) -> None:
        self._change("a rename", target, REWRITTEN if target in self.files else WRITTEN)
        self.files[target] = self.files.pop(source)
        self._pending.append((target, self.files[target].synced))

    def unlink(self, name: str) -> None:
        """Remove a file. FileNotFoundError if there is none."""
        if name.endswith(".json"):
            self._change("a deletion", name)
        else:  # a temporary file, which may be lost
            self.check(writing=True)
        if name not in self.files:
            raise _error(errno.ENOENT)
        del self.files[name]
        self._pending.append((name, None))

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

    # What may happen to it.

    def lose_power(self, kept: int) -> None:
        """Everything that was not synced is lost, but for the first `kept` renames and deletions.

        A file that was renamed before its contents were synced is empty then, and a folder that is
        in none for sure is lost with all that is in it.
        """
        self._settle(min(kept, len(self._pending)))
        self._pending.clear()
        if len(self._sure_folders) < 2:
            self._sure.clear()
        self.files = {name: File(content, content) for name, content in self._sure.items()}

    def check(self, *, writing: bool) -> None:
        """Raise what the system would."""
        if self.trouble == GONE or (writing and self.trouble == FULL):
            raise _error(errno.EIO if self.trouble == GONE else errno.ENOSPC)

    def _change(self, moment: str, name: str, how: str = WRITTEN) -> None:
        self.step(moment, name, how)
        self.check(writing=True)

    def _settle(self, count: int) -> None:
        for name, content in self._pending[:count]:
            if content is None:
                self._sure.pop(name, None)
            else:
                self._sure[name] = content
        del self._pending[:count]

    def _descriptor(self, opened: Open) -> int:
        self._made += 1
        self._descriptors[self._made] = opened
        return self._made


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
