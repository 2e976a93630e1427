"""The v1 API under the real engine: the move to it, lost answers, and a killed plugin."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT
from .harness import Stack, machine
from .recovery import PATIENCE, Stage, entries, kill, says, unlock


def speak_v1(stack: Stack, emulator: EmulatorServer) -> None:
    """Have the stack's commands speak v1 to that emulator."""
    stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}


def test_a_stack_moves_to_v1_and_lives_there_in_spite_of_lost_answers(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Where v1 doesn't know its machines nothing is dropped; where it does, a refresh moves it.

    Creates without a usable answer are sent again, and create one machine each. The list of the
    machines has several pages.
    """
    state = emulator.state
    old = [machine("one"), machine("two")]
    stack.write(*old)
    stack.up()
    held = stack.state_ids()
    with EmulatorServer(api_key=emulator.env["FAL_ADMIN_API_KEY"]) as another:
        speak_v1(stack, another)
        says(stack.refresh(fails=True), "does not know it", "FAL_COMPUTE_API")
        assert stack.state_ids() == held
        assert another.state.creations == 0

    speak_v1(stack, emulator)
    state.page_size = 2
    (stopped, _) = sorted(held)
    state.set_status(stopped, "stopped")
    says(stack.refresh(), f"Machine {stopped} is stopped")
    assert stack.state_ids() == held
    for resource in stack.resources():
        assert resource["outputs"]["region"] == "us-west"
        assert resource["outputs"]["endpoint"] == f"{emulator.url}/v1"

    emulator.faults.add("create", "reset_after")
    emulator.faults.add("create", "502")
    emulator.log.clear()
    stack.write(*old, machine("three"), machine("four"), machine("five"))
    says(stack.up(), "3 created", "3 unchanged")
    assert {call.api for call in emulator.log} == {"v1"}
    assert stack.state_ids() == state.alive()
    assert state.creations == 5

    stack.write(*old, machine("three", instance_type=EIGHT))
    says(stack.up(), "1 replaced", "2 deleted")
    assert stack.state_ids() == state.alive()
    assert state.creations == 6
    stack.destroy()
    assert state.alive() == set()
    assert entries(stack) == []


@pytest.mark.parametrize("who", ["plugin", pytest.param("both", marks=pytest.mark.chaos)])
def test_a_create_that_was_killed_in_its_post_is_finished_by_the_next_up(
    who: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """The same key is sent again, so no user has to decide and no second machine is created."""
    speak_v1(stack, emulator)
    stack.env |= PATIENCE
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), who)
    stage.end()
    if who == "both":
        unlock(stack)
    (made,) = emulator.state.alive()
    stack.up()
    assert stack.state_ids() == {made}
    assert emulator.state.creations == 1
