"""Stories of kills on the real engine that are too many for `make test`: each stage of a create."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import PULUMI, Stack
from ..e2e.native import in_both
from ..e2e.recovery import (
    PATIENCE,
    STAGES,
    Stage,
    adopt,
    entries,
    kill,
    kill_while_waiting,
    nothing_runs,
    one_machine,
    unlock,
)

# Stages of a create


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


# Backends, for stacks that share all names and a PULUMI_HOME


def log_in(stack: Stack) -> None:
    """Run `pulumi login`: the last login counts for all commands that follow."""
    stack.env.pop("PULUMI_BACKEND_URL", None)
    login = [str(PULUMI), "login", f"file://{stack.folder}"]
    subprocess.run(login, env=stack.env, check=True, capture_output=True)


@pytest.fixture
def twins(emulator: EmulatorServer, stack: Stack, tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    """Two stacks that share all names and a PULUMI_HOME, in two backends."""
    shutil.copytree(stack.folder, tmp_path / "other")
    other = Stack(tmp_path / "other", emulator.env)
    other.home = stack.home
    other.env["PULUMI_HOME"] = stack.env["PULUMI_HOME"]
    yield stack, other
    other.kill_all()


def test_own_stack(twins: tuple[Stack, Stack], emulator: EmulatorServer) -> None:
    """A killed create is resumed by its own stack. The other one creates a machine of its own.

    tests/unit/test_stacks.py has the other ways in which a backend is named.
    """
    one, other = twins
    log_in(one)
    first = kill_while_waiting(one, emulator)
    log_in(other)
    assert first not in other.up().output
    (second,) = emulator.state.alive() - {first}
    assert other.state_ids() == {second}
    log_in(one)
    unlock(one)
    one.up()
    assert one.state_ids() == {first}
    assert emulator.state.creations == 2
