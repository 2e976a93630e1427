"""Reads the machines in the state of stacks, and finds out which stack a plugin works for.

The engine tells a plugin neither the backend nor the organization, so the `pulumi` command is
asked. Two stacks of the same name must never be confused, so anything uncertain stays unknown.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from pulumi_fal import backend as backends
from pulumi_fal import pulumi_cli
from pulumi_fal.api.settings import Home
from pulumi_fal.errors import StackError
from pulumi_fal.tokens import MACHINES

ORGANIZATION_VARIABLE = "FAL_COMPUTE_ORGANIZATION"
"""The environment variable that names the organization if several have a stack of the same name."""
_LIST = "the list of stacks"
_AT_ONCE = 4
_T = TypeVar("_T")


def own_organization(backend_url: str) -> str:
    """Return the organization of a backend that has only one, as all but Pulumi Cloud do."""
    return "" if backend_url.startswith("http") or not backend_url else "organization"


@dataclass(frozen=True)
class Origin:
    """The resource that a create was for. Attributes are "" if unknown."""

    urn: str
    """It contains the project and the stack, too."""
    organization: str = ""
    backend: str = ""

    @property
    def stack(self) -> str:
        return self._part(1)

    @property
    def project(self) -> str:
        return self._part(2)

    def _part(self, place: int) -> str:
        # urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
        parts = self.urn.removeprefix("urn:pulumi:").split("::")
        return parts[place - 1] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]

    def may_be(self, other: Origin) -> bool:
        """Whether both may be the same resource: what is known of both is equal."""
        mine, others = (self.organization, self.backend), (other.organization, other.backend)
        return self.urn == other.urn and all(
            a == b or not a or not b for a, b in zip(mine, others, strict=True)
        )

    def may_share_stack(self, other: Origin) -> bool:
        """Whether both may be in the same stack: what is known of both stacks is equal."""
        same_name = (self.stack, self.project) == (other.stack, other.project)
        return same_name and replace(self, urn=other.urn).may_be(other)

    @property
    def is_certain(self) -> bool:
        """Whether everything about the resource is known."""
        return bool(self.urn and self.organization and self.backend)

    @property
    def unknown(self) -> list[str]:
        """What is not known about the stack: its "backend", its "organization", or both."""
        return [name for name in ("backend", "organization") if not getattr(self, name)]


@dataclass(frozen=True)
class StackMachine:
    """A machine in a stack's state, under the resource's URN."""

    id: str
    urn: str
    home: Home = field(default_factory=Home)
    """Where the machine was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded the machine in state, in seconds since the epoch; None if unknown."""
    sector: str | None = None
    """The sector that the machine is in; None if it has none or if that is a secret."""
    ip: str | None = None
    """The machine's address; None if it has none yet or if that is a secret."""
    is_replaced: bool = False
    """Whether an interrupted or running update replaces the machine: it is deleted, or will be."""


@dataclass(frozen=True)
class Elsewhere:
    """The machines in the other stacks of a backend, as far as those could be read."""

    ids: Mapping[str, str]
    """The name of the stack that has a machine, by the machine's id."""
    unread: Mapping[str, str]
    """The stacks that could not be read, or "the list of stacks", with the reason."""


