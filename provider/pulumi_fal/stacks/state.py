"""Runs the `pulumi` command, and reads with it what is in the state of stacks."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pulumi_fal import clock
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import StackError, printable
from pulumi_fal.tokens import MACHINES

SECONDS = 30.0
"""The default time limit of a command."""
IMPORT_REFUSED = "importRefused"
"""The output that the native plugin sets in state if it refused to import the machine. The stack
does not have that machine: the next command removes it from state."""
PROVIDERS = "pulumi:providers:"
"""The beginning of the types of provider resources."""
_AT_ONCE = 4
_TRIES = 4
NO_STACK = "no stack named"
"""What `pulumi stack export` says of a stack that is not there."""
NOT_SELECTED = "no stack selected"
"""What `pulumi` says in a folder in which no stack is selected."""
NO_COMMAND = "there is no `pulumi` command on PATH"
_CUT_SHORT = "failed to load checkpoint: EOF"
"""What `pulumi stack export` says if it reads a state file that an update is just writing."""


def pulumi(*args: str, backend: str = "", seconds: float = SECONDS) -> str:
    """Run a `pulumi` command in the project's folder, and return what it prints.

    Without `backend`, the command uses its own. It is killed after so many seconds. Raises
    StackError with the command's message if it fails.
    """
    cli = _cli()
    if cli is None:
        raise StackError(NO_COMMAND)
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
    """Return the `pulumi` on PATH, or else the one beside this Python.

    The latter is in a virtual environment, which may not be activated.
    """
    beside = Path(sys.executable).parent
    return shutil.which("pulumi") or shutil.which("pulumi", path=str(beside))


@dataclass(frozen=True)
class StackMachine:
    """A machine in a stack's state, under the resource's URN."""

    id: str
    urn: str
    account_id: AccountId = field(default_factory=AccountId)
    """Where the machine was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded the machine in state, in seconds since the epoch; None if unknown."""
    sector: str | None = None
    """The sector that the machine is in; None if it has none or if that is a secret."""
    ip: str | None = None
    """The machine's address; None if it has none yet or if that is a secret."""
    is_replaced: bool = False
    """Whether an interrupted or running update replaces the machine: it is deleted, or will be."""
    instance_type: str | None = None
    """The type that the program requested; None if that is a secret."""
    requested_sector: str | None = None
    """The sector that the program requested; None if it requested none or if that is a secret."""
    max_age: float = math.inf
    """For how many seconds the machine is meant to run; infinite if that is a secret."""
    ssh_key: str | None = field(default=None, repr=False)
    """The SSH key that the program requested; None if that is a secret."""

    def requested(self, default: NewInstance) -> NewInstance:
        """Return what the program requested, with the values of `default` for those not known."""
        return NewInstance(
            self.instance_type or default.instance_type,
            self.ssh_key or default.ssh_key,
            self.requested_sector,
        )


