"""Which failure of which call may be repeated: one test a row, so that no row changes unseen."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from pulumi_fal import errors
from pulumi_fal.api import retry
from pulumi_fal.errors import APIError


def failure(kind: type[APIError], **attributes: Any) -> APIError:
    return kind("GET", "/compute/instance", "a reason", **attributes)


class Case(NamedTuple):
    row: retry.Rule
    kind: type[APIError]
    attributes: dict[str, Any]
    repeat: bool
    """Whether an idempotent request is repeated."""
    repeat_create: bool
    taken: bool
    """Whether a create that failed so may have made a machine."""

    @property
    def error(self) -> APIError:
        return failure(self.kind, **self.attributes)


CASES = [
    Case(retry.UNSENT, errors.UnreachableError, {"sent": False}, True, True, False),
    Case(retry.UNANSWERED, errors.UnreachableError, {"sent": True}, True, False, True),
    Case(retry.LIMITED, errors.RateLimitedError, {"status": 429}, True, True, False),
    Case(retry.BROKEN, errors.ServerError, {"status": 500}, True, False, True),
    Case(retry.BROKEN, errors.ServerError, {"status": 502}, True, False, True),
    Case(retry.BROKEN, errors.ServerError, {"status": 503}, True, False, True),
    Case(retry.BROKEN, errors.ServerError, {"status": 504}, True, False, True),
    Case(retry.BROKEN, errors.ServerError, {"status": 501}, True, False, True),
    Case(retry.BROKEN, errors.ServerError, {"status": 522}, True, False, True),
    Case(retry.UNREADABLE, errors.UnusableAnswerError, {"status": 200}, True, False, True),
    Case(retry.UNREADABLE, errors.UnusableAnswerError, {"status": None}, True, False, True),
    Case(retry.REDIRECTED, errors.UnusableAnswerError, {"status": 307}, False, False, True),
    Case(retry.TIMED_OUT, errors.InvalidRequestError, {"status": 408}, True, False, True),
    Case(retry.REFUSED, errors.InvalidRequestError, {"status": 422}, False, False, False),
    Case(retry.REFUSED, errors.InvalidRequestError, {"status": 400}, False, False, False),
    Case(retry.REFUSED, errors.AuthenticationError, {"status": 401}, False, False, False),
    Case(retry.REFUSED, errors.AuthenticationError, {"status": 403}, False, False, False),
    Case(retry.REFUSED, errors.NotFoundError, {"status": 404}, False, False, False),
    Case(retry.REFUSED, errors.ConflictError, {"status": 409}, False, False, False),
]
each_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.kind.__name__}-{next(iter(case.attributes.values()))}"
)


@each_case
def test_an_idempotent_request_is_repeated_where_that_may_help(case: Case) -> None:
    """GET, list and DELETE do no more the second time than the first."""
    assert retry.may_repeat(case.error, is_idempotent=True) is case.repeat


@each_case
def test_a_create_is_repeated_only_where_it_was_surely_not_taken(case: Case) -> None:
    """A second create is a second machine, and a second bill."""
    assert retry.may_repeat(case.error, is_idempotent=False) is case.repeat_create
    assert retry.may_have_made_a_machine(case.error) is case.taken
    assert not (case.repeat_create and case.taken)


@each_case
def test_every_failure_is_in_its_row(case: Case) -> None:
    """The documentation prints the table row by row."""
    assert retry.rule(case.error) is case.row


def test_the_table_has_no_row_that_nothing_belongs_to() -> None:
    """And none twice."""
    assert list(retry.TABLE) == list(dict.fromkeys(case.row for case in CASES))


def test_a_failure_without_a_row_is_a_bug() -> None:
    """A new kind of failure must not be repeated by accident."""
    with pytest.raises(TypeError, match="no rule for APIError"):
        retry.rule(failure(APIError))


SERVER = failure(errors.ServerError, status=503)


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def test_the_pause_doubles_from_half_a_second_to_sixteen() -> None:
    """Those who fail for long ask less and less."""
    pauses = [retry.delay(SERVER, attempt, highest) for attempt in range(1, 9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 16, 16]


def test_the_pause_is_at_least_half_of_it() -> None:
    """Jitter spreads sixteen machines out; it never makes one ask at once."""
    pauses = [retry.delay(SERVER, attempt, lowest) for attempt in range(1, 8)]
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 8]


def test_a_very_late_attempt_has_a_pause_too() -> None:
    """2 to the 2000th is no float, and a budget may be a day."""
    assert retry.delay(SERVER, 2000, highest) == 16


@pytest.mark.parametrize("attempt", [1, 7])
@pytest.mark.parametrize(
    "asked, least, most", [(0, 0, 0.5), (7, 7, 7.5), (60, 60, 60.5), (86400, 60, 60.5)]
)
def test_retry_after_is_kept_to_with_jitter_on_top_and_a_cap(
    attempt: int, asked: float, least: float, most: float
) -> None:
    """Nobody comes back before the time that the API named, and nobody waits a day."""
    error = failure(errors.RateLimitedError, status=429, retry_after=float(asked))
    assert retry.delay(error, attempt, lowest) == least
    assert retry.delay(error, attempt, highest) == most


UNSENT = failure(errors.UnreachableError, sent=False)


def test_what_cannot_even_be_sent_is_not_tried_for_long() -> None:
    """It mostly is a wrong endpoint, and a person waits for the answer."""
    budget = retry.Budget(120, started=100, is_idempotent=True)
    assert budget.allows(UNSENT, now=100, pause=15)
    assert not budget.allows(UNSENT, now=100, pause=15.1)
    assert not retry.Budget(5, started=100, is_idempotent=True).allows(UNSENT, now=100, pause=5.1)


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_the_short_time_begins_with_the_first_failure_of_its_kind_in_a_row(
    is_idempotent: bool,
) -> None:
    """An API that has just answered 429 with a long Retry-After is not at a wrong endpoint."""
    unsent = failure(errors.UnreachableError, sent=False)
    limited = failure(errors.RateLimitedError, status=429, retry_after=20.0)
    budget = retry.Budget(120, started=0, is_idempotent=is_idempotent)
    assert budget.allows(limited, now=0, pause=20)
    assert budget.allows(unsent, now=20, pause=14)
    assert not budget.allows(unsent, now=34, pause=2)
    assert budget.allows(limited, now=36, pause=20)
    assert budget.allows(unsent, now=56, pause=14)


def test_any_other_failure_has_the_whole_budget() -> None:
    """A gateway may need a minute to come back."""
    for error in (SERVER, failure(errors.UnreachableError, sent=True)):
        assert retry.Budget(120, started=0, is_idempotent=True).allows(error, now=100, pause=20)
        assert not retry.Budget(120, started=0, is_idempotent=True).allows(
            error, now=100, pause=20.1
        )


def test_what_no_repeat_can_mend_is_not_repeated_however_much_time_there_is() -> None:
    """A wrong key stays wrong."""
    refused = failure(errors.AuthenticationError, status=401)
    assert not retry.Budget(120, started=0, is_idempotent=True).allows(refused, now=0, pause=0)
