"""What the dynamic host alone promises, and the string by which every state finds it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from math import inf
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import SERIALIZED_PROVIDER

from ..fakes import ED25519, EIGHT, wait_until
from .harness import PROVIDER, Client, Host, only

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
PROGRAM = """
import pulumi, sys, threading
before = set(sys.modules)
import pulumi_fal
heavy = {"requests", "urllib3", "fastapi", "uvicorn", "pydantic", "ssl"} & set(sys.modules) - before
assert not heavy, heavy
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


@only("dynamic")
def test_settings(host: Host) -> None:
    """The preview refuses settings that can't work, with the first resource and no other."""
    client = host.start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT=None)
    client.configure(endpoint="http://fal.test")
    (failure,) = client.check(INPUTS).failures
    assert failure.property == ""  # the engine would print its value
    assert failure.reason.startswith("The endpoint (http://fal.test) can't be used")
    assert list(client.check(INPUTS).failures) == []


def import_(client: Client, id_: str) -> Any:
    """The two reads of an import: that of the helper, and one without any property."""
    helper = client.urn.replace("dynamic/fal:ComputeInstance", "fal:ComputeInstanceImport")
    read, request = client.stub.Read, provider_pb2.ReadRequest
    read(request(id=id_, urn=helper, properties=client.sent(INPUTS)))
    return read(request(id=id_, urn=client.urn))


@only("dynamic")
def test_import(host: Host, emulator: EmulatorServer) -> None:
    """The answer has the program's inputs, in which the engine finds no difference."""
    client = host.start()
    made = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_2"))
    imported = import_(client, made.id)
    assert imported.id == made.id
    assert client.received(imported.inputs) == INPUTS
    outputs = client.received(imported.properties)
    assert (outputs["status"], outputs["sector"], outputs["ip"]) == ("ready", "sector_2", made.ip)
    # The engine compares the inputs itself, and so honours ignore_changes.
    told = client.diff(made.id, INPUTS, outputs, INPUTS)
    assert told.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN


@only("dynamic")
def test_aliases(host: Host, emulator: EmulatorServer) -> None:
    """The program tells a resource's aliases. They are no inputs, so state never has them."""
    client = host.start()
    earlier = f"{client.urn}-earlier"
    emulator.state.provisioning = inf
    create = client.create_later(INPUTS, urn=earlier)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    host.plugin.kill()
    assert create.exception()
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    client = host.start()
    checked = client.check({**INPUTS, "__aliases": [earlier]})
    assert client.received(checked.inputs) == INPUTS
    assert client.create(INPUTS).id == machine.id


def test_provider_string() -> None:
    """Another string than that of every stack would be a difference in all of them."""
    assert SERIALIZED_PROVIDER == PROVIDER


def test_used_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK can read what it would have written itself, and use leaves no trace in it."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 4)  # as up to Python 3.13
    provider = ComputeInstanceProvider()
    provider.check({}, {"instance_type": EIGHT, "ssh_key": "none"})
    assert serialize_provider(provider) == PROVIDER


def test_import_of_the_package() -> None:
    """A program that declares machines loads no HTTP client and starts no thread."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
