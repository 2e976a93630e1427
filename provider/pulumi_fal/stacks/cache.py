"""Says which stack a resource is in, and reads each stack once per process.

A URN has the names of the stack and the project, which a rename changes. The id of the provider
resource stays the same for as long as the stack has machines: through renames, moves to another
backend, and exports with imports. So equal ids are the same stack. Other ids prove nothing, because
a stack that was destroyed gets another one.

The engine tells a plugin neither the backend nor the organization, so the `pulumi` command is
asked. Which of several stacks with one name is this process's own, state says.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import state
from pulumi_fal.stacks.state import Found, Stack, StackMachine

UNKNOWN_ID = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine sends in place of an id that a preview does not know yet."""
ONLY_ORGANIZATION = "organization"
"""The organization of all stacks in backends other than Pulumi Cloud."""
ALL_SECONDS = 30.0
"""For how long a plugin reads all stacks of a backend, which it does only after a failure."""
LIST = "the list of stacks"
"""What is among the unread if it is not known which stacks there are."""
_NAMED = 3
"""How many of the stacks that could not be read for the same reason a message names."""
_FILE = "file:"
_T = TypeVar("_T")


def without_user(url: str) -> str:
    """Return a URL without the user and the password in it, and without a slash at the end."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


@dataclass(frozen=True)
class Origin:
    """A resource. `provider` and `backend` are "" if they are not known."""

    urn: str
    """It contains the project and the stack, too."""
    provider: str = ""
    """The id of the provider resource in the stack's state."""
    backend: str = ""
    """The URL of the backend in which to look for the stack, without a user and a password."""

    @property
    def stack(self) -> str:
        return self._part(1)

    @property
    def project(self) -> str:
        return self._part(2)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the stack and the project, which a rename changes."""
        return self.stack, self.project

    def _part(self, place: int) -> str:
        # urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
        parts = self.urn.removeprefix("urn:pulumi:").split("::")
        return parts[place - 1] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program, which may contain colons."""
        return self.urn.split("::", 3)[-1]

    @property
    def path(self) -> str:
        """The part of the URN that a rename of the stack does not change: types and name."""
        return self.urn.split("::", 2)[-1]

    def moved(self, full_name: str, backend: str) -> Origin:
        """Return the same resource in a stack with another full name, or in another backend."""
        *_, project, stack = ("", self.project, *full_name.split("/")[-2:])
        return Origin(f"urn:pulumi:{stack}::{project}::{self.path}", "", backend)

    def is_in(self, full_name: str) -> bool:
        """Whether a stack with this full name, ORGANIZATION/PROJECT/STACK, has the URN's names.

        A file backend with the oldest layout has no projects, and so no full names.
        """
        names = full_name.split("/")
        return names[-2:] == [self.project, self.stack] or names == [self.stack]


def used_backend() -> str:
    """Return the URL of the backend, as `place` does; "" if Pulumi Cloud's API is unknown.

    Raises StackError if `pulumi` names no backend, for example because nobody is logged in.
    """
    given = os.environ.get("PULUMI_BACKEND_URL", "")
    return place(given if "://" in given else _asked())


def _asked() -> str:
    """Return the URL that `pulumi` says, which takes a tenth of a second or a call to the cloud.

    Of Pulumi Cloud it prints the console, which is app.HOST if the API is api.HOST, or nothing.
    """
    said = state.ask("whoami", "-v", "--json")
    try:
        url = str(said["url"])
    except (KeyError, TypeError):
        raise StackError("`pulumi whoami` did not print a backend's URL") from None
    if not url.startswith("http"):
        return url
    console = urlsplit(url)
    is_known = console.netloc.startswith("app.") and not os.environ.get("PULUMI_CONSOLE_DOMAIN")
    return f"{console.scheme}://api.{console.netloc.removeprefix('app.')}" if is_known else ""


def is_cloud(backend: str) -> bool:
    """Whether a backend's URL is that of Pulumi Cloud, which has organizations."""
    return backend.startswith("http")


def place(url: str) -> str:
    """Return a backend's URL as it is recorded and shown: absolute, without user and password.

    Returns "" for a relative URL if it is not known from which folder it counts.
    """
    if url.lower().startswith(_FILE):
        path = _path(url)
        if not path.is_absolute():
            # It counts from the folder that the command was run in, which a plugin is not told.
            path = state.folder() / path
            if not (path / ".pulumi").is_dir():
                return ""
        return f"file://{Path(os.path.realpath(path)).as_posix()}"  # `pulumi` takes no backslash
    return without_user(url)


def _path(url: str) -> Path:
    """Return the path of a file URL. On Windows, file://C:/x and file:///C:/x are equal."""
    rest = url[len(_FILE) :].removeprefix("//").partition("?")[0]
    if rest.startswith("~"):
        return _account_home() / rest[2:]  # `pulumi` knows no ~user
    without_slash = Path(rest.removeprefix("/"))
    return without_slash if without_slash.drive else Path(rest)


def _account_home() -> Path:
    """Return the home folder of the account, as `pulumi` does, which ignores $HOME.

    With `sudo`, and in containers, $HOME may be another folder.
    """
    try:
        import pwd
    except ImportError:  # Windows
        return Path.home()
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # the account has no name, as in some containers
        return Path.home()


