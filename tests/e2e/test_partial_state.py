"""A create that failed after its POST leaves the machine in state, and the next `up` goes on."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    as_documented,
    believe_refusals_soon,
    entries,
    finish,
    one_machine,
    says,
    unfinished,
)

SHORT = "custom_timeouts=pulumi.CustomTimeouts(create='1s', update='1s')"


def test_a_create_that_timed_out_is_refreshed_and_then_finished(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A refresh in between doesn't make an unfinished machine look finished."""
    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT))
    timed_out = stack.up(fails=True)
    (id_,) = emulator.state.alive()
    as_documented(timed_out, "The timeout was exceeded")
    says(timed_out, id_)
    as_documented(stack.refresh(), "A refresh before the machine is ready")
    assert unfinished(stack)
    says(stack.up(fails=True), f"Machine {id_} (gpu_1x_h100_sxm5) runs and bills")
    finish(emulator.state)
    stack.up()
    assert one_machine(stack, emulator) == id_
    stack.up("--expect-no-changes")


def test_a_machine_that_became_ready_meanwhile_is_finished_by_a_refresh(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Then there is nothing left to do."""
    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT))
    stack.up(fails=True)
    finish(emulator.state, 0)
    stack.refresh()
    one_machine(stack, emulator)
    stack.up("--expect-no-changes")


def test_destroy_deletes_an_unfinished_machine(stack: Stack, emulator: EmulatorServer) -> None:
    """It is in state, so it is no orphan."""
    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT))
    stack.up(fails=True)
    stack.destroy()
    assert emulator.state.alive() == stack.state_ids() == set()


@pytest.mark.parametrize("first", ["create", "delete"])
def test_a_replacement_that_timed_out_is_refreshed_and_then_finished(
    first: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """With create before delete, the old machine stays until the new one is ready."""
    opts = f"{SHORT}, delete_before_replace={first == 'delete'}"
    stack.write(machine(opts=opts))
    stack.up()
    (old,) = emulator.state.alive()
    emulator.state.provisioning = inf
    stack.write(machine(opts=opts, ssh_key=OTHER_SSH_KEY))
    stack.up(fails=True)
    (new,) = emulator.state.alive() - {old}
    kept = {old, new} if first == "create" else {new}
    assert stack.state_ids() == emulator.state.alive() == kept
    stack.refresh()
    assert stack.state_ids() == emulator.state.alive() == kept
    stack.up(fails=True)
    assert stack.state_ids() == emulator.state.alive() == kept
    finish(emulator.state)
    stack.up()
    assert one_machine(stack, emulator, made=2) == new
    stack.up("--expect-no-changes")


def test_a_key_that_is_revoked_in_a_wait_costs_a_run_and_not_the_machine(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """It is believed once it has been refused for a while, and the next `up` goes on."""
    believe_refusals_soon(stack)
    emulator.state.provisioning = inf
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    emulator.faults.add("list", "401", inf)
    failed = run.wait()
    (id_,) = emulator.state.alive()
    as_documented(failed, "The key was refused")
    says(failed, id_)
    assert stack.state_ids() == {id_}
    emulator.faults.clear()
    finish(emulator.state)
    stack.up()
    assert one_machine(stack, emulator) == id_


def test_a_machine_that_vanishes_while_awaited_fails_soon_and_keeps_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """By name; and the next `up` makes a new one."""
    emulator.state.provisioning = inf
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    (gone,) = emulator.state.alive()
    emulator.state.kill(gone)
    failed = run.wait(10)
    as_documented(failed, "The machine is gone")
    says(failed, gone)
    assert failed.exit_code != 0
    assert stack.state_ids() == set()
    assert entries(stack) == []
    finish(emulator.state)
    stack.up()
    one_machine(stack, emulator, made=2)


@pytest.mark.parametrize("when", ["between two runs", "while it is awaited again"])
def test_an_unfinished_machine_that_vanishes_is_made_anew(
    when: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """By the next `up` or the one after, without anything else to be done."""
    stack.env |= PATIENCE
    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT.replace("update='1s'", "update='30s'")))
    stack.up(fails=True)
    (gone,) = emulator.state.alive()
    if when == "between two runs":
        emulator.state.kill(gone)
    else:
        calls = emulator.state.calls["list"]
        run = stack.start("up")
        wait_until(lambda: emulator.state.calls["list"] >= calls + 3)
        emulator.state.kill(gone)
        says(run.wait(20), f"Machine {gone} (gpu_1x_h100_sxm5) is gone")
    finish(emulator.state)
    stack.up(fails=None)
    stack.up()
    one_machine(stack, emulator, made=2)
