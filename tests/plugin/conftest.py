"""An emulator for each test, the plugin processes of both hosts, and an end to all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from .harness import PACE, Host, Native, backend, hosted


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
