"""Time, as everything that waits here sees it: it can be interrupted, and tests can turn it."""

from __future__ import annotations

import threading
import time

from pulumi_fal.errors import Interrupted


class Clock:
    """The real one. `interrupt()` ends every wait, now and later, with Interrupted."""

    def __init__(self) -> None:
        self._conditions: set[threading.Condition] = set()
        self._lock = threading.Lock()
        self.interrupted = threading.Event()

    def now(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch: what another process can compare with its own."""
        return time.time()

    def interrupt(self) -> None:
        """End all waits. Safe from any thread, and more than once."""
        self.interrupted.set()
        with self._lock:
            conditions = list(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()

    def check(self) -> None:
        """Raise Interrupted if it is time to stop."""
        if self.interrupted.is_set():
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Wait, unless interrupted."""
        if self.interrupted.wait(max(0.0, seconds)):
            raise Interrupted

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        """Wait on a condition that the caller holds; returns when notified or time is up."""
        with self._lock:
            self._conditions.add(condition)
        self.check()
        condition.wait(seconds)
        self.check()
