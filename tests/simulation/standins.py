"""What stands in for the system: threads, the `pulumi` command and the terminal.

The provider reaches them as modules and functions. Each stand-in asks the world that runs now.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import click

from pulumi_fal.cli import common, delete
from pulumi_fal.machines import creates, journal, records
from pulumi_fal.stacks import cache, state

if TYPE_CHECKING:
    from .plugin import Process
    from .world import World


class _Now:
    world: World


def enter(world: World) -> None:
    """Say which world runs from now on."""
    _Now.world = world


@contextmanager
def in_place() -> Iterator[None]:
    """Put all stand-ins in place."""
    with ExitStack() as exits:
        # With it, the provider would not ask the simulated `pulumi` for the backend.
        exits.enter_context(mock.patch.dict(os.environ))
        os.environ.pop("PULUMI_BACKEND_URL", None)
        for where, name, stand_in in _STAND_INS:
            exits.enter_context(mock.patch.object(where, name, stand_in))
        yield


class _Thread:
    """A threading.Thread of a process, which it runs beside its next POST."""

    def __init__(self, target: Callable[[], None], **kwargs: object) -> None:
        self._target = target

    def start(self) -> None:
        _process().beside.append(self._target)


class _SerialPool(Executor):
    def __init__(self, *args: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = Future[Any]()
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001 - as a pool does
            future.set_exception(error)
        return future


class _Lock:
    """A threading.Lock for which a turn, and not a thread, waits."""

    def __init__(self) -> None:
        self._is_taken = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._is_taken:
            _Now.world.turns.block(lambda: not self._is_taken)
        self._is_taken = True
        return True

    def release(self) -> None:
        self._is_taken = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


def _process() -> Process:
    return _Now.world.call().process


def _echo(message: object = "", **kwargs: object) -> None:
    _process().output.append(str(message))


def _print(renderable: Any) -> None:
    columns = getattr(renderable, "columns", None)
    cells = [str(renderable)] if columns is None else [str(c) for x in columns for c in x.cells]
    _echo("\n".join(cells))


def _confirm(text: str, **kwargs: object) -> bool:
    _echo(text)
    _process().step("a prompt waits", "prompt")
    if not _Now.world.agrees(text):
        raise click.Abort
    return True


def _ask(*args: str, backend: str = "", **kwargs: object) -> Any:
    return _Now.world.pulumi(args, backend)


_moments = itertools.count()
_CLOCK = SimpleNamespace(monotonic=lambda: next(_moments) / 1e6)
"""Of what has real seconds for `pulumi` to answer, which on a busy computer could be over."""

_THREADING = SimpleNamespace(Lock=_Lock, Thread=_Thread, Condition=threading.Condition)
_STAND_INS: list[tuple[Any, str, Any]] = [
    *((module, "time", _CLOCK) for module in (cache, common, creates, state)),
    *((module, "threading", _THREADING) for module in (cache, creates, records)),
    (journal, "read", lambda name: _process().journal.read(name)),
    (journal, "secrets", SimpleNamespace(token_hex=lambda size: _process().token())),
    (state, "ask", _ask),
    (state, "folder", lambda: None),
    (state, "project_file", lambda folder: None),
    (state, "ThreadPoolExecutor", _SerialPool),
    (delete, "ThreadPerCall", _SerialPool),
    (common, "_print", _print),
    (click, "confirm", _confirm),
    (click, "echo", _echo),
]
