"""Runs several processes in one thread, one at a time; which one runs next is data.

Each process runs in a greenlet. It gives way at its steps and while it waits. Time is data as well:
it passes when a process waits and no other one is to run, and then at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from math import inf

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from pulumi_fal.clock import Clock
from pulumi_fal.emulator.state import TurnedClock


class Died(BaseException):
    """The process was killed. This is not an Exception, so nothing handles it."""


class Turn:
    """A process, or one of the calls that it serves at the same time."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run
        self.woken: Callable[[], bool] = lambda: True
        self.until = inf
        self.is_doomed: Callable[[], bool] = lambda: False
        """Whether its process has died: then it waits for nothing."""
        self.needs_others = False
        """Whether it waits for something that only another one can do, such as release a lock."""
        self.is_over = False

    def is_able(self, now: float) -> bool:
        return self.is_doomed() or self.woken() or self.until <= now


class Turns:
    """Runs processes on a turned clock.

    They give way at each of their steps, and the schedule says who goes on. With `is_patient`, a
    process goes on until it is told to give way, also while it sleeps, as long as it can.
    """

    def __init__(self, time: TurnedClock, on_deadlock: Callable[[], None]) -> None:
        """`on_deadlock` is called when all wait for one another; it must end them."""
        self.time = time
        self.slept = 0.0
        """Seconds for which the computer slept: no monotonic clock counts them."""
        self.current: Turn | None = None
        self.is_patient = False
        self._on_deadlock = on_deadlock
        self._hub: greenlet | None = None

    def wall(self) -> float:
        return 1_700_000_000 + self.time.now + self.slept

    def run(self, turns: list[Turn], schedule: Iterable[int] = ()) -> None:
        """Run all to their ends. Each number of the schedule picks among those who can go on."""
        if len(turns) == 1:
            self.current = turns[0]
            try:
                turns[0].run()
            finally:
                self.current = None
            return
        self._hub = getcurrent()
        try:
            self._take_turns(turns, iter(schedule))
        finally:
            self.current, self._hub = None, None

    def pause(self) -> None:
        """Let another one go first, if the schedule says so."""
        if not self.is_patient:
            self.block(lambda: True)

    def give_way(self) -> None:
        """Let another one run until it gives way."""
        self._wait(lambda: True, inf)

    def need_others(self) -> None:
        """Note that whoever's turn it is waits for something that only another one can do."""
        assert self.current is not None
        self.current.needs_others = True

    def block(self, woken: Callable[[], bool], seconds: float = inf) -> None:
        """Wait until `woken` returns true, or so many seconds have passed."""
        turn = self.current
        if turn is None:
            raise AssertionError("nobody waits outside of a turn")
        # No wait is shorter than rounding, or time would stand still for one that is left over.
        until = self.time.now + max(1e-6, seconds)
        goes_on = self.is_patient and until < inf and not turn.needs_others
        if self._hub is None or goes_on:
            if not woken():
                self._let_time_pass(until)
            return
        self._wait(woken, until)

    def _wait(self, woken: Callable[[], bool], until: float) -> None:
        turn = self.current
        assert turn is not None
        if self._hub is not None:
            turn.woken, turn.until = woken, until
            self._hub.switch()

    def _take_turns(self, turns: list[Turn], picks: Iterator[int]) -> None:
        greenlets = {turn: greenlet(turn.run) for turn in turns}
        try:
            self._take_turns_of(greenlets, turns, picks)
        finally:
            for unfinished in greenlets.values():
                if not unfinished.dead:
                    unfinished.throw(Died)  # so that nothing of it is left to run later

    def _take_turns_of(
        self, greenlets: dict[Turn, greenlet], turns: list[Turn], picks: Iterator[int]
    ) -> None:
        last: Turn | None = None
        while waiting := [turn for turn in turns if not turn.is_over]:
            able = [turn for turn in waiting if turn.is_able(self.time.now)]
            if not able:
                self._let_time_pass(min(turn.until for turn in waiting))
                continue
            if self.is_patient and len(able) > 1:
                able = [turn for turn in able if turn is not last]
            last = self.current = able[next(picks, 0) % len(able)]
            last.needs_others = False
            greenlets[last].switch()
            last.is_over = greenlets[last].dead

    def _let_time_pass(self, until: float) -> None:
        if until == inf:
            self._on_deadlock()
        else:
            self.time.now = max(self.time.now, until)


class SimulatedClock(Clock):
    """A process's clock: its waits are turns, and at each it may die or be interrupted."""

    def __init__(self, turns: Turns, step: Callable[[str], None]) -> None:
        super().__init__()
        self._turns = turns
        self._step = step
        self._conditions_of: set[threading.Condition] = set()

    def now(self) -> float:
        return self._turns.time.now

    def wall(self) -> float:
        return self._turns.wall()

    def interrupt(self) -> None:
        self.interrupted.set()
        for condition in self._conditions_of:
            with condition:
                condition.notify_all()

    def sleep(self, seconds: float) -> None:
        self._step("a sleep begins")
        self.check()
        self._turns.block(self.interrupted.is_set, seconds)
        self._step("a sleep ends")
        self.check()

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        """Wait as the real clock does; what notifies is the condition's own list of who waits."""
        self._conditions_of.add(condition)
        self.check()
        waiter = threading.Lock()
        waiter.acquire()
        waiters = condition._waiters  # type: ignore[attr-defined]
        waiters.append(waiter)
        condition.release()
        try:
            self._step("a wait begins")
            self._turns.block(lambda: not waiter.locked(), inf if seconds is None else seconds)
            self._step("a wait ends")
        finally:
            condition.acquire()
            if waiter in waiters:
                waiters.remove(waiter)
        self.check()
