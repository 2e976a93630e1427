"""Which failure of which call may be repeated: a test per row, so that no row changes unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from pulumi_fal.api import retry
from pulumi_fal.errors import APIError, UnusableAnswerError

from ..fakes import CREATE, LIST, refusal, unanswered


class Case(NamedTuple):
    row: retry.Rule
    error: APIError
    repeat: bool
    """Whether an idempotent request is repeated."""
    repeat_create: bool
    taken: bool
    """Whether a create that failed so may have made a machine."""


WITH_KEY = replace(CREATE, is_idempotent=True)
CASES = [
    Case(retry.UNSENT, unanswered(sent=False), True, True, False),
    Case(retry.UNANSWERED, unanswered(sent=True), True, False, True),
    Case(retry.LIMITED, refusal(429), True, True, False),
    *(
        Case(retry.BROKEN, refusal(status), True, False, True)
        for status in (500, 501, 502, 503, 504, 522)
    ),
    Case(retry.UNREADABLE, LIST.error(UnusableAnswerError, "no", status=200), True, False, True),
    Case(retry.UNREADABLE, LIST.error(UnusableAnswerError, "no", status=None), True, False, True),
    Case(retry.REDIRECTED, refusal(307), False, False, True),
    Case(retry.TIMED_OUT, refusal(408), True, False, True),
    Case(retry.IN_PROGRESS, refusal(409, "wait", WITH_KEY), True, False, True),
    Case(retry.REFUSED, refusal(409, "no capacity left", WITH_KEY), False, False, False),
    *(
        Case(retry.REFUSED, refusal(status), False, False, False)
        for status in (400, 401, 403, 404, 409, 422)
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.error))


@each_case
def test_an_idempotent_request_is_repeated_where_that_may_help(case: Case) -> None:
    """GET, list and DELETE do no more the second time than the first."""
    assert retry.may_repeat(case.error, is_idempotent=True) is case.repeat


@each_case
def test_a_create_is_repeated_only_where_it_was_surely_not_taken(case: Case) -> None:
    """A second create is a second machine, and a second bill."""
    assert retry.may_repeat(case.error, is_idempotent=False) is case.repeat_create
    assert retry.may_have_made_a_machine(case.error) is case.taken


@each_case
def test_every_failure_is_in_its_row(case: Case) -> None:
    """The documentation prints the table row by row."""
    assert retry.rule(case.error) is case.row


def test_the_table_has_every_row_that_a_failure_belongs_to_once() -> None:
    """A row that nothing belongs to would be documented in vain."""
    assert list(retry.TABLE) == list(dict.fromkeys(case.row for case in CASES))


def test_a_failure_without_a_row_is_a_bug() -> None:
    """A new kind of failure must not be repeated by accident."""
    with pytest.raises(TypeError, match="no rule for APIError"):
        retry.rule(LIST.error(APIError, "new"))


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize(
    "uniform, pauses",
    [
        (highest, [0.5, 1, 2, 4, 8, 16, 16, 16]),
        (lowest, [0.25, 0.5, 1, 2, 4, 8, 8, 8]),
    ],
)
def test_the_pause_doubles_from_half_a_second_to_sixteen_and_jitter_at_most_halves_it(
    uniform: Callable[[float, float], float], pauses: list[float]
) -> None:
    """Jitter spreads the calls of many machines, and lets none ask at once."""
    assert [retry.delay(refusal(503), count, uniform) for count in range(1, 9)] == pauses


def test_a_very_late_attempt_has_a_pause_too() -> None:
    """Two to the power of 2000 is no float, and a budget may be a day."""
    assert retry.delay(refusal(503), 2000, highest) == 16


@pytest.mark.parametrize("attempt", [1, 7])
@pytest.mark.parametrize(
    "asked, least, most", [(0, 0, 0.5), (7, 7, 7.5), (60, 60, 60.5), (86400, 60, 60.5)]
)
def test_retry_after_is_kept_to_with_jitter_on_top_and_a_cap(
    attempt: int, asked: float, least: float, most: float
) -> None:
    """Nobody comes back before the time that the API named, and nobody waits a day."""
    error = refusal(429, retry_after=float(asked))
    assert retry.delay(error, attempt, lowest) == least
    assert retry.delay(error, attempt, highest) == most


def budget(seconds: float = 120, *, is_idempotent: bool = True) -> retry.Budget:
    """A budget that began at 0."""
    return retry.Budget(seconds, started=0, is_idempotent=is_idempotent)


def test_a_request_that_can_not_be_sent_is_not_tried_for_long() -> None:
    """The endpoint is mostly wrong then, and a person waits for the answer."""
    unsent = unanswered(sent=False)
    one = budget()
    assert one.allows(unsent, now=0, pause=15)
    assert not one.allows(unsent, now=0, pause=15.1)
    assert not budget(5).allows(unsent, now=0, pause=5.1)


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_the_short_time_begins_with_the_first_failure_of_its_kind_in_a_row(
    is_idempotent: bool,
) -> None:
    """An API that has just answered 429 with a long Retry-After is not at a wrong endpoint."""
    unsent, limited = unanswered(sent=False), refusal(429, retry_after=20.0)
    one = budget(is_idempotent=is_idempotent)
    assert one.allows(limited, now=0, pause=20)
    assert one.allows(unsent, now=20, pause=14)
    assert not one.allows(unsent, now=34, pause=2)
    assert one.allows(limited, now=36, pause=20)
    assert one.allows(unsent, now=56, pause=14)


@pytest.mark.parametrize("error", [refusal(503), unanswered(sent=True)], ids=str)
def test_any_other_failure_has_the_whole_budget(error: APIError) -> None:
    """A gateway may need a minute to come back."""
    assert budget().allows(error, now=100, pause=20)
    assert not budget().allows(error, now=100, pause=20.1)


def test_a_failure_that_no_repeat_can_mend_is_not_repeated_however_much_time_there_is() -> None:
    """A wrong key stays wrong."""
    assert not budget().allows(refusal(401), now=0, pause=0)


def test_a_create_that_may_have_been_taken_is_not_repeated_however_much_time_there_is() -> None:
    """The budget is asked before every repeat."""
    assert budget(is_idempotent=False).allows(refusal(429), now=0, pause=0)
    assert not budget(is_idempotent=False).allows(refusal(503), now=0, pause=0)
