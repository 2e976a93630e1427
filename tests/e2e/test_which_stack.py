"""One stack, however it is called and wherever its state is: an unresolved create stays its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, wait_until
from .hosts import MACHINES, one_machine
from .native import NativeStack
from .recovery import (
    Stage,
    as_documented,
    entries,
    journal,
    kill,
    kill_while_waiting,
    pending,
    printed,
    says,
    says_already,
)


@pytest.fixture(
    params=[Stack, pytest.param(NativeStack, marks=pytest.mark.chaos)], ids=["dynamic", "native"]
)
def stack(
    request: pytest.FixtureRequest, emulator: EmulatorServer, new_stack: Path, tmp_path: Path
) -> Iterator[Stack]:
    """A stack of either host, whose program declares one machine."""
    with one_machine(request.param, new_stack, tmp_path / "stack", emulator.env) as stack:
        yield stack


def move(stack: Stack, folder: Path) -> None:
    """Export the stack, and import it into another backend, as `pulumi stack migrate` does."""
    stack.run("stack", "export", "--file", "state.json")
    folder.mkdir()
    stack.env["PULUMI_BACKEND_URL"] = f"file://{folder}"
    stack.run("stack", "init")
    stack.run("stack", "import", "--file", "state.json")


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
def test_a_create_stays_its_stacks_through_renames_and_moves(
    stack: Stack, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """A kill in the POST and a rename; a lost answer, another spelling and another backend."""
    make = MACHINES[type(stack)]
    emulator.state.list_lag = 3600  # nobody is to find the machine before the answer has come
    stage = Stage(emulator, "during the POST")
    run = stage.reached_by(stack.start("up"))
    wait_until(lambda: entries(stack)[0].origin.provider)  # which is read beside the POST
    kill(stack, run, "cli")
    stack.cancel()
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    waiting = stack.start("up")
    wait_until(lambda: says_already(waiting, "The create is still in progress"))
    stage.end()
    emulator.state.advance(3600)
    assert waiting.wait().exit_code == 0
    assert len(emulator.state.alive()) == 1
    assert stack.state_ids() == emulator.state.alive()

    emulator.state.list_lag = 0
    stack.write(make(), make("second"))
    emulator.faults.add("create", "reset_after")
    stack.up(fails=True)
    first, second = sorted(emulator.state.alive(), key=lambda id_: id_ not in stack.state_ids())
    stack.env["PULUMI_BACKEND_URL"] += "?metadata=skip"
    says(stack.up(fails=True), "may have made a machine:", second)
    move(stack, tmp_path / "elsewhere")
    says(stack.preview(), "ended without an answer")
    (command,) = printed(stack.up(fails=True).output, "pulumi-fal pending adopt")
    assert command[-1] == second
    pending(stack, "adopt", *command)
    stack.up()
    in_state = {row.get("id") for row in stack.export()["deployment"]["resources"]}
    assert {first, second} <= in_state
    assert emulator.state.creations == 2
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def test_a_machine_of_a_killed_create_goes_to_no_other_stack(
    stack: Stack, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """An import refuses it, and says whose it is.

    Its own stack continues with it; without the id, and under another name, once it is told to.
    """
    made = kill_while_waiting(stack, emulator)
    other = type(stack)(stack.folder, emulator.env)
    other.env, other.name = stack.env, "other"
    other.run("stack", "init")
    make = MACHINES[type(stack)]
    stack.write(make("taken", opts=f"import_={made!r}"))
    says(other.up(fails=True), f"Machine {made} was not imported", "is on record to have made it")
    stack.write(make())
    stack.cancel()
    (entry,) = entries(stack)  # earlier versions did not record the id
    journal(stack).write(replace(entry, origin=replace(entry.origin, provider="")))
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    stopped = stack.up(fails=True)
    if type(stack) is Stack:  # the docs quote the type of Python's resource
        as_documented(stopped, "Which stack a create belongs to")
    (command,) = printed(stopped.output, "pulumi-fal pending adopt")
    pending(stack, "adopt", *command)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {made}

    stack.write(make("taken", opts=f"import_={made!r}"))
    stack.run("refresh")
    says(other.up(fails=True), f"Machine {made} was not imported")
    assert other.state_ids() == set()
