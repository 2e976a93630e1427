"""Finds and runs the `pulumi` command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pulumi_fal.errors import StackError, printable

SECONDS = 30.0
"""The default time limit of a command."""
_PROC = Path("/proc")


def pulumi(*args: str, backend: str = "", seconds: float = SECONDS) -> str:
    """Run a `pulumi` command in the project's folder, and return what it prints.

    Without `backend`, the command uses its own. It is killed after so many seconds. Raises
    StackError with the command's message if it fails.
    """
    cli = _cli()
    if cli is None:
        raise StackError("there is no `pulumi` command on PATH")
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1"}
    if backend:
        environment["PULUMI_BACKEND_URL"] = backend
    command = f"`pulumi {' '.join(args)}`"
    try:
        ended = subprocess.run(
            [cli, *args, "--non-interactive", "--color=never"],
            cwd=folder(),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{command} did not end within {seconds:.3g} s") from None
    except OSError as error:
        raise StackError(f"{command} can't be started: {error.strerror}") from None
    if ended.returncode != 0:
        words = _words(ended.stderr.replace("error: ", ""))
        raise StackError(f"{command} failed: {words or f'exit code {ended.returncode}'}")
    return ended.stdout


def ask(*args: str, backend: str = "", seconds: float = SECONDS) -> Any:
    """Run a command as `pulumi` does, and return the JSON that it prints."""
    try:
        return json.loads(pulumi(*args, backend=backend, seconds=seconds))
    except ValueError:
        raise StackError(f"`pulumi {' '.join(args)}` printed no JSON") from None


def _words(text: str) -> str:
    """Return the text on one line, without the user and the password of any URL in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", " ".join(printable(text).split()))


def folder() -> Path:
    """Return the project's folder, or the current one if it is in no project."""
    file = project_file(Path.cwd())
    return file.parent if file else Path.cwd()


def project_file(folder: Path) -> Path | None:
    """Return the project file that a command in this folder uses."""
    for parent in (folder, *folder.parents):
        for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
            if (parent / name).is_file():
                return parent / name
    return None


def _cli() -> str | None:
    """Return the CLI that started this process if that is known, else the one on PATH.

    If there is none on PATH, take the one beside this Python, whose virtual environment may not be
    activated.
    """
    started_by = _started_by()
    # If no CLI started this process, the process found is a shell, or something else.
    if started_by is not None and started_by.name.startswith("pulumi"):
        found = shutil.which(started_by)  # an upgrade may have removed it since
        if found:
            return found
    beside = Path(sys.executable).parent
    return shutil.which("pulumi") or shutil.which("pulumi", path=str(beside))


def _started_by() -> Path | None:
    """Return the program that started this process; None if the system hides it.

    The engine gives each plugin its own process group. So the CLI is the nearest ancestor in
    another group, whatever its file is called.
    """
    if not hasattr(os, "getpgrp"):  # Windows has no process groups
        return None
    for process, group in _above():
        if group != os.getpgrp():
            try:
                return (process / "exe").readlink()
            except OSError:
                return None
    return None


def _above() -> Iterator[tuple[Path, int]]:
    """Yield the ancestors of this process with their process groups, the parent first.

    Process 1 is left out, because it adopts every process whose parent has ended.
    """
    # psutil could do this on macOS and Windows too. But every installation would get a compiled
    # package, only to find a CLI that nearly always is the one on PATH.
    pid = os.getppid()
    while pid > 1:
        process = _PROC / str(pid)
        try:
            text = (process / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        # The name is in parentheses and may contain more of them, so split after the last.
        _, parent, group = text.rpartition(")")[2].split()[:3]
        yield process, int(group)
        pid = int(parent)
