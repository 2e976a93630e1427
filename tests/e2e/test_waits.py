"""A wait for machines that ends early, for whatever reason: the next `up` resumes it."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from ..processes import replaced
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    as_documented,
    believe_refusals_soon,
    entries,
    finish,
    in_plugin,
    is_locked,
    nothing_runs,
    says,
    touch_when_told_to_stop,
    unfinished,
)

SHORT, LONG = (
    f"custom_timeouts=pulumi.CustomTimeouts(create='{seconds}s', update='{seconds}s')"
    for seconds in (2, 300)
)
DOWN = (
    ("522", "answered 522: 522 Connection timed out"),
    ("403", "answered 403: The key does not have the scope that this call needs"),
    ("reset_before", "got no answer: connection reset by peer"),
)
HOUR = 3600


def replacements(ssh_key: str, opts: str = SHORT) -> str:
    """Two machines with that key; the old one of the second is deleted first."""
    return machine("new_first", opts=opts, ssh_key=ssh_key) + machine(
        "old_first", opts=f"{opts}, delete_before_replace=True", ssh_key=ssh_key
    )


@pytest.mark.chaos("unit/test_operations.py::test_read_unfinished")
def test_unfinished_machines_stay_in_state_through_failures_until_an_up_finishes_them(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """No failed `up` and no refresh makes an unfinished machine look finished, or loses it.

    A replaced machine stays until the new one is ready. A machine that became ready meanwhile is
    finished by a refresh, one that the program no longer has is deleted, and one that vanished is
    created anew.
    """
    state = emulator.state
    stack.env |= PATIENCE
    believe_refusals_soon(stack)
    stack.write(replacements(SSH_KEY, LONG))
    stack.up()
    old = ids(stack)

    state.provisioning = inf
    waiting = [machine(name, opts=SHORT) for name in ("late", "early", "vanishing")]
    stack.write(replacements(OTHER_SSH_KEY), *waiting, machine("unwanted", opts=SHORT))
    timed_out = stack.up("--parallel", "8", fails=True)
    as_documented(timed_out, "The timeout was exceeded")
    assert names_of_unfinished(stack) == {
        "late", "early", "vanishing", "unwanted", "new_first", "old_first"
    }  # fmt: skip
    assert stack.state_ids() == state.alive()
    assert old["new_first"] in state.alive()
    assert old["old_first"] not in state.alive()
    made = ids(stack)
    says(timed_out, *(made[name] for name in ("late", "early", "vanishing", "unwanted")))

    state.machines[made["early"]].provisioning = 0
    as_documented(stack.refresh(), "A refresh before the machine is ready")
    assert "early" not in names_of_unfinished(stack)
    assert len(names_of_unfinished(stack)) == 5
    assert stack.state_ids() == state.alive()

    stack.write(replacements(OTHER_SSH_KEY), *waiting)
    emulator.faults.add("list", "503", inf)
    unavailable = stack.up("--parallel", "8", fails=True)
    as_documented(unavailable, "The API was unavailable")
    assert "early" not in names_of_unfinished(stack)
    assert stack.state_ids() == state.alive()

    emulator.faults.clear()
    waiting = [machine(name, opts=LONG) for name in ("late", "early", "vanishing")]
    stack.write(replacements(OTHER_SSH_KEY, LONG), *waiting)
    calls = state.calls["list"]
    run = stack.start("up", "--parallel", "8")
    # Each diff asks for a list, too.
    wait_until(lambda: run.process.poll() is not None or state.calls["list"] >= calls + 10)
    state.kill(made["vanishing"])
    failed = "vanishing **updating failed**"
    wait_until(lambda: run.process.poll() is not None or failed in run.output)
    emulator.faults.add("list", "401", inf)
    refused = run.wait()
    assert refused.exit_code != 0
    as_documented(refused, "The machine is gone")
    as_documented(refused, "The key was refused")
    says(refused, f"Machine {made['vanishing']} ({ONE}) is gone")
    assert stack.state_ids() >= state.alive()

    emulator.faults.clear()
    finish(state)
    stack.up("--parallel", "8")
    assert unfinished(stack) == []
    now = ids(stack)
    assert stack.state_ids() == state.alive() == set(now.values())
    assert {name for name in now if now[name] != made.get(name)} == {"vanishing"}
    assert {resource["outputs"]["status"] for resource in stack.resources()} == {"ready"}
    assert state.creations == 2 + 6 + 1
    stack.up("--expect-no-changes")


def test_ctrl_c_ends_an_up_and_a_destroy_with_every_machine_in_state(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Of three creates one waits, one sleeps before it repeats its POST, and one POST is in flight.

    That POST is allowed to finish. There is no pending operation and no lock afterwards.
    """
    state = emulator.state
    state.provisioning = inf
    was_told = touch_when_told_to_stop(stack)
    stack.write(*(machine(name) for name in ("one", "two", "three")))
    emulator.faults.add("create", "ok")
    emulator.faults.add("create", fault("429", retry_after=HOUR))
    emulator.faults.add("create", "hold")
    run = stack.start("up")
    wait_until(lambda: emulator.faults.held == 1 and state.calls["create"] == 3)
    run.interrupt()
    wait_until(was_told.exists)
    emulator.faults.release()
    interrupted = run.wait()
    assert interrupted.exit_code != 0
    as_documented(interrupted, "Ctrl-C")
    assert state.creations == 2
    assert stack.state_ids() == state.alive()
    assert len(unfinished(stack)) == len(entries(stack)) == 2
    for id_ in state.alive():
        says(interrupted, f"The wait for machine {id_} ({ONE}) was interrupted.")
    assert_idle(stack)

    finish(state)
    stack.up()
    assert stack.state_ids() == state.alive()
    assert state.creations == 3
    assert unfinished(stack) == []

    state.deletion = HOUR
    run = stack.start("destroy")
    wait_until(lambda: state.deletions == 3)
    run.interrupt()
    assert run.wait().exit_code != 0
    assert stack.state_ids() == state.alive()
    assert len(stack.state_ids()) == 3
    assert_idle(stack)
    state.advance(HOUR)
    stack.destroy()
    assert stack.state_ids() == state.alive() == set()


