"""The shared list: one call for all who wait, and no answer from before anybody asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from tests.unit.support import TurnedClock, settings

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.clock import Clock
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines.fleet import Fleet

PATIENCE = 10.0
"""Seconds until a test that hangs fails; nothing takes as long."""


class HeldClock(Clock):
    """Time stands still until a test turns it; waits are real ones, and can be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.waiting = self.waits = 0
        self.held: set[threading.Condition] = set()

    def now(self) -> float:
        return self.time

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        if seconds is not None and seconds <= 0:
            raise AssertionError("a wait that ends at once: this would spin")
        self.held.add(condition)
        self.waits += 1  # the caller holds the condition, and all share one
        self.waiting += 1
        try:
            super().wait(condition, PATIENCE)
        finally:
            self.waiting -= 1

    def turn(self, seconds: float) -> None:
        for condition in self.held:
            with condition:
                self.time += seconds
                condition.notify_all()


class Api:
    """Lists that a test hands out: `asked` says that one was asked for, `answer` gives it."""

    def __init__(self) -> None:
        self.asked: queue.Queue[int] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.calls = self.running = self.most = 0

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self.asked.put(self.calls)
        answer = self.answers.get(timeout=PATIENCE)
        self.running -= 1
        if isinstance(answer, BaseException):
            raise answer
        return [{"id": each, "instance_type": "t"} for each in answer]

    def answer(self, *ids: str) -> None:
        assert self.asked.get(timeout=PATIENCE)
        self.answers.put(ids)

    def fail(self, error: BaseException) -> None:
        assert self.asked.get(timeout=PATIENCE)
        self.answers.put(error)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def fleet(api: Api, clock: HeldClock) -> Fleet:
    client = Client(settings(), clock, send=api)
    return Fleet(client, clock, interval=2.0, uniform=lambda low, high: 1.0)


@pytest.fixture
def pool(clock: HeldClock) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as threads:
        yield threads
        clock.interrupt()


