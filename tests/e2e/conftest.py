"""An emulator and a stack for each test, apart from everything else on this computer."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from .harness import ENGINE_RUNS, SECONDS, Stack, cli_path, fresh, machine, processes_with
from .sshd import SSHD, LocalShell, Sshd

FOLDER = Path(__file__).parent


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API, with machines that are ready in a moment. It takes fakes.KEY only."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=KEY, say=print) as server:
        yield server


@pytest.fixture
def host() -> type[Stack]:
    """The kind of the test's stack: dynamic, where the test doesn't say otherwise."""
    return Stack


@pytest.fixture
def stack(
    host: type[Stack], emulator: EmulatorServer, new_stack: Path, tmp_path: Path
) -> Iterator[Stack]:
    """A stack without resources, whose program declares one machine of the 1x type.

    Afterwards nothing of it runs, and the API key is in none of its files.
    """
    with fresh(host, new_stack, tmp_path / "stack", emulator.env) as stack:
        stack.write(machine())
        yield stack


@pytest.fixture
def bare(stack: Stack) -> Stack:
    """The stack, with a PATH on which there is no native plugin, as the engine finds it."""
    bin_ = stack.folder / "bin"
    bin_.mkdir()
    python = bin_ / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    folders = f"{bin_}:{cli_path()}"
    stack.env["PATH"] = folders
    stack.cli = Path(str(shutil.which("pulumi", path=folders)))
    assert shutil.which("pulumi-resource-fal", path=folders) is None
    return stack


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What pip installs from. Skips the test where it can't be reached."""
    folder = tmp_path_factory.mktemp("probe")
    probe = ("download", "--quiet", "--no-deps", "--dest", str(folder), "semver")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", *probe)
    reached = subprocess.run(pip, capture_output=True, text=True, check=False)
    if reached.returncode:
        pytest.skip(f"pip reaches no package index: {reached.stderr.splitlines()[-1]}")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """OpenSSH's server, not started yet, and the client for it."""
    if not SSHD:
        pytest.skip("OpenSSH's server is not installed: `apt-get install openssh-server`")
    sshd = Sshd(tmp_path / "sshd")
    yield sshd
    sshd.end()


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Sshd | LocalShell]:
    """OpenSSH's server where there is one, and what stands in for it elsewhere."""
    shells = Sshd(tmp_path / "sshd") if SSHD else LocalShell(tmp_path / "ssh")
    shells.start()
    yield shells
    shells.end()
    for home in shells.home.glob("*"):
        for pid in processes_with(f"HOME={home}"):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def new_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project and an empty stack, to be copied."""
    folder = tmp_path_factory.mktemp("new") / "stack"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    Stack(folder, {}).init()
    return folder


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """Let child processes get Ctrl-C even where pytest runs in the background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _cost(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Record what the test costs: engine runs, and CPU seconds of its processes."""
    runs, seconds = ENGINE_RUNS.total(), _cpu_seconds()
    yield
    record_property("engine runs", ENGINE_RUNS.total() - runs)
    record_property("CPU seconds", _cpu_seconds() - seconds)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test as much time as one wait may take: a loaded computer must not fail it."""
    for item in items:
        if item.path.is_relative_to(FOLDER) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2 * SECONDS))


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
        f"{len(costs)} tests, {seconds:.0f} CPU seconds, {runs} runs of pulumi by the harness"
    )
