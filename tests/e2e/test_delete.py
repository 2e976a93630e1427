"""A delete succeeds only when the machine is gone, by the API's own word."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import PATIENCE, as_documented, says


@pytest.mark.chaos("unit/test_lifecycle.py::test_never_accepted")
def test_a_delete_that_is_refused_until_its_timeout_keeps_the_machine_in_state(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The error says how long it took and why, and the next `destroy` deletes the machine."""
    stack.env |= PATIENCE
    stack.write(machine(opts="custom_timeouts=pulumi.CustomTimeouts(delete='5s')"))
    stack.up()
    (id_,) = emulator.state.alive()
    emulator.faults.add("delete", "409", inf)
    failed = stack.destroy(fails=True)
    as_documented(failed, "A delete timed out")
    says(failed, f"Machine {id_} may still exist 5 s after its delete began")
    assert stack.state_ids() == emulator.state.alive() == {id_}
    assert emulator.state.calls["delete"] > 1
    emulator.faults.clear()
    stack.destroy()
    assert stack.state_ids() == emulator.state.alive() == set()
