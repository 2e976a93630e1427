"""A process is killed, an answer is lost, a stack moves: nothing is lost, and nothing made twice.

tests/chaos kills each process at each stage of a create, and tests/simulation has everything else
that may happen, below Pulumi.
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from .native import in_native
from .recovery import (
    PATIENCE,
    Stage,
    adopt,
    entries,
    in_plugin,
    journal,
    kill,
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


def test_kill_in_wait(stack: Stack, emulator: EmulatorServer) -> None:
    """Once the stack is unlocked, `up` resumes; the machine isn't used for other inputs."""
    id_ = kill_while_waiting(stack, emulator)
    unlock(stack)
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    says(stack.up(fails=True), f"made {id_}", "the resource's inputs have changed since")
    stack.write(machine())
    says(stack.up(), f"Machine {id_} ({ONE}) was made for resource 'machine'. It was not in state")
    assert one_machine(stack, emulator) == id_


@in_native
def test_kill_in_post(stack: Stack, emulator: EmulatorServer) -> None:
    """With the v1 API, the same key is sent again: no user has to decide, and one machine exists.

    tests/chaos has the legacy API, with which the next `up` names the machine.
    """
    stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "plugin")
    stage.end()
    (made,) = emulator.state.alive()
    stack.up()
    assert stack.state_ids() == {made}
    assert emulator.state.creations == 1


@pytest.mark.chaos("e2e/test_recovery.py::test_lost_answer")
def test_kill_in_legacy_post(stack: Stack, emulator: EmulatorServer) -> None:
    """With the legacy API the next `up` names the machine, once the machines can be listed."""
    emulator.faults.add("create", "reset_after")
    emulator.faults.add("list", "ok")
    emulator.faults.add("list", "503", inf)
    says(stack.up(fails=True), "The API could not be asked which machines exist")
    emulator.faults.clear()
    first = adopt(stack, stack.up(fails=True))
    stack.up()
    assert one_machine(stack, emulator) == first

    stack.write(machine(), machine("second"))
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "plugin")
    stage.end()
    nothing_runs(stack)
    unanswered = stack.up(fails=True)
    says(unanswered, "may have made a machine: the process ended before the answer came.")
    second = adopt(stack, unanswered)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {first, second}


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
    """Until a machine is adopted, every command warns, and `destroy` leaves the machine alone."""
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
    for result in (stack.preview(), stack.destroy()):
        says(result, "ended without an answer, so a machine that is not in state may be running.")
    assert emulator.state.alive() == {made, other.id}

    adopt(stack, lost)
    stack.up()
    assert stack.ids()["machine"] == made
    assert stack.state_ids() == emulator.state.alive() - {other.id}
    assert {entry.instance_id for entry in entries(stack)} <= stack.state_ids()


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
@in_native
def test_renamed_and_moved(stack: Stack, emulator: EmulatorServer, tmp_path: Path) -> None:
    """A kill in the POST and a rename; a lost answer, and another backend."""
    emulator.state.list_lag = 3600  # nobody is to find the machine before the answer has come
    stage = Stage(emulator, "during the POST")
    run = stage.reached_by(stack.start("up"))
    wait_until(lambda: entries(stack)[0].origin.provider)  # which is read beside the POST
    kill(stack, run, "cli")
    stack.cancel()
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    waiting = stack.start("up")
    wait_until(lambda: "is still in progress, in the plugin of another" in waiting.output)
    stage.end()
    emulator.state.advance(3600)
    assert waiting.wait().exit_code == 0
    (first,) = stack.state_ids()

    emulator.state.list_lag = 0
    stack.write(machine(), machine("second"))
    emulator.faults.add("create", "reset_after")
    stack.up(fails=True)
    (second,) = emulator.state.alive() - {first}
    stack.run("stack", "export", "--file", "state.json")
    (tmp_path / "elsewhere").mkdir()
    stack.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'elsewhere'}"
    stack.run("stack", "init")
    stack.run("stack", "import", "--file", "state.json")
    assert adopt(stack, stack.up(fails=True)) == second
    stack.up()
    in_state = {row.get("id") for row in stack.export()["deployment"]["resources"]}
    assert {first, second} <= in_state
    assert emulator.state.creations == 2
    assert {entry.instance_id for entry in entries(stack)} <= in_state


def test_journal_full(stack: Stack, emulator: EmulatorServer) -> None:
    """On a full disk no POST is sent. A journal that breaks after the POST is only reported."""
    folder = journal(stack).folder
    in_plugin(
        stack,
        "import os, pathlib\n"
        "sync = os.fsync\n"
        "def fsync(descriptor):\n"
        f"    if pathlib.Path({str(folder)!r}, 'full').exists():\n"
        "        raise OSError(28, os.strerror(28))\n"
        "    sync(descriptor)\n"
        "os.fsync = fsync\n",
    )
    folder.mkdir(parents=True)
    (folder / "full").touch()
    failed = stack.up(fails=True)
    says(failed, f"error: JournalError: The journal of creates ({folder}) can't be")
    assert emulator.state.calls["create"] == 0

    (folder / "full").unlink()
    create = emulator.state.create

    def create_and_break(*args: Any, **options: Any) -> object:
        made = create(*args, **options)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.touch()
        return made

    emulator.state.create = create_and_break  # type: ignore[method-assign, assignment]
    says(stack.up(), f"The journal of creates ({folder}) can't be written")
    folder.unlink()
    one_machine(stack, emulator)
