"""A machine's life under the real engine: created once, seen as it is, and left alone."""

from __future__ import annotations

import re
import socket
from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from .recovery import entries, says

UNBELIEVABLE = "403"
"""An answer that says nothing about a machine; tests/plugin has the others."""


def test_a_machine_is_created_once_and_previews_cost_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Only the first `up` calls the API; all other commands work without a key and a network.

    The outputs are complete when `up` ends, and its log has one line for each change of status.
    """
    online = dict(stack.env)
    stack.write(machine(instance_type=EIGHT))
    stack.env = offline(online)
    assert "2 to create" in stack.preview().output
    assert emulator.state.calls.total() == 0

    stack.env = online
    emulator.state.provisioning = 3.0
    lines = re.findall(r"machine creating \(\S+\) (.+)", stack.up().output)
    assert len(lines) == len(set(lines)) <= 5
    assert any(line.startswith("provisioning") for line in lines)
    assert lines[-1] == "ready"
    assert emulator.state.calls["list"] > len(lines)
    (made,) = emulator.state.list()
    assert made.sector is not None  # the API chose it
    assert stack.outputs()["machine"] == {
        "id": made.id,
        "ip": made.ip,
        "status": "ready",
        "sector": made.sector,
        "instance_type": EIGHT,
    }
    assert stack.state_ids() == {made.id}
    assert emulator.state.machines[made.id].requested.ssh_key == SSH_KEY

    calls = dict(emulator.state.calls)
    stack.env = offline(online)
    stack.up("--expect-no-changes")
    stack.write(machine(instance_type=EIGHT, ssh_key=OTHER_SSH_KEY))
    assert "1 to replace" in stack.preview().output
    assert emulator.state.calls == calls


@pytest.mark.chaos("unit/test_operations.py::test_read_gone")
def test_state_lets_go_of_a_machine_only_where_the_api_says_that_it_is_gone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Neither a refused key nor a list that lags drops a machine, and a new status is no change.

    A machine that is really gone leaves state, whether `refresh` or `destroy` finds out, and `up`
    creates one in its place.
    """
    stack.up()
    (id_,) = emulator.state.alive()
    before = remembered(stack)
    emulator.faults.add("list", UNBELIEVABLE, inf)
    emulator.faults.add("get", UNBELIEVABLE, inf)
    says(stack.refresh(fails=True), "ADMIN scope")
    assert remembered(stack) == before

    emulator.faults.clear()
    emulator.state.hide(id_, "list")
    emulator.state.set_status(id_, "hibernating")
    stack.refresh()
    (resource,) = stack.resources()
    assert (resource["id"], resource["outputs"]["status"]) == (id_, "hibernating")
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {id_}

    emulator.state.kill(id_)
    stack.refresh()
    assert stack.state_ids() == set()
    stack.up()
    (second,) = emulator.state.alive()
    assert stack.state_ids() == {second}
    emulator.state.kill(second)
    stack.destroy()
    assert stack.resources() == []
    assert emulator.state.creations == 2


def test_without_wait_a_machine_is_in_state_at_once_and_readiness_comes_later(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A refresh brings ip and status, and removing `wait=False` waits for the same machine.

    A new machine that reads don't show yet stays in state, with its record.
    """
    emulator.state.provisioning = 3600
    stack.write(machine("wired", wait=False), machine("awaited", wait=False))
    stack.up()
    ids = {name: outputs["id"] for name, outputs in stack.outputs().items()}
    assert stack.state_ids() == emulator.state.alive() == set(ids.values())
    assert {outputs["status"] for outputs in stack.outputs().values()} == {"pending"}

    emulator.state.hide(ids["wired"], "list")
    emulator.state.hide(ids["wired"], "get")
    says(
        stack.refresh("--expect-no-changes"),
        f"warning: The API has not shown machine {ids['wired']} since its create. It stays in "
        "state unchanged, and may be billed. Run `pulumi refresh` again in a minute.",
    )
    assert stack.state_ids() == set(ids.values())
    assert [entry.instance_id for entry in entries(stack)] == [ids["wired"]]

    emulator.state.hide(ids["wired"], "list", 0)
    emulator.state.hide(ids["wired"], "get", 0)
    stack.write(machine("wired", wait=False), machine("awaited"))
    calls = emulator.state.calls["list"]
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] > calls or run.process.poll() is not None)
    emulator.state.advance(3600)
    up = run.wait()
    says(up, "1 updated")
    outputs = stack.outputs()
    assert (outputs["awaited"]["status"], outputs["wired"]["status"]) == ("ready", "pending")

    stack.refresh()
    (wired,) = (resource for resource in stack.resources() if resource["id"] == ids["wired"])
    assert wired["outputs"]["status"] == "ready"
    assert wired["outputs"]["ip"] == emulator.state.get(ids["wired"]).ip
    assert entries(stack) == []
    assert stack.state_ids() == set(ids.values())
    assert emulator.state.creations == 2


def remembered(stack: Stack) -> dict[str, dict[str, object]]:
    """What state holds of each machine by id, but for what is encrypted anew each time."""
    return {
        resource["id"]: {**resource["outputs"], "__provider": None}
        for resource in stack.resources()
    }


def offline(env: dict[str, str]) -> dict[str, str]:
    """The environment without a key, and with an endpoint and a proxy where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        nowhere = f"http://127.0.0.1:{closed_at_once.getsockname()[1]}"
    without_key = {name: value for name, value in env.items() if name != "FAL_ADMIN_API_KEY"}
    return {**without_key, "FAL_COMPUTE_ENDPOINT": nowhere, "HTTPS_PROXY": nowhere}
