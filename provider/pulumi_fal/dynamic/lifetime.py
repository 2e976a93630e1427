"""Ends calls on Cancel, and the plugin process when the engine has died."""

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
"""How long calls may take to end after the engine has died."""


class _Count:
    """A thread-safe count of the calls in progress, including their completion callbacks."""

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
    """Decorate a provider's method to count it while it runs, and to contain BaseExceptions.

    After a BaseException the SDK would send no answer, and the engine would wait for ever.
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


_cancel_callbacks: list[Callable[[], None]] = []


def on_cancel(callback: Callable[[], None]) -> None:
    """Call `callback` when the engine sends Cancel: on Ctrl-C, `pulumi cancel` and normal shutdown.

    The SDK's method for Cancel does nothing, and gRPC bound it when the server started. Therefore
    this replaces the code of the method instead of the method.
    """
    _cancel_callbacks.append(callback)
    servicer = getattr(sys.modules["__main__"], "DynamicResourceProviderServicer", None)
    cancel = getattr(servicer, "Cancel", None)
    if cancel is not None and not getattr(cancel.__code__, "co_freevars", True):
        cancel.__code__ = _cancel.__code__


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
    # This code runs with the globals of the SDK's module, so it has to import all that it uses.
    from google.protobuf import empty_pb2

    from pulumi_fal.dynamic import lifetime

    for callback in lifetime._cancel_callbacks:
        callback()
    return empty_pb2.Empty()


def on_engine_death(callback: Callable[[], None]) -> None:
    """Call `callback` in a new thread when the engine has died, and then end the process.

    Standard input is a pipe from the engine, which never writes to it, so its end means that the
    engine has died. In a normal shutdown the plugin is ended first. Without this, plugins keep
    running after the engine was killed.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        engine_died.set()
        callback()
        # Calls now find that the engine no longer waits for them, and write that to the journal.
        in_progress.wait_until_none(_LAST_SECONDS)
        os._exit(1)

    try:
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=watch, name="engine-death", daemon=True).start()
    except OSError:
        return
