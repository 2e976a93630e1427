"""One lock for each create: a file beside its entry, locked while a process works on it.

The system releases a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path


def try_lock(path: Path) -> AbstractContextManager[None] | None:
    """The lock, for the caller to release by leaving its block; None where a process holds it.

    OSError where the file can't be made or locked.
    """
    try:
        return _held(path, _acquire(path))
    except BlockingIOError:
        return None


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


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held it may have removed the file in the meantime.
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):  # noqa: PTH116
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _held(path: Path, descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        os.close(descriptor)
