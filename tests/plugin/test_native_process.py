"""How the process of the native provider starts, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal._version import __version__
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.native.__main__ import main

from ..fakes import ED25519, EIGHT, wait_until
from .harness import Plugin
from .native import LAUNCHER, Provider, engine, kept

INPUTS = {"instanceType": EIGHT, "sshKey": ED25519}


@pytest.fixture
def start_native(start: Callable[..., Plugin]) -> Callable[..., Plugin]:
    """Starts native plugin processes, all for the same stack."""
    return partial(start, launcher=LAUNCHER)


def waiting(plugin: Plugin, emulator: EmulatorServer) -> Any:
    """A create whose machine exists, and is not ready."""
    emulator.state.provisioning = inf
    create = Provider(plugin.channel).create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    return create


def test_the_process_prints_its_port_and_nothing_else(
    start_native: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """The argument is the engine's address, which gets warnings before any handshake."""
    with engine() as (address, logged):
        plugin = start_native(engine=address)
        provider = Provider(plugin.channel)
        provider.check({**INPUTS, "instanceType": "gpu_4x_b300"})
        assert provider.create(INPUTS).id in emulator.state.alive()
    assert "gpu_4x_b300" in logged[0].message
    plugin.process.terminate()
    assert plugin.process.stdout is not None
    # gRPC itself may log that the engine has gone, before the signal arrives.
    said = [line for line in plugin.stderr.splitlines() if not re.match(r"I\d{4} ", line)]
    assert (plugin.process.stdout.read(), said) == (b"", [])


@pytest.mark.parametrize(
    "args, code, said",
    [
        (["--version"], 0, f"{__version__}\n"),
        (["--help"], 0, "The Pulumi plugin for fal Compute."),
        (["serve"], 2, "'serve' is not the address of a Pulumi engine"),
        (["--port=1"], 2, "unrecognized arguments: --port=1"),
    ],
)
def test_a_person_who_runs_the_plugin_gets_text_and_no_server(
    args: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process ends at once, whatever a person tries."""
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == code
    assert said in "".join(capsys.readouterr())


def test_the_flags_that_the_engine_passes_on_are_accepted(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """`pulumi up --logtostderr --logflow -v=9 --tracing URL` gives them to every plugin."""
    flags = ("--logtostderr", "-v=9", "--tracing", "http://127.0.0.1:1")
    plugin = start(launcher=(*LAUNCHER, *flags))
    assert Provider(plugin.channel).create(INPUTS).id in emulator.state.alive()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' processes get no signals")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_at_once(
    start_native: Callable[..., Plugin], emulator: EmulatorServer, end: signal.Signals
) -> None:
    """A wait for a machine ends as well, since the machine is in the journal by then."""
    plugin = start_native()
    create = waiting(plugin, emulator)
    began = time.monotonic()
    plugin.process.send_signal(end)
    assert plugin.process.wait(5) == 0
    assert time.monotonic() - began < 2
    assert create.exception() is not None
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    assert Provider(start_native().channel).create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


def test_when_the_engine_dies_a_post_in_flight_is_recorded_before_the_process_ends(
    start_native: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """Without the record nobody could tell which resource the machine was created for."""
    emulator.faults.add("create", "hold")
    emulator.state.provisioning = inf
    plugin = start_native()
    create = Provider(plugin.channel).create_later(INPUTS)
    wait_until(lambda: emulator.state.creations == 1)
    assert plugin.process.stdin is not None
    plugin.process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        plugin.process.wait(0.5)
    emulator.faults.release()
    assert plugin.process.wait(10) == 1
    assert create.exception() is not None
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    assert Provider(start_native().channel).create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


def test_a_process_that_was_cancelled_goes_on_until_it_is_told_to_end(
    start_native: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """The engine gets the answers of the calls that Cancel ended."""
    plugin = start_native()
    create = waiting(plugin, emulator)
    plugin.cancel()
    assert {kept(create.exception())[0]} == emulator.state.alive()
    assert plugin.process.poll() is None


def test_a_process_without_a_pipe_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """A language host starts plugins without a pipe, and ends with its engine."""
    told, watched = tmp_path / "told", tmp_path / "watched"
    (tmp_path / "plugin.py").write_text(
        "import pathlib, time\n"
        "from pulumi_fal.hosts import engine\n"
        f"engine.on_death(pathlib.Path({str(told)!r}).touch)\n"
        "time.sleep(1)\n"
        f"pathlib.Path({str(watched)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "host.py").write_text(
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, {str(tmp_path / 'plugin.py')!r}], stdin=-3)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "host.py"]) as host:
        wait_until(watched.exists)
        assert not told.exists()
        host.kill()
    wait_until(told.exists)
