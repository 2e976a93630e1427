"""The shared list when threads meet. One runs at a time, and a schedule says which, so every order
can be had again; time passes only when all wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from tests.simulation.turns import SimulatedClock, Turn, Turns
from tests.unit.support import settings

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.emulator.state import TurnedClock
from pulumi_fal.errors import Interrupted, VanishedError
from pulumi_fal.machines.fleet import Fleet, Instances
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.machines.outage import REFUSED_SECONDS

Outcome = Instances | Instance | BaseException | None
any_order = pytest.mark.parametrize("seed", range(40))


class World:
    """An account, and threads that share a fleet on it."""

    def __init__(self, seed: int = 0, *, list_takes: float = 0.0, jitter: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.time = TurnedClock()
        self.turns = Turns(self.time, self._deadlock)
        self.clock = SimulatedClock(self.turns, lambda _: self.turns.pause())
        self.ready_at: dict[str, float] = {}
        self.gone_at: dict[str, float] = {}
        self.list_takes = list_takes
        self.failures: list[Exception] = []
        """What the next lists end with."""
        self.asked: list[float] = []
        self.most = self._running = 0
        self.draws: list[tuple[float, float]] = []
        self.client = Client(settings(), self.clock, send=self._send)
        self.fleet = Fleet(self.client, self.clock, 2.0, self._draw(jitter))
        self.lifecycle = Lifecycle(self.client, self.fleet, self.clock)
        self.outcomes: dict[int, tuple[float, Outcome]] = {}
        """When each thread was over, and what came of it."""
        self._threads: list[Turn] = []
        self._is_stuck = False

    def at(self, moment: float, act: Callable[[], Outcome]) -> int:
        """Have a thread do that at a moment; its number."""
        number = len(self._threads)

        def run() -> None:
            self.turns.block(lambda: False, moment)
            try:
                outcome = act()
            except (Exception, Interrupted) as error:  # noqa: BLE001 - the test looks at it
                outcome = error
            self.outcomes[number] = self.time.now, outcome

        self._threads.append(Turn(run))
        return number

    def run(self) -> None:
        # A thread that does nothing: with one alone, turns would not be taken.
        self.at(0, lambda: None)
        self.turns.run(self._threads, iter(lambda: self.random.randrange(1000), None))
        assert not self._is_stuck, "all waited for one another"

    def until_ready(self, name: str) -> Callable[[], Instance]:
        machine = Instance(name, "t")
        return lambda: self.lifecycle.wait_until_ready(machine, 1000.0)

    def _draw(self, jitter: float) -> Callable[[float, float], float]:
        def draw(low: float, high: float) -> float:
            self.draws.append((low, high))
            return jitter

        return draw

    def _send(self, request: Request[Any], timeout: float | None) -> Any:
        if request.call == "delete":
            return None
        if request.call == "get":
            raise request.error(errors.NotFoundError, "no", status=404)
        self.asked.append(self.time.now)
        self._running += 1
        self.most = max(self.most, self._running)
        machines = self._machines()
        self.turns.block(lambda: False, self.list_takes)
        self._running -= 1
        if self.failures:
            raise self.failures.pop(0)
        return machines

    def _machines(self) -> list[dict[str, str]]:
        now = self.time.now
        return [
            {
                "id": name,
                "instance_type": "t",
                "ip": "198.18.0.1",
                "status": "ready" if now >= ready_at else "pending",
            }
            for name, ready_at in self.ready_at.items()
            if now < self.gone_at.get(name, 1e9)
        ]

    def _deadlock(self) -> None:
        self._is_stuck = True
        self.clock.interrupt()


def pauses(moments: Sequence[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(moments)]


@any_order
def test_a_waiter_that_comes_as_the_last_one_leaves_is_served(seed: int) -> None:
    """Before, while and after the list that lets the other one go: somebody asks for it, too."""
    world = World(seed, list_takes=0.5)
    world.ready_at = {"first": 3.0, "second": 9.0}
    world.at(0.0, world.until_ready("first"))
    coming = world.at(4.0 + world.random.choice([0.0, 0.2, 0.5, 0.7]), world.until_ready("second"))
    world.run()
    over, machine = world.outcomes[coming]
    assert isinstance(machine, Instance)
    assert machine.is_ready
    assert over <= 9.0 + 2.0 + 0.6


@any_order
def test_nobody_asks_before_the_first_waiter_or_after_the_last(seed: int) -> None:
    """An idle process costs no calls."""
    world = World(seed)
    world.ready_at = {str(number): 5.0 + number for number in range(5)}
    for name in world.ready_at:
        world.at(3.0, world.until_ready(name))
    world.at(60.0, lambda: None)
    world.run()
    ended = max(world.outcomes[number][0] for number in range(5))
    assert min(world.asked) > 3.0
    assert max(world.asked) <= ended


@any_order
def test_a_cancel_ends_all_who_wait_and_asks_no_more(seed: int) -> None:
    """Before, while and after a list: one under way may end, and no other begins."""
    world = World(seed, list_takes=1.0)
    world.ready_at = {str(number): 500.0 for number in range(6)}
    for name in world.ready_at:
        world.at(world.random.choice([0.0, 0.5, 1.9]), world.until_ready(name))
    moment = world.random.choice([1.0, 2.0, 2.5, 3.0, 5.2])
    world.at(moment, lambda: world.clock.interrupt())
    world.run()
    for number in range(6):
        over, outcome = world.outcomes[number]
        assert isinstance(outcome, Interrupted)
        assert over <= moment + 1.1
    assert max(world.asked, default=0.0) <= moment + 0.1


@any_order
def test_a_list_slower_than_the_interval_is_never_asked_for_twice_at_once(seed: int) -> None:
    """An API that is slow already gets one call at a time, and all are served with it."""
    world = World(seed, list_takes=7.0)
    world.ready_at = {str(number): 10.0 * number for number in range(6)}
    for name in world.ready_at:
        world.at(world.random.choice([0.0, 3.0, 6.0]), world.until_ready(name))
    world.run()
    for number in range(6):
        over, machine = world.outcomes[number]
        assert isinstance(machine, Instance)
        assert over <= max(10.0 * number, 6.0) + 2 * 7.1 + 2.0
    assert world.most == 1
    assert min(pauses(world.asked)) >= 7.0


@any_order
def test_a_poll_that_fails_loses_no_waiter(seed: int) -> None:
    """It is asked again for all of them, by whoever's turn it is."""
    world = World(seed)
    refused = errors.InvalidRequestError("GET", "/compute/instances", "no", status=400)
    world.failures = [refused, errors.ServerError("GET", "/x", "no", status=522), refused]
    world.ready_at = {str(number): 10.0 for number in range(8)}
    for name in world.ready_at:
        world.at(0.0, world.until_ready(name))
    world.run()
    ready = [world.outcomes[number][1] for number in range(8)]
    assert all(isinstance(each, Instance) and each.is_ready for each in ready)
    assert len(world.asked) <= 10


