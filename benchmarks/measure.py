"""One run: a number of machines is created, refreshed and destroyed on an emulator."""

from __future__ import annotations

import resource
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.demo import Failed, Pulumi

from benchmarks import programs
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State

COMMANDS = {"up": "up", "again": "up", "refresh": "refresh", "destroy": "destroy"}
"""The commands of a run, in their order, by the names that they have here."""
PROVISIONING, DELETION = 10.0, 0.5
"""The seconds until a machine is ready, and until it is gone."""


@dataclass(frozen=True)
class Command:
    """What one command took."""

    seconds: float
    cpu: float
    """Seconds of the CPU, of the engine and of all processes that it starts."""
    requests: int


def run(who: str, machines: int) -> dict[str, Command]:
    """Create the machines, look for changes twice, with `up` and with `refresh`, and destroy them.

    Raises Failed if a step did not succeed.
    """
    with (
        TemporaryDirectory(prefix="pulumi-fal-bench-") as folder,
        EmulatorServer(provisioning=PROVISIONING, deletion=DELETION) as emulator,
    ):
        settings = {**emulator.env, "BENCHMARK_PROVISIONING": str(PROVISIONING)}
        pulumi = _stack(Path(folder), who, machines, settings)
        commands, calls = {}, Counter[str]()
        for name, command in COMMANDS.items():
            started, cpu = time.perf_counter(), _cpu()
            pulumi.read(command, "--yes", "--skip-preview", "--parallel", str(machines))
            seconds, cpu = time.perf_counter() - started, _cpu() - cpu
            calls, before = emulator.state.calls.copy(), calls
            commands[name] = Command(seconds, cpu, calls.total() - before.total())
            _expect(emulator.state, machines if name != "destroy" else 0, machines)
        return commands


def _stack(folder: Path, who: str, machines: int, settings: dict[str, str]) -> Pulumi:
    """Return a new stack with a program for so many machines."""
    pulumi = Pulumi(folder, settings)
    (pulumi.project / "Pulumi.yaml").write_text(programs.project(who))
    (pulumi.project / "__main__.py").write_text(programs.program(who, machines))
    modules = pulumi.project / "benchmarks"
    modules.mkdir()
    for own in ("naive.py", "raw.py", "waiting.py"):
        shutil.copy(Path(__file__).with_name(own), modules)
    pulumi.read("stack", "init", "dev")
    return pulumi


def _cpu() -> float:
    """The seconds of the CPU that ended child processes took, with all that these waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _expect(state: State, alive: int, made: int) -> None:
    there = state.list()
    ready = [machine for machine in there if machine.status == "ready"]
    if not (len(ready) == len(there) == alive and state.creations == made):
        raise Failed(
            f"{made} machines should have been created, and {state.creations} were; now {alive} "
            f"should exist, {len(there)} do, and {len(ready)} are ready"
        )
