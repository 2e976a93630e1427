"""One run: a number of machines is created, refreshed and destroyed on an emulator."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from benchmarks import programs
from benchmarks.direct import Direct
from benchmarks.programs import DIRECT, INSTANCE

COMMANDS = {"up": "up", "again": "up", "refresh": "refresh", "destroy": "destroy"}
"""The commands of a run, in their order, by the names that they have here."""
KINDS = ("create", "list", "get", "delete")
DELETION = 0.5
"""The seconds until a machine is gone."""
PULUMI = Path(sys.executable).with_name("pulumi")
SAMPLE_SECONDS = 0.2
LONGEST = 300.0
"""Seconds after which a command is killed."""


class Failed(Exception):
    """A run that did not create or delete the machines that it should have."""


@dataclass(frozen=True)
class Command:
    """The time and the API calls of one command."""

    seconds: float
    cpu: float
    """Seconds of the CPU, of the engine and of all processes that it starts."""
    calls: dict[str, int]
    """By kind."""


@dataclass(frozen=True)
class Run:
    """The measurements of one program with one number of machines."""

    commands: dict[str, Command]
    """By name, as COMMANDS has them."""
    memory: float | None
    """The plugin process's peak, in MB; None if there is no such process, or it is not known."""


class Emulator:
    """An emulator in a separate process, so that it shares no interpreter with what is measured."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self._before: dict[str, int] = dict.fromkeys(KINDS, 0)

    def report(self) -> Any:
        url = self.env["FAL_COMPUTE_ENDPOINT"] + "/_emulator/report"
        return requests.get(url, timeout=60).json()

    def calls(self) -> dict[str, int]:
        """The calls by kind, since this was last called."""
        now = self.report()["calls"]
        before, self._before = self._before, now
        return {kind: now[kind] - before[kind] for kind in before}


@contextlib.contextmanager
def emulator(provisioning: float) -> Iterator[Emulator]:
    command = [sys.executable, "-m", "pulumi_fal.emulator", "--port", "0"]
    command += ["--provisioning", str(provisioning), "--deletion", str(DELETION)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        # The emulator prints a line for each request: unread, they would block it on a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Emulator({"FAL_COMPUTE_ENDPOINT": url, "FAL_ADMIN_API_KEY": "emulator"})
    finally:
        process.terminate()
        process.wait()


class Stack:
    """A Pulumi stack with a program for a number of machines, isolated from the user's settings."""

    def __init__(self, folder: Path, who: str, machines: int, endpoint: dict[str, str]) -> None:
        self._folder, self._machines = folder, machines
        self.memory = Memory(f"PULUMI_HOME={folder / 'home'}")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FAL_", "PULUMI_"))}
        self._env = {
            **kept,
            **programs.settings(who, endpoint),
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "benchmark",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
        }
        (folder / "Pulumi.yaml").write_text(programs.project(who))
        (folder / "__main__.py").write_text(programs.program(who, machines))
        for own in ("naive.py", "raw.py"):
            shutil.copy(Path(__file__).with_name(own), folder)
        self._pulumi("stack", "init", "dev")

    def command(self, name: str) -> None:
        with self.memory.watched():
            self._pulumi(name, "--yes", "--skip-preview", "--parallel", str(self._machines))

    def _pulumi(self, *arguments: str) -> None:
        process = subprocess.Popen(
            [PULUMI, *arguments, "--non-interactive"],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=LONGEST)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            raise Failed(f"pulumi {arguments[0]}: exit code {process.returncode}\n{output}{errors}")


class Memory:
    """Watches the memory of the plugin process in /proc, and keeps the peak."""

    def __init__(self, variable: str) -> None:
        """`variable`: a NAME=VALUE that only the stack's processes have in their environment."""
        self._variable = variable.encode()
        self.peak: float | None = None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        end = threading.Event()

        def watch() -> None:
            process: Path | None = None
            while not end.wait(SAMPLE_SECONDS):
                process = process or self._plugin()
                if process is not None:
                    self._look_at(process)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _plugin(self) -> Path | None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"/", b".")
                is_plugin = b"pulumi.dynamic" in command or b"pulumi-resource-fal" in command
                if is_plugin and self._variable in (process / "environ").read_bytes().split(b"\0"):
                    return process
            except OSError:
                continue  # it has ended, or belongs to another user
        return None

    def _look_at(self, process: Path) -> None:
        with contextlib.suppress(OSError):
            for line in (process / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak = max(self.peak or 0.0, int(line.split()[1]) / 1024)


def run(who: str, machines: int, provisioning: float) -> Run:
    """Create the machines, look for changes twice, with `up` and with `refresh`, and destroy them.

    Raises Failed if a step did not succeed.
    """
    with TemporaryDirectory(prefix="pulumi-fal-bench-") as folder, emulator(provisioning) as api:
        stack = None if who == DIRECT else Stack(Path(folder), who, machines, api.env)
        client = Direct(api.env, machines, INSTANCE)
        commands = {}
        for name, command in COMMANDS.items():
            started, cpu = time.perf_counter(), _cpu()
            if stack is None:
                getattr(client, name)()
            else:
                stack.command(command)
            seconds = time.perf_counter() - started
            commands[name] = Command(seconds, _cpu() - cpu, api.calls())
            _expect(api.report(), machines if name != "destroy" else 0, machines)
        return Run(commands, memory=stack.memory.peak if stack else None)


def _cpu() -> float:
    """The seconds of the CPU that ended child processes took, with all that these waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _expect(report: Any, alive: int, made: int) -> None:
    ready = [machine for machine in report["machines"] if machine["status"] == "ready"]
    if not (len(ready) == len(report["machines"]) == alive and report["creations"] == made):
        raise Failed(
            f"{made} machines should have been created, and {report['creations']} were; now "
            f"{alive} should exist, {len(report['machines'])} do, and {len(ready)} are ready"
        )
