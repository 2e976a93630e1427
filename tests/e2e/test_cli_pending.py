"""`pulumi-fal pending`, between two runs of the real `pulumi`."""

from __future__ import annotations

import json

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .cli import pulumi_fal
from .harness import Stack


@pytest.fixture
def unanswered(stack: Stack, emulator: EmulatorServer) -> str:
    """The machine that an `up` made without hearing of it."""
    emulator.faults.script("create=500_after")
    stack.up(fails=True)
    (made,) = emulator.state.alive()
    return made


def test_up_goes_on_with_the_machine_that_was_adopted(
    stack: Stack, emulator: EmulatorServer, unanswered: str
) -> None:
    """`ls` names it, `adopt` says that it is the resource's, and nothing else is made."""
    (entry,) = json.loads(pulumi_fal(stack, "pending", "ls", "--json"))
    assert entry["candidates"] == [unanswered]
    pulumi_fal(stack, "pending", "adopt", entry["urn"], unanswered)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {unanswered}
    stack.up("--expect-no-changes")
    (entry,) = json.loads(pulumi_fal(stack, "pending", "ls", "--json")) or [{"in_state": True}]
    assert entry["in_state"] is True


def test_up_makes_another_when_it_was_forgotten(
    stack: Stack, emulator: EmulatorServer, unanswered: str
) -> None:
    """The person has said that the first is not this resource's; it is not touched."""
    shown = pulumi_fal(stack, "pending", "forget", "machine", "--yes")
    assert unanswered in shown
    stack.up()
    assert len(stack.state_ids()) == 1
    assert emulator.state.alive() == stack.state_ids() | {unanswered}
    report = json.loads(pulumi_fal(stack, "audit", "--json", code=1))
    forgotten = [each["id"] for each in report["machines"] if each["whose"] == "forgotten"]
    assert forgotten == [unanswered]
