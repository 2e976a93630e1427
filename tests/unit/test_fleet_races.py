"""The shared list when threads meet: one list call serves all who wait, and all who read.

One thread runs at a time, and a schedule says which, so every order can be had again. Time passes
only when all wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf

import pytest

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.emulator.state import TurnedClock
from pulumi_fal.errors import Interrupted, VanishedError
from pulumi_fal.machines.absence import Absences
from pulumi_fal.machines.fleet import Fleet, Instances
from pulumi_fal.machines.lifecycle import REFUSED_SECONDS, Lifecycle

from ..fakes import ED25519, ONE, FakeApi, settings, unanswered
from ..simulation.turns import SimulatedClock, Turn, Turns

Outcome = Instances | Instance | BaseException | None
any_order = pytest.mark.parametrize("seed", range(10))


class Threads:
    """An account, and threads that share a fleet on it."""

    def __init__(self, seed: int = 0, *, list_takes: float = 0.0, jitter: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.time = TurnedClock()
        self.turns = Turns(self.time, self._deadlock)
        self.clock = SimulatedClock(self.turns, lambda _: self.turns.pause())
        self.api = FakeApi(self.time)
        self.api.after = self._takes_its_time
        self.list_takes = list_takes
        self.draws: list[tuple[float, float]] = []
        client = Client(settings(), self.clock, send=self.api.send)
        self.fleet = Fleet(client, self.clock, 2.0, self._draw(jitter))
        absences = Absences(self.clock, 60.0)
        self.lifecycle = Lifecycle(client, self.fleet, self.clock, absences)
        self.outcomes: dict[int, tuple[float, Outcome]] = {}
        """When each thread was over, and what came of it."""
        self._threads: list[Turn] = []
        self._is_stuck = False

    @property
    def asked(self) -> list[float]:
        """When a list was asked for."""
        return self.api.asked("list")

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

    def machine(self, ready_at: float = 0.0, gone_at: float = inf) -> Instance:
        """A machine that is made now."""
        self.api.state.provisioning = ready_at - self.time.now
        made = self.api.state.create(NewInstance(ONE, ED25519))
        self.api.state.machines[made.id].gone_at = gone_at
        return made

    def wait_at(self, moment: float, machine: Instance) -> int:
        """Have a thread wait for a machine; its number."""
        return self.at(moment, lambda: self.lifecycle.wait_until_ready(machine, 1000.0))

    def _draw(self, jitter: float) -> Callable[[float, float], float]:
        def draw(low: float, high: float) -> float:
            self.draws.append((low, high))
            return jitter

        return draw

    def _takes_its_time(self, request: Request[object]) -> None:
        if request.kind == "list":
            self.turns.block(lambda: False, self.list_takes)

    def _deadlock(self) -> None:
        self._is_stuck = True
        self.clock.interrupt()


def pauses(moments: Sequence[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(moments)]


@any_order
def test_all_who_read_while_a_list_is_in_flight_share_the_next_one(seed: int) -> None:
    """A list in flight may have been answered before the machine that is looked for was made."""
    threads = Threads(seed, list_takes=1.0)
    early = threads.at(0.0, threads.fleet.fresh)
    threads.at(0.2, threads.machine)
    late = [threads.at(0.5, threads.fleet.fresh) for _ in range(20)]
    threads.run()
    assert threads.outcomes[early][1] == {}
    made = threads.api.state.alive()
    assert made
    assert [set(threads.outcomes[thread][1]) for thread in late] == [made] * 20  # type: ignore[arg-type]
    assert len(threads.asked) == 2


@any_order
def test_a_waiter_that_comes_as_the_last_one_leaves_is_served(seed: int) -> None:
    """A new waiter is served whether it comes before, during or after the last one's list."""
    threads = Threads(seed, list_takes=0.5)
    first, second = threads.machine(ready_at=3.0), threads.machine(ready_at=9.0)
    threads.wait_at(0.0, first)
    coming = threads.wait_at(4.0 + threads.random.choice([0.0, 0.2, 0.5, 0.7]), second)
    threads.run()
    over, machine = threads.outcomes[coming]
    assert isinstance(machine, Instance)
    assert machine.is_ready
    assert over <= 9.0 + 2.0 + 0.6


@any_order
def test_nobody_asks_before_the_first_waiter_or_after_the_last(seed: int) -> None:
    """An idle process costs no calls."""
    threads = Threads(seed)
    waiters = [threads.wait_at(3.0, threads.machine(5.0 + number)) for number in range(5)]
    threads.at(60.0, lambda: None)
    threads.run()
    assert min(threads.asked) > 3.0
    assert max(threads.asked) <= max(threads.outcomes[thread][0] for thread in waiters)


