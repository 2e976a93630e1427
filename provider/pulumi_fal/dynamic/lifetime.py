"""When calls, and the process, end: Cancel, and an engine that dies."""

from __future__ import annotations

import functools
import os
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_LAST_SECONDS = 5.0
"""How long calls are given to end when the engine has died."""


class _Count:
    """How many calls, and ends of calls, are in progress."""

    def __init__(self) -> None:
        self._number = 0
        self._condition = threading.Condition()

    def enter(self) -> None:
        with self._condition:
            self._number += 1

    def leave(self) -> None:
        with self._condition:
            self._number -= 1
            self._condition.notify_all()

    def wait_until_none(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._number <= 0, seconds)


in_progress = _Count()
engine_died = threading.Event()


def guarded(method: Callable[..., T]) -> Callable[..., T]:
    """A provider's method, counted while it runs; no BaseException may pass.

    One would leave the engine waiting for ever.
    """

    @functools.wraps(method)
    def guard(*args: Any) -> T:
        in_progress.enter()
        try:
            return method(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"stopped by {type(error).__name__}") from None
        finally:
            in_progress.leave()

    return guard


_ends: list[Callable[[], None]] = []


def on_cancel(callback: Callable[[], None]) -> None:
    """Call back when the engine sends Cancel: Ctrl-C, `pulumi cancel`, and every normal shutdown.

    The servicer's method does nothing, and gRPC has bound it when the server started; so its code
    is replaced, and not the method.
    """
    _ends.append(callback)
    servicer = getattr(sys.modules["__main__"], "DynamicResourceProviderServicer", None)
    cancel = getattr(servicer, "Cancel", None)
    if cancel is not None and not getattr(cancel.__code__, "co_freevars", True):
        cancel.__code__ = _cancel.__code__


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
    # It runs with the SDK's module as its globals, so it brings what it needs.
    from google.protobuf import empty_pb2

    from pulumi_fal.dynamic import lifetime

    for callback in lifetime._ends:
        callback()
    return empty_pb2.Empty()


def on_engine_death(callback: Callable[[], None]) -> None:
    """Call back, from a thread of its own, when the engine has died, and then end the process.

    Our standard input is a pipe from the engine that it never writes to and that hangs up when it
    dies; in a normal shutdown we are ended first. Without this, plugins outlive a killed engine.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        engine_died.set()
        callback()
        # Calls learn now that nobody hears them, and put that on disk.
        in_progress.wait_until_none(_LAST_SECONDS)
        os._exit(1)

    try:
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=watch, name="engine-death", daemon=True).start()
    except OSError:
        return
