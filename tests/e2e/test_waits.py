"""A wait that ends early, for whatever reason: the next `up` resumes it. Waits for capacity."""

from __future__ import annotations

import re
import subprocess
import time
from math import inf

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from .harness import PULUMI, SSH_KEY, Stack, machine, wait_until
from .native import NativeStack, in_both
from .recovery import (
    entries,
    finish,
    is_locked,
    nothing_runs,
    says,
    touch_when_told_to_stop,
    unfinished,
)


def assert_idle(stack: Stack) -> None:
    """No process, no lock and no pending operation is left of any run."""
    nothing_runs(stack)
    assert not is_locked(stack)
    assert not stack.state().get("pending_operations")


@pytest.mark.parametrize(
    "host", [Stack, pytest.param(NativeStack, marks=pytest.mark.chaos)], ids=["dynamic", "native"]
)
def test_ctrl_c(stack: Stack, emulator: EmulatorServer) -> None:
    """Of three creates one waits, one sleeps before it repeats its POST, and one POST is in flight.

    That POST is allowed to finish. There is no pending operation and no lock afterwards.
    """
    state = emulator.state
    state.provisioning = inf
    was_told = touch_when_told_to_stop(stack)
    stack.write(*(machine(name) for name in ("one", "two", "three")))
    emulator.faults.add("create", "ok")
    emulator.faults.add("create", fault("429", retry_after=3600))
    emulator.faults.add("create", "hold")
    run = stack.start("up")
    wait_until(lambda: emulator.faults.held == 1 and state.calls["create"] == 3)
    run.interrupt()
    wait_until(was_told.exists)
    emulator.faults.release()
    interrupted = run.wait()
    assert interrupted.exit_code != 0
    assert state.creations == 2
    assert stack.state_ids() == state.alive()
    assert len(unfinished(stack)) == len(entries(stack)) == 2
    for id_ in state.alive():
        says(
            interrupted,
            f"The wait for machine {id_} ({ONE}) was interrupted. The machine is billed",
        )
    assert_idle(stack)

    finish(state)
    stack.up()
    assert stack.state_ids() == state.alive()
    assert state.creations == 3
    assert unfinished(stack) == []


HOOK = """\
from pulumi import ErrorHook, ResourceHookBinding
def try_again(args):
    gives_up = args.name == "stuck" and args.failed_operation == "create"
    return len(args.errors) < (2 if gives_up else 50)
try_again = ErrorHook("try_again", try_again)
"""

HOOKED = (
    "hooks=ResourceHookBinding(on_error=[try_again]), "
    "custom_timeouts=pulumi.CustomTimeouts(create='1s', update='1s', delete='1s')"
)


def attempts(operation: str, name: str, output: str) -> int:
    """How often a run says that it repeats the operation on the machine, in its progress."""
    repeats = f"retrying {operation} due to on-error hook request"
    progress = output.split("Diagnostics:")[0].splitlines()
    return sum(repeats in line and f" {name} " in line for line in progress)


@pytest.mark.chaos("unit/test_second_create.py::test_goes_on")
def test_hook(stack: Stack, emulator: EmulatorServer) -> None:
    """A hook that repeats a create and a delete makes no second machine and loses none.

    One create succeeds in a later attempt. The hook of the other gives up, and its machine is in
    state all the same, so that the next `up` goes on with it.
    """
    stack.write(
        HOOK, machine("slow", opts=HOOKED, instance_type=EIGHT), machine("stuck", opts=HOOKED)
    )
    state = emulator.state
    state.provisioning = inf
    creating = stack.start("up")
    wait_until(lambda: attempts("create", "slow", creating.output) > 0)
    for made in state.machines.values():
        made.provisioning = 0 if made.requested.instance_type == EIGHT else inf
    assert creating.wait().exit_code != 0
    assert attempts("create", "stuck", creating.output) == 1
    assert stack.state_ids() == state.alive()
    finish(state)
    stack.up()
    state.deletion = inf
    destroying = stack.start("destroy", "--run-program")
    wait_until(lambda: attempts("delete", "slow", destroying.output) > 0)
    for made in state.machines.values():
        made.gone_at = 0
    assert destroying.wait().exit_code == 0
    assert state.alive() == stack.state_ids() == set()
    assert state.creations == 2
    assert entries(stack) == []


FOUR = (
    f"ComputeCluster('train', size=4, ssh_key={SSH_KEY!r}, sector='sector_2', "
    "wait_for_capacity={!r})\n"
)


@pytest.mark.chaos("unit/test_wait_for_capacity.py::test_posts_of_one")
def test_capacity(stack: Stack, emulator: EmulatorServer) -> None:
    """A cluster waits for the rest of its machines. Ctrl-C ends the wait, with nothing pending."""
    state = emulator.state
    state.sector_capacity, state.capacity_status = 2, 409
    stack.write(FOUR.format("1h"))
    waiting = stack.start("up")
    # In the last hour of a day, the end of the wait has its date.
    shown = (
        r"no capacity [^:]*, asking until [-\d ]*\d\d:\d\d: POST /compute/instance answered 409: "
        r"machines are out of stock in sector_2\."
    )
    wait_until(lambda: re.search(shown, waiting.output))
    wait_until(lambda: all(machine.is_ready for machine in state.list()))
    interrupted = time.monotonic()
    waiting.interrupt()
    result = waiting.wait()
    assert time.monotonic() - interrupted < 10
    assert result.exit_code != 0
    says(result, "was interrupted. No machine was created, and nothing is pending. Run the command")
    assert stack.state_ids() == state.alive()
    assert {entry.instance_id for entry in entries(stack)} <= state.alive()
    assert_idle(stack)

    refused = state.calls["create"]
    stack.write(FOUR.format("2h"))
    waiting = stack.start("up")
    wait_until(lambda: state.calls["create"] > refused + 2)
    state.sector_capacity = None
    says(waiting.wait(), "+ 2 created", "~ 2 updated")
    assert len(stack.state_ids()) == 4
    assert stack.state_ids() == state.alive()
    assert state.creations == 4


@pytest.mark.chaos("plugin/test_hosts.py::test_no_capacity_in_time")
@in_both
def test_room_by_a_delete(stack: Stack, emulator: EmulatorServer) -> None:
    """A create that found no capacity in its time keeps no delete from making the room for it."""
    state, new = emulator.state, machine("new", wait_for_capacity="1s")
    state.capacity, state.capacity_status = 1, 409
    stack.write(machine("old"))
    stack.up()
    stack.write(new)
    ended = stack.up(fails=True)
    says(ended, "had no capacity for it in 1s")
    version = subprocess.check_output([PULUMI, "version"], text=True)
    is_known = tuple(map(int, version.removeprefix("v").split(".")[:2])) >= (3, 276)
    assert (ended.exit_code == 10) is is_known
    assert (state.alive() == set()) is is_known
    assert stack.state_ids() == state.alive()
    assert entries(stack) == []
    state.capacity = 1 if is_known else None
    stack.up()
    assert stack.state_ids() == state.alive()
    assert len(state.alive()) == 1
