"""Pulumi Cloud: a stack belongs to an organization, which the engine tells no plugin.

The real `pulumi` runs against a small service of our own that speaks the API; see tests/cloud.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..cloud.service import TOKEN, CloudService
from ..fakes import KEY
from . import native
from .cli import pulumi_fal
from .cloud import CloudStack, NativeCloudStack, cloud_stack, log_in
from .harness import Result, Stack, machine
from .native import NativeStack
from .recovery import (
    PATIENCE,
    Stage,
    entries,
    kill,
    kill_while_waiting,
    pending,
    printed,
    says,
)

MACHINES = {
    CloudStack: machine,
    NativeCloudStack: native.machine,
    Stack: machine,
    NativeStack: native.machine,
}
CLOUD = (CloudStack, NativeCloudStack)
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
        stack.write(MACHINES[kind]())
        stacks.append(stack)
        return stack

    yield new
    for stack in stacks:
        stack.kill_all()
        assert stack.files_with(KEY) == []


def commands(result: Result, name: str) -> list[str]:
    """The arguments of a `pulumi-fal pending` command that the output tells the user to run."""
    (arguments,) = printed(result.output, f"pulumi-fal pending {name}")
    return [name, *arguments]


def no_create_is_pending(stack: CloudStack) -> bool:
    return "No create is pending." in pending(stack, "ls")


@pytest.mark.chaos(
    "e2e/test_lost_answers.py::test_a_lost_answer_stops_the_resource_until_a_machine_is_adopted"
)
def test_a_native_stack_recovers_from_a_kill_and_a_lost_answer_by_the_printed_commands(
    new: NewStack, emulator: EmulatorServer
) -> None:
    """The stack's organization is the only one that has a stack of this name.

    A rotated key is recognized by the stack's other machine, also by `refresh` and `destroy`.
    """
    stack, state = new(NativeCloudStack, "acme"), emulator.state
    first = kill_while_waiting(stack, emulator)
    says(stack.cancel(), "has been canceled")
    stack.up()
    assert stack.state_ids() == state.alive() == {first}
    assert no_create_is_pending(stack)

    stack.write(native.machine(), native.machine("second"))
    emulator.faults.add("create", "reset_after")
    lost = stack.up(fails=True)
    (second,) = state.alive() - {first}
    command = commands(lost, "adopt")
    assert command[-1] == second
    pending(stack, *command)
    stack.up()
    assert stack.state_ids() == state.alive() == {first, second}
    assert state.creations == 2
    report = json.loads(pulumi_fal(stack, "audit", "--json"))
    assert [row["stack"] for row in report["machines"]] == ["acme/test/dev"] * 2

    state.same_account(KEY, "rotated")
    stack.env["FAL_ADMIN_API_KEY"] = "rotated"
    state.kill(second)
    stack.refresh()
    assert stack.state_ids() == {first}
    stack.destroy()
    assert state.alive() == set()
    assert [entry.instance_id for entry in entries(stack)] == [second]  # it may come back


def test_v1_sends_a_native_create_again_whose_plugin_was_killed(
    new: NewStack, emulator: EmulatorServer
) -> None:
    """The record has the organization, so the create is known to be this stack's."""
    stack = new(NativeCloudStack, "acme")
    stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "plugin")
    stage.end()
    (made,) = emulator.state.alive()
    stack.up()
    assert stack.state_ids() == {made}
    assert emulator.state.creations == 1


@pytest.mark.chaos("unit/test_whose.py::test_same_stack")
@pytest.mark.parametrize("kind", CLOUD)
def test_stacks_of_one_name_in_two_organizations_leave_each_other_alone(
    new: NewStack, service: CloudService, emulator: EmulatorServer, kind: type[CloudStack]
) -> None:
    """The id of the provider tells them apart, also after a plain login."""
    tester, acme = new(kind, "tester"), new(kind, "acme")
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
    for stack in (tester, acme):
        stack.up("--expect-no-changes")
        assert no_create_is_pending(stack)
    acme.destroy()
    assert tester.state_ids() == emulator.state.alive() == {first}


@pytest.mark.parametrize(
    "kind",
    [Stack, pytest.param(NativeStack, marks=pytest.mark.chaos)],
    ids=["dynamic", "native"],
)
def test_a_stack_that_moves_to_pulumi_cloud_keeps_its_create(
    service: CloudService,
    emulator: EmulatorServer,
    new_stack: Path,
    tmp_path: Path,
    kind: type[Stack],
) -> None:
    """Its create was killed in a folder, and `up` continues with the machine in the cloud."""
    folder = tmp_path / "stack"
    shutil.copytree(new_stack, folder)
    stack = kind(folder, emulator.env)
    stack.env |= PATIENCE
    stack.write(MACHINES[kind]())
    made = kill_while_waiting(stack, emulator)
    source = stack.env["PULUMI_BACKEND_URL"]
    stack.env |= {"PULUMI_BACKEND_URL": service.url, "PULUMI_ACCESS_TOKEN": TOKEN}
    stack.run("stack", "migrate", source, "dev", "--yes")
    says(stack.preview(), f"Machine {made}", "`pulumi up` continues with it")
    stack.up()
    assert emulator.state.alive() == {made}
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()
    stack.kill_all()


@pytest.mark.parametrize("kind", CLOUD)
def test_the_key_may_come_from_an_environment_of_pulumi_esc(
    new: NewStack, service: CloudService, emulator: EmulatorServer, kind: type[CloudStack]
) -> None:
    """The command sets the environment's variables for the plugin, also for `destroy`."""
    stack = new(kind, "acme")
    service.environments["train/fal"] = {name: stack.env.pop(name) for name in emulator.env}
    (stack.project / "Pulumi.dev.yaml").write_text("environment:\n  - train/fal\n")
    stack.up()
    assert stack.state_ids() == emulator.state.alive() != set()
    stack.refresh()
    stack.destroy()
    assert emulator.state.alive() == set()
