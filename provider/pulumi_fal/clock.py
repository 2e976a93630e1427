"""The clock that all waits use, and durations as people write them.

Waits can be interrupted, and tests can control the time.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import datetime, timezone

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


_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PART = r"(\d+(?:\.\d+)?)([dhms])"


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as 6h, 30m or 1h30m; None if it is not one."""
    if not re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        return None
    parts = re.findall(_PART, text, re.ASCII)
    return sum(float(count) * _UNITS[unit] for count, unit in parts)


def local(moment: float) -> datetime:
    """Return a time in seconds since the epoch as a local one."""
    return datetime.fromtimestamp(moment, timezone.utc).astimezone()


def time_of_day(moment: float, now: float) -> str:
    """Format a local time in seconds since the epoch, with its date unless it is today's."""
    is_today = local(moment).date() == local(now).date()
    return local(moment).strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def shown_duration(seconds: float) -> str:
    """Format seconds as days and hours, as hours and minutes, or as minutes."""
    minutes = int(seconds) // 60
    hours, days = minutes // 60, minutes // 1440
    parts = ((days, "d"), (hours % 24, "h")) if days else ((hours, "h"), (minutes % 60, "m"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0m"


def rounded_duration(seconds: float) -> float:
    """Round down to minutes: the longer, the coarser.

    A text with the result seldom changes, so that a log gets few lines of a long wait.
    """
    minutes = int(seconds) // 60
    step = next((step for step in (1, 5, 10) if minutes < 10 * step), 30)
    return (minutes - minutes % step) * 60.0
