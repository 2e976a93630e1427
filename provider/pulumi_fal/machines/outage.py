"""What the API fails to answer while machines are awaited."""

from __future__ import annotations

from collections.abc import Callable

from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, AuthenticationError

REFUSED_SECONDS = 60.0
"""How long a key may be refused on end while machines are awaited: a gateway's 403 passes."""


class Outage:
    """The answers in a row that one kind of call could not use, in one wait.

    Such an answer says nothing of a machine, so the wait goes on. Only a key that is refused for
    REFUSED_SECONDS is believed.
    """

    def __init__(self, clock: Clock, notify: Callable[[str], None]) -> None:
        """`notify` is told of each failure that differs from the one before, and of the end."""
        self._clock = clock
        self._notify = notify
        self._last: APIError | None = None
        self._told = ""
        self._since = 0.0
        self._refused_since: float | None = None

    def met(self, error: APIError) -> None:
        """An answer could not be used. Raises an AuthenticationError that has lasted too long."""
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
        if str(error) != self._told:
            self._told = str(error)
            self._notify(f"{error} The wait goes on.")

    def over(self) -> None:
        """The API has given an answer that could be used."""
        if self._last is not None:
            self._notify("The API answers again.")
        self._last, self._told, self._refused_since = None, "", None

    def __str__(self) -> str:
        """A sentence for the error of a wait whose time is up; "" where the API answers."""
        if self._last is None:
            return ""
        seconds = self._clock.now() - self._since
        return f" For the last {seconds:.0f} s the API gave no usable answer: {self._last}"
