"""The v1 API by the real engine: a machine's life, lost answers, kills, and the move to it."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import PATIENCE, Stage, entries, finish, kill, unlock


@pytest.fixture
def v1(stack: Stack, emulator: EmulatorServer) -> Stack:
    """The stack, whose commands speak v1 to the same emulator."""
    speak_v1(stack, emulator)
    return stack


def speak_v1(stack: Stack, emulator: EmulatorServer) -> None:
    stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}


def test_machines_live_under_v1_in_spite_of_lost_answers(
    v1: Stack, emulator: EmulatorServer
) -> None:
    """Three creates of which two get no usable answer are three machines, listed on two pages."""
    emulator.state.page_size = 2
    emulator.faults.add("create", "reset_after")
    emulator.faults.add("create", "502")
    names = ("one", "two", "three")
    v1.write(*(machine(name) for name in names))
    v1.up()
    assert v1.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 3
    assert {call.api for call in emulator.state.log} == {"v1"}
    assert {row["outputs"]["region"] for row in v1.resources()} == {"us-west"}
    (stopped, *_) = sorted(v1.state_ids())
    emulator.state.set_status(stopped, "stopped")
    refreshed = v1.refresh()
    assert f"Machine {stopped} is stopped" in refreshed.output
    v1.up("--expect-no-changes")
    v1.write(machine("one", instance_type="gpu_8x_h100_sxm5"), machine("two"), machine("three"))
    v1.up()
    assert v1.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 4
    v1.destroy()
    assert emulator.state.alive() == set()
    assert entries(v1) == []


@pytest.mark.parametrize("who", ["plugin", "both"])
def test_a_create_that_was_killed_in_its_post_is_finished_by_the_next_up(
    v1: Stack, emulator: EmulatorServer, who: str
) -> None:
    """The same key is sent again, so nobody is asked anything and no second machine is made."""
    v1.env |= PATIENCE
    stage = Stage(emulator, "during the POST")
    run = stage.reached_by(v1.start("up"))
    kill(v1, run, who)
    stage.end()
    unlock(v1)
    (made,) = emulator.state.alive()
    v1.up()
    assert v1.state_ids() == {made}
    assert emulator.state.creations == 1


def test_a_stack_moves_from_legacy_to_v1_where_the_machines_are_known(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Refresh goes on with them; where v1 doesn't know them, nothing is dropped or made."""
    stack.write(machine("one"), machine("two"))
    stack.up()
    finish(emulator.state)
    held = stack.state_ids()
    with EmulatorServer(api_key=emulator.env["FAL_ADMIN_API_KEY"]) as another:
        speak_v1(stack, another)
        refused = stack.refresh(fails=True)
        assert "does not know it" in refused.output
        assert "FAL_COMPUTE_API" in refused.output
        assert stack.state_ids() == held
        assert another.state.creations == 0
    speak_v1(stack, emulator)
    stack.refresh()
    assert stack.state_ids() == held
    outputs = [row["outputs"] for row in stack.resources()]
    assert {(each["region"], each["endpoint"]) for each in outputs} == {
        ("us-west", f"{emulator.url}/v1")
    }
    stack.up("--expect-no-changes")
    stack.destroy()
    assert emulator.state.alive() == set()