@any_order
def test_a_cancel_ends_all_who_wait_and_asks_no_more(seed: int) -> None:
    """A list in flight may end, and no other begins."""
    threads = Threads(seed, list_takes=1.0)
    waiters = [
        threads.wait_at(threads.random.choice([0.0, 0.5, 1.9]), threads.machine(500.0))
        for _ in range(6)
    ]
    moment = threads.random.choice([1.0, 2.0, 2.5, 3.0, 5.2])
    threads.at(moment, lambda: threads.clock.interrupt())
    threads.run()
    for number in waiters:
        over, outcome = threads.outcomes[number]
        assert isinstance(outcome, Interrupted)
        assert over <= moment + 1.1
    assert max(threads.asked, default=0.0) <= moment + 0.1


@any_order
def test_a_cancel_lets_a_reader_have_the_list_that_it_has_asked_for(seed: int) -> None:
    """A reader's own list is finished, and those who only wait for it are interrupted."""
    threads = Threads(seed, list_takes=1.0)
    asking = threads.at(0.0, threads.fleet.fresh)
    waiting = [threads.at(0.2, threads.fleet.fresh) for _ in range(5)]
    threads.at(0.5, lambda: threads.clock.interrupt())
    threads.run()
    assert threads.outcomes[asking][1] == {}
    assert all(isinstance(threads.outcomes[thread][1], Interrupted) for thread in waiting)


@any_order
def test_a_reader_who_has_little_time_gets_no_answer_rather_than_a_late_one(seed: int) -> None:
    """A preview must not hang because the API does, whoever asked it."""
    threads = Threads(seed, list_takes=10.0)
    asking = threads.at(0.0, threads.fleet.fresh)
    impatient = threads.at(1.0, lambda: threads.fleet.fresh(until=5.0))
    threads.run()
    over, outcome = threads.outcomes[impatient]
    assert isinstance(outcome, TimeoutError)
    assert over == pytest.approx(5.0, abs=0.1)
    assert threads.outcomes[asking][1] == {}


@any_order
def test_readers_who_have_little_time_wait_once_for_an_api_that_is_silent(seed: int) -> None:
    """A preview asks for its machines one after another, or for some of them at the same time."""
    threads = Threads(seed)

    def time_out(request: Request[object]) -> None:
        timeout = threads.api.timeouts[-1]
        assert timeout is not None
        threads.turns.block(lambda: False, timeout)
        raise unanswered(request)

    threads.api.before = time_out

    def look_at_ten() -> None:
        for number in range(10):
            with pytest.raises((TimeoutError, errors.UnreachableError)):
                threads.lifecycle.look(f"machine-{number}", 5.0)

    readers = [
        threads.at(threads.random.choice([0.0, 1.0, 4.9, 6.0]), look_at_ten) for _ in range(8)
    ]
    threads.run()
    assert all(threads.outcomes[reader][1] is None for reader in readers)
    assert max(over for over, _ in threads.outcomes.values()) <= 4.9 + 5.0 + 0.1


@any_order
def test_a_list_slower_than_the_interval_is_never_asked_for_twice_at_once(seed: int) -> None:
    """An API that is slow already gets one call at a time, and all are served with it."""
    threads = Threads(seed, list_takes=7.0)
    waiters = {
        number: threads.wait_at(
            threads.random.choice([0.0, 3.0, 6.0]), threads.machine(10.0 * number)
        )
        for number in range(6)
    }
    threads.run()
    for number, waiter in waiters.items():
        over, machine = threads.outcomes[waiter]
        assert isinstance(machine, Instance)
        assert over <= max(10.0 * number, 6.0) + 2 * 7.1 + 2.0
    assert threads.api.state.most_in_flight == 1
    assert min(pauses(threads.asked)) >= 7.0


@any_order
def test_a_poll_that_fails_loses_no_waiter(seed: int) -> None:
    """A poll that fails is repeated for all, by whoever's turn it is."""
    threads = Threads(seed)
    for name in ("404", "522", "404"):
        threads.api.faults.add("list", name)
    waiters = [threads.wait_at(0.0, threads.machine(10.0)) for _ in range(8)]
    threads.run()
    ready = [threads.outcomes[number][1] for number in waiters]
    assert all(isinstance(machine, Instance) and machine.is_ready for machine in ready)
    assert len(threads.asked) <= 10


@any_order
def test_a_poll_that_fails_for_good_is_every_waiters_end(seed: int) -> None:
    """No one goes on waiting for an answer that nobody asks for any more."""
    threads = Threads(seed)
    threads.api.faults.add("list", "401", times=inf)
    waiters = [threads.wait_at(0.0, threads.machine(10.0)) for _ in range(8)]
    threads.run()
    first, *others = (threads.outcomes[number][1] for number in waiters)
    assert isinstance(first, errors.AuthenticationError)
    assert all(instances is first for instances in others)
    assert threads.asked[-1] - threads.asked[0] == pytest.approx(REFUSED_SECONDS, abs=16)


