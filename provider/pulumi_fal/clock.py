"""The clock that all waits use, so that they can be interrupted and tests can control the time."""

from __future__ import annotations

import threading
import time

from pulumi_fal.errors import Interrupted


class Clock:
    """The system's clock. After `interrupt()`, all current and later waits raise Interrupted."""

    def __init__(self) -> None:
        self._conditions: set[threading.Condition] = set()
        self._lock = threading.Lock()
        self.interrupted = threading.Event()

    def now(self) -> float:
        """The time in seconds on a monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """The time in seconds since the epoch, which other processes can compare with theirs."""
        return time.time()

    def interrupt(self) -> None:
        """End all waits. Can be called from any thread, and more than once."""
        self.interrupted.set()
        with self._lock:
            conditions = list(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()

    def check(self) -> None:
        """Raise Interrupted if `interrupt()` was called."""
        if self.interrupted.is_set():
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`, or raise Interrupted."""
        if self.interrupted.wait(max(0.0, seconds)):
            raise Interrupted

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        """Wait until the condition is notified or `seconds` have passed, or raise Interrupted.

        The caller must hold the condition's lock.
        """
        with self._lock:
            self._conditions.add(condition)
        self.check()
        condition.wait(seconds)
        self.check()
