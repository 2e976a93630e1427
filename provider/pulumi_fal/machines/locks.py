"""Locks for creates: a process that works on a create locks a file beside its entry.

The operating system releases the lock when the process ends, even if it was killed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pulumi_fal.machines import files


def try_lock(path: Path) -> AbstractContextManager[None] | None:
    """Return the lock, which is released at the end of its `with` block; None if it is taken.

    Raises OSError if the file can't be created, or the operating system can't lock it.
    """
    descriptor = _acquire(path)
    return None if descriptor is None else _held(path, descriptor)


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


def _acquire(path: Path) -> int | None:
    # Imported late, because every program that declares machines imports this module.
    from filelock import lock_descriptor

    while True:
        # Windows refuses this for the moment in which the previous holder removes the file.
        descriptor = files.patiently(lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
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

    The previous holder of the lock may have removed the file after this process opened it. On
    Windows an open file can't be removed.
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
        # Remove the file first: once the lock is released, another process may lock the file.
        is_refused = _remove(path)
        os.close(descriptor)
        if is_refused:
            _remove(path)


def _remove(path: Path) -> bool:
    """Remove the file. Returns whether that was refused, as on Windows while it is open."""
    try:
        os.unlink(path)  # noqa: PTH108
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
