"""Every fault at every call of create, read and delete, under the real engine.

Beside single faults there are outages in a wait, refusals for want of room, keys of another
account, rotated keys, and renamed stacks and projects. `CHAOS_ONLY=REGEX` plays only the cases
whose row or name it matches.
"""

from __future__ import annotations

from itertools import chain

from . import accounts, capacity, keyed, matrix, outages, renames
from .report import Play


def test_no_fault_of_any_call_loses_a_machine_or_creates_a_second(play: Play) -> None:
    """State has exactly the machines that are alive, and a failure names those at risk."""
    tables = (matrix, keyed, outages, capacity, accounts, renames)
    cases = chain.from_iterable(table.cases() for table in tables)
    play(cases, "every fault, at every call; outages, capacity, keys, names")