class Stacks:
    """A thread-safe cache of what stacks contain. Each stack is read once per process.

    Failures are cached as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._asked_at: dict[Hashable, float] = {}
        self._answers: dict[Hashable, Any] = {}
        self._located: dict[tuple[str, str], str] = {}

    def backend(self, stack: str = "", project: str = "") -> str:
        """Return the URL of the backend that this process works with; "" if unknown.

        If the URL is relative and the CLI's folder is unknown, the lock of the stack shows it.
        """
        url = self._once("backend", backends.used)
        if isinstance(url, StackError):
            return ""
        if not url or backends.absolute(url, None):
            return url
        with self._lock:  # the stack's lock is released later, so remember what it showed
            found = self._located.get((stack, project)) or backends.locked(url, stack, project)
            self._located[stack, project] = found
            return found

    def origin(self, urn: str, organization: str) -> Origin:
        """Return the resource with this URN in the stack that this process works for.

        `organization` is the stack's, or "" if it is to be found out.
        """
        named = Origin(urn)
        backend = self.backend(named.stack, named.project)
        origin = Origin(urn, organization or own_organization(backend), backend)
        return replace(origin, organization=origin.organization or self._organization(origin))

    def _organization(self, origin: Origin) -> str:
        """Return the only organization with a stack of this name, or the one that the user names.

        The stack that a command works on exists, so it is among those that `pulumi` lists.
        """
        found = [stack.organization for stack in self.possible(origin)]
        if len(found) == 1:
            return found[0]
        named = os.environ.get(ORGANIZATION_VARIABLE, "")
        return named if named in found or not found else ""

    def possible(self, origin: Origin) -> list[Origin]:
        """Return what the origin may mean: itself if it is certain, else one per organization.

        There is none if the backend is unknown or can't list its stacks.
        """
        if origin.is_certain:
            return [origin]
        if not origin.backend or not origin.project:
            return []
        backend, project = origin.backend, origin.project
        listed = self._once(("project", backend, project), lambda: names(backend, project=project))
        if isinstance(listed, StackError):
            return []
        stacks = {name: replace(origin, organization=name.split("/")[0]) for name in listed}
        return [stack for name, stack in stacks.items() if name == _name(stack)]

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        """Return the machines in the origin's stack; None if it is uncertain or can't be read."""
        if not origin.is_certain:
            return None
        name, backend = _name(origin), origin.backend
        answer = self._once(("machines", name, backend), lambda: tuple(machines(name, backend)))
        return None if isinstance(answer, StackError) else answer

    def forget(self, origin: Origin) -> None:
        """Forget what the origin's stack contains, so that it is read again.

        An answer to a question that another thread asks after this call is new enough.
        """
        called_at = time.monotonic()
        with self._lock:
            asking = self._asking[what := ("machines", _name(origin), origin.backend)]
        with asking:
            if self._asked_at.get(what, called_at) <= called_at:
                self._answers.pop(what, None)

    def ids(self, origin: Origin) -> frozenset[str] | None:
        """Return the ids of the machines in the origin's stack; None as from `machines`."""
        held = self.machines(origin)
        return None if held is None else frozenset(machine.id for machine in held)

    def possible_machines(self, origin: Origin) -> list[StackMachine]:
        """Return the machines in every stack that the origin may mean, as far as it can be read."""
        return [
            machine for stack in self.possible(origin) for machine in self.machines(stack) or ()
        ]

    def has(self, origin: Origin, instance_id: str) -> bool | None:
        """Whether the machine is in state in the origin's stack, or in one that it may mean.

        None if that is not known.
        """
        ids = self.ids(origin)
        if ids is not None:
            return instance_id in ids
        return any(machine.id == instance_id for machine in self.possible_machines(origin)) or None

    def is_gone(self, origin: Origin) -> bool | None:
        """Whether the origin's stack was renamed or removed, so that the backend doesn't list it.

        None if unknown.
        """
        if not origin.is_certain:
            return None
        listed = self._names(origin.backend, pulumi_cli.SECONDS)
        # A file backend with the oldest layout has no projects, and so no full names.
        if isinstance(listed, StackError) or any(name.count("/") != 2 for name in listed):
            return None
        return _name(origin) not in listed

    def elsewhere(self, origin: Origin, seconds: float = 5.0) -> Elsewhere:
        """Return the machines in all other stacks of the origin's backend.

        A stack that can't be read within about so many seconds is among the unread.
        """
        if not origin.is_certain:
            unknown = " and which ".join(origin.unknown)
            return Elsewhere({}, {_LIST: f"it is not known which {unknown} this stack is in"})
        name, backend = _name(origin), origin.backend
        answer = self._once(
            ("elsewhere", name, backend), lambda: self._elsewhere(name, backend, seconds)
        )
        if isinstance(answer, StackError):
            return Elsewhere({}, {_LIST: str(answer)})
        return answer

    def _elsewhere(self, name: str, backend: str, seconds: float) -> Elsewhere:
        began = time.monotonic()
        listed = self._names(backend, seconds)
        if isinstance(listed, StackError):
            raise listed
        answers = read_all([other for other in listed if other != name], backend, seconds, began)
        return Elsewhere(
            {
                machine.id: other
                for other, answer in answers.items()
                if not isinstance(answer, StackError)
                for machine in answer
            },
            {
                other: str(answer)
                for other, answer in answers.items()
                if isinstance(answer, StackError)
            },
        )

    def _names(self, backend: str, seconds: float) -> Sequence[str] | StackError:
        return self._once(("names", backend), lambda: names(backend, seconds), seconds)

    def _once(self, what: Hashable, ask: Callable[[], _T], seconds: float = -1) -> _T | StackError:
        """Return the cached answer or failure. Waiting too long for another thread is one, too."""
        with self._lock:
            asking = self._asking[what]
        if not asking.acquire(timeout=seconds):
            return StackError(f"`pulumi` gave no answer within {seconds:.3g} s")
        try:
            if what not in self._answers:
                self._asked_at[what] = time.monotonic()
                try:
                    self._answers[what] = ask()
                except StackError as error:
                    self._answers[what] = error
            answer: _T | StackError = self._answers[what]
            return answer
        finally:
            asking.release()


