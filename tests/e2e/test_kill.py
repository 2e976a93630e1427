"""A process is killed: the next `up` resumes the create, and no machine is created twice.

tests/chaos kills each process at each stage of a create, and at any moment.
"""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    Stage,
    as_documented,
    entries,
    kill,
    kill_while_waiting,
    nothing_runs,
    one_machine,
    pending,
    printed,
    restore_if_cut_off,
    says,
    says_already,
    urn,
)

ADOPT = "pulumi-fal pending adopt"


def test_a_create_whose_cli_was_killed_while_waiting_is_resumed_by_the_next_up(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The stack is unlocked first. The machine isn't used for a resource with other inputs."""
    stack.env |= PATIENCE
    id_ = kill_while_waiting(stack, emulator)
    as_documented(stack.up(fails=True), "The stack is locked")
    stack.cancel()
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    changed = stack.up(fails=True)
    as_documented(changed, "The inputs have changed")
    says(changed, id_)
    stack.write(machine())
    as_documented(stack.up(), "A machine is not in state yet")
    assert one_machine(stack, emulator) == id_


@pytest.mark.chaos("e2e/test_native.py::test_a_kill_in_the_middle_of_a_post_loses_no_machine")
def test_a_post_that_a_kill_interrupted_is_awaited_or_its_machine_is_named(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The killed CLI's plugin lives on until its POST ends, and the next `up` waits for it.

    Where the plugin itself was killed, the answer is lost: only the user can say whose machine the
    POST created.
    """
    stack.env |= PATIENCE
    emulator.state.list_lag = 3600  # nobody is to find the machine before the answer has come
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "cli")
    stack.cancel()
    waiting = stack.start("up")
    wait_until(lambda: says_already(waiting, "The create is still in progress"))
    stage.end()
    emulator.state.advance(3600)
    up = waiting.wait()
    as_documented(up, "The create is still in progress")
    assert up.exit_code == 0
    first = one_machine(stack, emulator)

    emulator.state.list_lag = 0
    stack.write(machine(), machine("second"))
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "plugin")
    stage.end()
    nothing_runs(stack)
    (second,) = emulator.state.alive() - {first}
    unanswered = stack.up(fails=True)
    as_documented(unanswered, "The plugin was killed during a request")
    assert printed(unanswered.output, ADOPT) == [[urn(stack, "second"), second]]
    pending(stack, "adopt", "second", second)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {first, second}
    assert emulator.state.creations == 2
    stack.up("--expect-no-changes")
    assert entries(stack) == []


@pytest.mark.chaos("unit/test_decision.py::test_decide")
def test_a_machine_that_state_lost_is_named_and_can_be_adopted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """`pulumi` was killed while it wrote the state, and its backup is older than the machine.

    The provider doesn't guess whether somebody removed the machine from state on purpose.
    """
    stack.up()
    (id_,) = emulator.state.alive()
    stack.run("state", "delete", urn(stack), "--yes")
    file = stack.state_file
    file.with_name(f"{file.name}.attrs").write_text("")
    as_documented(stack.up(fails=True), "The state file can't be read")
    restore_if_cut_off(stack)
    file.with_name(f"{file.name}.bak").write_text(file.read_text())
    file.write_text("")
    as_documented(stack.up(fails=True), "The state file is cut off")
    restore_if_cut_off(stack)

    lost = stack.up(fails=True)
    as_documented(lost, "The machine is not in state")
    assert printed(lost.output, ADOPT) == [[urn(stack), id_]]
    pending(stack, "adopt", "machine", id_)
    stack.up()
    assert one_machine(stack, emulator) == id_
