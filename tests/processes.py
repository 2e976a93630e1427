"""Commands of their own that tests start, and a system that lacks what Linux has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

PYTHON = sys.executable
POSIX_SHELL = pytest.mark.skipif(
    os.name == "nt", reason="the Makefile and the commands in the docs are for a POSIX shell"
)


def command(file: Path, program: str) -> Path:
    """Make a command that runs a Python program; its file. On Windows `.bat` follows the name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        source = file.with_name(f"{file.name}.py")
        source.write_text(program, encoding="utf-8")
        file = file.with_name(f"{file.name}.bat")
        file.write_text(f'@"{PYTHON}" "{source}" %*\n', encoding="utf-8")
    else:
        file.write_text(f"#!{PYTHON}\n{program}", encoding="utf-8")
        file.chmod(0o755)
    return file


TAKEN_AWAY = """
import os, stat, sys

# Windows has none of these.
sys.modules["fcntl"] = None
for name in ("getpgrp", "getuid", "geteuid", "fork", "register_at_fork", "getpgid", "setsid"):
    if hasattr(os, name):
        delattr(os, name)
# So that the standard library removes a folder as it does there, without opening it.
os.supports_dir_fd.clear()
fsync = os.fsync


def sync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise PermissionError(13, "Permission denied")
    fsync(descriptor)


def refuse(event, args):
    if event != "open" or not isinstance(args[0], str):
        return
    if os.path.isdir(args[0]):
        raise PermissionError(13, "Permission denied", args[0])


os.fsync = sync
sys.addaudithook(refuse)
"""
"""No locks, no folders that can be opened or synced, and no process groups."""
