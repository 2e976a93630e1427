"""A stack that is renamed after its `up` was killed: the record is under the old name."""

from __future__ import annotations

import re
import shlex

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack
from .recovery import (
    PATIENCE,
    Stage,
    as_documented,
    entries,
    kill,
    nothing_runs,
    one_machine,
    pending,
    says,
    urn,
)


def test_a_renamed_stacks_up_stops_for_the_machine_and_goes_on_with_it_when_told(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """By just the command that it prints."""
    stack.env |= PATIENCE
    stage = Stage(emulator, "while waiting")
    kill(stack, stage.reached_by(stack.start("up")), "cli")
    nothing_runs(stack)
    stage.end()
    stack.cancel()
    old = urn(stack)
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    (id_,) = emulator.state.alive()

    stopped = stack.up(fails=True)
    as_documented(stopped, "A renamed stack")
    says(stopped, f"`pulumi-fal pending adopt {old} {id_} --for {urn(stack)}`")
    assert emulator.state.creations == 1
    output = " ".join(stopped.output.split())
    (command,) = set(re.findall("`pulumi-fal pending (adopt .+?)`", output))  # printed twice
    pending(stack, *shlex.split(command))
    stack.up()
    assert one_machine(stack, emulator) == id_
    stack.up("--expect-no-changes")
    assert entries(stack) == []
