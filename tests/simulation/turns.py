"""Threads of which one runs at a time: whose turn it is, is data. So is the time.

A thread gives its turn away at its steps, and loses it while it waits. Time passes only when all
are waiting, and then at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from math import inf

from pulumi_fal.clock import Clock
from pulumi_fal.emulator.state import TurnedClock


class Died(BaseException):
    """The process is no more. Not an Exception: nothing that it had planned happens."""


class Turn:
    """One thread's part in it."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run
        self.baton = threading.Semaphore(0)
        self.woken: Callable[[], bool] = lambda: True
        self.until = inf
        self.is_doomed: Callable[[], bool] = lambda: False
        """Whether its process has died: then it waits for nothing."""
        self.is_over = False

    def is_able(self, now: float) -> bool:
        """Whether it can go on."""
        return self.is_doomed() or self.woken() or self.until <= now


class Turns:
    """Runs threads in turns on a turned clock."""

    def __init__(self, time: TurnedClock, on_deadlock: Callable[[], None]) -> None:
        """`on_deadlock` is called when all wait for one another; it must end them."""
        self.time = time
        self.current: Turn | None = None
        self._on_deadlock = on_deadlock
        self._back = threading.Semaphore(0)
        self._alone = False

    def run(self, turns: list[Turn], schedule: Iterable[int] = ()) -> None:
        """Run all to their ends. Each number of the schedule picks among those who can go on."""
        if len(turns) == 1:
            self._alone, self.current = True, turns[0]
            try:
                turns[0].run()
            finally:
                self._alone, self.current = False, None
            return
        picks = iter(schedule)
        threads = [threading.Thread(target=self._body, args=(turn,)) for turn in turns]
        for thread in threads:
            thread.start()
        while waiting := [turn for turn in turns if not turn.is_over]:
            able = [turn for turn in waiting if turn.is_able(self.time.now)]
            if able:
                self.current = able[next(picks, 0) % len(able)]
                self.current.baton.release()
                self._back.acquire()
            else:
                self._let_time_pass(min(turn.until for turn in waiting))
        self.current = None
        for thread in threads:
            thread.join()

    def pause(self) -> None:
        """Let others go first, if the schedule says so."""
        self.block(lambda: True)

    def block(self, woken: Callable[[], bool], seconds: float = inf) -> None:
        """Wait until that is true, or so many seconds have passed."""
        turn = self.current
        if turn is None:
            raise AssertionError("nobody waits outside of a turn")
        # No wait is shorter than rounding: else time would stand still for one that is left over.
        turn.woken, turn.until = woken, self.time.now + max(1e-6, seconds)
        if self._alone:
            if not woken():
                self._let_time_pass(turn.until)
            return
        self._back.release()
        turn.baton.acquire()

    def _let_time_pass(self, until: float) -> None:
        if until == inf:
            self._on_deadlock()
        else:
            self.time.now = max(self.time.now, until)

    def _body(self, turn: Turn) -> None:
        turn.baton.acquire()
        try:
            turn.run()
        finally:
            turn.is_over = True
            self._back.release()


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
        return 1_700_000_000 + self._turns.time.now

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
        """As the real one does it; what notifies is the condition's own list of who waits."""
        self._conditions_of.add(condition)
        self.check()
        waiter = threading.Lock()
        waiter.acquire()
        waiters = condition._waiters  # type: ignore[attr-defined]
        waiters.append(waiter)
        condition.release()
        try:
            self._turns.block(lambda: not waiter.locked(), inf if seconds is None else seconds)
            self._step("a wait ends")
        finally:
            condition.acquire()
            if waiter in waiters:
                waiters.remove(waiter)
        self.check()
