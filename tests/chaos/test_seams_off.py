"""The seams into the plugin host, switched off as by a host whose internals have changed."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Result, Stack, machine, wait_until
from ..e2e.recovery import (
    PATIENCE,
    adopt,
    believe_refusals_soon,
    entries,
    finish,
    in_plugin,
    says,
    unlock,
)
from ..processes import OFF, replaced


@pytest.mark.parametrize("seams", [*((seam,) for seam in OFF), tuple(OFF)], ids="+".join)
def test_without(seams: tuple[str, ...], stack: Stack, emulator: EmulatorServer) -> None:
    """A create that fails while it waits, and one that is killed, are resumed all the same."""
    in_plugin(stack, "\n".join(replaced(name, OFF[name]) for name in seams))
    stack.env |= PATIENCE
    believe_refusals_soon(stack)
    emulator.state.provisioning = inf
    stack.write(machine("first"))
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    emulator.faults.add("list", "401", inf)
    failed = run.wait()
    assert failed.exit_code != 0
    (first,) = emulator.state.alive()
    says(failed, f"The wait for machine {first}")
    recorded = [entry.instance_id for entry in entries(stack)]
    assert stack.state_ids() == {first} or recorded == [first]
    emulator.faults.clear()
    finish(emulator.state)
    succeed(stack, "up")
    assert stack.state_ids() == {first}

    emulator.state.provisioning = inf
    stack.write(machine("first"), machine("second"))
    calls = emulator.state.calls["list"]
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= calls + 3)
    run.kill()
    run.wait()
    unlock(stack)
    (second,) = emulator.state.alive() - {first}
    finish(emulator.state)
    up = stack.start("up").wait()
    if up.exit_code != 0:
        # The plugin outlived the engine, and can't know that nobody took its result.
        says(up, f"made {second}", "it was reported to Pulumi, but")
        adopt(stack, up)
        succeed(stack, "up")
    succeed(stack, "up", "--expect-no-changes")
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2
    assert entries(stack) == []
    succeed(stack, "destroy")
    assert stack.state_ids() == emulator.state.alive() == set()


def succeed(stack: Stack, *args: str) -> Result:
    """Run a command that must succeed; it may print a traceback on the way."""
    result = stack.start(*args).wait()
    assert result.exit_code == 0, result
    return result
