"""No law is broken in any order of two commands, whatever one thing happens meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import pytest

from .. import tally
from .enumeration import Case, cases, quick_cases, search

PARTS = 48
"""So many tests share the cases, so that several processes can run them."""
SHARE = float(os.environ.get("CHAOS_SHARE", "0.5"))
"""How many of the pairs of commands a run searches; CHAOS_SEED draws others every time. All of them
take 25 minutes of two processors."""


class Hold(Protocol):
    """The fixture of this name."""

    def __call__(self, some: list[Case]) -> None: ...


@pytest.fixture
def hold(record_property: tally.Record) -> Hold:
    """Run all schedules of some cases. If laws are broken, the shortest schedule is the error."""

    def hold(some: list[Case]) -> None:
        found = search(some)
        part = "simulation: two commands"
        tally.record(record_property, part, cases=found.count, broken=found.broken)
        if found.shortest is not None:
            pytest.fail(
                f"{found.broken} of {found.count} schedules break a law. The shortest one:\n"
                f"{found.shortest}",
                pytrace=False,
            )

    return hold


@pytest.mark.timeout(600)
def test_every_law_holds_for_each_command_and_in_some_pairs(hold: Hold) -> None:
    hold(list(quick_cases()))


@pytest.mark.chaos(
    "simulation/test_enumeration.py::test_every_law_holds_for_each_command_and_in_some_pairs"
)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_law_holds_in_every_order_of_two_commands(hold: Hold, part: int) -> None:
    hold(list(islice(drawn(), part, None, PARTS)))


def drawn() -> Iterator[Case]:
    """Yield each command by itself, and some of the pairs."""
    draw = random.Random(tally.SEED)
    return (case for case in cases() if draw.random() < SHARE or len(case.commands) == 1)
