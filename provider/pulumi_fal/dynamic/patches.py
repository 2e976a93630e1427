"""Changes to the process that Pulumi runs dynamic providers in (pulumi/dynamic/__main__.py).

The SDK hands a provider its properties and nothing else, four calls at a time, and sends errors as
tracebacks. What more is needed is reached from this package and from nowhere else: request.py has
what the engine said, lifetime.py how calls end. Where the SDK's internals have changed, each of
them does nothing: what it adds is then missing, and everything else goes on. tests/plugin/ says
which one an SDK has broken, and `pulumi-fal doctor` which ones apply.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pulumi_fal.dynamic import request


def raise_concurrency(limit: int) -> None:
    """Serve up to `limit` calls at a time; the SDK's pool has 4 threads and no option.

    A worker's outermost frame holds the executor. What is queued already would still be left to
    the old threads: one no-op for each makes the executor start threads for them. And the executor
    counts threads as idle that are not (Python 3.10, 3.11): a call that came then would wait for
    another machine. So none counts as idle, and each call brings a thread until there are `limit`,
    and one more: Cancel is served by the same pool, and must be heard while all others wait.
    """
    for frame in request.callers():
        executor = frame.f_locals.get("executor_reference", lambda: None)
        executor = executor() if callable(executor) else None
        if executor is not None and isinstance(getattr(executor, "_max_workers", None), int):
            executor._max_workers = max(limit, executor._max_workers) + 1
            executor._idle_semaphore = _NoneIdle()
            for _ in range(min(limit, executor._work_queue.qsize())):
                executor.submit(int)
            return


class _NoneIdle:
    """In the place of an executor's count of its idle threads."""

    def acquire(self, timeout: float | None = None) -> bool:
        return False

    def release(self) -> None:
        pass


def route_imports(is_ours: Callable[[str], bool], provider_key: str) -> None:
    """Have an import's read reach us, which the SDK fails for want of a `__provider`.

    Every method asks get_provider with the properties that it was sent, and an import is sent none.
    Once our code is loaded, ours is filled in where the request's URN is one of ours.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "get_provider", None)
    if original is None or hasattr(original, "supplies_fal"):
        return

    def get_provider(props: dict[str, Any], config: Any) -> Any:
        if "__provider" not in props and is_ours(request.current().urn):
            props["__provider"] = provider_key
        return original(props, config)

    get_provider.supplies_fal = True  # type: ignore[attr-defined]
    main.get_provider = get_provider  # type: ignore[attr-defined]


def without_traceback(of: type[Exception]) -> None:
    """Have errors of this family reach the engine as `ClassName: message`.

    The SDK sends the whole traceback as an error's text, and asks the module `traceback` for it.
    Bugs, and errors of other providers in this process, keep theirs.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "traceback", None)
    if callable(getattr(original, "format_exc", None)) and not isinstance(original, _Traceback):
        main.traceback = _Traceback(original, of)  # type: ignore[attr-defined]


class _Traceback:
    """In the place of the module `traceback` in the SDK's own module."""

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
