"""The shared list: when it is asked for, what a failure means, and what happens if threads meet."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from pathlib import Path
from unittest import mock

import pytest

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.emulator.faults import fault
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.lifecycle import REFUSED_SECONDS

from ..fakes import ED25519, ONE, FakeApi, FakeStacks, settings
from .threads import Threads, any_order, pauses
from .world import ApiWorld


def polls(world: ApiWorld, seconds: float) -> list[float]:
    """When a caller that watches for that long asks."""
    for _ in world.fleet.watch(seconds):
        pass
    return world.asked


def test_fresh() -> None:
    """A read asks at once and every time, and is repeated as the client repeats a list."""
    world = ApiWorld()
    assert world.fleet.fresh() == {}
    made = world.made()
    world.api.faults.add("list", "404")
    with pytest.raises(errors.NotFoundError):
        world.fleet.fresh()
    assert world.asked == [0, 0]
    world.api.faults.add("list", "502", times=2)
    assert list(world.fleet.fresh()) == [made.id]
    assert len(world.asked) == 5


def test_failing_polls() -> None:
    """An API that is down is asked every 16 s at the most, and never after the wait's own end."""
    world = ApiWorld(uniform=lambda low, high: high)
    world.api.faults.add("list", "503", times=inf)
    failures = [answer.failures for answer in world.fleet.watch(60)]
    assert failures == list(range(1, len(world.asked) + 1))
    assert pauses(world.asked)[:6] == [0.5, 1, 2, 4, 8, 16]
    assert world.asked[-1] == 60


def test_retry_after() -> None:
    """Nobody comes back before the time in Retry-After."""
    world = ApiWorld(uniform=lambda low, high: low)
    world.api.faults.add("list", fault("429", retry_after=20))
    watch = world.fleet.watch(99)
    next(watch), next(watch)
    assert world.asked == [2, 22]


@pytest.mark.parametrize(
    "seconds, takes, asked",
    [
        pytest.param(10, 0, [2, 4, 6, 8, 10], id="at the interval"),
        pytest.param(5, 0, [2, 4, 5], id="when the time is up"),
        pytest.param(0, 0, [0], id="without any time"),
        pytest.param(12, 5, [2, 7, 12], id="slower than the interval"),
    ],
)
def test_polls(seconds: float, takes: float, asked: list[float]) -> None:
    """No machine is ready at once, and one that becomes ready in the last second counts."""
    world = ApiWorld()

    def take_time(request: Request[object]) -> None:
        world.clock.time += takes

    world.api.after = take_time
    assert polls(world, seconds) == asked


def test_long_waits() -> None:
    """They ask less and less: a pause is at most 16 s of the 25 minutes a machine may take."""
    asked = polls(ApiWorld(), 3600)
    found = pauses(asked)
    assert found[0] == 2
    assert all(later >= earlier for earlier, later in pairwise(found[:-1]))
    assert max(found) == 16
    assert len(asked) < 300
    assert asked[-1] == 3600


# Threads


class Shared(Threads):
    """Threads that share the list of one account."""

    def __init__(self, seed: int = 0, *, list_takes: float = 0.0) -> None:
        super().__init__(seed)
        self.api = FakeApi(self.time)
        self.api.after = lambda request: self.passes(list_takes)
        client = Client(settings(), self.clock, send=self.api.send)
        self.fleet = Fleet(client, self.clock, uniform=lambda low, high: 1.0)
        account = Account(Journal(Path("none")), FakeStacks(), self.clock, settings)
        vars(account).update(client=client, fleet=self.fleet)
        self.lifecycle = account.lifecycle

    @property
    def asked(self) -> list[float]:
        return self.api.asked("list")

    def machine(self, ready_at: float = 0.0) -> Instance:
        self.api.state.provisioning = ready_at - self.time.now
        return self.api.state.create(NewInstance(ONE, ED25519))

    def delete_at(self, moment: float, gone_at: float) -> int:
        machine, self.api.state.deletion = self.machine(), 9999.0
        self.at(gone_at, lambda: self.api.state.kill(machine.id))
        return self.at(moment, lambda: self.lifecycle.delete(machine.id, 9999.0))

    def recent_at(self, moment: float) -> int:
        return self.at(moment, lambda: self.fleet.recent(2.0))

    def wait_at(self, moment: float, ready_at: float) -> int:
        machine = self.machine(ready_at)
        return self.at(moment, lambda: self.lifecycle.wait_until_ready(machine, 1000.0))


@any_order
def test_readers_share(seed: int) -> None:
    """All share the next list: one in flight may be older than the machine they look for."""
    threads = Shared(seed, list_takes=1.0)
    early = threads.at(0.0, threads.fleet.fresh)
    threads.at(0.2, threads.machine)
    late = [threads.at(0.5, threads.fleet.fresh) for _ in range(20)]
    threads.run()
    assert threads.outcome(early) == {}
    assert all(set(threads.outcome(one)) == threads.api.state.alive() != set() for one in late)
    assert len(threads.asked) == 2


@any_order
def test_last_waiter_leaves(seed: int) -> None:
    """A new waiter is served whether it comes before, during or after the last one's list."""
    threads = Shared(seed, list_takes=0.5)
    threads.wait_at(0.0, ready_at=3.0)
    coming = threads.wait_at(4.0 + threads.random.choice([0.0, 0.2, 0.5, 0.7]), ready_at=9.0)
    threads.run()
    over, machine = threads.outcomes[coming]
    assert machine.is_ready
    assert over <= 9.0 + 2.0 + 0.6


