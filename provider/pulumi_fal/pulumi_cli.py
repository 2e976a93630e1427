"""The `pulumi` command: which one to run, and what it prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pulumi_fal.errors import StackError

SECONDS = 30.0
"""How long a command may take where the caller doesn't say."""
_PROC = Path("/proc")


def pulumi(
    *args: str, backend: str = "", seconds: float = SECONDS, folder: Path | None = None
) -> str:
    """What a `pulumi` command prints; StackError with its own words where it fails.

    `backend` is the one that the command uses here where it isn't given; the command runs in
    `folder`, else in this process's. After so many seconds it is killed, which is a failure.
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
            cwd=folder,
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
        words = " ".join(ended.stderr.replace("error: ", "").split())
        raise StackError(f"{command} failed: {words or f'exit code {ended.returncode}'}")
    return ended.stdout


def ask(*args: str, backend: str = "", seconds: float = SECONDS, folder: Path | None = None) -> Any:
    """The JSON that a command prints; otherwise as `pulumi`."""
    try:
        return json.loads(pulumi(*args, backend=backend, seconds=seconds, folder=folder))
    except ValueError:
        raise StackError(f"`pulumi {' '.join(args)}` printed no JSON") from None


def folder() -> Path | None:
    """The folder that the CLI which started this process runs in; None where it isn't shown."""
    return _link("cwd")


def project_file(folder: Path) -> Path | None:
    """The Pulumi.yaml that a command in this folder goes by."""
    for parent in (folder, *folder.parents):
        for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
            if (parent / name).is_file():
                return parent / name
    return None


def _cli() -> str | None:
    """The CLI that started this process where that can be seen, else the one on PATH.

    Else one beside this Python: a virtual environment need not be activated to be used.
    """
    started_by = _link("exe")
    # Where no CLI has started this process, the one above it is a shell, or anything else.
    if started_by is not None and started_by.name.startswith("pulumi"):
        found = shutil.which(started_by)  # it may have been replaced since by another version
        if found:
            return found
    beside = Path(sys.executable).parent
    return shutil.which("pulumi") or shutil.which("pulumi", path=str(beside))


def _link(name: str) -> Path | None:
    process = _process()
    try:
        return (process / name).readlink() if process else None
    except OSError:
        return None


def _process() -> Path | None:
    """Where Linux shows the CLI that started this process; None elsewhere.

    The engine gives each plugin a process group of its own, so the CLI is the first of those above
    that is in another one, whatever its file is called.
    """
    if not hasattr(os, "getpgrp"):  # Windows has no process groups
        return None
    for process, group in _above():
        if group != os.getpgrp():
            return process
    return None


def _above() -> Iterator[tuple[Path, int]]:
    """The parent of this process, its parent and so on, with their process groups.

    Without the first of all processes, which also takes in those whose own parent has ended.
    """
    pid = os.getppid()
    while pid > 1:
        process = _PROC / str(pid)
        try:
            text = (process / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        # The name in parentheses may hold anything, so the fields count from the last one.
        _, parent, group = text.rpartition(")")[2].split()[:3]
        yield process, int(group)
        pid = int(parent)
