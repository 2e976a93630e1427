"""Every fault at every call of create, read and delete, under the real engine.

Beside single faults there are outages in a wait, refusals for want of room, keys of another
account, rotated keys, and renamed stacks and projects. A run plays a part of each row, which
follows from CHAOS_SEED; `CHAOS_SHARE=1` plays all, and `CHAOS_ONLY=REGEX` all cases whose row or
name it matches.
"""

from __future__ import annotations

from itertools import chain, islice

import pytest

from . import accounts, capacity, keyed, matrix, outages, renames
from .report import Play, drawn

PARTS = 8
"""So many tests share the cases, so that several processes can play them."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_of_any_call_loses_a_machine_or_creates_a_second(play: Play, part: int) -> None:
    """State has exactly the machines that are alive, and a failure names those at risk."""
    tables = (matrix, keyed, outages, capacity, accounts, renames)
    cases = drawn(chain.from_iterable(table.cases() for table in tables))
    play(islice(cases, part, None, PARTS), "Python package")