@any_order
def test_a_poll_that_fails_for_good_is_every_waiters_end(seed: int) -> None:
    """No one goes on waiting for an answer that nobody asks for any more."""
    world = World(seed)
    refused = errors.AuthenticationError("GET", "/compute/instances", "no", status=401)
    world.failures = [refused] * 99
    world.ready_at = {str(number): 10.0 for number in range(8)}
    for name in world.ready_at:
        world.at(0.0, world.until_ready(name))
    world.run()
    assert [world.outcomes[number][1] for number in range(8)] == [refused] * 8
    assert world.asked[-1] - world.asked[0] == pytest.approx(REFUSED_SECONDS, abs=16)


@any_order
def test_a_machine_that_vanishes_ends_its_own_wait_only(seed: int) -> None:
    """The others wait on, and with the same lists."""
    world = World(seed)
    world.ready_at = {"well": 20.0, "lost": 20.0}
    world.gone_at = {"lost": 5.0}
    well, lost = (world.at(0.0, world.until_ready(name)) for name in ("well", "lost"))
    world.run()
    assert isinstance(world.outcomes[lost][1], VanishedError)
    assert isinstance(world.outcomes[well][1], Instance)


@pytest.mark.parametrize("machines", [1, 2, 100])
def test_many_waiters_cost_the_calls_of_one(machines: int) -> None:
    """One every interval, from their start until they are ready."""
    world = World(machines)
    world.ready_at = {str(number): 27.0 for number in range(machines)}
    for name in world.ready_at:
        world.at(0.0, world.until_ready(name))
    world.run()
    assert [round(each) for each in world.asked] == list(range(2, 29, 2))


