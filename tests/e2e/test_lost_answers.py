"""The answer to a POST is lost: the machines that it may have created are named.

Until the user decides, no other machine is created for the resource. tests/chaos has every fault.
"""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ONE
from .cli import pulumi_fal
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine
from .recovery import PATIENCE, as_documented, entries, journal, pending, printed, says, urn


@pytest.fixture(autouse=True)
def _patience(stack: Stack) -> None:
    stack.env |= PATIENCE


def test_a_lost_answer_stops_the_resource_until_a_machine_is_adopted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Every command warns, other resources are created, and `destroy` leaves the machine alone."""
    other = emulator.state.create(NewInstance(ONE, SSH_KEY))  # there before, so it is no candidate
    emulator.faults.add("create", "reset_after")
    emulator.faults.add("list", "ok")
    emulator.faults.add("list", "503", inf)
    as_documented(stack.up(fails=True), "The machines can't be listed")
    (made,) = emulator.state.alive() - {other.id}
    emulator.faults.clear()

    steady = machine("steady")
    stack.write(steady, machine(opts="depends_on=[steady]"))
    lost = stack.up(fails=True)
    as_documented(lost, "A machine has appeared")
    says(lost, f"{made} ({ONE}, ")
    assert printed(lost.output, "pulumi-fal pending") == [
        ["adopt", urn(stack), made],
        ["forget", urn(stack)],
    ]
    assert other.id not in lost.output
    assert emulator.state.calls["create"] == 2  # one for each resource
    for result in (stack.preview(), stack.refresh(), stack.destroy()):
        as_documented(result, "The warning on later commands")
    assert emulator.state.alive() == {made, other.id}

    pending(stack, "adopt", urn(stack), made)
    stack.up()
    assert stack.outputs()["machine"]["id"] == made
    assert stack.state_ids() == emulator.state.alive() - {other.id}
    assert emulator.state.calls["create"] == 3
    stack.up("--expect-no-changes")
    assert entries(stack) == []


@pytest.mark.chaos("unit/test_cli_pending.py::test_commands_of_errors")
def test_a_machine_of_somebody_else_is_forgotten_and_left_alone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Only the user can know that somebody else rented the same type while the POST failed."""
    create = emulator.state.create

    def somebody_elses(new: NewInstance, account: str | None, *_: Any) -> object:
        emulator.state.create = create  # type: ignore[method-assign]
        return create(NewInstance(new.instance_type, "ssh-ed25519 somebody"), account)

    emulator.state.create = somebody_elses  # type: ignore[method-assign, assignment]
    emulator.faults.add("create", "500_after")
    stack.up(fails=True)
    (theirs,) = emulator.state.alive()
    (entry,) = json.loads(pulumi_fal(stack, "pending", "ls", "--json"))
    assert entry["candidates"] == [theirs]
    assert theirs in pulumi_fal(stack, "pending", "forget", "machine", "--yes")
    stack.up()
    (ours,) = emulator.state.alive() - {theirs}
    assert stack.state_ids() == {ours}
    report = json.loads(pulumi_fal(stack, "audit", "--json", code=1))
    forgotten = [row["id"] for row in report["machines"] if row["whose"] == "forgotten"]
    assert forgotten == [theirs]


@pytest.mark.chaos("unit/test_launch.py::test_nothing_found")
def test_where_no_machine_appeared_the_next_up_creates_one(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A machine that appears long after the POST is named by every command, but stops nothing."""
    emulator.faults.add("create", "502")
    as_documented(stack.up(fails=True), "No machine has appeared")
    (entry,) = entries(stack)
    journal(stack).write(replace(entry, started=entry.started - 3600))
    other = emulator.state.create(NewInstance(ONE, OTHER_SSH_KEY))
    up = stack.up()
    as_documented(up, "A machine appeared late")
    says(up, other.id)
    assert stack.state_ids() == emulator.state.alive() - {other.id}
    preview = stack.preview()
    as_documented(preview, "A machine beside the present one")
    says(preview, other.id)
    pending(stack, "forget", "machine", "--late", "--yes")
    assert other.id not in stack.preview().output


@pytest.mark.chaos("unit/test_whose.py::test_whose")
def test_a_machine_that_another_stack_has_is_neither_offered_nor_adopted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Somebody else's `up` created it meanwhile; destroying one stack leaves the other's alone."""
    emulator.faults.add("create", "reset_before")
    stack.up(fails=True)
    prod = Stack(stack.folder, emulator.env, name="prod")
    prod.env |= {"PULUMI_HOME": str(stack.folder / "another-home"), **PATIENCE}
    prod.init()
    prod.up()
    (theirs,) = emulator.state.alive()
    (record,) = json.loads(pulumi_fal(stack, "pending", "ls", "--json"))
    assert record["candidates"] == []
    refused = pulumi_fal(stack, "pending", "adopt", "machine", theirs, code=1, stderr=True)
    assert "in the state of the stack organization/test/prod" in refused

    stack.up()
    assert stack.state_ids() == emulator.state.alive() - {theirs}
    stack.destroy()
    assert emulator.state.alive() == prod.state_ids() == {theirs}
