"""Nothing good is dropped, replaced or doubled: not by a glitch, nor by a second `pulumi`."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine, wait_until
from .hosts import MACHINES, one_machine
from .native import NativeStack
from .recovery import (
    entries,
    finish,
    kill_while_waiting,
    nothing_runs,
    pending,
    printed,
    says,
    unlock,
)


@pytest.fixture(
    params=[pytest.param(Stack, marks=pytest.mark.chaos), NativeStack], ids=["dynamic", "native"]
)
def stack(
    request: pytest.FixtureRequest, emulator: EmulatorServer, new_stack: Path, tmp_path: Path
) -> Iterator[Stack]:
    """A stack of either host, whose program declares one machine."""
    with one_machine(request.param, new_stack, tmp_path / "stack", emulator.env) as stack:
        yield stack


def hide(emulator: EmulatorServer, seconds: float = inf) -> None:
    """Have the API show none of its machines for so long, as a lagging replica does."""
    for id_ in emulator.state.alive():
        for call in ("list", "get"):
            emulator.state.hide(id_, call, seconds)


def test_a_glitch_drops_nothing_and_what_left_state_is_taken_up_again(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Two machines are missing for a moment in a wait and in a refresh, then one for long."""
    state, make = emulator.state, MACHINES[type(stack)]
    stack.env["FAL_COMPUTE_ABSENCE"] = "2"
    state.provisioning = inf
    stack.write(make("one"), make("two"))
    run = stack.start("up")
    wait_until(lambda: state.creations == 2 and state.calls["list"] > 4)
    hide(emulator, 1)
    finish(state, 2)
    assert run.wait().exit_code == 0
    made = state.alive()
    hide(emulator, 1)
    says(stack.refresh(), "3 unchanged")
    assert stack.state_ids() == made
    assert state.creations == 2

    stack.write(make("one"))
    stack.up()
    (left,) = stack.state_ids()
    hide(emulator)
    says(stack.refresh(), f"Machine {left} is gone", "no longer billed")
    assert stack.state_ids() == set()
    hide(emulator, 0)
    says(stack.preview(), f"Machine {left}", "was gone, and is there again")
    stack.up()
    assert stack.state_ids() == state.alive() == {left}
    assert state.creations == 2


@pytest.mark.chaos("unit/test_second_create.py::test_never_shown")
def test_a_machine_that_the_api_shows_late_is_never_lost(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Its create is answered with an id; list, GET and DELETE don't know it until much later."""
    state, make = emulator.state, MACHINES[type(stack)]
    stack.write(make(wait=False))
    state.list_lag = 3600
    for call in ("get", "delete"):
        emulator.faults.add(call, "404", inf)
    stack.up()
    (made,) = state.alive()
    says(stack.refresh(), f"The API has not shown machine {made} since its create")
    stack.destroy()
    assert stack.state_ids() == set()
    emulator.faults.clear()
    state.advance(3600)
    says(stack.preview(), f"Machine {made}", "is billed")
    stack.up()
    assert stack.state_ids() == state.alive() == {made}
    assert state.creations == 1


def test_a_second_up_after_a_cancel_makes_nothing_twice(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The first one goes on, and writes state, which the engine of the second does not know."""
    state = emulator.state
    state.provisioning = inf
    first = stack.start("up")
    wait_until(lambda: state.calls["list"] > 4 and state.creations == 1)
    stack.cancel()
    second = stack.start("up")
    wait_until(lambda: "Waiting for it to finish" in second.output)
    finish(state)
    assert first.wait().exit_code == 0
    (made,) = state.alive()
    stopped = second.wait()
    assert stopped.exit_code != 0
    says(stopped, f"Another `pulumi up` of this stack has just made {made}")
    nothing_runs(stack)
    unlock(stack)
    assert [entry.instance_id for entry in entries(stack)] == [made]
    assert state.creations == 1


@pytest.mark.chaos("unit/test_launch.py::test_cut_off")
def test_a_create_that_another_computer_began_is_not_begun_again(
    stack: Stack, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """State says that it was cut off, and the journal is on that computer."""
    made = kill_while_waiting(stack, emulator)
    stack.cancel()
    stack.env["PULUMI_HOME"] = str(tmp_path / "another-home")
    stopped = stack.up(fails=True)
    says(stopped, "its stack's state says that it was cut off", made)
    (command,) = printed(stopped.output, "pulumi-fal pending adopt")
    pending(stack, "adopt", *command)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {made}
    assert emulator.state.creations == 1
    stack.kill_all()
    stack.env["PULUMI_HOME"] = str(stack.home)


@pytest.mark.chaos("unit/test_launch.py::test_alias")
@pytest.mark.parametrize("stack", [Stack], indirect=True, ids=["dynamic"])
def test_an_alias_finds_the_create_of_the_earlier_name(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The resource is renamed, and moved below a component, between a kill and the next `up`."""
    made = kill_while_waiting(stack, emulator)
    stack.cancel()
    stack.write(
        "from pulumi import Alias, ROOT_STACK_RESOURCE\n"
        "parent = pulumi.ComponentResource('test:index:Parent', 'parent')\n",
        machine(
            "web",
            opts="parent=parent, aliases=[Alias(name='machine', parent=ROOT_STACK_RESOURCE)]",
        ),
    )
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {made}
    assert emulator.state.creations == 1
    stack.up("--expect-no-changes")
