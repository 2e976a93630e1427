"""Each call of create, read and delete meets a fault under the real engine.

This is a slice: tests/simulation has every fault at every call, below Pulumi. After the fault,
commands are repeated until they succeed. When an error names ways out, the user takes the right
one: only a user can know which machine came from which create, and here the emulator knows.
"""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Result, Stack, machine
from ..e2e.native import in_both
from ..e2e.recovery import PATIENCE, entries, nothing_runs, one_machine, pending, printed, unlock

ROUNDS = 8
"""Within how many runs after the fault a command must succeed."""
TIMEOUTS = "custom_timeouts=pulumi.CustomTimeouts(create='12s', delete='12s')"
"""A fault that lasts ends a wait by its timeout."""


class User:
    """Runs commands, and does what their errors say."""

    def __init__(self, stack: Stack, emulator: EmulatorServer) -> None:
        self.stack = stack
        self.emulator = emulator

    def run(self, command: str) -> Result:
        """Run it. If it fails, it names each machine that may run outside of state."""
        result = self.stack.run(command, fails=None)
        if result.exit_code:
            output = " ".join(result.output.split())
            cannot_tell = "may have made a machine" in output and "could not be asked" in output
            outside = self.emulator.state.alive() - self.stack.state_ids()
            assert cannot_tell or all(id_ in output for id_ in outside)
        nothing_runs(self.stack)
        unlock(self.stack)
        return result

    def settle(self, command: str) -> None:
        """Let everything go well from now on, and repeat the command until it succeeds."""
        left = self.emulator.faults.left().values()
        assert all(str(inf) in fault for faults in left for fault in faults), "not met"
        self.emulator.faults.clear()
        for _ in range(ROUNDS):
            result = self.run(command)
            if result.exit_code == 0:
                return
            self.take_ways_out(result)
        raise AssertionError(f"`{command}` did not succeed within {ROUNDS} runs")

    def take_ways_out(self, result: Result) -> None:
        """Adopt the resource's machine with the command that an error names.

        Where there is no machine, forget the create.
        """
        for urn, _, *options in printed(result.output, "pulumi-fal pending adopt"):
            assert entries(self.stack), f"there is no record of the create of {urn}"
            made = self.emulator.state.alive() - self.stack.state_ids()
            if made:
                pending(self.stack, "adopt", urn, made.pop(), *options)
            else:
                pending(self.stack, "forget", urn, "--yes")


@pytest.fixture
def user(stack: Stack, emulator: EmulatorServer) -> User:
    stack.env |= PATIENCE
    stack.write(machine(opts=TIMEOUTS))
    return User(stack, emulator)


@in_both
@pytest.mark.parametrize(
    "call, good, name, times",
    [
        ("list", 0, "502", 1),  # before the POST
        ("create", 0, "reset_after", 1),
        ("create", 0, "500", 1),
        ("list", 1, "lapse", inf),  # while the machine is awaited
        ("list", 1, "html", 1),
    ],
)
def test_create(user: User, call: str, good: int, name: str, times: float) -> None:
    """One machine is created, once, after so many good calls of the kind that meets the fault."""
    if good:
        user.emulator.faults.add(call, "ok", good)
    user.emulator.faults.add(call, fault(name), times)
    user.take_ways_out(user.run("up"))
    user.settle("up")
    one_machine(user.stack, user.emulator)


@in_both
def test_create_with_a_key(user: User) -> None:
    """With the v1 API, one `up` creates one machine, and asks nobody."""
    endpoint = f"{user.emulator.url}/v1"
    user.stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": endpoint}
    user.emulator.faults.add("create", "truncated")
    assert user.run("up").exit_code == 0
    one_machine(user.stack, user.emulator)


def unlist(emulator: EmulatorServer) -> None:
    """Hide the machines from lists: one that isn't listed is asked for, unless it was deleted."""
    for id_ in emulator.state.alive():
        emulator.state.hide(id_, "list")


@in_both
@pytest.mark.parametrize("call, name, times", [("list", "lapse", inf), ("get", "404", 1)])
def test_read(user: User, call: str, name: str, times: float) -> None:
    """A refresh never drops a machine that exists, so `up` creates no second one."""
    user.settle("up")
    if call == "get":
        unlist(user.emulator)
    user.emulator.faults.add(call, fault(name), times)
    user.run("refresh")
    user.settle("up")
    one_machine(user.stack, user.emulator)


@in_both
@pytest.mark.parametrize(
    "call, name, times",
    [("delete", "404", inf), ("delete", "500_after", 1), ("list", "lapse", inf), ("get", "502", 1)],
)
def test_delete(user: User, call: str, name: str, times: float) -> None:
    """State drops a machine only when it is gone."""
    state = user.emulator.state
    user.settle("up")
    if call == "get":
        unlist(user.emulator)
        user.emulator.faults.add("delete", "409")
    user.emulator.faults.add(call, fault(name), times)
    user.run("destroy")
    assert state.alive() <= user.stack.state_ids()
    user.settle("destroy")
    assert state.alive() == user.stack.state_ids() == set()
    assert state.creations == 1
