"""Counts the calls of a provider, and ends them on Cancel."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pulumi_fal.engine import in_progress

T = TypeVar("T")


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


def on_cancel(callback: Callable[[], None]) -> bool:
    """Call `callback` when the engine sends Cancel: on Ctrl-C, `pulumi cancel` and normal shutdown.

    The SDK's method for Cancel does nothing, and gRPC bound it when the server started. Therefore
    this replaces the code of the method instead of the method. Returns whether that was possible.
    """
    _cancel_callbacks.append(callback)
    servicer = getattr(sys.modules["__main__"], "DynamicResourceProviderServicer", None)
    cancel = getattr(servicer, "Cancel", None)
    if cancel is None or getattr(cancel.__code__, "co_freevars", True):
        return False
    cancel.__code__ = _cancel.__code__
    return True


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
    # This code runs with the globals of the SDK's module, so it has to import all that it uses.
    from google.protobuf import empty_pb2

    from pulumi_fal.dynamic import lifetime

    for callback in lifetime._cancel_callbacks:
        callback()
    return empty_pb2.Empty()
