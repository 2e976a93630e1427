"""No machine is lost, none is made twice, and none of somebody else is touched: by simulation.

Schedules are drawn at random; and two commands are run in every order, whatever one thing happens
meanwhile.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .. import tally
from . import enumeration
from .schedules import MANY, PARTS, QUICK, Interleaved, KeyedInterleaved, KeyedSchedules, Schedules

KINDS = (Schedules, Interleaved, KeyedSchedules, KeyedInterleaved)
ORDERS = 48
"""So many tests share the orders of two commands, so that several processes can run them."""
SHARE = float(os.environ.get("CHAOS_SHARE", "0.5"))
"""How many of the pairs of commands a run searches; CHAOS_SEED draws others every time. All of them
take 25 minutes of two processors."""


def draw(
    kind: type[Schedules],
    how_far: settings,
    record_property: tally.Record,
    prepare: Callable[[type[Schedules]], type[Schedules]] = lambda kind: kind,
) -> None:
    """Creates, faults, deaths, power failures, other people and other stacks, in any order."""
    drawn: Any = type(kind.__name__, (kind,), {})
    broken = 1
    try:
        run_state_machine_as_test(prepare(drawn), settings=how_far)
        broken = 0
    finally:
        tally.record(record_property, "simulation: at random", cases=drawn.count, broken=broken)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_in_every_schedule(
    kind: type[Schedules], record_property: tally.Record
) -> None:
    """The same fifty schedules every time."""
    draw(kind, QUICK, record_property)


@pytest.mark.chaos("simulation/test_schedules.py::test_every_law_holds_in_every_schedule")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_in_every_schedule_of_many(
    kind: type[Schedules], part: int, record_property: tally.Record
) -> None:
    """Other ones every time, which follow from CHAOS_SEED."""
    draw(kind, MANY, record_property, seed(PARTS * tally.SEED + part))


def hold(some: list[enumeration.Case], record_property: tally.Record) -> None:
    """Run all schedules of some cases. If laws are broken, the shortest schedule is the error."""
    found = enumeration.search(some)
    part = "simulation: two commands"
    tally.record(record_property, part, cases=found.count, broken=found.broken)
    if found.shortest is not None:
        pytest.fail(
            f"{found.broken} of {found.count} schedules break a law. The shortest one:\n"
            f"{found.shortest}",
            pytrace=False,
        )


@pytest.mark.timeout(600)
def test_every_law_holds_in_some_orders(record_property: tally.Record) -> None:
    """Each command by itself, and the pairs that have once lost a machine."""
    hold(list(enumeration.quick_cases()), record_property)


@pytest.mark.chaos("simulation/test_schedules.py::test_every_law_holds_in_some_orders")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(ORDERS))
def test_every_law_holds_in_every_order(part: int, record_property: tally.Record) -> None:
    """Each command by itself, and some of the pairs."""
    is_drawn = random.Random(tally.SEED).random
    some = (case for case in enumeration.cases() if is_drawn() < SHARE or len(case.commands) == 1)
    hold(list(islice(some, part, None, ORDERS)), record_property)
