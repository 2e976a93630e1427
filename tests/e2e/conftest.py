"""An emulator and a stack for each test, apart from everything else on this computer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from .harness import SECONDS, Stack, cli_path, fresh, machine, processes_with
from .sshd import SSHD, LocalShell, Sshd

FOLDER = Path(__file__).parent


@pytest.fixture
def api_key() -> str | None:
    """The only key that the API takes. With None it takes any, each of an account of its own."""
    return KEY


@pytest.fixture
def emulator(api_key: str | None) -> Iterator[EmulatorServer]:
    """The API, with machines that are ready in a moment."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=api_key, say=print) as server:
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


@pytest.fixture
def package_index(tmp_path: Path) -> None:
    """What pip installs from. Skips the test where it can't be reached."""
    probe = ("download", "--quiet", "--no-deps", "--dest", str(tmp_path / "probe"), "semver")
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test as much time as one wait may take: a loaded computer must not fail it."""
    for item in items:
        if item.path.is_relative_to(FOLDER) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2 * SECONDS))
