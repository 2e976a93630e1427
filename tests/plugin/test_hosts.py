"""What both hosts promise, each in its real process, as the engine calls it; and each alone."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from pulumi_fal._version import __version__
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.native.__main__ import main
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import SERIALIZED_PROVIDER

from ..fakes import ED25519, EIGHT, wait_until
from ..processes import TAKEN_AWAY
from .harness import (
    MODULES,
    PROVIDER,
    Client,
    Host,
    engine,
    failure,
    init_failed,
    only,
    secret,
)

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
IN_STATE = """
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.state import Stack, StackMachine
own = Stack("organization/proj/dev", machines=(StackMachine({id!r}, {urn!r}),))
Stacks.own = lambda self, *args: own
"""
"""A stack that has a machine in state."""


def test_preview_offline(host: Host) -> None:
    """Check and diff need no key and no network, and send unknown values back as they came."""
    client = host.start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT="https://127.0.0.1:1")
    assert list(client.check(INPUTS).failures) == []
    unknown = dict.fromkeys((*INPUTS, "sector"), rpc.UNKNOWN)
    assert client.received(client.check(unknown).inputs) == unknown
    told = client.diff("i-1", INPUTS, INPUTS, {**INPUTS, "instance_type": rpc.UNKNOWN})
    assert list(told.replaces) == [client.name("instance_type")]


def test_in_state(host: Host, emulator: EmulatorServer) -> None:
    """A create replaces a machine in state only if the engine has checked its inputs before.

    The engine does for `--replace`, which brings no diff, and has no old inputs of a new resource.
    """
    client = host.start()
    made = client.create(INPUTS).id
    second = host.start(IN_STATE.format(id=made, urn=client.urn))
    second.check(INPUTS)
    said = failure(lambda: second.create(INPUTS)).details()
    assert f"`pulumi up` of this stack has just made {made}" in said
    second.check(INPUTS, INPUTS)
    assert {made, second.create(INPUTS).id} == emulator.state.alive()


def named(client: Client, numbers: range, **inputs: str) -> list[Any]:
    given = {**INPUTS, **inputs}
    return [client.create_later(given, urn=f"{client.urn}-{number}") for number in numbers]


def test_many_at_once(host: Host, emulator: EmulatorServer) -> None:
    """No machine waits for the end of another's create. The SDK's pool has four threads."""
    client = host.start()
    emulator.state.provisioning = inf
    creates = named(client, range(12))
    wait_until(lambda: emulator.state.creations == 12)
    creates += named(client, range(12, 24))
    wait_until(lambda: emulator.state.creations == 24)
    machine = list(emulator.state.machines.values())[-1]
    machine.provisioning = 0
    wait_until(lambda: any(create.done() for create in creates))
    (done,) = [create for create in creates if create.done()]
    assert done.result().id == machine.id


def test_cancel(host: Host, emulator: EmulatorServer) -> None:
    """Ctrl-C ends all waits at once. A machine stays in state; without one, nothing is left."""
    client = host.start()
    emulator.state.capacity, emulator.state.provisioning = 1, inf
    (waiting,) = named(client, range(1))
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    (queued,) = named(client, range(1, 2), wait_for_capacity="1h")
    wait_until(lambda: emulator.state.calls["create"] >= 3)
    client.cancel()
    assert {client.kept(waiting.result).id} == emulator.state.alive()
    refused = failure(queued.result)
    assert "interrupted. No machine was created, and nothing is pending" in refused.details()
    assert init_failed(refused) is None
    assert not any(f"{client.urn}-1" in record.read_text() for record in host.records())
    assert host.plugin.process.poll() is None


@pytest.mark.parametrize("version, is_known", [("v3.276.0", True), ("v3.275.1", False)])
def test_no_capacity_in_time(
    host: Host, emulator: EmulatorServer, tmp_path: Path, version: str, is_known: bool
) -> None:
    """An engine that knows how is asked to go on with the others, and to come back later.

    The oldest SDK has no word for that.
    """
    is_known = is_known and hasattr(provider_pb2, "ErrorResourceAwaitFailed")
    script = tmp_path / "pulumi"
    script.write_text(f"#!/bin/sh\necho {version}\n")
    script.chmod(0o755)
    emulator.state.capacity, emulator.state.capacity_status = 0, 409
    with engine() as (address, logged):
        client = host.start(PATH=f"{tmp_path}:{os.environ['PATH']}", engine=address)
        error = failure(partial(client.create, {**INPUTS, "wait_for_capacity": "1s"}))
        told = [line.message for line in logged if not line.ephemeral]
    assert "had no capacity for it in 1s" in error.details()
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    assert (details is not None) is is_known
    assert ["had no capacity for it in 1s" in message for message in told] == [True] * is_known
    if details is not None:
        (detail,) = status_pb2.Status.FromString(details).details
        assert detail.Is(provider_pb2.ErrorResourceAwaitFailed.DESCRIPTOR)


# How a process starts and ends, also with its engine or on another system.


def test_engine_death(host: Host, emulator: EmulatorServer) -> None:
    """A POST in flight is recorded before the process ends, and the next one has its machine.

    A dynamic program tells a resource's aliases. They are no inputs, so state never has them.
    """
    emulator.faults.add("create", "hold")
    emulator.state.provisioning = inf
    client = host.start()
    alias = f"{client.urn}-earlier" if host.name == "dynamic" else ""
    create = client.create_later(INPUTS, urn=alias)
    wait_until(lambda: emulator.state.creations == 1)
    host.plugin.hang_up()
    with pytest.raises(subprocess.TimeoutExpired):
        host.plugin.process.wait(0.5)
    emulator.faults.release()
    assert host.plugin.process.wait(10) == 1
    assert create.exception() is not None
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    client = host.start()
    checked = client.check({**INPUTS, "__aliases": [alias]} if alias else INPUTS)
    assert client.received(checked.inputs) == INPUTS
    assert client.create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


def test_program_has_it(host: Host, emulator: EmulatorServer) -> None:
    """A machine that was gone and is there again stays, where the program has its resource.

    A dynamic one is deleted under its earlier name. A process that checks nothing is a destroy.
    """
    client = host.start()
    made = client.create(INPUTS)
    gone = {**client.received(made.properties), "unfinished": "gone"}
    alias = f"{client.urn}-earlier" if host.name == "dynamic" else ""
    client.check({**INPUTS, "__aliases": [alias]} if alias else INPUTS)
    client.delete(made.id, gone, urn=alias)
    assert emulator.state.alive() == {made.id}
    client = host.start()
    client.delete(made.id, gone)
    assert emulator.state.alive() == set()


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


@only("dynamic")
def test_other_system(host: Host, emulator: EmulatorServer, tmp_path: Path) -> None:
    """Without Linux's locks and synced folders, a create is on record and works."""
    client = host.start(TAKEN_AWAY)
    assert list(client.check(INPUTS).failures) == []
    made = client.create(INPUTS)
    (entry,) = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")})).readable()
    assert (entry.origin.urn, entry.instance_id) == (client.urn, made.id)
    client = host.start(TAKEN_AWAY)
    client.check(INPUTS)  # with a look whether that create is still in progress
    client.delete(made.id, client.received(made.properties))
    assert emulator.state.alive() == set()


