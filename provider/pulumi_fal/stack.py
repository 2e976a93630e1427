"""Which stack a plugin process works for, and what that stack's state holds.

The engine tells a plugin neither the backend nor the organization. Two stacks of the same name
must never take each other for themselves, so what can't be found out for sure stays unknown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from pulumi_fal.journal import Origin

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
_EXPORT_TIMEOUT = 30.0


def backend(environ: Mapping[str, str], folder: Path) -> str:
    """The backend's URL, or "" where it can't be known: environment, project, then login.

    `folder` is the program's. A relative file URL counts from where the CLI runs.
    """
    url = environ.get("PULUMI_BACKEND_URL") or _project_backend(folder) or _login(environ)
    match = re.match(r"file://(.*)", url)
    if not match:
        return url.rstrip("/")
    path = Path(match[1]).expanduser()
    if not path.is_absolute():
        cli = _cli_process()
        if cli is None:
            return ""
        path = (cli / "cwd").readlink() / path
    return f"file://{os.path.realpath(path)}"


def own_organization(backend_url: str) -> str:
    """The organization where there is only one: every backend but Pulumi Cloud has just that."""
    return "" if backend_url.startswith("http") or not backend_url else "organization"


def ids_in_state(origin: Origin) -> frozenset[str] | None:
    """The ids of all machines in the stack's state, by `pulumi stack export`; None if no answer.

    It works while the stack is locked, and needs no passphrase.
    """
    cli = _cli()
    if cli is None or not origin.is_certain:
        return None
    name = f"{origin.organization}/{origin.project}/{origin.stack}"
    try:
        export = subprocess.run(
            [cli, "stack", "export", "--non-interactive", "--stack", name],
            env={
                **os.environ,
                "PULUMI_BACKEND_URL": origin.backend,
                "PULUMI_SKIP_UPDATE_CHECK": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_EXPORT_TIMEOUT,
            check=True,
        )
        resources = json.loads(export.stdout)["deployment"].get("resources") or []
        return frozenset(
            each["id"]
            for each in resources
            if each["type"] == TYPE_TOKEN and each.get("id") and not each.get("external")
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _project_backend(folder: Path) -> str:
    for parent in (folder, *folder.parents):
        for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
            if (parent / name).is_file():
                import yaml  # pulumi's own dependency; JSON is YAML as well

                project = yaml.safe_load((parent / name).read_text(encoding="utf-8")) or {}
                return str((project.get("backend") or {}).get("url") or "")
    return ""


def _login(environ: Mapping[str, str]) -> str:
    folder = environ.get("PULUMI_CREDENTIALS_PATH") or environ.get("PULUMI_HOME")
    path = Path(folder or Path.home() / ".pulumi") / "credentials.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("current") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _cli() -> str | None:
    """The CLI that started this process where that can be seen, else the one on PATH."""
    process = _cli_process()
    return str((process / "exe").readlink()) if process else shutil.which("pulumi")


def _cli_process() -> Path | None:
    """Where Linux shows the CLI's process, a parent of this one; None elsewhere."""
    for process in _parents(Path("/proc")):
        try:
            if (process / "exe").readlink().name == "pulumi":
                return process
        except OSError:
            return None
    return None


def _parents(proc: Path) -> Iterator[Path]:
    pid = os.getppid()
    while pid > 1:
        yield proc / str(pid)
        try:
            # The name in parentheses may hold anything, so the fields count from the last one.
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        pid = int(fields[1])