def until(condition: Callable[[], bool]) -> None:
    """Give other threads the time to get somewhere."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("nobody got there")


def first(fleet: Fleet, seconds: float = 100) -> list[str]:
    return sorted(next(fleet.watch(seconds)).usable())


def result(future: Future[Any]) -> Any:
    return future.result(PATIENCE)


def test_all_who_wait_share_one_list(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """A hundred machines cost as many calls as one."""
    waiters = [pool.submit(first, fleet) for _ in range(20)]
    until(lambda: clock.waiting == 20)
    clock.turn(2)
    api.answer("a", "b")
    assert [result(each) for each in waiters] == [["a", "b"]] * 20
    assert api.calls == 1


def test_all_who_read_at_once_share_one_list(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """As in a refresh: the first asks for itself, and one call more serves all the others."""
    early = pool.submit(fleet.fresh)
    until(lambda: api.calls == 1)
    late = [pool.submit(fleet.fresh) for _ in range(20)]
    until(lambda: clock.waiting == 20)
    api.answer("a")
    api.answer("a", "b")
    assert list(result(early)) == ["a"]
    assert [sorted(result(each)) for each in late] == [["a", "b"]] * 20
    assert api.calls == 2


def test_a_reader_never_gets_an_answer_that_was_asked_for_before_it_came(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """It may be from before the machine that the reader looks for."""
    early = pool.submit(fleet.fresh)
    until(lambda: api.calls == 1)
    late = pool.submit(fleet.fresh)
    until(lambda: clock.waiting == 1)
    api.answer("old")
    assert list(result(early)) == ["old"]
    api.answer("new")
    assert list(result(late)) == ["new"]


def test_a_reader_does_not_wait_for_the_interval(fleet: Fleet, api: Api, pool: Any) -> None:
    """Time stands still here, and it gets its answer all the same."""
    reader = pool.submit(fleet.fresh)
    api.answer("a")
    assert list(result(reader)) == ["a"]


def test_one_who_leaves_leaves_the_asking_to_the_others(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """Whoever came while the last list was under way is served by the next."""
    leaving = pool.submit(first, fleet)
    until(lambda: clock.waiting == 1)
    clock.turn(2)
    until(lambda: api.calls == 1)
    coming = pool.submit(first, fleet)
    until(lambda: clock.waiting == 1)
    api.answer("a")
    assert result(leaving) == ["a"]
    until(lambda: clock.waiting == 1)
    clock.turn(2)
    api.answer("a", "b")
    assert result(coming) == ["a", "b"]


def test_no_list_is_asked_for_while_another_is_under_way(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """An API that is slow already must not be asked twice at a time."""
    waiters = [pool.submit(first, fleet) for _ in range(5)]
    until(lambda: clock.waiting == 5)
    clock.turn(2)
    until(lambda: api.calls == 1 and clock.waiting == 4)
    waiters.append(pool.submit(first, fleet))
    until(lambda: clock.waiting == 5)
    waits = clock.waits
    clock.turn(60)
    until(lambda: clock.waits == waits + 5)
    assert api.calls == 1
    api.answer("a")
    assert [result(each) for each in waiters[:5]] == [["a"]] * 5
    api.answer("b")
    assert result(waiters[5]) == ["b"]
    assert api.most == 1


@pytest.mark.parametrize(
    "error",
    [errors.NotFoundError("GET", "/x", "no", status=404), RuntimeError("a bug")],
    ids=["an API error", "a bug"],
)
def test_an_error_reaches_all_who_wait(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor, error: Exception
) -> None:
    """Nobody is left waiting, and nobody takes it for an empty list."""
    waiters = [pool.submit(first, fleet) for _ in range(10)]
    until(lambda: clock.waiting == 10)
    clock.turn(2)
    api.fail(error)
    assert [each.exception(PATIENCE) for each in waiters] == [error] * 10
    assert api.calls == 1


def test_after_an_error_the_next_one_asks_anew(fleet: Fleet, api: Api, pool: Any) -> None:
    """An error is told to those who waited, and then forgotten."""
    failing = pool.submit(fleet.fresh)
    api.fail(errors.NotFoundError("GET", "/x", "no", status=404))
    assert failing.exception(PATIENCE) is not None
    working = pool.submit(fleet.fresh)
    api.answer("a")
    assert list(result(working)) == ["a"]


def test_an_interrupt_ends_all_who_wait(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """Also those whose list is under way with somebody else."""
    asking = pool.submit(fleet.fresh)
    until(lambda: api.calls == 1)
    waiters = [pool.submit(first, fleet) for _ in range(10)]
    until(lambda: clock.waiting == 10)
    clock.interrupt()
    assert [type(each.exception(PATIENCE)) for each in waiters] == [Interrupted] * 10
    api.answer("a")
    assert list(result(asking)) == ["a"]


def polls(
    seconds: float, interval: float = 2.0, list_takes: float = 0.0, jitter: float = 1.0
) -> list[float]:
    """When one who waits for that long asks, on a clock that turns by itself."""
    clock = TurnedClock(0)
    asked: list[float] = []

    def send(*_: Any) -> Any:
        asked.append(clock.time)
        clock.time += list_takes
        return []

    client = Client(settings(), clock, send=send)
    for _ in Fleet(client, clock, interval, lambda low, high: jitter).watch(seconds):
        pass
    return asked


def test_a_reader_who_has_little_time_gets_no_answer_rather_than_a_late_one(
    fleet: Fleet, api: Api, clock: HeldClock, pool: ThreadPoolExecutor
) -> None:
    """A preview must not hang because the API does, whoever asked it."""
    asking = pool.submit(fleet.fresh)
    until(lambda: api.calls == 1)
    impatient = pool.submit(fleet.fresh, 5.0)
    until(lambda: clock.waiting == 1)
    clock.turn(5)
    assert isinstance(impatient.exception(PATIENCE), TimeoutError)
    api.answer("a")
    assert list(result(asking)) == ["a"]


def test_a_reader_who_has_little_time_asks_once_and_says_how_long() -> None:
    """A repeat, or the usual timeouts of a request, would take longer than that."""
    timeouts: list[float | None] = []

    def send(_: object, timeout: float | None) -> Any:
        timeouts.append(timeout)
        raise errors.ServerError("GET", "/x", "down", status=503)

    clock = TurnedClock(100)
    with pytest.raises(errors.ServerError):
        Fleet(Client(settings(), clock, send=send), clock).fresh(until=105.0)
    assert timeouts == [5.0]
    assert clock.slept == []


FAILURES = [
    errors.ServerError("GET", "/x", "down", status=522),
    errors.AuthenticationError("GET", "/x", "no", status=403),
    errors.NotFoundError("GET", "/x", "no", status=404),
    errors.UnreachableError("GET", "/x", "connection refused", sent=False),
    errors.UnusableAnswerError("GET", "/x", "HTML", status=200),
    errors.UnusableAnswerError("GET", "/x", "a redirect", status=307),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: f"{type(each).__name__}")
def test_one_who_watches_is_shown_a_failure_and_gets_the_next_answer(failure: Exception) -> None:
    """What the API failed to say is no news of a machine, and no reason to stop asking."""
    clock = TurnedClock(0)
    answers: list[Any] = [failure, [{"id": "a"}]]

    def send(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Fleet(Client(settings(), clock, send=send), clock).watch(100)
    assert next(watch).error is failure
    assert list(next(watch).usable()) == ["a"]


def test_polls_that_fail_come_at_growing_pauses_and_the_last_at_the_end() -> None:
    """An API that is down is asked every 16 s at the most, and never past the wait's own end."""
    clock, asked = TurnedClock(0), list[float]()

    def send(*_: Any) -> Any:
        asked.append(clock.time)
        raise errors.ServerError("GET", "/x", "down", status=503)

    fleet = Fleet(Client(settings(), clock, send=send), clock, 2.0, lambda low, high: high)
    assert [each.failures for each in fleet.watch(60)] == list(range(1, len(asked) + 1))
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[:6] == pytest.approx([0.5, 1, 2, 4, 8, 16])
    assert asked[-1] == 60


