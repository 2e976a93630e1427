"""What the package does where Linux's own is missing: see also tests/plugin/test_hosts.py.

These tests take it away. They can't show that everything works on Windows or macOS.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.journal import Entry, Journal, new_file
from pulumi_fal.stacks import cache

from ..fakes import HERE, ONE
from ..processes import TAKEN_AWAY

REQUESTED = NewInstance(ONE, "f00d")
ENTRY = Entry(HERE, "0123456789ab", REQUESTED, (), 1_700_000_000.0, file=new_file(HERE))


@pytest.fixture
def records(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


IMPORTS = """
import importlib, pkgutil, pulumi_fal
for module in pkgutil.walk_packages(pulumi_fal.__path__, "pulumi_fal."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.startswith("pulumi_fal.machines."))[-1])
"""


def test_imports() -> None:
    """The program, the provider, the command line and the emulator: none needs Linux."""
    command = [sys.executable, "-c", TAKEN_AWAY + IMPORTS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (ended.stdout, ended.returncode) == ("pulumi_fal.machines.whose\n", 0), ended.stderr


# Folders.


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_no_folder_sync(records: Journal, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Windows refuses to open a folder; another system may refuse the sync."""
    refused: list[Any] = []
    original = getattr(os, call)

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        if os.path.isdir(file):  # noqa: PTH112 - a descriptor, where it is to be synced
            refused.append(file)
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(file, *args, **kwargs)

    monkeypatch.setattr(os, call, refuse)
    for _ in range(2):
        records.write(ENTRY)
    assert records.of(HERE) == [ENTRY]
    records.drop(ENTRY)
    assert refused or os.name == "nt"


def test_folder_below_a_file(records: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows says that there is no such folder, and the file may be there by mistake."""
    refused = FileNotFoundError(errno.ENOENT, "The system cannot find the path specified")
    monkeypatch.setattr(os, "listdir", mock.Mock(side_effect=refused))
    assert list(records.entries()) == []
    records.folder.parent.parent.mkdir()
    records.folder.parent.touch()
    with pytest.raises(JournalError, match=r"can't be read: .*fal-compute is a file"):
        list(records.entries())


# Files that are open: Windows neither removes nor replaces one.


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[float]]:
    """Refuses calls of a method of Path, as Windows does while a file is open; the pauses."""

    def refuse(method: str, times: int) -> list[float]:
        pauses: list[float] = []
        original, left = getattr(Path, method), iter(range(times))

        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is not None:
                raise PermissionError(errno.EACCES, "Access is denied")
            return original(*args, **kwargs)

        monkeypatch.setattr(Path, method, call)
        monkeypatch.setattr(time, "sleep", pauses.append)
        return pauses

    return refuse


Refuse = Callable[[str, int], list[float]]


@pytest.mark.parametrize(
    "method, act",
    [
        ("replace", lambda records: records.write(ENTRY)),
        ("read_text", lambda records: records.of(HERE)),
        ("unlink", lambda records: records.drop(ENTRY)),
    ],
)
def test_open_record(
    records: Journal, refuse: Refuse, method: str, act: Callable[[Journal], object]
) -> None:
    """An entry that another create reads is written, read and dropped a moment later."""
    records.write(ENTRY)
    pauses = refuse(method, 3)
    act(records)
    assert len(pauses) == 3


def test_closed_record(records: Journal, refuse: Refuse) -> None:
    """A record that stays refused is reported: a folder may really be closed to this person."""
    records.write(ENTRY)
    pauses = refuse("read_text", 99)
    with pytest.raises(JournalError, match="can't be read: Access is denied"):
        records.of(HERE)
    assert sum(pauses) < 1


# Processes and paths.


@pytest.mark.parametrize(
    "path, expected",
    [
        ("C:/states", "C:/states"),
        ("/C:/states", "C:/states"),
        ("C:\\states", "C:/states"),
        ("./states", "states"),
        ("/states", "/states"),
        ("//computer/states", "//computer/states/"),
    ],
)
def test_file_url(path: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may name a drive, with or without a slash before it, or none."""
    monkeypatch.setattr(cache, "Path", PureWindowsPath)
    assert cache._path(f"file://{path}").as_posix() == expected
