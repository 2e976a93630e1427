"""Locks for creates: a process that works on a create locks a file beside its entry.

The operating system releases the lock when the process ends, even if it was killed. The empty file
stays: if a process removed it, two others could lock two files of the same name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path


def try_lock(path: Path) -> AbstractContextManager[None] | None:
    """Return the lock, which is released at the end of its `with` block; None if it is taken.

    Raises OSError if the file can't be created, or the operating system can't lock it.
    """
    # Imported late, because every program that declares machines imports this module.
    from filelock import lock_descriptor

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        is_locked = lock_descriptor(descriptor, blocking=False)
    except BaseException:
        os.close(descriptor)
        raise
    if is_locked:
        return _held(descriptor)
    os.close(descriptor)
    return None


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


@contextlib.contextmanager
def _held(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