@only("dynamic")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows' processes get no signals")
def test_quick_end(host: Host, tmp_path: Path) -> None:
    """The plugin ends without a search for cycles in memory that the system frees anyway."""
    told = tmp_path / "told"
    tell = f"pathlib.Path({str(told)!r}).write_text(str(gc.get_freeze_count()))"
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in the background
    client = host.start(
        f"import atexit, gc, pathlib, signal\n{heed}\natexit.register(lambda: {tell})"
    )
    client.check(INPUTS)
    host.plugin.process.send_signal(signal.SIGINT)
    host.plugin.process.wait(30)
    assert int(told.read_text()) > 1000


# The native plugin's own command.


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
    """A signal ends a wait and the process, which takes the flags that the engine passes on.

    It prints its port and nothing else. The last argument is the engine's address.
    """
    emulator.state.provisioning = inf
    flags = ("--logtostderr", "-v=9", "--tracing", "http://127.0.0.1:1")
    with engine() as (address, logged):
        client = host.start(launcher=("-m", MODULES["native"], *flags), engine=address)
        client.check({**INPUTS, "instance_type": "gpu_4x_b300"})
        assert "gpu_4x_b300" in logged[0].message
        create = client.create_later(INPUTS)
        wait_until(lambda: emulator.state.calls["list"] >= 2)
        process = host.plugin.process
        process.send_signal(end)
        assert process.wait(5) == 0
    assert create.exception() is not None
    assert process.stdout is not None
    # gRPC itself may log that the engine has gone, before the signal arrives.
    said = [line for line in host.plugin.stderr.splitlines() if not re.match(r"I\d{4} ", line)]
    assert (process.stdout.read(), said) == (b"", [])


