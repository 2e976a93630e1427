"""An emulator and a stack for each test, apart from everything else on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine

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
