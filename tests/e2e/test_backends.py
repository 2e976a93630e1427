"""Stacks that share all names and a PULUMI_HOME, in two backends: each has its own machine.

tests/chaos has every way to name a backend.
"""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack
from .recovery import kill_while_waiting, unlock


@pytest.mark.chaos
def test_a_killed_create_is_resumed_only_by_its_own_stack(
    twins: list[Stack], emulator: EmulatorServer
) -> None:
    """The same relative URL names another backend where the CLI runs in another folder."""
    one, other = twins
    for stack in twins:
        stack.env["PULUMI_BACKEND_URL"] = "file://."
    first = kill_while_waiting(one, emulator)
    up = other.up()
    assert first not in up.output
    (second,) = emulator.state.alive() - {first}
    assert other.state_ids() == {second}
    unlock(one)
    one.up()
    assert one.state_ids() == {first}
    assert emulator.state.creations == 2
