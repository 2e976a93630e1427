"""Every way to name a backend, for stacks that share all names and a PULUMI_HOME."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import PULUMI, SECONDS, SSH_KEY, Stack, machine, wait_until
from ..e2e.recovery import finish, in_plugin, kill_while_waiting, nothing_runs, unlock

AUTOMATION = f"""
from pulumi import automation
from pulumi_fal import ComputeInstance

def program():
    ComputeInstance("machine", instance_type="gpu_1x_h100_sxm5", ssh_key={SSH_KEY!r})

automation.create_or_select_stack("dev", "test", program).up(on_output=print)
"""


def by_absolute_url(stack: Stack) -> None:
    """Leave PULUMI_BACKEND_URL as the harness sets it."""


def by_relative_url(stack: Stack) -> None:
    """Set a URL that means another folder where the CLI runs in another one."""
    stack.env["PULUMI_BACKEND_URL"] = "file://."


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


def by_relative_url_without_proc(stack: Stack) -> None:
    """Set a relative URL for a plugin that sees no processes, as where there is no /proc."""
    by_relative_url(stack)
    in_plugin(
        stack,
        "def hide(event, args):\n"
        "    if event == 'open' and str(args[0]).startswith('/proc/'):\n"
        "        raise FileNotFoundError(args[0])\n"
        "sys.addaudithook(hide)",
    )


def by_relative_url_of_another_cli(stack: Stack) -> None:
    """Set a relative URL for a `pulumi` whose file has another name."""
    by_relative_url(stack)
    script = PULUMI.read_text()
    pulumi, stack.cli, iac = shlex.split(script)[-2], stack.folder / "cli", stack.folder / "iac"
    try:
        os.link(pulumi, iac)
    except OSError:  # it is on another disk
        shutil.copy(pulumi, iac)
    stack.cli.write_text(script.replace(pulumi, str(iac)))
    stack.cli.chmod(0o755)


WAYS: dict[str, Callable[[Stack], None]] = {
    "absolute URL": by_absolute_url,
    "relative URL": by_relative_url,
    "relative URL without /proc": by_relative_url_without_proc,
    "relative URL of another CLI": by_relative_url_of_another_cli,
    "Pulumi.yaml": by_project,
    "login": by_login,
}


@pytest.fixture
def twins(emulator: EmulatorServer, new_stack: Path, tmp_path: Path) -> Iterator[list[Stack]]:
    """Two stacks that share all names and a PULUMI_HOME, in two backends."""
    twins = []
    for name in ("one", "other"):
        shutil.copytree(new_stack, tmp_path / name)
        stack = Stack(tmp_path / name, emulator.env)
        stack.home = tmp_path / "home"
        stack.env["PULUMI_HOME"] = str(stack.home)
        stack.write(machine())
        twins.append(stack)
    yield twins
    for stack in twins:
        stack.kill_all()


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_create_is_resumed_only_by_its_own_stack(
    way: str, twins: list[Stack], emulator: EmulatorServer
) -> None:
    """The other stack creates a machine of its own; the stack's own `up` resumes the first one."""
    one, other = twins
    WAYS[way](one)
    first = kill_while_waiting(one, emulator)
    WAYS[way](other)
    up = other.up()
    assert first not in up.output
    (second,) = emulator.state.alive() - {first}
    assert other.state_ids() == {second}
    if way == "login":
        by_login(one)
    unlock(one)
    one.up()
    assert one.state_ids() == {first}
    assert emulator.state.creations == 2


def test_a_stack_that_only_reads_the_machine_of_a_killed_create_leaves_its_record(
    twins: list[Stack], emulator: EmulatorServer
) -> None:
    """A stack that reads a machine under the same URN doesn't have it; its own `up` needs it."""
    one, reader = twins
    id_ = kill_while_waiting(one, emulator)
    reader.write(f"ComputeInstance.get('machine', {id_!r})\n")
    reader.up()
    reader.refresh()
    assert reader.state_ids() == {id_}
    unlock(one)
    one.up()
    assert one.state_ids() == emulator.state.alive() == {id_}
    assert emulator.state.creations == 1


def test_the_automation_api_goes_on_with_the_machine_of_its_killed_run(
    twins: list[Stack], emulator: EmulatorServer
) -> None:
    """The program is part of the script, and a stack of the CLI has the same names."""
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
    assert emulator.state.creations == 2
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
