"""Ctrl-C: `up` ends in a moment, and every machine that exists is in state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, wait_until
from .recovery import (
    PATIENCE,
    STAGES,
    Stage,
    as_documented,
    entries,
    in_plugin,
    interrupt,
    is_locked,
    nothing_runs,
    one_machine,
    says,
    unfinished,
)


def touch_when_told_to_stop(stack: Stack) -> Path:
    """Have the plugin make this file as soon as the engine tells it to stop."""
    file = stack.folder / "told-to-stop"
    in_plugin(
        stack,
        "import pathlib\n"
        "from pulumi_fal.clock import Clock\n"
        "interrupt = Clock.interrupt\n"
        "def interrupt_and_touch(clock):\n"
        "    interrupt(clock)\n"
        f"    pathlib.Path({str(file)!r}).touch()\n"
        "Clock.interrupt = interrupt_and_touch\n",
    )
    return file


@pytest.mark.parametrize("name", STAGES)
def test_ctrl_c_at_any_stage_of_create_leaves_the_machine_in_state(
    name: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """In under 3 s, once a call under way has ended; no pending operation, no stale lock."""
    stack.env |= PATIENCE
    was_told = touch_when_told_to_stop(stack)
    stage = Stage(emulator, name)
    run = stage.reached_by(stack.start("up"))
    began = time.monotonic()
    run.interrupt()
    wait_until(was_told.exists)
    stage.release()
    interrupted = run.wait()
    assert time.monotonic() - began < 3
    assert interrupted.exit_code != 0
    assert stack.state_ids() == emulator.state.alive()
    assert len(unfinished(stack)) == emulator.state.creations == (name != "before the POST")
    assert not stack.state().get("pending_operations")
    assert not is_locked(stack)
    nothing_runs(stack)
    for id_ in emulator.state.alive():
        says(interrupted, f"The wait for machine {id_} (gpu_1x_h100_sxm5) was interrupted.")
    if name == "while waiting":
        as_documented(interrupted, "Ctrl-C")
    stage.end()
    stack.up()
    one_machine(stack, emulator)
    assert not stack.state().get("pending_operations")


@pytest.mark.parametrize("call", ["list", "create"])
def test_ctrl_c_ends_the_sleep_that_a_retry_after_asks_for(
    call: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """A minute's sleep is no reason to wait; a POST that was refused has made nothing."""
    emulator.faults.add(call, fault("429", retry_after=60))
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls[call] == 1 and not emulator.state.in_flight)
    assert interrupt(run)[1] < 3
    assert emulator.state.creations == 0
    assert entries(stack) == []
    assert not is_locked(stack)
    stack.up()
    one_machine(stack, emulator)


def test_ctrl_c_while_a_machine_is_deleted_keeps_it_in_state(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """What is not known to be gone stays, and the next `destroy` goes on."""
    stack.up()
    emulator.state.deletion = 600
    run = stack.start("destroy")
    wait_until(lambda: emulator.state.deletions == 1)
    assert interrupt(run)[1] < 3
    assert stack.state_ids() == emulator.state.alive()
    assert not is_locked(stack)
    emulator.state.advance(600)
    stack.destroy()
    assert stack.state_ids() == emulator.state.alive() == set()
