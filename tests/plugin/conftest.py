"""An emulator and a plugin process for each test, and an end to both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from .harness import Plugin
from .native import Provider, hosted


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines that are ready at once; it takes KEY only."""
    with EmulatorServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def start(emulator: EmulatorServer, tmp_path: Path) -> Iterator[Callable[..., Plugin]]:
    """Starts plugin processes, all for the same stack: `start(NAME=VALUE, ..., engine=ADDRESS)`.

    In upper case environment variables; None takes one away. Afterwards all are ended, and none
    has printed a key or a traceback.
    """
    started: list[Plugin] = []

    def start(**given: Any) -> Plugin:
        changed = {name: given.pop(name) for name in list(given) if name.isupper()}
        environ = {k: v for k, v in {**emulator.env, **changed}.items() if v is not None}
        started.append(Plugin(tmp_path, environ, **given))
        return started[-1]

    yield start
    for plugin in started:
        plugin.stop()
        assert KEY not in plugin.stderr
        assert "Traceback" not in plugin.stderr


@pytest.fixture
def plugin(start: Callable[..., Plugin]) -> Plugin:
    """A plugin process that knows the emulator and its key."""
    return start()


@pytest.fixture
def environ(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """The environment of this process, which names the emulator, its key and a backend."""
    for name, value in {
        **emulator.env,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path.as_posix()}",
        "FAL_COMPUTE_POLL_INTERVAL": "0.05",
        "FAL_COMPUTE_RETRY_BUDGET": "0.2",
        "FAL_COMPUTE_SETTLE": "0.2",
        "FAL_COMPUTE_ABSENCE": "0.2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def provider(environ: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider in this process, after the handshake."""
    with hosted() as provider:
        provider.handshake()
        yield provider
