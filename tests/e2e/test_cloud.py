"""Stacks in Pulumi Cloud, where a stack belongs to an organization. No plugin is told which.

The real `pulumi` runs against a small service of our own that speaks the API (tests/cloud). The
user `tester` logs in there, and is a member of the organization `acme` as well.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..cloud.service import TOKEN, CloudService
from ..fakes import KEY
from .harness import PULUMI, machine
from .native import NativeStack
from .recovery import PATIENCE, kill_while_waiting

ORGANIZATIONS = ("tester", "acme")


class CloudStack(NativeStack):
    """A stack `dev` of the project `test`, whose state the service has."""

    organization: str
    service: CloudService

    @property
    def full_name(self) -> str:
        """The name by which commands find the stack."""
        return f"{self.organization}/test/{self.name}"

    def state(self) -> dict[str, Any]:
        """The deployment as the service holds it."""
        name = (self.organization, "test", self.name)
        return {"resources": self.service.stacks.resources(name)}


@pytest.fixture
def service() -> Iterator[CloudService]:
    """A Pulumi Cloud without stacks."""
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
