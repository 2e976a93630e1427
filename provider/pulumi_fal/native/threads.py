"""An executor with one thread for each call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any


class ThreadPerCall(futures.Executor):
    """Starts each call at once. In a pool, calls could wait until other machines are ready."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in a new thread, and return a future for its result."""
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future
