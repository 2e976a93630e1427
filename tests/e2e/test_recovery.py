"""A process is killed, an answer is lost, a stack moves: nothing is lost, and nothing made twice.

tests/chaos kills each process at each stage of a create, and tests/simulation has everything else
that may happen, below Pulumi.
"""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ONE
from .harness import SSH_KEY, Stack, machine, wait_until
from .native import in_native
from .recovery import (
    PATIENCE,
    adopt,
    entries,
    finish,
    kill_while_waiting,
    nothing_runs,
    one_machine,
    printed,
    says,
    unlock,
)


@pytest.fixture(autouse=True)
def _patience(stack: Stack) -> None:
    stack.env |= PATIENCE


def hide(emulator: EmulatorServer, seconds: float = inf) -> None:
    """Have the API show none of its machines for so long, as a lagging replica does."""
    for id_ in emulator.state.alive():
        for call in ("list", "get"):
            emulator.state.hide(id_, call, seconds)


def test_kill_in_wait(stack: Stack, emulator: EmulatorServer) -> None:
    """Once the stack is unlocked, `up` resumes."""
    id_ = kill_while_waiting(stack, emulator)
    unlock(stack)
    says(stack.up(), f"Machine {id_} ({ONE}) was made for resource 'machine'. It was not in state")
    assert one_machine(stack, emulator) == id_


def test_move_to_v1(stack: Stack, emulator: EmulatorServer) -> None:
    """A refresh moves the stack, whose machines stay.

    Creates without a usable answer are sent again, and create one machine each. The list of the
    machines has several pages.
    """
    state = emulator.state
    old = [machine("one"), machine("two")]
    stack.write(*old)
    stack.up()
    held = stack.state_ids()
    stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}
    state.page_size = 2
    emulator.faults.add("create", "reset_after")
    emulator.faults.add("create", "502")
    emulator.log.clear()
    stack.write(*old, machine("three"), machine("four"), machine("five"))
    says(stack.up("--refresh"), "3 created", "3 unchanged")
    assert {call.api for call in emulator.log} == {"v1"}
    assert held < stack.state_ids()
    for resource in stack.resources():
        assert resource["outputs"]["region"] == "us-west"
        assert resource["outputs"]["endpoint"] == f"{emulator.url}/v1"
    assert stack.state_ids() == state.alive()
    assert state.creations == 5


def test_lost_answer(stack: Stack, emulator: EmulatorServer) -> None:
    """Until a machine is adopted, `destroy` warns and leaves the machine alone."""
    other = emulator.state.create(NewInstance(ONE, SSH_KEY))  # there before, so it is no candidate
    emulator.faults.add("create", "ok")
    emulator.faults.add("create", "reset_after")
    stack.write(machine("steady"), machine(opts="depends_on=[steady]"))
    lost = stack.up(fails=True)
    (made,) = emulator.state.alive() - stack.state_ids() - {other.id}
    says(lost, "These machines have appeared since then.", f"{made} ({ONE}, ")
    assert printed(lost.output, "pulumi-fal pending") == [
        ["adopt", stack.urn(), made],
        ["forget", stack.urn()],
    ]
    assert other.id not in lost.output
    warned = "ended without an answer, so a machine that is not in state may be running."
    says(stack.destroy(), warned)
    assert emulator.state.alive() == {made, other.id}

    adopt(stack, lost)
    stack.up()
    assert stack.ids()["machine"] == made
    assert stack.state_ids() == emulator.state.alive() - {other.id}
    assert {entry.instance_id for entry in entries(stack)} <= stack.state_ids()


@pytest.mark.chaos("unit/test_lifecycle.py::test_a_minute_of_looks")
@in_native
def test_glitch(stack: Stack, emulator: EmulatorServer) -> None:
    """Two machines are missing for a moment in a wait and in a refresh, then one for long.

    Nothing is dropped by the first, and what left state is taken up again.
    """
    state = emulator.state
    stack.env["FAL_COMPUTE_ABSENCE"] = "2"
    state.provisioning = inf
    stack.write(machine("one"), machine("two"))
    run = stack.start("up")
    wait_until(lambda: state.creations == 2 and state.calls["list"] > 4)
    hide(emulator, 1)
    finish(state, 2)
    assert run.wait().exit_code == 0
    made = stack.ids()
    hide(emulator, 1)
    says(stack.refresh(), "3 unchanged")
    assert stack.ids() == made

    for call in ("list", "get"):
        state.hide(made["one"], call)
    says(stack.refresh(), f"Machine {made['one']} is gone", "no longer billed")
    assert stack.state_ids() == {made["two"]}
    hide(emulator, 0)
    says(stack.up(), f"Machine {made['one']}", "was gone, and is there again")
    assert stack.ids() == made
    assert state.creations == 2


@pytest.mark.chaos("unit/test_launch.py::test_two_ups")
@in_native
def test_second_up(stack: Stack, emulator: EmulatorServer) -> None:
    """An `up` after a cancel makes nothing twice while the first one goes on and writes state."""
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
