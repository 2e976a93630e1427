"""The threads of the plugin's process: how many calls it serves, and how its waits end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.clock import Clock
from pulumi_fal.errors import Interrupted
from pulumi_fal.hosts import dynamic, engine
from pulumi_fal.machines.account import Account

from ..fakes import ONE

PATIENCE = 10.0
"""Seconds until a test that hangs fails; nothing takes as long."""


@pytest.fixture
def server() -> Iterator[ThreadPoolExecutor]:
    """A server as the SDK makes it, after some calls, which may all count as idle threads."""
    with ThreadPoolExecutor(4) as executor:
        for _ in range(20):
            executor.submit(int).result(PATIENCE)
        yield executor


@pytest.mark.parametrize("queued", [0, 3, 16])
def test_served_at_once(server: ThreadPoolExecutor, queued: int) -> None:
    """All calls up to the limit run at once, whether they came before the change or after."""
    wide, all_there = threading.Event(), threading.Barrier(32)

    def configure() -> None:
        assert wide.wait(PATIENCE)
        dynamic.raise_concurrency(32)

    configuring = [server.submit(configure) for _ in range(4)]
    calls = [server.submit(all_there.wait, PATIENCE) for _ in range(queued)]
    wide.set()
    for started in configuring:
        started.result(PATIENCE)
    calls += [server.submit(all_there.wait, PATIENCE) for _ in range(32 - queued)]
    for served in calls:
        served.result(PATIENCE)


def test_cancel_is_heard(server: ThreadPoolExecutor) -> None:
    """There is one thread more than the limit, for Cancel, even if all others wait."""
    server.submit(dynamic.raise_concurrency, 6).result(PATIENCE)
    cancelled = threading.Event()
    waits = [server.submit(cancelled.wait, PATIENCE) for _ in range(6)]
    server.submit(cancelled.set)
    assert all(wait.result(PATIENCE) for wait in waits)
    for _ in range(50):
        server.submit(int)
    server.shutdown()
    assert len(server._threads) == 7


def on_a_condition(clock: Clock, seconds: float | None) -> None:
    condition = threading.Condition()
    with condition:
        clock.wait(condition, seconds)


WAITS: dict[str, Callable[[Clock], None]] = {
    "sleep": lambda clock: clock.sleep(60),
    "timed wait": lambda clock: on_a_condition(clock, 60),
    "endless wait": lambda clock: on_a_condition(clock, None),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_interrupt(wait: Callable[[Clock], None]) -> None:
    """It ends every wait, be it for a Retry-After or for a machine, and after it none begins."""
    clock = Clock()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(wait, clock)
        clock.interrupt()
        assert isinstance(waiting.exception(PATIENCE), Interrupted)
    for again in (wait, Clock.check):
        with pytest.raises(Interrupted):
            again(clock)


def test_clock() -> None:
    """A wait ends when its time is up, and the wall clock is everybody's."""
    clock = Clock()
    clock.sleep(-1)
    clock.sleep(0.001)
    on_a_condition(clock, 0.001)
    clock.check()
    assert abs(clock.wall() - time.time()) < 5


def test_shared_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls with accounts of their own would not know of each other's creates."""
    one = engine.Session({}, lambda key: None, print)
    seen: list[Account] = []
    second = threading.Thread(target=lambda: seen.append(one.account))

    def slow(*args: Any, **others: Any) -> Account:
        if not second.is_alive():
            second.start()
            second.join(0.05)
        return Account(*args, **others)

    monkeypatch.setattr(engine, "Account", slow)
    seen.append(one.account)
    second.join()
    assert seen[0] is seen[1]


def ending(told: list[str], prices: str) -> engine.Session:
    """A session that has created a machine."""
    config = {"fal:prices": prices}
    ending = engine.Session({}, config.get, lambda message, **_: told.append(message))
    ending.bill.began["a"] = Instance("a", ONE)
    return ending


def test_told_at_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Cancel of a Ctrl-C comes before the calls end, and the sum is told once."""
    monkeypatch.setattr(engine, "_CALL_SECONDS", 0)
    told: list[str] = []
    ended = ending(told, f"{ONE}=2")
    with monkeypatch.context() as running:
        running.setattr(engine.in_progress, "_number", 1)
        ended.cancel()
        assert told == []
    with pytest.raises(Interrupted):
        ended.clock.check()
    ended.cancel()
    ended.cancel()
    assert told == ["Started billing 1 machine, 2.00 an hour."]


def test_wrong_prices() -> None:
    """The first check has refused them, and the engine waits for an answer to Cancel."""
    ending([], "free").cancel()
