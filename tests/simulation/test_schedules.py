"""No machine is lost, none is made twice, and none of somebody else is touched: by simulation.

HYPOTHESIS_PROFILE=chaos searches further: SIMULATION_SCHEDULES (5000) of each kind, drawn anew.
"""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from .schedules import (
    Interleaved,
    KeyedInterleaved,
    KeyedSchedules,
    Schedules,
    profile,
)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("machine", [Schedules, Interleaved, KeyedSchedules, KeyedInterleaved])
def test_every_law_holds_in_every_schedule(machine: type[Schedules]) -> None:
    """Creates, faults, deaths, power failures, other people and other stacks, in any order."""
    run_state_machine_as_test(machine, settings=profile())
