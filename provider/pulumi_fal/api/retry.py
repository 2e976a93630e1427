"""The retry policy: which failures are retried, after which delay, and for how long.

A create that the API carries out twice makes two machines that are billed by the hour. Therefore a
request that is not idempotent is retried only if the API certainly did not accept it.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pulumi_fal.clock import Clock
from pulumi_fal.errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnreachableError,
    UnusableAnswerError,
)

RETRY_AFTER_CAP = 60.0
"""The longest delay in seconds that a Retry-After header can request."""
UNSENT_BUDGET = 15.0
"""Seconds for which a request that can't be sent is retried. Mostly the endpoint is wrong."""
_FIRST, _LONGEST = 0.5, 16.0
"""The first and the longest delay in seconds."""
_FIRST_REPORTED_RETRY = 3
"""The number of the first retry that is reported. One or two retries are common."""
_REPORTED_PAUSE = 5.0
"""Pauses of at least so many seconds are always reported. The API asks for them in Retry-After."""


@dataclass(frozen=True)
class Rule:
    """The policy for one kind of failure."""

    failure: str
    """A description of the failure."""
    is_temporary: bool
    """Whether the failure may be temporary, so that an idempotent request is retried."""
    may_be_accepted: bool
    """Whether the API may have accepted the request nevertheless."""


UNSENT = Rule(
    "the request was never sent (refused, no such host, certificate not accepted)",
    is_temporary=True,
    may_be_accepted=False,
)
UNANSWERED = Rule("sent, then reset or timed out", is_temporary=True, may_be_accepted=True)
LIMITED = Rule("429", is_temporary=True, may_be_accepted=False)
BROKEN = Rule("5xx", is_temporary=True, may_be_accepted=True)
UNREADABLE = Rule(
    "a body that is not the API's (HTML, broken JSON, no id)",
    is_temporary=True,
    may_be_accepted=True,
)
REDIRECTED = Rule("a redirect", is_temporary=False, may_be_accepted=True)
TIMED_OUT = Rule("408", is_temporary=True, may_be_accepted=True)
IN_PROGRESS = Rule(
    "409 to a create with an idempotency key, unless it speaks of capacity",
    is_temporary=True,
    may_be_accepted=True,
)
REFUSED = Rule("any other 4xx", is_temporary=False, may_be_accepted=False)

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


# Which refusals of a create mean that the API has no capacity for the machine at present. Neither
# API documents this answer. So both have to hold: the status shows that the API certainly made no
# machine, and the text speaks of capacity, availability or stock. Any other failure is an error as
# ever: waiting does not help against a wrong key, and a create that the API may have carried out
# must not be sent again.


@dataclass(frozen=True)
class Wording:
    """One way in which a text can say that there is no capacity."""

    says: str
    """A description of the wording."""
    pattern: str
    """What it looks like in whole words, in lower case, with a space for each `_` and `-`."""
    of_machines: bool = False
    """Whether the text must also name what is missing: machines, GPUs, a sector or the like."""


WORDINGS = (
    Wording("`capacity`", "capacity"),
    Wording("`stock` or `sold out`", "stock|sold out"),
    Wording(
        "`unavailable`, or `no`, `none` or `not` and then `available` or `availability`",
        r"unavailable|(?:no|none|not)\b.*\bavailab(?:le|ility)",
        of_machines=True,
    ),
    Wording(
        "`insufficient`, `not enough`, `no more`, `exhausted`, `full` or `fully`",
        "insufficient|not enough|no more|exhausted|full|fully",
        of_machines=True,
    ),
)
"""The wordings, of which one is needed."""
MACHINES = "machine|instance|gpu|h100|node|server|host|hardware|resource|sector|region|zone"
"""What a text may call machines and the places where they are, also with an `s` at the end."""
OTHER_REASONS = (
    "quota|limit|too many|throttling|throttled|permission|scope|key|credit|balance|billing|payment"
    "|plan|subscription|feature"
)
"""Words for what waiting does not change, also with an `s`. A text with one of them never fits."""