def test_a_poll_that_is_told_to_come_later_does() -> None:
    """429 with Retry-After: nobody comes back before."""
    clock, asked = TurnedClock(0), list[float]()

    def send(*_: Any) -> Any:
        asked.append(clock.time)
        if len(asked) == 1:
            raise errors.RateLimitedError("GET", "/x", "slow", status=429, retry_after=20.0)
        return []

    watch = Fleet(Client(settings(), clock, send=send), clock, 2.0, lambda low, high: low).watch(99)
    next(watch), next(watch)
    assert asked == [2, 22]


def test_the_first_polls_come_at_the_interval() -> None:
    """The first after it, not before: a machine is never ready at once."""
    assert polls(10) == [2, 4, 6, 8, 10]


def test_the_last_poll_comes_when_the_time_is_up() -> None:
    """What became ready in the last second counts."""
    assert polls(5) == [2, 4, 5]


def test_without_any_time_there_is_one_poll() -> None:
    """Somebody who may not wait may still look."""
    assert polls(0) == [0]


def test_long_waits_ask_less_and_less() -> None:
    """To eight times the interval: at most 16 s of the 25 minutes that a machine may take."""
    asked = polls(3600)
    pauses = [round(later - earlier, 6) for earlier, later in pairwise(asked)]
    assert pauses[0] == 2
    assert all(later >= earlier for earlier, later in pairwise(pauses[:-1]))
    assert max(pauses) == 16
    assert len(asked) < 300
    assert asked[-1] == 3600


def test_a_list_slower_than_the_interval_is_followed_by_the_next_at_once() -> None:
    """It never gets behind, and never asks for what it could not take."""
    assert polls(12, list_takes=5) == [2, 7, 12]


def test_jitter_spreads_the_polls_of_many_processes() -> None:
    """Sixteen stacks started by one CI run would else ask in step for ever."""
    assert polls(4, jitter=0.95) == pytest.approx([1.9, 3.8, 4])
