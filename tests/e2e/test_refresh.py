"""What `refresh` believes: a machine is gone only where the API really says so."""

from __future__ import annotations

from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack

UNBELIEVABLE = {"403": "ADMIN scope", "html": "FAL_COMPUTE_ENDPOINT"}
"""Answers that say nothing about a machine, and what the message about each must hold: one that is
not repeated, and one that is. tests/plugin has the others."""


def test_a_machine_deleted_elsewhere_is_dropped_and_then_made_again(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """`refresh` takes it out of state, and `up` makes one new machine."""
    stack.up()
    (gone,) = emulator.state.alive()
    emulator.state.kill(gone)
    stack.refresh()
    assert stack.state_ids() == set()
    stack.up()
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2


def test_destroy_of_a_machine_deleted_elsewhere_succeeds(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """404 on DELETE is what was wanted."""
    stack.up()
    (gone,) = emulator.state.alive()
    emulator.state.kill(gone)
    stack.destroy()
    assert stack.resources() == []


def test_an_answer_that_says_nothing_of_the_machine_fails_and_keeps_state(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """An expired key or an outage must never empty a stack: the next `up` would pay twice."""
    stack.up()
    before = remembered(stack)
    stack.env["FAL_COMPUTE_RETRY_BUDGET"] = "0.5"
    for answer, words in UNBELIEVABLE.items():
        emulator.faults.clear()
        emulator.faults.add("list", answer, inf)
        emulator.faults.add("get", answer, inf)
        assert words in stack.refresh(fails=True).output
        assert remembered(stack) == before, answer


def test_a_machine_that_only_the_list_lacks_is_kept(stack: Stack, emulator: EmulatorServer) -> None:
    """The list may lag behind: where GET shows the machine, it is there."""
    stack.up()
    (id_,) = emulator.state.alive()
    emulator.state.hide(id_, "list")
    stack.refresh("--expect-no-changes")
    assert stack.state_ids() == {id_}


def test_a_status_that_changed_is_seen_and_needs_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A new word of the API's reaches state as it is, and `up` leaves the machine alone."""
    stack.up()
    (id_,) = emulator.state.alive()
    emulator.state.set_status(id_, "hibernating")
    stack.refresh()
    (resource,) = stack.resources()
    assert resource["outputs"]["status"] == "hibernating"
    stack.up()
    assert emulator.state.creations == 1
    assert emulator.state.deletions == 0


def remembered(stack: Stack) -> dict[str, dict[str, object]]:
    """What state holds of each machine by id, but for what is encrypted anew each time."""
    return {each["id"]: {**each["outputs"], "__provider": None} for each in stack.resources()}
