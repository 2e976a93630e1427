"""Waiting for a machine, or not, and what is seen of it meanwhile."""

from __future__ import annotations

import re

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import entries, says


def test_without_wait_create_returns_as_soon_as_the_api_has_the_machine(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """ip and status arrive with refresh, for programs that wire readiness themselves."""
    emulator.state.provisioning = 600
    stack.write(machine(wait=False))
    stack.up()
    (made,) = emulator.state.list()
    assert stack.state_ids() == {made.id}
    assert stack.outputs()["machine"]["status"] == "pending"
    stack.up("--expect-no-changes")
    emulator.state.advance(600)
    stack.refresh()
    (resource,) = stack.resources()
    assert resource["outputs"]["status"] == "ready"
    assert resource["outputs"]["ip"] == emulator.state.get(made.id).ip


def test_without_wait_a_machine_that_reads_do_not_show_yet_is_kept_with_its_record(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The API's reads may lag behind its creates; the record goes when the machine shows."""
    stack.write(machine(wait=False))
    stack.up()
    (id_,) = stack.state_ids()
    emulator.state.hide(id_, "list")
    emulator.state.hide(id_, "get")
    says(
        stack.refresh("--expect-no-changes"),
        f"warning: Machine {id_} was created a moment ago, and the API does not show it yet. It "
        "stays in state unchanged. Run `pulumi refresh` again in a minute.",
    )
    assert stack.state_ids() == {id_}
    assert [each.instance_id for each in entries(stack)] == [id_]
    emulator.state.hide(id_, "list", 0)
    emulator.state.hide(id_, "get", 0)
    stack.refresh()
    assert stack.state_ids() == {id_}
    assert entries(stack) == []


def test_wait_can_be_asked_for_later_and_replaces_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The same machine is waited for, in an update."""
    stack.write(machine(wait=False))
    stack.up()
    before = stack.state_ids()
    stack.write(machine())
    assert "1 updated" in stack.up().output
    assert stack.outputs()["machine"]["status"] == "ready"
    assert stack.state_ids() == before
    assert emulator.state.creations == 1
    stack.preview("--expect-no-changes")


def test_a_log_shows_one_line_a_change_of_status(stack: Stack, emulator: EmulatorServer) -> None:
    """A CI log stays readable, however long the wait and however many the polls."""
    emulator.state.provisioning = 3.0
    output = stack.up().output
    lines = re.findall(r"machine creating \(\S+\) (.+)", output)
    seen = [line for line in lines if not line.startswith("error")]
    assert len(seen) == len(set(seen)) <= 5
    assert any(line.startswith("provisioning") for line in seen)
    assert seen[-1] == "ready"
    assert emulator.state.calls["list"] > 2 * len(seen)
