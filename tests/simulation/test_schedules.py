"""No machine is lost, none is made twice, and none of somebody else is touched: by simulation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .. import tally
from .schedules import (
    MANY,
    PARTS,
    QUICK,
    Interleaved,
    KeyedInterleaved,
    KeyedSchedules,
    Schedules,
)

KINDS = (Schedules, Interleaved, KeyedSchedules, KeyedInterleaved)


def search(
    kind: type[Schedules],
    how_far: settings,
    record_property: tally.Record,
    prepare: Callable[[type[Schedules]], type[Schedules]] = lambda kind: kind,
) -> None:
    """Creates, faults, deaths, power failures, other people and other stacks, in any order."""
    count = 0

    class Counted(kind):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            nonlocal count
            count += 1
            super().__init__()

    Counted.__name__ = Counted.__qualname__ = kind.__name__
    broken = 1
    try:
        run_state_machine_as_test(prepare(Counted), settings=how_far)
        broken = 0
    finally:
        where = "simulation: at random"
        tally.record(record_property, where, cases=count, broken=broken)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_in_every_schedule(
    kind: type[Schedules], record_property: tally.Record
) -> None:
    """The same fifty schedules every time."""
    search(kind, QUICK, record_property)


@pytest.mark.chaos("simulation/test_schedules.py::test_every_law_holds_in_every_schedule")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_in_every_schedule_of_many(
    kind: type[Schedules], part: int, record_property: tally.Record
) -> None:
    """Other ones every time, which follow from CHAOS_SEED."""
    search(kind, MANY, record_property, seed(PARTS * tally.SEED + part))
