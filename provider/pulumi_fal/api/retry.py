"""Which failure of which call may be repeated, and after how long. Policy only: nothing sleeps.

The law behind the table: a create that is taken twice makes two machines that bill by the hour. So
a request that isn't idempotent is repeated only where the API surely did not take it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pulumi_fal.errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    InProgressError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnreachableError,
    UnusableAnswerError,
)

RETRY_AFTER_CAP = 60.0
"""Seconds: a longer Retry-After is cut to this."""
UNSENT_BUDGET = 15.0
"""Seconds for which a request that can't even be sent is tried: mostly a wrong endpoint."""
_FIRST, _LONGEST = 0.5, 16.0


@dataclass(frozen=True)
class Rule:
    """What one kind of failure means."""

    failure: str
    repeat: bool
    """Whether it may pass, so that an idempotent request is repeated."""
    taken: bool
    """Whether the API may have taken the request all the same."""


UNSENT = Rule(
    "the request was never sent (refused, no such host, certificate not accepted)",
    repeat=True,
    taken=False,
)
UNANSWERED = Rule("sent, then reset or timed out", repeat=True, taken=True)
LIMITED = Rule("429", repeat=True, taken=False)
BROKEN = Rule("5xx", repeat=True, taken=True)
UNREADABLE = Rule(
    "a body that is not the API's (HTML, broken JSON, no id)", repeat=True, taken=True
)
REDIRECTED = Rule("a redirect", repeat=False, taken=True)
TIMED_OUT = Rule("408", repeat=True, taken=True)
IN_PROGRESS = Rule("409 to a create with an idempotency key", repeat=True, taken=True)
REFUSED = Rule("any other 4xx", repeat=False, taken=False)

TABLE = (
    UNSENT,
    UNANSWERED,
    LIMITED,
    BROKEN,
    UNREADABLE,
    REDIRECTED,
    TIMED_OUT,
    IN_PROGRESS,
    REFUSED,
)


def rule(error: APIError) -> Rule:
    """The row of the table that a failure belongs to."""
    match error:
        case UnreachableError():
            return UNANSWERED if error.sent else UNSENT
        case InProgressError():
            return IN_PROGRESS
        case RateLimitedError():
            return LIMITED
        case ServerError():
            return BROKEN
        case UnusableAnswerError():
            redirected = error.status is not None and 300 <= error.status < 400
            return REDIRECTED if redirected else UNREADABLE
        case InvalidRequestError() if error.status == 408:
            return TIMED_OUT
        case AuthenticationError() | NotFoundError() | ConflictError() | InvalidRequestError():
            return REFUSED
    raise TypeError(f"no rule for {type(error).__name__}")


def may_repeat(error: APIError, *, is_idempotent: bool) -> bool:
    """Whether the request that failed so may be sent once more."""
    row = rule(error)
    return row.repeat and (is_idempotent or not row.taken)


def may_have_made_a_machine(error: APIError) -> bool:
    """Whether a create that failed so may have been taken all the same."""
    return rule(error).taken


def delay(error: APIError, attempt: int, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait before repeat number `attempt` (from 1): Retry-After, else back-off."""
    if error.retry_after is not None:
        # The jitter only adds: all who were refused together must not come back together, and
        # none before its time.
        return min(error.retry_after, RETRY_AFTER_CAP) + uniform(0, _FIRST)
    ceiling = min(_FIRST * 2.0 ** min(attempt - 1, 10), _LONGEST)
    return uniform(ceiling / 2, ceiling)


class Budget:
    """For how long one call is repeated. Moments and times are in seconds."""

    def __init__(self, seconds: float, started: float, *, is_idempotent: bool) -> None:
        self._seconds = seconds
        self._started = started
        self._is_idempotent = is_idempotent
        self._unsent_since: float | None = None

    def allows(self, error: APIError, now: float, pause: float) -> bool:
        """Whether the call that has just failed may be made again after the pause.

        What can't even be sent has a shorter time, which begins with the first such failure in a
        row: before that the API could be reached.
        """
        if rule(error) is not UNSENT:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        ends = [self._started + self._seconds]
        if self._unsent_since is not None:
            ends.append(self._unsent_since + UNSENT_BUDGET)
        is_repeatable = may_repeat(error, is_idempotent=self._is_idempotent)
        return is_repeatable and now + pause <= min(ends)
