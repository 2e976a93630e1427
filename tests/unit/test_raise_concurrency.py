"""More calls at a time than the plugin's 4 threads: on the executor that gRPC servers run on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pulumi_fal.hosts import dynamic

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
def test_calls_that_come_before_and_after_are_all_served_at_once(
    server: ThreadPoolExecutor, queued: int
) -> None:
    """All calls up to the limit run at once, whether they came before the change or after."""
    wide, all_there = threading.Event(), threading.Barrier(32)

    def configure() -> None:
        assert wide.wait(PATIENCE)
        dynamic.raise_concurrency(32)

    def call() -> None:
        all_there.wait(PATIENCE)

    configuring = [server.submit(configure) for _ in range(4)]
    calls = [server.submit(call) for _ in range(queued)]
    wide.set()
    for started in configuring:
        started.result(PATIENCE)
    calls += [server.submit(call) for _ in range(32 - queued)]
    for served in calls:
        served.result(PATIENCE)


def test_there_is_one_thread_more_than_the_limit(server: ThreadPoolExecutor) -> None:
    """The pool has one thread more than the limit, which is for Cancel."""
    server.submit(dynamic.raise_concurrency, 6).result(PATIENCE)
    for _ in range(50):
        server.submit(int)
    server.shutdown()
    assert len(server._threads) == 7


def test_cancel_is_heard_while_as_many_as_the_limit_wait(server: ThreadPoolExecutor) -> None:
    """Cancel is served although as many calls as the limit are waiting."""
    server.submit(dynamic.raise_concurrency, 6).result(PATIENCE)
    cancelled = threading.Event()
    waits = [server.submit(cancelled.wait, PATIENCE) for _ in range(6)]
    server.submit(cancelled.set)
    assert all(wait.result(PATIENCE) for wait in waits)


def test_a_limit_below_the_sdks_own_changes_nothing(server: ThreadPoolExecutor) -> None:
    """A limit below the SDK's four leaves its pool as it is."""
    server.submit(dynamic.raise_concurrency, 1).result(PATIENCE)
    together = threading.Barrier(4)
    for wait in [server.submit(together.wait, PATIENCE) for _ in range(4)]:
        wait.result(PATIENCE)
