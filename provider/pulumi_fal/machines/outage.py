"""Tracks failing calls during a wait, and reports them to the user."""

from __future__ import annotations

from collections.abc import Callable

from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, AuthenticationError

REFUSED_SECONDS = 60.0
"""How long the API may refuse the key before a wait ends. A 403 of a gateway lasts less long."""


class Outage:
    """The failures in a row of one kind of call during one wait.

    They say nothing about a machine, so the wait continues, unless the API refuses the key for
    REFUSED_SECONDS.
    """

    def __init__(self, clock: Clock, notify: Callable[[str], None]) -> None:
        """`notify` is called for each failure that differs from the last one, and for the end."""
        self._clock = clock
        self._notify = notify
        self._last: APIError | None = None
        self._notified = ""
        self._since = 0.0
        self._refused_since: float | None = None

    def record_failure(self, error: APIError) -> None:
        """Record a failed call. Raises an AuthenticationError that lasted for REFUSED_SECONDS."""
        now = self._clock.now()
        if not isinstance(error, AuthenticationError):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= REFUSED_SECONDS:
            raise error
        if self._last is None:
            self._since = now
        self._last = error
        if str(error) != self._notified:
            self._notified = str(error)
            self._notify(f"{error} The wait goes on.")

    def record_success(self) -> None:
        """Record that a call worked, which ends the outage."""
        if self._last is not None:
            self._notify("The API answers again.")
        self._last, self._notified, self._refused_since = None, "", None

    def __str__(self) -> str:
        """A sentence for the error of a wait that timed out, or "" if the last call worked."""
        if self._last is None:
            return ""
        seconds = self._clock.now() - self._since
        return f" For the last {seconds:.0f} s the API gave no usable answer: {self._last}"