def in_words(unread: Mapping[str, str]) -> list[str]:
    """Return a text for each reason in Found.unread: the stacks, of many only a few, and why.

    A backend may have hundreds of stacks, and for most of them the reason is the same.
    """
    stacks = defaultdict(list)
    for name, why in unread.items():
        stacks[why].append(name)
    return [f"{_few(names)}: {why}" for why, names in stacks.items()]


def _few(names: Sequence[str]) -> str:
    left = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {left} more" if left > 0 else "")


def _found(answer: Found | StackError, backend: str) -> Found:
    """Return what was found, whose unread stacks are named with the backend if that is another."""
    where = f" in {backend}" if backend else ""
    if isinstance(answer, StackError):
        return Found((), {f"{LIST}{where}": str(answer)})
    return Found(answer.stacks, {f"{name}{where}": why for name, why in answer.unread.items()})


class Stacks:
    """A thread-safe cache of what stacks contain. Failures are cached as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._asked_at: dict[Hashable, float] = {}
        self._answers: dict[Hashable, Any] = {}

    @property
    def backend(self) -> str:
        """The URL of the backend that this process works with; "" if it is not known."""
        url = self._once("backend", used_backend)
        return "" if isinstance(url, StackError) else url

    def named(self, origin: Origin) -> Found:
        """Return the stacks with the names in the origin's URN, in its backend or in the own one.

        There may be one in each organization.
        """
        found = self._named(origin, "")
        if origin.backend not in ("", self.backend):
            found |= self._named(origin, origin.backend)
        return found

    def own(self, origin: Origin, began: float | None = None) -> Stack | None:
        """Return the stack that this process works for; None if that is not known.

        `origin` is a resource of it. If several organizations have a stack of that name, the own
        one has the provider, or is just being updated. If several are, it is the one that creates
        the resource, which this process does since `began`, a moment of time.monotonic. A killed
        update leaves the same operation in state, but is over.
        """
        found = self._named(origin, "")
        with_id = [stack for stack in found.stacks if origin.provider in stack.providers]
        updating = [stack for stack in found.stacks if stack.is_updating]
        if began is not None and len(updating) > 1:
            # What was read before may have the operation of another stack alone.
            self.forget(origin, began)
            found = self._named(origin, "")
            at_work = [stack for stack in found.stacks if stack.is_updating]
            updating = [stack for stack in at_work if origin.urn in stack.creating]
        for some in (with_id, updating):
            if len(some) == 1:
                return some[0]
        return found.stacks[0] if len(found.stacks) == 1 and not found.unread else None

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        """Return the machines in the own stack; None if it is not known or can't be read."""
        own = self.own(origin)
        return None if own is None else own.machines

    def ids(self, origin: Origin) -> frozenset[str] | None:
        """Return the ids of the machines in the own stack; None as from `machines`."""
        own = self.own(origin)
        return None if own is None else own.ids

    def has(self, origin: Origin, instance_id: str) -> bool | None:
        """Whether a stack with the origin's names has the machine in state; None if not known."""
        found = self.named(origin)
        return any(instance_id in stack.ids for stack in found.stacks) or (
            None if found.unread else False
        )

    def forget(self, origin: Origin, asked_before: float | None = None) -> None:
        """Forget what the own stack contains, so that it is read again.

        An answer to a question that another thread asks after this call is new enough, or after
        `asked_before`, a moment of time.monotonic.
        """
        called_at = time.monotonic() if asked_before is None else asked_before
        with self._lock:
            asking = self._asking[what := ("named", origin.project, origin.stack, "")]
        with asking:
            if self._asked_at.get(what, called_at) <= called_at:
                self._answers.pop(what, None)

    def clear(self) -> None:
        """Forget everything, so that it is read again."""
        with self._lock:
            self._answers.clear()

    def all(self, seconds: float = ALL_SECONDS, backend: str = "") -> Found:
        """Return all stacks of a backend, as far as they can be read in so many seconds.

        Without `backend`, it is the own one.
        """
        other = "" if backend == self.backend else backend
        answer = self._once(("all", other), lambda: self._all(seconds, other), seconds)
        return _found(answer, other)

    def _all(self, seconds: float, backend: str) -> Found:
        began = time.monotonic()
        marks = state.names(backend, min(seconds, state.SECONDS))
        left = seconds - (time.monotonic() - began)
        found = state.read_all(list(marks), backend, left, marks=marks)
        return found.at(backend or self.backend)

    def _named(self, origin: Origin, backend: str) -> Found:
        if not origin.project:
            return Found()  # an entry of `pulumi do --stateless` by an earlier version
        answer = self._once(
            ("named", origin.project, origin.stack, backend),
            lambda: self._read_named(origin, backend),
        )
        return _found(answer, backend)

    def _read_named(self, origin: Origin, backend: str) -> Found:
        """Read the stacks of that name. Without `backend`, `pulumi` uses its own.

        A backend other than Pulumi Cloud has one organization, so no list is needed there.
        """
        url = backend or self.backend
        if not url or is_cloud(url):
            marks = state.names(backend, project=origin.project)
            found = state.read_all(list(filter(origin.is_in, marks)), backend).at(url)
            stacks = [replace(one, is_updating=marks[one.name] is None) for one in found.stacks]
            return replace(found, stacks=tuple(stacks))
        name = f"{ONLY_ORGANIZATION}/{origin.project}/{origin.stack}"
        found = state.read_all([name], backend)
        if state.NO_STACK in found.unread.get(name, ""):
            return Found()
        return found.at(url)

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
