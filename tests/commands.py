"""Commands that tests make up, as the system of this computer runs them."""

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