def test_after_one_end_the_others_are_looked_at_soon_but_not_twice_in_a_row() -> None:
    """Those started together are ready together; a hundred that end one by one cost no double."""
    world = World()
    world.ready_at = {str(number): 9.0 + number for number in range(10)}
    for name in world.ready_at:
        world.at(0.0, world.until_ready(name))
    world.run()
    assert pauses(world.asked) == [2, 2, 2, 2, 1, 2, 1, 2, 1, 2]


def test_a_machine_that_is_gone_brings_the_next_list_soon_as_well() -> None:
    """A destroy's machines go together, and each of them takes two lists that lack it."""
    world = World()
    world.ready_at, world.gone_at = {"a": 0.0, "b": 0.0}, {"a": 3.0, "b": 4.5}
    for name in world.ready_at:
        world.at(0.0, lambda name=name: world.lifecycle.delete(name, 100.0))  # type: ignore[misc]
    world.run()
    assert pauses(world.asked) == [2, 1, 2]


@pytest.mark.parametrize("machines", [1, 50])
def test_jitter_only_ever_lengthens_a_pause_and_is_one_for_all(machines: int) -> None:
    """Of fifty draws the smallest alone would count, and many stacks would ask in step again."""
    world = World(jitter=1.1)
    world.ready_at = {str(number): 8.0 for number in range(machines)}
    for name in world.ready_at:
        world.at(0.0, world.until_ready(name))
    world.run()
    assert [round(each, 1) for each in world.asked] == [2.2, 4.4, 6.6, 8.8]
    assert len(world.draws) == 1 + len(world.asked)
    assert set(world.draws) == {(1.0, 1.1)}


@any_order
def test_creates_share_the_list_that_says_what_was_there_before(seed: int) -> None:
    """A list under way or done, as long as it was asked for at most so long ago."""
    world = World(seed, list_takes=0.3)
    creates = [
        world.at(world.random.uniform(0.0, 1.9), lambda: world.fleet.recent(2.0)) for _ in range(20)
    ]
    world.run()
    assert len(world.asked) == 1
    assert all(world.outcomes[each][1] == {} for each in creates)


def test_a_list_that_is_too_old_or_too_slow_is_not_a_recent_one() -> None:
    """What counts is when it was asked for, not when it was answered."""
    world = World(list_takes=5.0)
    world.at(0.0, lambda: world.fleet.recent(2.0))
    world.at(1.0, lambda: world.ready_at.update(new=0.0))
    while_asking = world.at(3.0, lambda: world.fleet.recent(2.0))
    afterwards = world.at(5.5, lambda: world.fleet.recent(2.0))
    world.run()
    for number in (while_asking, afterwards):
        outcome = world.outcomes[number][1]
        assert isinstance(outcome, dict)
        assert list(outcome) == ["new"]


def test_an_error_is_told_to_those_who_come_soon_after_and_to_no_others() -> None:
    """A key that is refused is refused for all creates of a run, with one call."""
    world = World()
    refused = errors.AuthenticationError("GET", "/x", "no", key_source="a test", status=401)
    world.failures = [refused]
    soon = world.at(1.0, lambda: world.fleet.recent(2.0))
    world.at(0.0, lambda: world.fleet.recent(2.0))
    later = world.at(3.0, lambda: world.fleet.recent(2.0))
    world.run()
    assert world.outcomes[soon][1] is refused
    assert world.outcomes[later][1] == {}