def machines(
    name: str = "", backend: str = "", seconds: float = pulumi_cli.SECONDS
) -> list[StackMachine]:
    """Return the machines in a stack's state, which `pulumi stack export` prints.

    This works while the stack is locked, and needs no passphrase. Without `name`, it is the stack
    that is selected in this folder; without `backend`, the command uses its own. Raises StackError
    if the stack can't be read.
    """
    args = ("stack", "export", *(("--stack", name) if name else ()))
    exported = pulumi_cli.ask(*args, backend=backend, seconds=seconds)
    try:
        return [
            _machine(resource)
            for resource in exported["deployment"].get("resources") or []
            if resource["type"] in MACHINES and resource.get("id") and not resource.get("external")
        ]
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi stack export` printed something that is not a stack") from None


def read_all(
    stacks: Sequence[str], backend: str = "", seconds: float = math.inf, began: float | None = None
) -> dict[str, list[StackMachine] | StackError]:
    """Return the machines in each stack, or why it can't be read. Stacks are read in parallel.

    Reading ends about `seconds` after `began`, a time.monotonic() that defaults to now.
    """
    end = (time.monotonic() if began is None else began) + seconds

    def read(name: str) -> list[StackMachine] | StackError:
        left = end - time.monotonic()
        if left <= 0:
            return StackError(f"there was no time for it within {seconds:.3g} s")
        try:
            return machines(name, backend, min(left, pulumi_cli.SECONDS))
        except StackError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(stacks, pool.map(read, stacks), strict=True))


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
    # Secrets are not strings, so this ignores them.
    outputs = {
        name: value
        for name, value in (resource.get("outputs") or {}).items()
        if isinstance(value, str)
    }
    return StackMachine(
        resource["id"],
        resource["urn"],
        Home.of(outputs),
        _moment(resource.get("created")),
        outputs.get("sector"),
        outputs.get("ip"),
        bool(resource.get("delete") or resource.get("pendingReplacement")),
    )


def names(
    backend: str = "", seconds: float = pulumi_cli.SECONDS, *, project: str = ""
) -> list[str]:
    """Return the full names of the backend's stacks: all of them, or those of a project.

    Without a backend, `pulumi` uses its own.
    """
    which = ("--project", project) if project else ("--all",)
    args = ("stack", "ls", *which, "--json", "--fully-qualify-stack-names")
    listed = pulumi_cli.ask(*args, backend=backend, seconds=seconds)
    try:
        return sorted(row["name"] for row in listed)
    except (KeyError, TypeError):
        raise StackError("`pulumi stack ls` printed something that is not a list") from None


def config() -> dict[str, str | None]:
    """Return the config of the stack that is selected in this folder. Secrets are None."""
    listed = pulumi_cli.ask("config", "--json")
    try:
        return {key: None if row["secret"] else row["value"] for key, row in listed.items()}
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi config` printed something that is not a config") from None


def _name(origin: Origin) -> str:
    return f"{origin.organization}/{origin.project}/{origin.stack}"
