"""SIGKILL to the CLI, to the plugin, and to both: the next `up` goes on with the same machine."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, wait_until
from .recovery import (
    PATIENCE,
    STAGES,
    Stage,
    as_documented,
    entries,
    kill,
    nothing_runs,
    one_machine,
    pending,
    restore_if_cut_off,
    says,
    says_already,
    unlock,
    urn,
)


@pytest.mark.parametrize("who", ["cli", "plugin", "both"])
@pytest.mark.parametrize("name", STAGES)
def test_a_kill_at_any_stage_of_create_costs_no_machine_and_makes_no_second(
    name: str, who: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """One creation in all, and no process is left behind."""
    stack.env |= PATIENCE
    stage = Stage(emulator, name)
    kill(stack, stage.reached_by(stack.start("up")), who)
    stage.release()
    nothing_runs(stack)
    stage.end()
    unlock(stack)
    if name == "during the POST" and who != "cli":
        # The answer went to a dead process: only a person can say whose machine it is.
        (made,) = emulator.state.alive()
        unanswered = stack.up(fails=True)
        as_documented(unanswered, "The plugin was killed during a request")
        says(unanswered, made, "pending adopt")
        pending(stack, "adopt", urn(stack), made)
    up = stack.up()
    if name == "while waiting" and who == "cli":
        as_documented(up, "A machine is not in state yet")
    one_machine(stack, emulator)
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def test_a_state_that_was_cut_off_is_restored_and_the_machine_is_kept(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A file backend's own backup is older than the machine, which the journal then names."""
    stack.up()
    (id_,) = emulator.state.alive()
    stacks = stack.folder / ".pulumi" / "stacks" / "test"
    (stacks / "dev.json.attrs").write_text("")
    as_documented(stack.up(fails=True), "The state file can't be read")
    restore_if_cut_off(stack)
    (stacks / "dev.json").write_text("")
    as_documented(stack.up(fails=True), "The state file is cut off")
    restore_if_cut_off(stack)
    if id_ not in stack.state_ids():
        says(stack.up(fails=True), f"pending adopt {urn(stack)} {id_}`")
        pending(stack, "adopt", urn(stack), id_)
    stack.up()
    assert one_machine(stack, emulator) == id_


def test_up_right_after_a_kill_waits_for_the_post_that_is_still_under_way(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The killed engine's plugin lives on until its POST has ended: what comes of it is awaited."""
    stack.env |= PATIENCE
    emulator.state.list_lag = 3600  # nobody is to find the machine before the answer has come
    stage = Stage(emulator, "during the POST")
    stage.reached_by(stack.start("up")).kill()
    as_documented(stack.up(fails=True), "The stack is locked")
    stack.cancel()
    waiting = stack.start("up")
    wait_until(lambda: says_already(waiting, "The create is still in progress"))
    stage.end()
    emulator.state.advance(3600)
    up = waiting.wait()
    as_documented(up, "The create is still in progress")
    assert up.exit_code == 0
    one_machine(stack, emulator)
