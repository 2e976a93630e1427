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
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi_fal.errors import StackError
from pulumi_fal.journal import Origin

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
IMPORT_TYPE_TOKEN = "pulumi-python:fal:ComputeInstanceImport"  # noqa: S105
"""Of the resource that goes ahead of an import, see compute_instance.py."""
_TIMEOUT = 30.0


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


def is_ours(urn: str, token: str = TYPE_TOKEN) -> bool:
    """Whether the URN is a ComputeInstance's, or of another type that is given."""
    types = urn.split("::")[2:3]
    return bool(types) and types[0].split("$")[-1] == token


def own_organization(backend_url: str) -> str:
    """The organization where there is only one: every backend but Pulumi Cloud has just that."""
    return "" if backend_url.startswith("http") or not backend_url else "organization"


@dataclass(frozen=True)
class Held:
    """A machine in a stack's state, under the resource's URN."""

    id: str
    urn: str


def ids_in_state(origin: Origin) -> frozenset[str] | None:
    """The ids of all machines in the stack of a resource; None if there is no answer."""
    if not origin.is_certain:
        return None
    name = f"{origin.organization}/{origin.project}/{origin.stack}"
    try:
        return frozenset(each.id for each in machines(name, origin.backend))
    except StackError:
        return None


def machines(name: str, backend: str = "") -> list[Held]:
    """The machines in a stack's state, by `pulumi stack export`; StackError where it can't be read.

    It works while the stack is locked, and needs no passphrase. `backend` is the one that the
    command uses here where it isn't given.
    """
    exported = _json("stack", "export", "--stack", name, backend=backend)
    try:
        return [
            Held(each["id"], each["urn"])
            for each in exported["deployment"].get("resources") or []
            if each["type"] == TYPE_TOKEN and each.get("id") and not each.get("external")
        ]
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi stack export` printed something that is not a stack") from None


def names() -> list[str]:
    """All stacks of the backend that the `pulumi` command uses here, by their full names."""
    listed = _json("stack", "ls", "--all", "--json", "--fully-qualify-stack-names")
    try:
        return sorted(each["name"] for each in listed)
    except (KeyError, TypeError):
        raise StackError("`pulumi stack ls` printed something that is not a list") from None


def config() -> dict[str, str | None]:
    """The config of the stack that is selected in this folder; None for the value of a secret."""
    listed = _json("config", "--json")
    try:
        return {key: None if each["secret"] else each["value"] for key, each in listed.items()}
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi config` printed something that is not a config") from None


def pulumi(*args: str, backend: str = "") -> str:
    """What a `pulumi` command prints; StackError with its own words where it fails."""
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
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{command} did not end within {_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise StackError(f"{command} can't be started: {error.strerror}") from None
    if ended.returncode != 0:
        words = " ".join(ended.stderr.replace("error: ", "").split())
        raise StackError(f"{command} failed: {words or f'exit code {ended.returncode}'}")
    return ended.stdout


def _json(*args: str, backend: str = "") -> Any:
    try:
        return json.loads(pulumi(*args, backend=backend))
    except ValueError:
        raise StackError(f"`pulumi {' '.join(args)}` printed no JSON") from None


def project_file(folder: Path) -> Path | None:
    """The Pulumi.yaml that a command in this folder goes by."""
    for parent in (folder, *folder.parents):
        for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
            if (parent / name).is_file():
                return parent / name
    return None


def _project_backend(folder: Path) -> str:
    file = project_file(folder)
    if file is None:
        return ""
    import yaml  # pulumi's own dependency; JSON is YAML as well

    project = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return str((project.get("backend") or {}).get("url") or "")


def _login(environ: Mapping[str, str]) -> str:
    folder = environ.get("PULUMI_CREDENTIALS_PATH") or environ.get("PULUMI_HOME")
    path = Path(folder or Path.home() / ".pulumi") / "credentials.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("current") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _cli() -> str | None:
    """The CLI that started this process where that can be seen, else the one on PATH.

    Else one beside this Python: a virtual environment need not be activated to be used.
    """
    process = _cli_process()
    if process:
        return str((process / "exe").readlink())
    beside = Path(sys.executable).parent
    return shutil.which("pulumi") or shutil.which("pulumi", path=str(beside))


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
