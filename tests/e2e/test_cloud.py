"""Stacks in Pulumi Cloud, where a stack belongs to an organization, and in S3.

The real `pulumi` runs against a small service of our own that speaks the API (tests/cloud), and
against moto's S3. The user `tester` logs in there, and is a member of the organization `acme` as
well. No plugin is told the organization.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from moto.server import ThreadedMotoServer

from pulumi_fal.emulator.server import EmulatorServer

from ..cloud.service import TOKEN, CloudService
from ..fakes import KEY
from .harness import PULUMI, SECONDS, TYPE, Stack, machine, pulumi_fal
from .native import NativeStack
from .recovery import PATIENCE, adopt, kill_while_waiting

ORGANIZATIONS = ("tester", "acme")


class CloudStack(NativeStack):
    """A stack `dev` of the project `test`, whose state the service has."""

    organization: str
    service: CloudService

    @property
    def full_name(self) -> str:
        return f"{self.organization}/test/{self.name}"

    def state(self) -> dict[str, Any]:
        name = (self.organization, "test", self.name)
        return {"resources": self.service.stacks.resources(name)}


@pytest.fixture
def service() -> Iterator[CloudService]:
    with CloudService(*ORGANIZATIONS) as service:
        yield service


@pytest.fixture
def stacks(
    service: CloudService, emulator: EmulatorServer, tmp_path: Path
) -> Iterator[list[CloudStack]]:
    """Empty stacks of one name and one PULUMI_HOME, whose programs declare one machine.

    The user has logged in as most people do, with `pulumi login` and no variable.
    """
    stacks: list[CloudStack] = []
    for organization in ORGANIZATIONS:
        folder = tmp_path / organization
        folder.mkdir()
        (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
        stack = CloudStack(folder, emulator.env)
        stack.service, stack.organization = service, organization
        stack.home = tmp_path / "home"
        stack.env |= {**PATIENCE, "PULUMI_HOME": str(stack.home)}
        del stack.env["PULUMI_BACKEND_URL"]
        service.stacks.create((organization, "test", "dev"), {})
        stack.write(machine())
        stacks.append(stack)
    env = {**stacks[0].env, "PULUMI_ACCESS_TOKEN": TOKEN}
    subprocess.run([PULUMI, "login", service.url], env=env, check=True, capture_output=True)
    assert shutil.which("pulumi", path=env["PATH"]) is None, "the plugin has to find it"
    yield stacks
    for stack in stacks:
        stack.kill_all()
        assert stack.files_with(KEY) == []


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
def test_two_organizations(
    stacks: list[CloudStack], service: CloudService, emulator: EmulatorServer
) -> None:
    """The id of the provider tells stacks of one name apart.

    An environment of Pulumi ESC gives one of them the key, also for `destroy`.
    """
    tester, acme = stacks
    service.environments["train/fal"] = {name: acme.env.pop(name) for name in emulator.env}
    (acme.project / "Pulumi.dev.yaml").write_text("environment:\n  - train/fal\n")
    first = kill_while_waiting(tester, emulator)
    tester.cancel()
    assert first not in acme.up().output
    (second,) = acme.state_ids()
    tester.up()
    assert tester.state_ids() == {first}
    assert emulator.state.alive() == {first, second}
    acme.destroy()
    assert tester.state_ids() == emulator.state.alive() == {first}


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
def test_move_to_cloud(service: CloudService, stack: Stack, emulator: EmulatorServer) -> None:
    """A create was killed in a folder, and `up` continues with its machine in the cloud."""
    stack.env |= PATIENCE
    made = kill_while_waiting(stack, emulator)
    source = stack.env["PULUMI_BACKEND_URL"]
    stack.env |= {"PULUMI_BACKEND_URL": service.url, "PULUMI_ACCESS_TOKEN": TOKEN}
    stack.run("stack", "migrate", source, "dev", "--yes")
    stack.up()
    assert emulator.state.alive() == {made}
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()


BUCKET = "state"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
"""What a request needs to be let in. The server doesn't check the signature."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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
    path = f".pulumi/stacks/test/{stack.name}.json"
    (endpoint,) = parse_qs(urlsplit(s3).query)["endpoint"]
    answer = requests.get(f"{endpoint}/{BUCKET}/{path}", headers=SIGNED, timeout=SECONDS)
    resources = answer.json()["checkpoint"]["latest"]["resources"]
    return {row["id"] for row in resources if row["type"] == TYPE}