def rule(error: APIError) -> Rule:
    """Return the rule for an error."""
    match error:
        case UnreachableError():
            return UNANSWERED if error.sent else UNSENT
        case ConflictError() if error.has_key and not speaks_of_capacity(error.detail):
            # fal does not document the answer to a create that it is still carrying out, and
            # something on the way may have sent the first request twice.
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
    """Whether a request that failed with this error may be sent again."""
    matching = rule(error)
    return matching.is_temporary and (is_idempotent or not matching.may_be_accepted)


def may_have_made_a_machine(error: APIError) -> bool:
    """Whether a create that failed with this error may nevertheless have made a machine."""
    return rule(error).may_be_accepted


def delay(error: APIError, attempt: int, uniform: Callable[[float, float], float]) -> float:
    """Return the delay in seconds before retry number `attempt`, counted from 1.

    It is that of Retry-After if the answer had one, otherwise an exponential back-off with jitter.
    """
    if error.retry_after is not None:
        # Calls that were refused together must not be retried together. The jitter is only added,
        # so that no retry comes too early.
        return min(error.retry_after, RETRY_AFTER_CAP) + uniform(0, _FIRST)
    ceiling = min(_FIRST * 2.0 ** min(attempt - 1, 10), _LONGEST)
    return uniform(ceiling / 2, ceiling)


class Budget:
    """The time for which one call is retried. All times are in seconds."""

    def __init__(self, seconds: float, started: float, *, is_idempotent: bool) -> None:
        self._seconds = seconds
        self._started = started
        self._is_idempotent = is_idempotent
        self._unsent_since: float | None = None

    def allows(self, error: APIError, now: float, pause: float) -> bool:
        """Whether a call that has just failed may be retried after `pause`.

        Requests that can't be sent have a shorter budget, which starts with the first such failure
        in a row, because the API could be reached before it.
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


class Attempt:
    """One attempt at a call, which is made in its context."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Counted from 1."""
        self.error: APIError | None = None
        """The error with which it failed."""
        self.is_last = False
        """Set if the call is not retried, whatever the budget allows."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error if isinstance(error, APIError) else None
        return self.error is not None


def attempts(budget: Budget, clock: Clock, notify: Callable[[str], None]) -> Iterator[Attempt]:
    """Yield attempts at a call until one succeeds. Raises the error of one that is not retried.

        for attempt in attempts(...):
            with attempt:
                answer = call()

    `notify` gets a message when the call keeps failing.
    """
    for number in itertools.count(1):
        clock.check()
        attempt = Attempt(number)
        yield attempt
        if attempt.error is None:
            return
        pause = delay(attempt.error, number, random.uniform)
        if attempt.is_last or not budget.allows(attempt.error, clock.now(), pause):
            raise attempt.error
        if number >= _FIRST_REPORTED_RETRY or pause >= _REPORTED_PAUSE:
            notify(f"{attempt.error} Trying again in {pause:.0f} s.")
        clock.sleep(pause)


def lacks_capacity(error: APIError) -> bool:
    """Whether this is the error of a create that was refused for want of capacity."""
    is_refused = isinstance(error, ConflictError | InvalidRequestError | RateLimitedError)
    is_certain = error.method == "POST" and error.status != 408
    return is_refused and is_certain and speaks_of_capacity(error.detail)


def speaks_of_capacity(detail: str) -> bool:
    """Whether a text says that there is no capacity."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", detail)  # as in InsufficientCapacity
    text = re.sub(r"[\s_-]+", " ", spaced).lower()

    def has(pattern: str) -> bool:
        return re.search(rf"\b(?:{pattern})\b", text) is not None

    if has(f"(?:{OTHER_REASONS})s?"):
        return False
    names_machines = has(f"(?:{MACHINES})s?")
    return any(has(row.pattern) and (names_machines or not row.of_machines) for row in WORDINGS)
