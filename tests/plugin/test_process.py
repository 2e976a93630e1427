"""How the processes of both hosts start and end, also with their engine or on another system."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path

import pytest

from pulumi_fal._version import __version__
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.native.__main__ import main

from ..fakes import ED25519, EIGHT, wait_until
from ..processes import TAKEN_AWAY
from .harness import MODULES, Host, engine, only

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}


def test_engine_death(host: Host, emulator: EmulatorServer) -> None:
    """A POST in flight is recorded before the process ends, and the next one has its machine."""
    emulator.faults.add("create", "hold")
    emulator.state.provisioning = inf
    create = host.start().create_later(INPUTS)
    wait_until(lambda: emulator.state.creations == 1)
    host.plugin.hang_up()
    with pytest.raises(subprocess.TimeoutExpired):
        host.plugin.process.wait(0.5)
    emulator.faults.release()
    assert host.plugin.process.wait(10) == 1
    assert create.exception() is not None
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    assert host.start().create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


def test_no_pipe(tmp_path: Path) -> None:
    """Without a pipe from its engine, a plugin ends with the process that started it."""
    told, watched = tmp_path / "told", tmp_path / "watched"
    plugin = (
        "import pathlib, time\n"
        "from pulumi_fal.hosts import engine\n"
        f"engine.on_death(pathlib.Path({str(told)!r}).touch)\n"
        "time.sleep(1)\n"
        f"pathlib.Path({str(watched)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {plugin!r}], stdin=subprocess.DEVNULL)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        wait_until(watched.exists)
        assert not told.exists()
        process.kill()
    wait_until(told.exists)


def test_other_system(host: Host, emulator: EmulatorServer, tmp_path: Path) -> None:
    """Without Linux's locks, synced folders and /proc, a create is on record and works."""
    client = host.start(TAKEN_AWAY)
    assert list(client.check(INPUTS).failures) == []
    made = client.create(INPUTS)
    (entry,) = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")})).readable()
    assert (entry.origin.urn, entry.instance_id) == (client.urn, made.id)
    client.delete(made.id, client.received(made.properties))
    assert emulator.state.alive() == set()


# The native plugin's own command.


@only("native")
def test_output(host: Host) -> None:
    """It prints its port and nothing else. The argument is the engine's address."""
    with engine() as (address, logged):
        host.start(engine=address).check({**INPUTS, "instance_type": "gpu_4x_b300"})
    assert "gpu_4x_b300" in logged[0].message
    plugin = host.plugin
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
def test_command_line(
    args: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person who runs the plugin gets text and no server."""
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == code
    assert said in "".join(capsys.readouterr())


@only("native")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows' processes get no signals")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_signal(host: Host, emulator: EmulatorServer, end: signal.Signals) -> None:
    """A signal ends a wait and the process, which takes the flags that the engine passes on."""
    emulator.state.provisioning = inf
    flags = ("--logtostderr", "-v=9", "--tracing", "http://127.0.0.1:1")
    client = host.start(launcher=("-m", MODULES["native"], *flags))
    create = client.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    began = time.monotonic()
    host.plugin.process.send_signal(end)
    assert host.plugin.process.wait(5) == 0
    assert time.monotonic() - began < 2
    assert create.exception() is not None
