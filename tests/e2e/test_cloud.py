"""Stacks in Pulumi Cloud, where a stack belongs to an organization, and in S3.

The real `pulumi` runs against a small service of our own that speaks the API (tests/cloud), and
against moto's S3. The engine tells no plugin the organization.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from moto.server import ThreadedMotoServer

from pulumi_fal.emulator.server import EmulatorServer

from ..cloud.service import CloudService
from ..fakes import KEY
from .cli import pulumi_fal
from .cloud import CloudStack, NativeCloudStack, cloud_stack, log_in
from .harness import SECONDS, TYPE, Stack, machine
from .recovery import PATIENCE, adopt, kill_while_waiting

NewStack = Callable[[type[CloudStack], str], CloudStack]


@pytest.fixture
def service() -> Iterator[CloudService]:
    """A Pulumi Cloud without stacks."""
    with CloudService("tester", "acme") as service:
        yield service


@pytest.fixture
def new(service: CloudService, emulator: EmulatorServer, tmp_path: Path) -> Iterator[NewStack]:
    """Make a stack of an organization, whose program declares one machine."""
    stacks: list[CloudStack] = []

    def new(kind: type[CloudStack], organization: str) -> CloudStack:
        folder = tmp_path / f"{organization}-{len(stacks)}"
        stack = cloud_stack(kind, folder, emulator.env, service, organization)
        stack.env |= PATIENCE
        stack.write(machine())
        stacks.append(stack)
        return stack

    yield new
    for stack in stacks:
        stack.kill_all()
        assert stack.files_with(KEY) == []


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
def test_two_organizations(new: NewStack, service: CloudService, emulator: EmulatorServer) -> None:
    """The id of the provider tells stacks of one name apart, also after a plain login."""
    tester, acme = (new(NativeCloudStack, name) for name in ("tester", "acme"))
    log_in(tester, service.url)
    for stack in (tester, acme):
        stack.env.pop("PULUMI_BACKEND_URL", None)
    first = kill_while_waiting(tester, emulator)
    tester.cancel()
    up = acme.up()
    assert first not in up.output
    (second,) = acme.state_ids()
    tester.up()
    assert tester.state_ids() == {first}
    assert emulator.state.alive() == {first, second}
    acme.destroy()
    assert tester.state_ids() == emulator.state.alive() == {first}


BUCKET = "state"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
"""What a request needs to be let in. The server doesn't check the signature."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = "disableSSL=true&s3ForcePathStyle=true&region=us-east-1"
    requests.put(f"http://{host}:{port}/{BUCKET}", timeout=SECONDS).raise_for_status()
    yield f"s3://{BUCKET}?endpoint=http://{host}:{port}&{options}"
    server.stop()


@pytest.mark.chaos("e2e/test_recovery.py::test_kill_in_wait")
def test_s3(s3: str, stack: Stack, emulator: EmulatorServer) -> None:
    """A stack in S3 recovers from a kill, a rename and a lost answer.

    A stack of the same name in a file backend is neither warned nor stopped.
    """
    stack.env |= PATIENCE
    namesake_env = {**stack.env, **KEYS}  # without them, the other stack can't be read
    stack.env |= {"PULUMI_BACKEND_URL": s3, **KEYS}
    stack.run("stack", "init")
    first = kill_while_waiting(stack, emulator)
    in_s3, stack.env = stack.env, namesake_env
    assert first not in stack.up().output
    (namesakes,) = stack.state_ids()
    stack.env = in_s3

    stack.cancel()
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    stack.up()
    assert ids_in(s3, stack) == {first}
    stack.write(machine(), machine("second"))
    emulator.faults.add("create", "reset_after")
    second = adopt(stack, stack.up(fails=True))
    stack.up()
    assert ids_in(s3, stack) == {first, second}
    report = json.loads(pulumi_fal(stack, "audit", "--json"))
    whose = {row["id"]: row["whose"] for row in report["machines"]}
    assert whose == dict.fromkeys((first, second, namesakes), "stack")


def ids_in(s3: str, stack: Stack) -> set[str]:
    """The ids of the machines in the state that the bucket holds."""
    path = f".pulumi/stacks/test/{stack.name}.json"
    (endpoint,) = parse_qs(urlsplit(s3).query)["endpoint"]
    answer = requests.get(f"{endpoint}/{BUCKET}/{path}", headers=SIGNED, timeout=SECONDS)
    resources = answer.json()["checkpoint"]["latest"]["resources"]
    return {row["id"] for row in resources if row["type"] == TYPE}
