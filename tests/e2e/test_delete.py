"""Delete: a success only when the machine is gone, by the API's own word."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import PATIENCE, as_documented, says

SHORT = "custom_timeouts=pulumi.CustomTimeouts(delete='1s')"


@pytest.fixture
def id_(stack: Stack, emulator: EmulatorServer) -> str:
    """A machine that is ready, and given a second to be deleted in."""
    stack.env |= PATIENCE
    stack.write(machine(opts=SHORT))
    stack.up()
    (id_,) = emulator.state.alive()
    return id_


def test_a_409_is_waited_out(id_: str, stack: Stack, emulator: EmulatorServer) -> None:
    """A machine that can't be deleted yet is asked for again."""
    emulator.faults.add("delete", "409", 3)
    stack.destroy()
    assert emulator.state.alive() == stack.state_ids() == set()
    assert emulator.state.calls["delete"] == 4


@pytest.mark.parametrize(
    "answer, words",
    [
        ("409", "the API answered 409: The machine is in a state that does not allow this"),
        ("404", "the API answered 404: Not Found"),
    ],
)
def test_a_refusal_that_stays_fails_and_keeps_the_machine_in_state(
    answer: str, words: str, id_: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """404 too, where the machine is still listed. The wait is bounded, and says what it was for."""
    emulator.faults.add("delete", answer, inf)
    failed = stack.destroy(fails=True)
    says(failed, f"Machine {id_} may still exist 1 s after its delete began ({words}).")
    if answer == "409":
        as_documented(failed, "A delete timed out")
    assert stack.state_ids() == emulator.state.alive() == {id_}
    emulator.faults.clear()
    stack.destroy()
    assert stack.state_ids() == emulator.state.alive() == set()


def test_a_machine_that_is_long_in_going_stays_in_state(
    id_: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """That DELETE was accepted is no proof that anything is gone."""
    emulator.state.deletion = inf
    says(
        stack.destroy(fails=True),
        f"Machine {id_} may still exist 1 s after its delete began (the API had accepted it).",
    )
    assert stack.state_ids() == {id_}
    emulator.state.kill(id_)
    stack.destroy()
    assert stack.state_ids() == set()


def test_a_refused_key_keeps_the_machine_in_state(
    id_: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """With the way to another key, although the wait ends before the refusal is believed."""
    emulator.faults.add("delete", "403", inf)
    says(
        stack.destroy(fails=True),
        f"Machine {id_} may still exist 1 s after its delete began (DELETE "
        f"/compute/instance/{id_} answered 403: ",
        "Make a key with the ADMIN scope",
        "The key that was refused came from the environment variable FAL_ADMIN_API_KEY). It stays "
        "in state, and may still run and bill.",
    )
    assert stack.state_ids() == emulator.state.alive() == {id_}


def test_a_machine_that_get_still_shows_is_not_gone(
    id_: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """Although the list lacks it."""
    emulator.state.hide(id_, "list")
    emulator.faults.add("delete", "404", inf)
    says(stack.destroy(fails=True), f"Machine {id_} may still exist")
    assert stack.state_ids() == emulator.state.alive() == {id_}
