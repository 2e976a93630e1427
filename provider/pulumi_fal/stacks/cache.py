"""Caches what the `pulumi` command says of stacks, and finds out which stack a plugin works for.

The engine tells a plugin neither the backend nor the organization, so the `pulumi` command is
asked. Two stacks of the same name must never be confused, so anything uncertain stays unknown.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import backend as backends
from pulumi_fal.stacks import cli
from pulumi_fal.stacks.origin import ORGANIZATION_VARIABLE, Origin, own_organization
from pulumi_fal.stacks.state import StackMachine, machines, names, read_all

_LIST = "the list of stacks"
_NAMED = 3
"""How many of the stacks that could not be read for the same reason a message names."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Elsewhere:
    """The machines in the other stacks of a backend, as far as those could be read."""

    ids: Mapping[str, str]
    """The name of the stack that has a machine, by the machine's id."""
    unread: Mapping[str, str]
    """The stacks that could not be read, or "the list of stacks", with the reason."""


def in_words(unread: Mapping[str, str]) -> list[str]:
    """Return a text for each reason in Elsewhere.unread: the stacks, of many only a few, and why.

    A backend may have hundreds of stacks, and for most of them the reason is the same.
    """
    stacks = defaultdict(list)
    for name, why in unread.items():
        stacks[why].append(name)
    return [f"{_few(names)}: {why}" for why, names in stacks.items()]


def _few(names: Sequence[str]) -> str:
    left = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {left} more" if left > 0 else "")


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
        if named.is_stateless:
            return replace(named, backend=backend)
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
        return [stack for name, stack in stacks.items() if name == stack.full_name]

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        """Return the machines in the origin's stack; None if it is uncertain or can't be read."""
        if not origin.is_certain:
            return None
        name, backend = origin.full_name, origin.backend
        answer = self._once(("machines", name, backend), lambda: tuple(machines(name, backend)))
        return None if isinstance(answer, StackError) else answer

    def forget(self, origin: Origin) -> None:
        """Forget what the origin's stack contains, so that it is read again.

        An answer to a question that another thread asks after this call is new enough.
        """
        called_at = time.monotonic()
        with self._lock:
            asking = self._asking[what := ("machines", origin.full_name, origin.backend)]
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
        listed = self._names(origin.backend, cli.SECONDS)
        # A file backend with the oldest layout has no projects, and so no full names.
        if isinstance(listed, StackError) or any(name.count("/") != 2 for name in listed):
            return None
        return origin.full_name not in listed

    def elsewhere(self, origin: Origin, seconds: float = 5.0) -> Elsewhere:
        """Return the machines in all other stacks of the origin's backend.

        Those in the stacks that the origin may mean count as well if it is not known which it is. A
        stack that can't be read within about so many seconds is among the unread.
        """
        if not origin.backend:
            return Elsewhere({}, {_LIST: "it is not known which backend this stack is in"})
        name, backend = origin.full_name, origin.backend
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
