"""The shared list as one caller sees it: when it is asked for, and what a failure means."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from pulumi_fal import errors
from pulumi_fal.api.dialects import Request
from pulumi_fal.emulator.faults import Fault, fault
from pulumi_fal.errors import APIError

from ..fakes import UNSENT
from .world import ApiWorld


def polls(world: ApiWorld, seconds: float) -> list[float]:
    """When a caller that watches for that long asks."""
    for _ in world.fleet.watch(seconds):
        pass
    return world.asked


def pauses(moments: list[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(moments)]


def test_a_read_asks_at_once_and_every_time() -> None:
    """Only those who wait keep to the interval."""
    world = ApiWorld()
    assert world.fleet.fresh() == {}
    made = world.made()
    assert list(world.fleet.fresh()) == [made.id]
    assert world.asked == [0, 0]


def test_after_an_error_the_next_read_asks_anew() -> None:
    """An error is reported to those who waited for it, and then forgotten."""
    world = ApiWorld()
    world.api.faults.add("list", "404")
    with pytest.raises(errors.NotFoundError):
        world.fleet.fresh()
    assert world.fleet.fresh() == {}


def test_a_read_is_repeated_as_the_client_repeats_a_list() -> None:
    """A refresh must not fail because of one bad gateway."""
    world = ApiWorld()
    world.api.faults.add("list", "502", times=2)
    assert world.fleet.fresh() == {}
    assert len(world.asked) == 3


def test_a_reader_who_has_little_time_asks_once_and_says_how_long() -> None:
    """A repeat, or the usual timeouts of a request, would take longer than that."""
    world = ApiWorld()
    world.api.faults.add("list", "503")
    with pytest.raises(errors.ServerError):
        world.fleet.fresh(until=world.clock.time + 5.0)
    assert world.api.timeouts == [5.0]
    assert world.clock.passed == 0


@pytest.mark.parametrize(
    "failure", ["522", "403", "404", UNSENT, "html", "redirect"], ids=lambda failure: str(failure)
)
def test_a_watcher_is_shown_a_failure_and_gets_the_next_answer(failure: str | Fault) -> None:
    """A failure is no news of a machine, and no reason to stop asking."""
    world = ApiWorld()
    made = world.made()
    world.api.faults.add("list", failure)
    watch = world.fleet.watch(100)
    assert isinstance(next(watch).error, APIError)
    assert list(next(watch).usable()) == [made.id]


def test_polls_that_fail_come_at_growing_pauses_and_the_last_at_the_end() -> None:
    """An API that is down is asked every 16 s at the most, and never after the wait's own end."""
    world = ApiWorld(uniform=lambda low, high: high)
    world.api.faults.add("list", "503", times=inf)
    assert [answer.failures for answer in world.fleet.watch(60)] == list(
        range(1, len(world.asked) + 1)
    )
    assert pauses(world.asked)[:6] == [0.5, 1, 2, 4, 8, 16]
    assert world.asked[-1] == 60


def test_a_poll_that_is_told_to_come_later_does() -> None:
    """Nobody comes back before the time in Retry-After."""
    world = ApiWorld(uniform=lambda low, high: low)
    world.api.faults.add("list", fault("429", retry_after=20))
    watch = world.fleet.watch(99)
    next(watch), next(watch)
    assert world.asked == [2, 22]


def test_the_first_polls_come_at_the_interval_and_the_last_when_the_time_is_up() -> None:
    """No machine is ready at once, and one that becomes ready in the last second counts."""
    assert polls(ApiWorld(), 10) == [2, 4, 6, 8, 10]
    assert polls(ApiWorld(), 5) == [2, 4, 5]


def test_without_any_time_there_is_one_poll() -> None:
    """A caller that may not wait may still look."""
    assert polls(ApiWorld(), 0) == [0]


def test_long_waits_ask_less_and_less() -> None:
    """A pause is at most 16 s of the 25 minutes that a machine may take."""
    asked = polls(ApiWorld(), 3600)
    found = pauses(asked)
    assert found[0] == 2
    assert all(later >= earlier for earlier, later in pairwise(found[:-1]))
    assert max(found) == 16
    assert len(asked) < 300
    assert asked[-1] == 3600


def test_a_list_slower_than_the_interval_is_followed_by_the_next_at_once() -> None:
    """Polls never get behind, and none is in flight beside another."""
    world = ApiWorld()

    def take_time(request: Request[object]) -> None:
        world.clock.time += 5

    world.api.after = take_time
    assert polls(world, 12) == [2, 7, 12]


def test_jitter_spreads_the_polls_of_many_processes() -> None:
    """Sixteen stacks started by one CI run would otherwise ask in step for ever."""
    assert polls(ApiWorld(uniform=lambda low, high: 0.95), 4) == pytest.approx([1.9, 3.8, 4])