@any_order
def test_cancel(seed: int) -> None:
    """All who wait are interrupted. A list in flight may end, and no other begins."""
    threads = Shared(seed, list_takes=1.0)
    choose = threads.random.choice
    waiters = [threads.wait_at(choose([0.0, 0.5, 1.9]), ready_at=500.0) for _ in range(6)]
    moment = choose([1.0, 2.0, 2.5, 3.0, 5.2])
    threads.at(moment, threads.clock.interrupt)
    threads.run()
    for over, outcome in map(threads.outcomes.__getitem__, waiters):
        assert isinstance(outcome, Interrupted)
        assert over <= moment + 1.1
    assert max(threads.asked, default=0.0) <= moment + 0.1


@any_order
def test_impatient_reader(seed: int) -> None:
    """A preview must not hang because the API does, whoever asked it."""
    threads = Shared(seed, list_takes=10.0)
    asking = threads.at(0.0, threads.fleet.fresh)
    impatient = threads.at(1.0, lambda: threads.fleet.fresh(until=5.0))
    threads.run()
    over, outcome = threads.outcomes[impatient]
    assert isinstance(outcome, TimeoutError)
    assert over == pytest.approx(5.0, abs=0.1)
    assert threads.outcome(asking) == {}


@any_order
@pytest.mark.parametrize("is_bug", [False, True], ids=["refused key", "bug"])
def test_end_for_all(seed: int, is_bug: bool) -> None:
    """A refused key ends every wait after a minute, and a bug at once, with the same error."""
    threads, bug = Shared(seed), RuntimeError("a bug")
    if is_bug:
        threads.api.before = mock.Mock(side_effect=bug)
    threads.api.faults.add("list", "401", times=inf)
    waiters = [threads.wait_at(0.0, 10.0) for _ in range(8)]
    threads.run()
    first, *others = map(threads.outcome, waiters)
    assert first is bug if is_bug else isinstance(first, errors.AuthenticationError)
    assert all(outcome is first for outcome in others)
    lasted = threads.asked[-1] - threads.asked[0]
    assert lasted == (0 if is_bug else pytest.approx(REFUSED_SECONDS, abs=16))


@pytest.mark.parametrize("machines", [1, 2, 20])
def test_calls_of_one(machines: int) -> None:
    """However many wait, there is one call per interval, until their machines are ready."""
    threads = Shared(machines)
    waiters = [threads.wait_at(0.0, 27.0) for _ in range(machines)]
    threads.run()
    assert [round(moment) for moment in threads.asked] == list(range(2, 29, 2))
    assert all(isinstance(threads.outcome(one), Instance) for one in waiters)


SOON = [0.125, 0.25, 0.5, 1]


@pytest.mark.parametrize(
    "ready_at, expected",
    [
        pytest.param(
            [9.0 + number / 8 for number in range(80)],
            [2, 2, 2, 2, *SOON, 2, *SOON, 2, *SOON],
            id="one after another",
        ),
        pytest.param([9.0, 13.0], [2, 2, 2, 2, *SOON, 2], id="later"),
    ],
)
def test_hurried_polls(ready_at: list[float], expected: list[float]) -> None:
    """Machines started together are ready together, so the next four looks are soon."""
    threads = Shared()
    for moment in ready_at:
        threads.wait_at(0.0, moment)
    threads.run()
    assert pauses(threads.asked) == expected


@pytest.mark.parametrize(
    "gone, expected",
    [
        pytest.param([0.1], [0.25, 0.5], id="at once"),
        pytest.param([0.9] * 64, [0.25, 0.75, 1.37, 1.62], id="in a second"),
        pytest.param([5.0], [0.25, 0.75, 1.5, 3, 5, 5.25], id="later"),
        pytest.param([2.5, 8.5], [0.25, 0.75, 1.5, 3, 5, 7, 9, 9.25], id="one by one"),
    ],
)
def test_polls_after_delete(gone: list[float], expected: list[float]) -> None:
    """The first look is soon, and so is the one that confirms the last end."""
    threads = Shared()
    deletes = [threads.delete_at(number / 500, end) for number, end in enumerate(gone)]
    threads.run()
    assert threads.asked == pytest.approx(expected, abs=0.01)
    assert all(threads.outcome(one) for one in deletes)


@any_order
def test_recent(seed: int) -> None:
    """Creates share a list that was asked for recently, in flight or done."""
    threads = Shared(seed, list_takes=0.3)
    creates = [threads.recent_at(threads.random.uniform(0.0, 1.9)) for _ in range(20)]
    threads.run()
    assert len(threads.asked) == 1
    assert all(threads.outcome(one) == {} for one in creates)


def test_not_recent() -> None:
    """What counts is when a list was asked for, not when it was answered."""
    threads = Shared(list_takes=5.0)
    threads.recent_at(0.0)
    threads.at(1.0, threads.machine)
    late = [threads.recent_at(3.0), threads.recent_at(5.5)]  # while it is asked, and afterwards
    threads.run()
    assert all(set(threads.outcome(one)) == threads.api.state.alive() != set() for one in late)


def test_recent_error() -> None:
    """A key that is refused is refused for all creates of a run, with one call."""
    threads = Shared()
    threads.api.faults.add("list", "401")
    first, soon, later = map(threads.recent_at, (0.0, 1.0, 3.0))
    threads.run()
    assert isinstance(threads.outcome(first), errors.AuthenticationError)
    assert threads.outcome(soon) is threads.outcome(first)
    assert threads.outcome(later) == {}
