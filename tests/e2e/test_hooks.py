"""The hooks of a program, which have the engine repeat what failed."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT
from . import native
from .harness import Stack, machine, wait_until
from .recovery import entries, says

HOOK = """\
from pulumi import ErrorHook, ResourceHookBinding
def try_again(args):
    gives_up = args.name == "stuck" and args.failed_operation == "create"
    return len(args.errors) < (2 if gives_up else 50)
try_again = ErrorHook("try_again", try_again)
"""
OPTS = (
    "hooks=ResourceHookBinding(on_error=[try_again]), "
    "custom_timeouts=pulumi.CustomTimeouts(create='1s', update='1s', delete='1s')"
)


@pytest.mark.chaos("plugin/test_hosts.py::test_second_create")
@pytest.mark.parametrize("host", ["dynamic", pytest.param("native", marks=pytest.mark.chaos)])
def test_a_hook_that_repeats_what_failed_makes_no_second_machine_and_loses_none(
    stack: Stack, emulator: EmulatorServer, host: str
) -> None:
    """A create, an update and a delete are repeated after their timeout.

    One create succeeds in a later attempt. The hook of the other gives up, and its machine is in
    state all the same, so that the next `up` goes on with it.
    """
    slow, stuck = machine("slow", opts=OPTS, instance_type=EIGHT), machine("stuck", opts=OPTS)
    if host == "native":
        stack, env = native.NativeStack(stack.folder, {}), stack.env
        stack.env = env
        slow = native.machine("slow", opts=OPTS, instanceType=EIGHT)
        stuck = native.machine("stuck", opts=OPTS)
    stack.write(HOOK, slow, stuck)
    state = emulator.state

    state.provisioning = inf
    creating = stack.start("up")
    wait_until(lambda: attempts("create", "slow", creating.output) > 0)
    for made in state.machines.values():
        made.provisioning = 0 if made.requested.instance_type == EIGHT else inf
    assert creating.wait().exit_code != 0
    assert attempts("create", "stuck", creating.output) == 1
    assert state.creations == 2
    assert stack.state_ids() == state.alive()

    updating = stack.start("up")
    wait_until(lambda: attempts("update", "stuck", updating.output) > 0)
    for made in state.machines.values():
        made.provisioning = 0
    assert updating.wait().exit_code == 0
    assert stack.state_ids() == state.alive()

    state.deletion = inf
    destroying = stack.start("destroy", "--run-program")
    wait_until(lambda: attempts("delete", "slow", destroying.output) > 0)
    for made in state.machines.values():
        made.gone_at = 0
    assert destroying.wait().exit_code == 0
    assert state.alive() == stack.state_ids() == set()
    assert state.creations == 2
    assert entries(stack) == []


def attempts(operation: str, name: str, output: str) -> int:
    """How often a run says that it repeats the operation on the machine, in its progress."""
    repeats = f"retrying {operation} due to on-error hook request"
    return sum(
        repeats in line and f" {name} " in line
        for line in output.split("Diagnostics:")[0].splitlines()
    )


@pytest.mark.chaos("unit/test_second_create.py::test_last_attempt")
def test_a_hook_that_never_gives_up_does_not_lose_the_machine_at_the_engines_limit(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The engine would record the machine of the last attempt without its id, and crash later."""
    always = HOOK.replace("return", "return True or")
    opts = OPTS.replace("create='1s'", "create='10ms'")
    emulator.state.provisioning = inf
    stack.write(always, machine(opts=opts))
    says(stack.up(), "Pulumi stops after 100 attempts")
    assert stack.state_ids() == emulator.state.alive()
    emulator.state.machines[stack.state_ids().pop()].provisioning = 0
    stack.up()
    assert stack.outputs()["machine"]["status"] == "ready"
    assert emulator.state.creations == 1
