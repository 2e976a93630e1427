"""What the stacks of a backend hold, and which stack a plugin process works for.

The engine tells a plugin neither the backend nor the organization. Two stacks of the same name
must never take each other for themselves, so what can't be found out for sure stays unknown.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from pulumi_fal import backend as backends
from pulumi_fal import pulumi_cli
from pulumi_fal.api.settings import Home
from pulumi_fal.errors import StackError
from pulumi_fal.tokens import TYPE_TOKEN

_LIST = "the list of stacks"
_AT_ONCE = 4
_T = TypeVar("_T")


def own_organization(backend_url: str) -> str:
    """The organization where there is only one: every backend but Pulumi Cloud has just that."""
    return "" if backend_url.startswith("http") or not backend_url else "organization"


@dataclass(frozen=True)
class Origin:
    """The resource that a create was for. "" stands for what could not be found out."""

    urn: str
    """It names the project and the stack as well."""
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
        """Whether both can be the same resource, as far as is known."""
        mine, others = (self.organization, self.backend), (other.organization, other.backend)
        return self.urn == other.urn and all(
            a == b or not a or not b for a, b in zip(mine, others, strict=True)
        )

    @property
    def is_certain(self) -> bool:
        """Whether nothing about it is unknown."""
        return bool(self.urn and self.organization and self.backend)


@dataclass(frozen=True)
class StackMachine:
    """A machine in a stack's state, under the resource's URN."""

    id: str
    urn: str
    home: Home = field(default_factory=Home)
    """Where the machine was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded that it created or imported the machine, in seconds since the epoch."""


@dataclass(frozen=True)
class Elsewhere:
    """The machines of a backend's other stacks, as far as they could be read."""

    ids: frozenset[str]
    unread: Mapping[str, str]
    """A stack, or "the list of stacks", and why it could not be read."""


