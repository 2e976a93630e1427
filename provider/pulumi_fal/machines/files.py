"""Reads the journal's files, syncs them, and waits while the system refuses that briefly."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pulumi_fal.errors import JournalError
from pulumi_fal.machines.entry import VERSION, Entry

T = TypeVar("T")

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between the attempts of an operation on a file that the system may refuse briefly."""


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


def sync(folder: Path) -> None:
    """Sync a folder's names to disk, on systems that can open folders. Windows can't."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def patiently(change: Callable[[], T]) -> T:
    """Return the result of `change`, which is retried if the system refuses permission.

    Windows refuses to read, replace or remove a file while another thread or process uses it.
    """
    for seconds in _PAUSES:
        try:
            return change()
        except PermissionError:
            time.sleep(seconds)
    return change()