# What the dynamic host alone promises, and the string by which every state finds it.

PROGRAM = """
import pulumi, sys, threading
before = set(sys.modules)
import pulumi_fal
heavy = {"requests", "urllib3", "fastapi", "uvicorn", "pydantic", "ssl"} & set(sys.modules) - before
assert not heavy, heavy
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


@only("dynamic")
def test_failures(host: Host) -> None:
    """The preview refuses settings that can't work, with the first resource and no other.

    The engine would print the value of a property that is named, which may be a private key.
    """
    client = host.start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT=None)
    client.configure(endpoint="http://fal.test")
    (failure,) = client.check(INPUTS).failures
    assert failure.property == ""
    assert failure.reason.startswith("The endpoint (http://fal.test) can't be used")
    assert list(client.check(INPUTS).failures) == []
    (failure,) = client.check({**INPUTS, "ssh_key": "hunter2"}).failures
    assert failure.property == ""
    assert failure.reason.startswith("ssh_key does not start with a known key type")


@only("dynamic")
@pytest.mark.parametrize("is_secret", [False, True])
def test_import(host: Host, emulator: EmulatorServer, is_secret: bool) -> None:
    """The answer has the program's inputs, which the helper was read with: no difference."""
    client = host.start()
    made = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_2"))
    helper = client.urn.replace("dynamic/fal:ComputeInstance", "fal:ComputeInstanceImport")
    read, request = client.stub.Read, partial(provider_pb2.ReadRequest, id=made.id)
    given = {**INPUTS, "__is_known": True, "__is_secret": is_secret}
    read(request(urn=helper, properties=client.sent(given)))
    imported = read(request(urn=client.urn))
    assert imported.id == made.id
    shown = {**INPUTS, "ssh_key": secret(ED25519)} if is_secret else INPUTS
    assert client.received(imported.inputs) == shown
    outputs = client.received(imported.properties)
    assert outputs["ssh_key"] == shown["ssh_key"]
    assert (outputs["status"], outputs["sector"], outputs["ip"]) == ("ready", "sector_2", made.ip)
    # The engine compares the inputs itself, and so honours ignore_changes.
    told = client.diff(made.id, INPUTS, outputs, INPUTS)
    assert told.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN


def test_provider_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another string than that of every stack would be a difference in all of them.

    It is what the SDK would have written itself, also after use.
    """
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 4)  # as up to Python 3.13
    provider = ComputeInstanceProvider()
    provider.check({}, {"instance_type": EIGHT, "ssh_key": "none"})
    assert vars(provider) == {}
    assert serialize_provider(provider) == SERIALIZED_PROVIDER == PROVIDER


def test_import_of_the_package() -> None:
    """A program that declares machines loads no HTTP client and starts no thread."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