@dataclass(frozen=True)
class Stack:
    """A stack that was read. The ids of its provider resources say which one it is."""

    name: str
    """The full name: ORGANIZATION/PROJECT/STACK."""
    backend: str = ""
    """The backend in which it was found."""
    machines: tuple[StackMachine, ...] = ()
    providers: Mapping[str, str] = field(default_factory=dict)
    """The ids of all provider resources in state, with their types."""
    pending: tuple[StackMachine, ...] = ()
    """What is being created, or was when an update was cut off: one without an id per create."""
    is_updating: bool = False
    """Whether an update of it is in progress, as far as a list of several stacks shows."""
    asked: float = field(default=0.0, compare=False)
    """When `pulumi` was asked for it, as time.monotonic has it."""

    @property
    def organization(self) -> str:
        """The organization of a stack in Pulumi Cloud."""
        return self.name.partition("/")[0]

    @property
    def creating(self) -> tuple[str, ...]:
        """The URNs of the creates that are pending, one for each."""
        return tuple(machine.urn for machine in self.pending)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the machines."""
        return frozenset(machine.id for machine in self.machines)


@dataclass(frozen=True)
class Found:
    """The stacks that were read, and those that could not be, each with the reason."""

    stacks: tuple[Stack, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Found) -> Found:
        """Return what was found in both. Of a stack that was read twice, the newer state counts."""
        found = sorted(self.stacks + other.stacks, key=lambda stack: stack.asked)
        stacks = {(stack.backend, stack.name): stack for stack in found}
        return Found(tuple(stacks.values()), {**self.unread, **other.unread})

    def at(self, backend: str) -> Found:
        """Return the same, found in that backend."""
        return Found(tuple(replace(stack, backend=backend) for stack in self.stacks), self.unread)


def read(name: str = "", backend: str = "", seconds: float = SECONDS) -> Stack:
    """Return a stack, which `pulumi stack export` prints.

    This works while the stack is locked, and needs no passphrase. Without `name`, it is the stack
    that is selected in this folder; without `backend`, the command uses its own. Raises StackError
    if the stack can't be read.
    """
    asked = time.monotonic()
    exported = _exported(name, backend, seconds)
    try:
        deployment = exported["deployment"]
        resources = deployment.get("resources") or []
        operations = deployment.get("pending_operations") or []
        return Stack(
            name,
            backend,
            tuple(
                _machine(resource)
                for resource in resources
                if resource["type"] in MACHINES
                and resource.get("id")
                and not resource.get("external")
                and IMPORT_REFUSED not in (resource.get("outputs") or {})
            ),
            {
                resource["id"]: resource["type"]
                for resource in resources
                if resource["type"].startswith(PROVIDERS) and resource.get("id")
            },
            tuple(_machine(row["resource"]) for row in operations if row["type"] == "creating"),
            asked=asked,
        )
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi stack export` printed something that is not a stack") from None


def _exported(name: str, backend: str, seconds: float) -> Any:
    args = ("stack", "export", *(("--stack", name) if name else ()))
    end = time.monotonic() + seconds
    tries = 0
    while True:
        tries += 1
        try:
            return ask(*args, backend=backend, seconds=max(0.0, end - time.monotonic()))
        except StackError as error:
            # The write is likely over when another command has started.
            if tries == _TRIES or _CUT_SHORT not in str(error):
                raise


def read_all(
    stacks: Sequence[str],
    backend: str = "",
    seconds: float = math.inf,
    on_read: Callable[[], None] = lambda: None,
    marks: Mapping[str, object] = MappingProxyType({}),
) -> Found:
    """Read stacks in parallel. Those that can't be read within so many seconds are unread.

    `on_read` is called after each stack, in any thread. `marks` may have what `names` returned:
    stacks that are empty by that need no reading.
    """
    end = time.monotonic() + seconds

    def attempt(name: str) -> Stack | StackError:
        left, mark = end - time.monotonic(), marks.get(name)
        if isinstance(mark, tuple) and mark[1] == 0:
            on_read()
            return Stack(name, backend)
        if left <= 0:
            return StackError(f"there was no time for it within {seconds:.3g} s")
        try:
            return read(name, backend, min(left, SECONDS))
        except StackError as error:
            return error
        finally:
            on_read()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip(stacks, pool.map(attempt, stacks), strict=True))
    return Found(
        tuple(answer for answer in answers.values() if isinstance(answer, Stack)),
        {name: str(answer) for name, answer in answers.items() if isinstance(answer, StackError)},
    )


def _moment(text: object) -> float | None:
    """Parse a time as Pulumi prints it, into seconds since the epoch; None if it is no time."""
    try:
        # Python 3.10 parses neither Z nor nanoseconds.
        whole = re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00")
        moment = datetime.fromisoformat(whole)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None


def _machine(resource: Mapping[str, Any]) -> StackMachine:
    inputs, outputs = (_texts(resource.get(name)) for name in ("inputs", "outputs"))
    return StackMachine(
        resource.get("id", ""),
        resource["urn"],
        AccountId.of(outputs),
        _moment(resource.get("created")),
        outputs.get("sector"),
        outputs.get("ip"),
        bool(resource.get("delete") or resource.get("pendingReplacement")),
        # The two hosts have different names for it.
        inputs.get("instance_type") or inputs.get("instanceType"),
        inputs.get("sector"),
        clock.parse_duration(inputs.get("max_age") or inputs.get("maxAge", "")) or math.inf,
        inputs.get("ssh_key") or inputs.get("sshKey"),
    )


def _texts(properties: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the properties that are text. A secret is none."""
    return {name: value for name, value in (properties or {}).items() if isinstance(value, str)}


def names(backend: str = "", seconds: float = SECONDS, *, project: str = "") -> dict[str, object]:
    """Return the full names of the backend's stacks: all of them, or those of a project.

    Each comes with what changes with its state: when it was last updated, and how many resources it
    has. This is None during an update. Without a backend, `pulumi` uses its own.
    """
    which = ("--project", project) if project else ("--all",)
    args = ("stack", "ls", *which, "--json", "--fully-qualify-stack-names")
    listed = ask(*args, backend=backend, seconds=seconds)
    try:
        return {
            row["name"]: (row["lastUpdate"], row.get("resourceCount"))
            if row.get("lastUpdate")
            else None
            for row in sorted(listed, key=lambda row: str(row["name"]))
        }
    except (KeyError, TypeError, AttributeError):
        raise StackError("`pulumi stack ls` printed something that is not a list") from None


def config() -> dict[str, str | None]:
    """Return the config of the stack that is selected in this folder. Secrets are None."""
    listed = ask("config", "--json")
    try:
        return {key: None if row["secret"] else row["value"] for key, row in listed.items()}
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi config` printed something that is not a config") from None
