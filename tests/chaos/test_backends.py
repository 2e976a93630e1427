"""Every way to name a backend, for stacks that share all names and a PULUMI_HOME."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import PULUMI, SECONDS, SSH_KEY, Stack, wait_until
from ..e2e.recovery import finish, kill_while_waiting, nothing_runs, unlock

AUTOMATION = f"""
from pulumi import automation
from pulumi_fal import ComputeInstance

def program():
    ComputeInstance("machine", instance_type="gpu_1x_h100_sxm5", ssh_key={SSH_KEY!r})

automation.create_or_select_stack("dev", "test", program).up(on_output=print)
"""


def by_project(stack: Stack) -> None:
    """Name the backend in Pulumi.yaml, with a relative URL."""
    del stack.env["PULUMI_BACKEND_URL"]
    with (stack.project / "Pulumi.yaml").open("a") as project:
        project.write("backend:\n  url: file://.\n")


def by_login(stack: Stack) -> None:
    """Run `pulumi login`: the last login counts for all commands that follow."""
    stack.env.pop("PULUMI_BACKEND_URL", None)
    login = [str(PULUMI), "login", f"file://{stack.folder}"]
    subprocess.run(login, env=stack.env, check=True, capture_output=True)


WAYS: dict[str, Callable[[Stack], object]] = {
    "absolute URL": lambda stack: None,
    "relative URL": lambda stack: stack.env.update(PULUMI_BACKEND_URL="file://."),
    "Pulumi.yaml": by_project,
    "login": by_login,
}


@pytest.fixture
def twins(emulator: EmulatorServer, stack: Stack, tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    """Two stacks that share all names and a PULUMI_HOME, in two backends."""
    shutil.copytree(stack.folder, tmp_path / "other")
    other = Stack(tmp_path / "other", emulator.env)
    other.home = stack.home
    other.env["PULUMI_HOME"] = stack.env["PULUMI_HOME"]
    yield stack, other
    other.kill_all()


@pytest.mark.parametrize("way", WAYS)
def test_own_stack(way: str, twins: tuple[Stack, Stack], emulator: EmulatorServer) -> None:
    """A killed create is resumed by its own stack. The other one creates a machine of its own."""
    one, other = twins
    WAYS[way](one)
    first = kill_while_waiting(one, emulator)
    WAYS[way](other)
    assert first not in other.up().output
    (second,) = emulator.state.alive() - {first}
    assert other.state_ids() == {second}
    if way == "login":
        by_login(one)
    unlock(one)
    one.up()
    assert one.state_ids() == {first}
    assert emulator.state.creations == 2


def test_automation(twins: tuple[Stack, Stack], emulator: EmulatorServer) -> None:
    """The Automation API goes on with the machine of its killed run.

    The program is part of the script, and a stack of the CLI has the same names.
    """
    one, other = twins
    emulator.state.provisioning = inf
    script = automation_up(one)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    script.kill()
    script.wait()
    for pid, line in one.processes().items():
        if "-m pulumi.dynamic" not in line:
            os.kill(pid, signal.SIGKILL)
    nothing_runs(one)
    (first,) = emulator.state.alive()
    finish(emulator.state)
    other.up()
    unlock(one)
    assert automation_up(one).wait(SECONDS) == 0
    assert one.state_ids() == {first}
    assert other.state_ids() | one.state_ids() == emulator.state.alive()


def automation_up(stack: Stack) -> subprocess.Popen[bytes]:
    """Start a script of the Automation API that runs `up`."""
    (stack.project / "up.py").write_text(AUTOMATION)
    return subprocess.Popen(
        [sys.executable, "up.py"],
        cwd=stack.project,
        env={**stack.env, "PATH": f"{PULUMI.parent}{os.pathsep}{stack.env['PATH']}"},
        stdin=subprocess.DEVNULL,
    )
