"""Every stage of a create at which a process is killed or the user presses Ctrl-C."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Stack, wait_until
from ..e2e.native import in_both
from ..e2e.recovery import (
    PATIENCE,
    STAGES,
    Stage,
    adopt,
    entries,
    is_locked,
    kill,
    nothing_runs,
    one_machine,
    says,
    touch_when_told_to_stop,
    unfinished,
    unlock,
)


@in_both
@pytest.mark.parametrize("who", ["cli", "plugin", "both"])
@pytest.mark.parametrize("name", STAGES)
def test_kill(name: str, who: str, stack: Stack, emulator: EmulatorServer) -> None:
    """There is one creation in all, and no process is left behind."""
    stack.env |= PATIENCE
    stage = Stage(emulator, name)
    kill(stack, stage.reached_by(stack.start("up")), who)
    stage.release()
    nothing_runs(stack)
    stage.end()
    unlock(stack)
    if name == "during the POST" and who != "cli":
        # The answer went to a dead process: only a user can say whose machine it is.
        assert adopt(stack, stack.up(fails=True)) in emulator.state.alive()
    stack.up()
    one_machine(stack, emulator)
    stack.up("--expect-no-changes")
    assert entries(stack) == []


@in_both
@pytest.mark.parametrize("name", STAGES)
def test_ctrl_c(name: str, stack: Stack, emulator: EmulatorServer) -> None:
    """A request in flight is allowed to finish; no pending operation and no lock is left."""
    stack.env |= PATIENCE
    was_told = touch_when_told_to_stop(stack)
    stage = Stage(emulator, name)
    run = stage.reached_by(stack.start("up"))
    run.interrupt()
    wait_until(was_told.exists)
    stage.release()
    interrupted = run.wait()
    assert interrupted.exit_code != 0
    assert stack.state_ids() == emulator.state.alive()
    assert len(unfinished(stack)) == len(entries(stack)) == (name != "before the POST")
    assert not stack.state().get("pending_operations")
    assert not is_locked(stack)
    nothing_runs(stack)
    for id_ in emulator.state.alive():
        says(interrupted, f"The wait for machine {id_} (gpu_1x_h100_sxm5) was interrupted.")
    stage.end()
    stack.up()
    one_machine(stack, emulator)
    assert not stack.state().get("pending_operations")


@pytest.mark.parametrize("call", ["list", "create"])
def test_ctrl_c_in_retry(call: str, stack: Stack, emulator: EmulatorServer) -> None:
    """An hour's sleep is no reason to wait, and a POST that was refused has created nothing."""
    emulator.faults.add(call, fault("429", retry_after=3600))
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls[call] == 1 and not emulator.state.in_flight)
    run.interrupt()
    assert run.wait().exit_code != 0
    assert emulator.state.creations == 0
    assert entries(stack) == []
    assert not is_locked(stack)
    stack.up()
    one_machine(stack, emulator)
