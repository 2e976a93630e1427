"""An emulator and a stack for each test, apart from everything else on this machine."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import ENGINE_RUNS, Stack, machine

API_KEY = "the-key-that-must-never-show"


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API, with machines that are ready in a moment. It takes API_KEY only."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=API_KEY, say=print) as server:
        yield server


@pytest.fixture
def stack(emulator: EmulatorServer, new_stack: Path, tmp_path: Path) -> Iterator[Stack]:
    """A stack without resources, whose program declares one machine of the 1x type.

    Afterwards nothing of it runs, and the API key is in none of its files.
    """
    folder = tmp_path / "stack"
    shutil.copytree(new_stack, folder)
    stack = Stack(folder, emulator.env)
    stack.write(machine())
    yield stack
    stack.kill_all()
    assert stack.files_with(API_KEY) == []


@pytest.fixture(scope="session")
def new_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder right after `pulumi stack init`: copying it saves every test the same second."""
    folder = tmp_path_factory.mktemp("new") / "stack"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    Stack(folder, {}).run("stack", "init")
    shutil.rmtree(folder / "pulumi-home")
    return folder


@pytest.fixture(autouse=True)
def _cost(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Record what the test costs: engine runs, and CPU seconds of all its processes."""
    runs, seconds = ENGINE_RUNS.total(), _cpu_seconds()
    yield
    record_property("engine runs", ENGINE_RUNS.total() - runs)
    record_property("CPU seconds", _cpu_seconds() - seconds)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sum of these costs, and with -v the costs of each test."""
    costs = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if "engine runs" in properties and report.when == "teardown":
                costs[report.nodeid] = (properties["engine runs"], properties["CPU seconds"])
    if not costs:
        return
    terminalreporter.section("cost of the end-to-end tests")
    if terminalreporter.config.get_verbosity() > 0:
        for nodeid, (runs, seconds) in sorted(costs.items()):
            terminalreporter.write_line(f"{runs:4} runs {seconds:6.1f} s  {nodeid}")
    runs, seconds = (sum(column) for column in zip(*costs.values(), strict=True))
    terminalreporter.write_line(
        f"{len(costs)} tests: {runs} runs of pulumi, {seconds:.0f} CPU seconds of their processes"
    )