@pytest.mark.chaos(
    "e2e/test_never_twice.py::test_a_glitch_drops_nothing_and_what_left_state_is_taken_up_again"
)
def test_a_machine_that_vanished_is_replaced_by_the_next_up_and_kept_if_it_comes_back(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The first `up` finds out in its wait. The preview of the second one says what it does."""
    state = emulator.state
    state.provisioning = inf
    stack.write(machine(wait=False))
    stack.up()
    stack.refresh()
    (vanished,) = state.alive()
    state.hide(vanished, "list")
    state.hide(vanished, "get")
    finish(state)
    stack.write(machine())
    says(stack.preview(), "1 to update")
    as_documented(stack.up(fails=True), "The machine is gone")
    assert stack.state_ids() == {vanished}
    says(stack.preview(), "1 to replace")
    state.hide(vanished, "list", 0)
    state.hide(vanished, "get", 0)
    says(stack.up(), f"Machine {vanished} was gone, which is why it was replaced, and it is there")
    (new,) = stack.state_ids()
    assert state.alive() == {vanished, new}
    says(stack.preview(), f"Machine {vanished}", "was gone, and is there again")


@pytest.mark.chaos("unit/test_lifecycle.py::test_outage")
def test_sixteen_creates_survive_rate_limits_and_an_outage_in_one_up(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Each machine is created once, the log tells of the outage, and the same `up` succeeds.

    A preview beside it says nothing of its machines, whether they are awaited or ready.
    """
    state, count = emulator.state, 16
    in_plugin(stack, replaced("api.retry._LONGEST", 0.2))
    state.provisioning = inf
    emulator.faults.add("create", fault("429"), 2 * count)
    emulator.faults.add("create", fault("429", retry_after=1), count)
    emulator.faults.add("list", fault("429", retry_after=1), 2)
    awaited = machine("awaited", instance_type=EIGHT)
    stack.write(*(machine(f"machine_{number}") for number in range(count - 1)), awaited)
    up = stack.start("up", "--parallel", str(count))
    wait_until(lambda: up.process.poll() is not None or state.creations == count)
    for made in state.machines.values():
        if made.requested.instance_type == ONE:
            made.provisioning = 0
    wait_until(lambda: up.process.poll() is not None or len(stack.state_ids()) == count - 1)
    assert len(entries(stack)) == count
    beside = stack.preview()
    assert "1 to create" in beside.output
    assert "warning" not in beside.output

    for name, _ in DOWN:
        emulator.faults.add("list", name, 4)
    wait_until(lambda: up.process.poll() is not None or not emulator.faults.left())
    finish(state)
    result = up.wait()
    assert result.exit_code == 0
    for _, answer in DOWN:
        says(result, f"GET /compute/instances {answer}")
    says(result, "The wait goes on.", "The API answers again.")
    assert state.creations == count
    assert state.calls["create"] == 4 * count
    assert stack.state_ids() == state.alive()
    assert len(ids(stack)) == count
    assert {resource["outputs"]["status"] for resource in stack.resources()} == {"ready"}
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def ids(stack: Stack) -> dict[str, str]:
    """The ids of the machines in state by name, without those that are to be deleted."""
    return {
        resource["urn"].rpartition("::")[2]: str(resource["id"])
        for resource in stack.resources()
        if not resource.get("delete")
    }


def names_of_unfinished(stack: Stack) -> set[str]:
    """The names of the machines in state whose create is incomplete."""
    return {str(resource["urn"]).rpartition("::")[2] for resource in unfinished(stack)}


def assert_idle(stack: Stack) -> None:
    """No process, no lock and no pending operation is left of any run."""
    nothing_runs(stack)
    assert not is_locked(stack)
    assert not stack.state().get("pending_operations")