@any_order
def test_a_bug_reaches_all_who_wait(seed: int) -> None:
    """A bug is raised in every thread, and the list is not asked for again."""
    threads = Threads(seed)
    bug = RuntimeError("a bug")

    def fail(request: Request[object]) -> None:
        raise bug

    threads.api.before = fail
    waiters = [threads.wait_at(0.0, threads.machine(10.0)) for _ in range(8)]
    threads.run()
    assert [threads.outcomes[number][1] for number in waiters] == [bug] * 8
    assert len(threads.asked) == 1


@any_order
@pytest.mark.parametrize("number, seconds", [(1, 60), (2, 120), (9, 120)])
def test_machines_that_vanish_end_their_own_waits_only(
    seed: int, number: int, seconds: float
) -> None:
    """The others wait on, and with the same lists. Several at once are looked for longer."""
    threads = Threads(seed)
    well = threads.wait_at(0.0, threads.machine(200.0))
    lost = [threads.wait_at(0.0, threads.machine(200.0, gone_at=5.0)) for _ in range(number)]
    threads.run()
    for over, outcome in map(threads.outcomes.__getitem__, lost):
        assert isinstance(outcome, VanishedError)
        assert 5 + seconds <= over <= 5 + seconds + 10
    assert isinstance(threads.outcomes[well][1], Instance)


@pytest.mark.parametrize("machines", [1, 2, 100])
def test_many_waiters_cost_the_calls_of_one(machines: int) -> None:
    """There is one call per interval, from their start until they are ready."""
    threads = Threads(machines)
    waiters = [threads.wait_at(0.0, threads.machine(27.0)) for _ in range(machines)]
    threads.run()
    assert [round(moment) for moment in threads.asked] == list(range(2, 29, 2))
    assert all(isinstance(threads.outcomes[thread][1], Instance) for thread in waiters)


def test_after_one_is_ready_the_others_are_looked_at_soon_but_not_five_times_in_a_row() -> None:
    """Machines started together are ready together, and others would bring list after list."""
    threads = Threads()
    for number in range(80):
        threads.wait_at(0.0, threads.machine(9.0 + number / 8))
    threads.run()
    soon = [0.125, 0.25, 0.5, 1]
    assert pauses(threads.asked) == [2, 2, 2, 2, *soon, 2, *soon, 2, *soon]


def test_nothing_is_looked_at_soon_once_a_look_has_found_no_other_end() -> None:
    """The rest of the machines were started at another time."""
    threads = Threads()
    for ready_at in (9.0, 13.0):
        threads.wait_at(0.0, threads.machine(ready_at))
    threads.run()
    assert pauses(threads.asked) == [2, 2, 2, 2, 0.125, 2, 2]


@pytest.mark.parametrize("machines", [1, 50])
def test_jitter_only_ever_lengthens_a_pause_and_is_one_for_all(machines: int) -> None:
    """Of fifty draws the smallest alone would count, and many stacks would ask in step again."""
    threads = Threads(jitter=1.05)
    for _ in range(machines):
        threads.wait_at(0.0, threads.machine(8.0))
    threads.run()
    assert [round(moment, 1) for moment in threads.asked] == [2.1, 4.2, 6.3, 8.4]
    assert len(threads.draws) == 1 + len(threads.asked)
    assert set(threads.draws) == {(1.0, 1.05)}


@any_order
def test_creates_share_the_list_that_says_what_was_there_before(seed: int) -> None:
    """Creates share a list that was asked for recently, in flight or done."""
    threads = Threads(seed, list_takes=0.3)
    creates = [
        threads.at(threads.random.uniform(0.0, 1.9), lambda: threads.fleet.recent(2.0))
        for _ in range(20)
    ]
    threads.run()
    assert len(threads.asked) == 1
    assert all(threads.outcomes[thread][1] == {} for thread in creates)


def test_a_list_that_is_too_old_or_too_slow_is_not_a_recent_one() -> None:
    """What counts is when it was asked for, not when it was answered."""
    threads = Threads(list_takes=5.0)
    threads.at(0.0, lambda: threads.fleet.recent(2.0))
    threads.at(1.0, threads.machine)
    while_asking = threads.at(3.0, lambda: threads.fleet.recent(2.0))
    afterwards = threads.at(5.5, lambda: threads.fleet.recent(2.0))
    threads.run()
    for number in (while_asking, afterwards):
        outcome = threads.outcomes[number][1]
        assert isinstance(outcome, dict)
        assert set(outcome) == threads.api.state.alive() != set()


def test_an_error_is_told_to_those_who_come_soon_after_and_to_no_others() -> None:
    """A key that is refused is refused for all creates of a run, with one call."""
    threads = Threads()
    threads.api.faults.add("list", "401")
    first = threads.at(0.0, lambda: threads.fleet.recent(2.0))
    soon = threads.at(1.0, lambda: threads.fleet.recent(2.0))
    later = threads.at(3.0, lambda: threads.fleet.recent(2.0))
    threads.run()
    assert isinstance(threads.outcomes[first][1], errors.AuthenticationError)
    assert threads.outcomes[soon][1] is threads.outcomes[first][1]
    assert threads.outcomes[later][1] == {}
