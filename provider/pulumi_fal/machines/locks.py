"""One lock for each create: a file beside its entry, locked while a process works on it.

The system releases a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path


def try_lock(path: Path) -> AbstractContextManager[None] | None:
    """The lock, for the caller to release by leaving its block; None where it is taken.

    OSError where the file can't be made, or the system can't lock it.
    """
    descriptor = _acquire(path)
    return None if descriptor is None else _held(path, descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock. False where that can't be found out."""
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


def _acquire(path: Path) -> int | None:
    # Only processes that create machines need it, and programs import this module, too.
    from filelock import lock_descriptor

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                os.close(descriptor)
                return None
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at this path.

    The process that held its lock may have removed it after this one had opened it. Windows
    removes no file that is open.
    """
    if sys.platform == "win32":
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _held(path: Path, descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        # The file goes before the lock does: after that, it may be another process's.
        is_refused = _remove(path)
        os.close(descriptor)
        if is_refused:
            _remove(path)


def _remove(path: Path) -> bool:
    """Whether the system refused to: Windows removes no file that any process has open."""
    try:
        os.unlink(path)  # noqa: PTH108
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
