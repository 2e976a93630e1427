"""Patches for the process in which Pulumi runs dynamic providers (pulumi/dynamic/__main__.py).

The SDK passes a provider nothing but its properties, runs four calls at a time, and sends errors
with tracebacks. If an SDK's internals differ from what a patch expects, the patch does nothing: its
feature is missing, and everything else works. Each patch returns whether it applied; session.py
warns of those that did not. tests/plugin/ shows which patch a new SDK breaks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pulumi_fal.dynamic import request


def raise_concurrency(limit: int) -> bool:
    """Serve up to `limit` calls at a time, because the SDK's pool has 4 threads and no option.

    The executor is found in the outermost frame of a worker thread. Calls that are already queued
    would still wait for the old threads, so one no-op per queued call makes the executor start more
    threads. In Python 3.10 and 3.11 the executor can count busy threads as idle, and a new call
    would then wait for another machine. Therefore no thread counts as idle, and every call starts a
    thread up to the limit. One thread is added for Cancel, which uses the same pool and has to be
    served while all others wait.
    """
    for frame in request.callers():
        executor = frame.f_locals.get("executor_reference", lambda: None)
        executor = executor() if callable(executor) else None
        if executor is not None and isinstance(getattr(executor, "_max_workers", None), int):
            executor._max_workers = max(limit, executor._max_workers) + 1
            executor._idle_semaphore = _NoneIdle()
            for _ in range(min(limit, executor._work_queue.qsize())):
                executor.submit(int)
            return True
    return False


class _NoneIdle:
    """Replaces an executor's semaphore of idle threads, and always says that none is idle."""

    def acquire(self, timeout: float | None = None) -> bool:
        return False

    def release(self) -> None:
        pass


def route_imports(is_ours: Callable[[str], bool], provider_key: str) -> bool:
    """Let the read of an import find this provider. The SDK fails without the key `__provider`.

    Every method of the SDK passes its properties to get_provider, and an import has none. If the
    URN of the request is one of ours, the patched function adds `provider_key` to the properties.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "get_provider", None)
    if original is None:
        return False
    if hasattr(original, "supplies_fal"):
        return True

    def get_provider(props: dict[str, Any], config: Any) -> Any:
        if "__provider" not in props and is_ours(request.current().urn):
            props["__provider"] = provider_key
        return original(props, config)

    get_provider.supplies_fal = True  # type: ignore[attr-defined]
    main.get_provider = get_provider  # type: ignore[attr-defined]
    return True


def without_traceback(base: type[Exception]) -> bool:
    """Send exceptions derived from `base` to the engine as `ClassName: message`.

    The SDK sends the whole traceback, which it gets from the module `traceback`. Other exceptions,
    such as bugs or errors of other providers in this process, keep their traceback.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "traceback", None)
    if not callable(getattr(original, "format_exc", None)):
        return False
    if not isinstance(original, _Traceback):
        main.traceback = _Traceback(original, base)  # type: ignore[attr-defined]
    return True


class _Traceback:
    """Replaces the module `traceback` in the SDK's main module."""

    def __init__(self, original: Any, hidden: type[Exception]) -> None:
        self._original = original
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def format_exc(self, *args: Any, **kwargs: Any) -> str:
        error = sys.exc_info()[1]
        if isinstance(error, self._hidden):
            return f"{type(error).__name__}: {error}"
        return str(self._original.format_exc(*args, **kwargs))
