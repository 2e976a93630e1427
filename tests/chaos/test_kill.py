"""A create is killed at each stage, under the real engine: too many runs for `make test`."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Stack
from ..e2e.native import in_both
from ..e2e.recovery import (
    PATIENCE,
    STAGES,
    Stage,
    adopt,
    entries,
    kill,
    nothing_runs,
    one_machine,
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
