"""What tests of programs under Pulumi's own mocks share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor

# Of Pulumi's own set_mocks, on Python 3.12 and 3.13.
WITH_MOCKS = pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")

Test = Callable[..., pulumi.Output[None]]

pulumi_test: Callable[[Test], Test] = pulumi.runtime.test  # which has no types


def set_mocks(mocks: pulumi.runtime.Mocks, monitor: MockMonitor | None = None) -> None:
    """Run what is declared next under the mocks. Pulumi's own function needs an event loop."""
    try:
        asyncio.get_event_loop()
    except RuntimeError:  # Python 3.14 makes none by itself
        asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(mocks, project="project", stack="dev", preview=False, monitor=monitor)


class KeepingMocks(pulumi.runtime.Mocks):
    """Keeps what was asked, by the resource's name. A subclass answers."""

    def __init__(self) -> None:
        self.asked: dict[str, pulumi.runtime.MockResourceArgs] = {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(f"{args.token} was called")


M = TypeVar("M", bound=pulumi.runtime.Mocks)


def running(mocks: M) -> Iterator[M]:
    """Run a test under the mocks.

    Failed outputs report themselves when they are collected, and Python 3.11 has a bug if that
    happens while another test parses Python. So they are collected at the end.
    """
    set_mocks(mocks)
    yield mocks
    gc.collect()
