"""What tests of failures share: the stages of a create, kills, and how everything must end."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from math import inf
from pathlib import Path
from typing import Any

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State
from pulumi_fal.machines.journal import Entry, Journal, default_folder

from .harness import OFFICIAL_HOST, Result, Run, Stack, pulumi_fal, wait_until

_LANGUAGE_HOST = "pulumi-language-python"
PATIENCE = {"FAL_COMPUTE_RETRY_BUDGET": "1"}
"""A setting for tests that don't want to wait for what is slow on purpose."""


class Stage:
    """A moment of a create: how to make it last, and how to see that it has come.

    It lasts until `release` lets the call under way go, where there is one. The machine that is
    made isn't ready before `end`.
    """

    def __init__(self, emulator: EmulatorServer, name: str) -> None:
        self.emulator = emulator
        self.name = name
        self._lists = emulator.state.calls["list"]
        self._creations = emulator.state.creations
        emulator.state.provisioning = inf
        if name == "before the POST":
            emulator.faults.add("list", "hold")
        elif name == "during the POST":
            emulator.faults.add("create", "hold")

    def has_come(self) -> bool:
        state = self.emulator.state
        if self.name == "before the POST":
            return self.emulator.faults.held == 1
        if self.name == "during the POST":
            return state.creations > self._creations
        # The list before the POST is one; the polls follow.
        return state.calls["list"] - self._lists >= (2 if self.name == "after the POST" else 4)

    def release(self) -> None:
        """Let the call in flight be answered. The machine still isn't ready."""
        self.emulator.faults.release()

    def end(self) -> None:
        """Let the call be answered and the machine become ready, without faults."""
        self.emulator.faults.clear()
        finish(self.emulator.state)
        self.release()

    def reached_by(self, run: Run) -> Run:
        """Wait until the run has reached the stage, and return it."""
        wait_until(lambda: run.process.poll() is not None or self.has_come())
        assert run.process.poll() is None, run.output
        return run


STAGES = ("before the POST", "during the POST", "after the POST", "while waiting")


def finish(state: State, seconds: float = 0.1) -> None:
    """Let every machine be ready soon, even those that were never to be."""
    state.provisioning = seconds
    for machine in state.machines.values():
        machine.provisioning = min(machine.provisioning, seconds)


def plugins(stack: Stack) -> list[int]:
    names = ("-m pulumi.dynamic", "bin/pulumi-resource-fal")
    return [pid for pid, line in stack.processes().items() if any(name in line for name in names)]


def kill(stack: Stack, run: Run, who: str) -> None:
    """Send SIGKILL to the CLI, the plugin, or both, and wait for the end of the run."""
    if who in ("plugin", "both"):
        for pid in plugins(stack):
            os.kill(pid, signal.SIGKILL)
    if who in ("cli", "both"):
        run.kill()
    assert run.wait().exit_code != 0


def nothing_runs(stack: Stack, seconds: float = 60) -> None:
    """Wait until no process of the stack's runs is left; each must end by itself.

    Pulumi's own language host may be left of a `pulumi` that was killed.
    """

    def left() -> list[str]:
        lines = stack.processes().values()
        return [line for line in lines if not (OFFICIAL_HOST and _LANGUAGE_HOST in line.split()[0])]

    try:
        wait_until(lambda: not left(), seconds=seconds)
    except TimeoutError:
        raise AssertionError(f"still there: {left()}") from None


def is_locked(stack: Stack) -> bool:
    """Whether a run of the stack left its lock behind."""
    return any((stack.folder / ".pulumi" / "locks").rglob("*.json"))


def unlock(stack: Stack) -> None:
    """Unlock the stack, as a user does after the CLI was killed."""
    if is_locked(stack):
        if stack.state_file.exists():
            restore_if_cut_off(stack)
        stack.cancel()


def restore_if_cut_off(stack: Stack) -> None:
    """Restore the state as a user does when `pulumi` was killed while it was writing it."""
    file = stack.state_file
    try:
        json.loads(file.read_text())
    except ValueError:
        shutil.copy(f"{file}.bak", file)
    attributes = file.with_name(f"{file.name}.attrs")
    if attributes.exists() and not attributes.stat().st_size:
        attributes.unlink()


def journal(stack: Stack) -> Journal:
    return Journal(default_folder(stack.env))


def entries(stack: Stack) -> list[Entry]:
    """The entries of the stack's journal. An unreadable one fails the test."""
    found = []
    for entry in journal(stack).entries():
        assert isinstance(entry, Entry), entry
        found.append(entry)
    return found


def pending(stack: Stack, *args: str) -> str:
    return pulumi_fal(stack, "pending", *args)


def adopt(stack: Stack, result: Result) -> str:
    """Run the only `pending adopt` that the output tells a user to run; the machine's id."""
    (arguments,) = printed(result.output, "pulumi-fal pending adopt")
    pending(stack, "adopt", *arguments)
    return next(word for word in arguments if len(word) == 36)


def printed(output: str, command: str) -> list[list[str]]:
    """The arguments of each such command that has a line of its own in the output."""
    lines = re.findall(rf"(?m)^ +\S*{re.escape(command)} (.+)$", output)
    return [shlex.split(line) for line in dict.fromkeys(lines)]


TELLS = """
import pathlib, sys
line = " ".join(sys.orig_argv)
if "-m pulumi.dynamic " in line or "bin/pulumi-resource-fal " in line:
    from pulumi_fal.clock import Clock
    interrupt = Clock.interrupt
    def interrupt_and_touch(clock):
        interrupt(clock)
        pathlib.Path({file!r}).touch()
    Clock.interrupt = interrupt_and_touch
"""
"""What each plugin process runs first."""


def touch_when_told_to_stop(stack: Stack) -> Path:
    """Have the plugin make this file as soon as the engine tells it to stop."""
    file, folder = stack.folder / "told-to-stop", stack.folder / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TELLS.format(file=str(file)))
    stack.env["PYTHONPATH"] = str(folder)
    return file


def unfinished(stack: Stack) -> list[dict[str, Any]]:
    """The machines in state whose create has failed."""
    return [resource for resource in stack.resources() if resource.get("initErrors")]


def one_machine(stack: Stack, emulator: EmulatorServer) -> str:
    """Check that the only machine that was ever made is alive, ready and in state; its id."""
    (id_,) = emulator.state.alive()
    assert stack.state_ids() == {id_}
    assert len(stack.resources()) == 1
    assert unfinished(stack) == []
    assert not is_locked(stack)
    assert stack.resources()[0]["outputs"]["status"] == "ready"
    assert "unfinished" not in stack.resources()[0]["outputs"]
    assert emulator.state.creations == 1
    return id_


def says(result: Result, *parts: str) -> None:
    """Check that the output has each of these parts, wherever lines are broken."""
    output = " ".join(result.output.split())
    for part in parts:
        assert " ".join(part.split()) in output, part


def billing(result: Result) -> list[str]:
    """The sentences about billing, without the cost, in the summary at the end of a command."""
    summary = result.output.partition("Diagnostics:")[2]
    return re.findall(r"St\w+ billing [^,]+, \S+ an hour(?=[.,] ?)", summary)


def kill_while_waiting(stack: Stack, emulator: EmulatorServer) -> str:
    """Run an `up` whose CLI is killed while the machine is awaited; the machine's id.

    Afterwards the machine is ready. The stack is still locked.
    """
    stage = Stage(emulator, "while waiting")
    before = emulator.state.alive()
    kill(stack, stage.reached_by(stack.start("up")), "cli")
    nothing_runs(stack)
    stage.end()
    (id_,) = emulator.state.alive() - before
    return id_