class Stacks:
    """What stacks hold, each asked once: it is what they held when this process began to ask.

    Any thread may call it. An answer that can't be had is an answer too, and not asked for again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._answers: dict[Hashable, Any] = {}
        self._located: dict[tuple[str, str], str] = {}

    def backend(self, stack: str = "", project: str = "") -> str:
        """The URL of the backend that this process works with, "" where it is unknown.

        Where the CLI's folder can't be seen, a relative URL is found by the lock of the stack.
        """
        url = self._once("backend", backends.used)
        if isinstance(url, StackError):
            return ""
        if not url or backends.absolute(url, None):
            return url
        with self._lock:  # a lock comes and goes, so what was found by it stays
            found = self._located.get((stack, project)) or backends.locked(url, stack, project)
            self._located[stack, project] = found
            return found

    def origin(self, urn: str, organization: str) -> Origin:
        """The resource of this URN in the stack that this process works for."""
        named = Origin(urn)
        backend = self.backend(named.stack, named.project)
        return Origin(urn, organization or own_organization(backend), backend)

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        """The machines of the origin's stack; None without an answer, or if it isn't certain."""
        if not origin.is_certain:
            return None
        name, backend = _name(origin), origin.backend
        answer = self._once(("machines", name, backend), lambda: tuple(machines(name, backend)))
        return None if isinstance(answer, StackError) else answer

    def ids(self, origin: Origin) -> frozenset[str] | None:
        """The ids of those machines."""
        held = self.machines(origin)
        return None if held is None else frozenset(each.id for each in held)

    def is_gone(self, origin: Origin) -> bool | None:
        """Whether the backend lists no such stack any more, since it was renamed or removed.

        None where that can't be told.
        """
        if not origin.is_certain:
            return None
        listed = self._names(origin.backend, pulumi_cli.SECONDS)
        # A file backend of the oldest layout knows no projects, and so no such names.
        if isinstance(listed, StackError) or any(each.count("/") != 2 for each in listed):
            return None
        return _name(origin) not in listed

    def elsewhere(self, origin: Origin, seconds: float = 5.0) -> Elsewhere:
        """The machines of all other stacks of the origin's backend, within about so many seconds.

        A stack that could not be read by then is among the unread.
        """
        if not origin.is_certain:
            return Elsewhere(frozenset(), {_LIST: "it is not known which backend this stack is in"})
        name, backend = _name(origin), origin.backend
        answer = self._once(
            ("elsewhere", name, backend), lambda: self._elsewhere(name, backend, seconds)
        )
        if isinstance(answer, StackError):
            return Elsewhere(frozenset(), {_LIST: str(answer)})
        return answer

    def _elsewhere(self, name: str, backend: str, seconds: float) -> Elsewhere:
        began = time.monotonic()
        listed = self._names(backend, seconds)
        if isinstance(listed, StackError):
            raise listed
        answers = read_all([each for each in listed if each != name], backend, seconds, began)
        held = [each for each in answers.values() if not isinstance(each, StackError)]
        return Elsewhere(
            frozenset(machine.id for each in held for machine in each),
            {other: str(each) for other, each in answers.items() if isinstance(each, StackError)},
        )

    def _names(self, backend: str, seconds: float) -> Sequence[str] | StackError:
        return self._once(("names", backend), lambda: names(backend, seconds), seconds)

    def _once(self, what: Hashable, ask: Callable[[], _T], seconds: float = -1) -> _T | StackError:
        """The answer, or why there is none; a StackError too where others ask for longer."""
        with self._lock:
            asking = self._asking[what]
        if not asking.acquire(timeout=seconds):
            return StackError(f"`pulumi` gave no answer within {seconds:.3g} s")
        try:
            if what not in self._answers:
                try:
                    self._answers[what] = ask()
                except StackError as error:
                    self._answers[what] = error
            answer: _T | StackError = self._answers[what]
            return answer
        finally:
            asking.release()


def machines(
    name: str, backend: str = "", seconds: float = pulumi_cli.SECONDS
) -> list[StackMachine]:
    """The machines in a stack's state, by `pulumi stack export`; StackError where it can't be read.

    It works while the stack is locked, and needs no passphrase. `backend` is the one that the
    command uses here where it isn't given.
    """
    args = ("stack", "export", "--stack", name)
    exported = pulumi_cli.ask(*args, backend=backend, seconds=seconds)
    try:
        return [
            StackMachine(
                each["id"],
                each["urn"],
                _home(each.get("outputs") or {}),
                _moment(each.get("created")),
            )
            for each in exported["deployment"].get("resources") or []
            if each["type"] == TYPE_TOKEN and each.get("id") and not each.get("external")
        ]
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi stack export` printed something that is not a stack") from None


def read_all(
    stacks: Sequence[str], backend: str = "", seconds: float = math.inf, began: float | None = None
) -> dict[str, list[StackMachine] | StackError]:
    """The machines of each stack, or why it can't be read; several stacks are read at a time.

    No stack is begun when so many seconds have passed since `began`, a moment of time.monotonic(),
    or since now.
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
    """The seconds since the epoch of a moment as Go prints it; None where it is none."""
    try:
        # Python 3.10 reads neither a Z nor nanoseconds.
        whole = re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00")
        moment = datetime.fromisoformat(whole)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None


def _home(outputs: Mapping[str, Any]) -> Home:
    """A secret is exported as an object, of which nothing can be known."""
    return Home.of({name: each for name, each in outputs.items() if isinstance(each, str)})


def names(backend: str = "", seconds: float = pulumi_cli.SECONDS) -> list[str]:
    """All stacks of the backend by their full names; of the one that is used here, if not given."""
    args = ("stack", "ls", "--all", "--json", "--fully-qualify-stack-names")
    listed = pulumi_cli.ask(*args, backend=backend, seconds=seconds)
    try:
        return sorted(each["name"] for each in listed)
    except (KeyError, TypeError):
        raise StackError("`pulumi stack ls` printed something that is not a list") from None


def config() -> dict[str, str | None]:
    """The config of the stack that is selected in this folder; None for the value of a secret."""
    listed = pulumi_cli.ask("config", "--json")
    try:
        return {key: None if each["secret"] else each["value"] for key, each in listed.items()}
    except (AttributeError, KeyError, TypeError):
        raise StackError("`pulumi config` printed something that is not a config") from None


def _name(origin: Origin) -> str:
    return f"{origin.organization}/{origin.project}/{origin.stack}"
