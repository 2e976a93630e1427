"""An emulator for each test, the plugin processes of both hosts, and an end to all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from ..processes import command
from .harness import PACE, Host, Native, backend, hosted

PULUMI = """
import json, os, sys
args = " ".join(sys.argv[1:])
if args.startswith("stack export"):
    sys.exit("error: no stack named 'organization/proj/dev' found")
url = {"url": os.environ["PULUMI_BACKEND_URL"]}
print("v3.276.0" if args.startswith("version") else json.dumps([] if "stack ls" in args else url))
"""
"""The command in a backend without stacks, which starts in a tenth of the time of the real one."""


@pytest.fixture(scope="session")
def pulumi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return command(tmp_path_factory.mktemp("bin") / "pulumi", PULUMI)


@pytest.fixture(autouse=True)
def _pulumi_on_path(pulumi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(pulumi.parent), prepend=os.pathsep)


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines that are ready at once; it takes KEY only."""
    with EmulatorServer(api_key=KEY) as server:
        yield server


@pytest.fixture(params=["dynamic", "native"])
def host(
    request: pytest.FixtureRequest, emulator: EmulatorServer, tmp_path: Path
) -> Iterator[Host]:
    """Both hosts, in turn. A test of one alone has a mark: `only("native")`."""
    host = Host(request.param, emulator, tmp_path)
    yield host
    host.stop()


@pytest.fixture
def environ(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """The environment of this process, which names the emulator, its key and a backend."""
    for name, value in {**emulator.env, **backend(tmp_path), **PACE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def provider(environ: pytest.MonkeyPatch) -> Iterator[Native]:
    """A native provider in this process, after the handshake."""
    with hosted() as provider:
        provider.handshake()
        yield provider
