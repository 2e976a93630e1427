"""Many creates at once, and an API that asks for patience."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import entries

COUNT = 16


@pytest.mark.parametrize("retry_after", [None, 1])
def test_sixteen_creates_under_429s_make_sixteen_machines(
    retry_after: int | None, stack: Stack, emulator: EmulatorServer
) -> None:
    """All of them, once: a POST that was refused so has made nothing, and may be sent again."""
    emulator.faults.add("create", fault("429", retry_after=retry_after), 3 * COUNT)
    emulator.faults.add("list", fault("429", retry_after=retry_after), 2)
    stack.write(*(machine(f"machine_{number}") for number in range(COUNT)))
    stack.up("--parallel", str(COUNT))
    assert emulator.state.creations == COUNT
    assert stack.state_ids() == emulator.state.alive()
    assert len({each["urn"] for each in stack.resources()}) == COUNT
    assert emulator.state.calls["create"] == 4 * COUNT
    assert all(each["outputs"]["status"] == "ready" for each in stack.resources())
    stack.up("--expect-no-changes")
    assert entries(stack) == []
