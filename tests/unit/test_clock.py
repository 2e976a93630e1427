"""The real clock: every wait ends at once when it is interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pulumi_fal.clock import Clock
from pulumi_fal.errors import Interrupted

FOR_EVER = 60.0


def wait_on_a_condition(clock: Clock, seconds: float | None) -> None:
    condition = threading.Condition()
    with condition:
        clock.wait(condition, seconds)


WAITS: list[Callable[[Clock], None]] = [
    lambda clock: clock.sleep(FOR_EVER),
    lambda clock: wait_on_a_condition(clock, FOR_EVER),
    lambda clock: wait_on_a_condition(clock, None),
]
each_wait = pytest.mark.parametrize("wait", WAITS, ids=["sleep", "timed wait", "endless wait"])


@each_wait
def test_an_interrupt_ends_every_wait(wait: Callable[[Clock], None]) -> None:
    """Ctrl-C must not wait for a Retry-After, nor for a machine."""
    clock, ended = Clock(), threading.Event()

    def waiter() -> None:
        with pytest.raises(Interrupted):
            wait(clock)
        ended.set()

    thread = threading.Thread(target=waiter, daemon=True)
    thread.start()
    clock.interrupt()
    assert ended.wait(5)


@each_wait
def test_after_an_interrupt_no_wait_begins(wait: Callable[[Clock], None]) -> None:
    """After an interrupt, neither a wait nor a check lets a call go on."""
    clock = Clock()
    clock.interrupt()
    clock.interrupt()
    with pytest.raises(Interrupted):
        wait(clock)
    with pytest.raises(Interrupted):
        clock.check()


def test_a_wait_ends_by_itself_or_when_notified() -> None:
    """A wait ends when it is notified or its time is up, and a negative pause is none."""
    clock = Clock()
    clock.sleep(-1)
    clock.sleep(0.001)
    wait_on_a_condition(clock, 0.001)
    clock.check()


def test_the_clock_never_jumps_and_the_wall_is_everybodys() -> None:
    """One time never jumps and is for waits, and the other can be compared between processes."""
    clock = Clock()
    assert clock.now() <= clock.now()
    assert abs(clock.wall() - time.time()) < 5
