"""Pulumi Cloud: a stack belongs to an organization, which the engine tells no plugin.

The real `pulumi` runs against a small service of our own that speaks the API; see tests/cloud.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.stacks.origin import ORGANIZATION_VARIABLE

from ..cloud.service import CloudService
from ..fakes import KEY
from . import native
from .cli import pulumi_fal
from .cloud import CloudStack, NativeCloudStack, cloud_stack, log_in
from .harness import Result, machine
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

MACHINES = {CloudStack: machine, NativeCloudStack: native.machine}
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
    continues = pending(stack, *command)
    assert ORGANIZATION_VARIABLE not in continues
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
    assert entries(stack) == []


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


def test_of_two_organizations_with_one_name_the_native_plugin_is_told_which(
    new: NewStack, emulator: EmulatorServer
) -> None:
    """Where nothing is pending nobody has to; else the message names the way out, which works."""
    tester, acme = new(NativeCloudStack, "tester"), new(NativeCloudStack, "acme")
    first = kill_while_waiting(tester, emulator)
    tester.cancel()
    stopped = acme.up(fails=True)
    says(stopped, f"Set {ORGANIZATION_VARIABLE} to the organization of this stack")
    command = commands(stopped, "adopt")

    for stack in (tester, acme):
        stack.env[ORGANIZATION_VARIABLE] = stack.organization
    continues = pending(tester, *_expanded(tester, command))
    assert f"run it with {ORGANIZATION_VARIABLE}=tester in the environment" in continues
    up = acme.up()
    assert first not in up.output
    (second,) = acme.state_ids()
    tester.up()
    assert tester.state_ids() == {first}
    assert emulator.state.alive() == {first, second}
    assert emulator.state.creations == 2

    for stack in (tester, acme):
        del stack.env[ORGANIZATION_VARIABLE]
        stack.up("--expect-no-changes")
        assert no_create_is_pending(stack)


def _expanded(stack: CloudStack, command: list[str]) -> list[str]:
    """The command as a shell runs it, with the variables of the stack's environment."""
    return [stack.env.get(part.removeprefix("$"), part) for part in command]


def test_a_python_stack_recovers_after_a_plain_login_beside_its_namesake(
    new: NewStack, service: CloudService, emulator: EmulatorServer
) -> None:
    """The program tells the organization, and the command names the service that it uses."""
    tester, acme = new(CloudStack, "tester"), new(CloudStack, "acme")
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
    assert no_create_is_pending(tester)
    acme.destroy()
    assert tester.state_ids() == emulator.state.alive() == {first}


@pytest.mark.parametrize("kind", MACHINES)
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


@pytest.mark.chaos(
    "unit/test_launch.py::test_the_record_of_a_renamed_stack_stops_a_create_until_its_machine_is_gone"
)
@pytest.mark.parametrize("api", ["legacy", "v1"])
@pytest.mark.parametrize("kind", MACHINES)
def test_a_renamed_stack_recovers_by_the_printed_commands(
    kind: type[CloudStack], api: str, new: NewStack, emulator: EmulatorServer
) -> None:
    """Every way out that a message prints works the first time, also after a lost answer."""
    stack = new(kind, "acme")
    if api == "v1":
        stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}
    first = kill_while_waiting(stack, emulator)
    stack.cancel()
    stack.run("stack", "rename", "acme/test/prod")
    stack.name = "prod"
    stopped = stack.up(fails=True)
    pending(stack, *commands(stopped, "adopt"))
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {first}

    make = MACHINES[kind]
    stack.write(make(), make("second"))
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "plugin")
    stage.end()
    (second,) = emulator.state.alive() - {first}
    says(stack.preview(), "`pulumi-fal pending ls`")
    if api == "legacy":
        command = commands(stack.up(fails=True), "adopt")
        assert command[-1] == second
        pending(stack, *command)
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {first, second}
    assert emulator.state.creations == 2

    assert no_create_is_pending(stack)
    stack.destroy()
    assert emulator.state.alive() == set()
    assert entries(stack) == []
