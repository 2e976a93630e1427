"""Threads of which one runs at a time. A seed decides which, so every order can be had again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from pulumi_fal.emulator.state import TurnedClock

from ..simulation.turns import SimulatedClock, Turn, Turns

any_order = pytest.mark.parametrize("seed", range(5))


class Threads:
    """Threads on a clock that turns only when all of them wait."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.time = TurnedClock()
        self.turns = Turns(self.time, self._deadlock)
        self.clock = SimulatedClock(self.turns, lambda _: self.turns.pause())
        self.outcomes: dict[int, tuple[float, Any]] = {}
        """When each thread was over, and its result or its exception."""
        self._threads: list[Turn] = []
        self._is_stuck = False

    def at(self, moment: float, act: Callable[[], Any]) -> int:
        """Have a thread do that at a moment; its number."""
        number = len(self._threads)

        def run() -> None:
            self.passes(moment)
            try:
                outcome = act()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                outcome = error
            self.outcomes[number] = self.time.now, outcome

        self._threads.append(Turn(run))
        return number

    def outcome(self, number: int) -> Any:
        return self.outcomes[number][1]

    def passes(self, seconds: float) -> None:
        """Have a thread wait."""
        self.turns.block(lambda: False, seconds)

    def run(self) -> None:
        self.at(0, lambda: None)  # with one thread alone, turns would not be taken
        self.turns.run(self._threads, iter(lambda: self.random.randrange(1000), None))
        assert not self._is_stuck, "all waited for one another"

    def _deadlock(self) -> None:
        self._is_stuck = True
        self.clock.interrupt()


def pauses(moments: Sequence[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(moments)]
