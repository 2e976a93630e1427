"""The seams into the plugin host, switched off: as in a host whose internals have changed."""

from __future__ import annotations

from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Result, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    believe_refusals_soon,
    entries,
    finish,
    in_plugin,
    pending,
    says,
    unlock,
)

NOTHING = "lambda *args, **fields: None"
OFF = {
    "current": f"request.current = {NOTHING[:-4]}request.Request()",
    "raise_concurrency": f"patches.raise_concurrency = {NOTHING}",
    "route_imports": f"patches.route_imports = {NOTHING}",
    "without_traceback": f"patches.without_traceback = {NOTHING}",
    "on_cancel": f"lifetime.on_cancel = {NOTHING}",
    "on_engine_death": f"lifetime.on_engine_death = {NOTHING}",
    "keep_partial_state": "request.Request.keep_partial_state = lambda *args: False",
    "on_undelivered": f"request.Request.on_undelivered = {NOTHING}",
    "log": f"request.Request.log = {NOTHING}",
}
"""How each is switched off."""
SEAMS = "from pulumi_fal.dynamic import lifetime, patches, request"


def switch_off(stack: Stack, *names: str) -> None:
    """In every plugin process of the stack, before the provider is loaded."""
    in_plugin(stack, "\n".join([SEAMS, *(OFF[name] for name in names)]))


def live(stack: Stack, emulator: EmulatorServer) -> None:
    """A create that fails while it waits, one that is killed then, and all that is ordinary."""
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
    assert stack.state_ids() == {first} or [each.instance_id for each in entries(stack)] == [first]
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
        (entry,) = entries(stack)
        pending(stack, "adopt", entry.origin.urn, second)
        succeed(stack, "up")
    succeed(stack, "refresh")
    succeed(stack, "up", "--expect-no-changes")
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2
    assert entries(stack) == []
    succeed(stack, "destroy")
    assert stack.state_ids() == emulator.state.alive() == set()


def succeed(stack: Stack, *args: str) -> Result:
    """A command that must; a traceback on the way is none of this test's business."""
    result = stack.start(*args).wait()
    assert result.exit_code == 0, result
    return result
