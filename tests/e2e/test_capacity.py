"""Machines that wait for room under the real engine, with both hosts and both APIs."""

from __future__ import annotations

import json
import re
import time

import pytest
import requests

from pulumi_fal.emulator.server import EmulatorServer

from . import native
from .harness import SSH_KEY, Stack, wait_until
from .recovery import entries, is_locked, nothing_runs, says

FOUR = (
    "from pulumi_fal import ComputeCluster\n"
    f"ComputeCluster('train', size=4, ssh_key={SSH_KEY!r}, sector='sector_2', "
    "wait_for_capacity={!r})\n"
)


def test_a_cluster_waits_for_the_rest_of_its_machines(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Ctrl-C ends the wait at once, with nothing pending; the next `up` gets the rest.

    With the legacy API and the dynamic provider.
    """
    state = emulator.state
    state.sector_capacity, state.capacity_status = 2, 409
    stack.write(FOUR.format("1h"))
    waiting = stack.start("up")
    # In the last hour of a day, the end of the wait has its date.
    shown = (
        r"no room [^:]*, asking until [-\d ]*\d\d:\d\d: POST /compute/instance answered 409: "
        r"machines are out of stock in sector_2\."
    )
    wait_until(lambda: re.search(shown, waiting.output))
    wait_until(lambda: all(machine.is_ready for machine in state.list()))
    interrupted = time.monotonic()
    waiting.interrupt()
    result = waiting.wait()
    assert time.monotonic() - interrupted < 10
    assert result.exit_code != 0
    says(result, "was interrupted. No machine was created, and nothing is pending. Run the command")
    assert stack.state_ids() == state.alive()
    assert {entry.instance_id for entry in entries(stack)} <= state.alive()
    assert stack.state().get("pending_operations", []) == []
    assert not is_locked(stack)
    nothing_runs(stack)

    refused = state.calls["create"]
    stack.write(FOUR.format("2h"))
    waiting = stack.start("up")
    wait_until(lambda: state.calls["create"] > refused + 2)
    state.sector_capacity = None
    assert waiting.wait().exit_code == 0
    says(waiting.wait(), "+ 2 created", "~ 2 updated")
    assert len(stack.state_ids()) == 4
    assert stack.state_ids() == state.alive()
    assert state.creations == 4


@pytest.mark.chaos("plugin/test_hosts.py::test_capacity")
def test_machines_of_the_native_plugin_wait_as_one(stack: Stack, emulator: EmulatorServer) -> None:
    """When the time is up the error has the API's words, and the next `up` begins anew.

    With the v1 API. The room is freed as a person does it, by a control of the emulator.
    """
    plugin, env = native.NativeStack(stack.folder, {}), stack.env
    plugin.env = {**env, "FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}
    control(emulator, {"machines": 0, "status": 422})
    plugin.write(native.machine(waitForCapacity="1s"))
    says(
        plugin.up(fails=True),
        "NoRoomError: Machine machine (gpu_1x_h100_sxm5) was not created, because the API had no "
        "room for it in 1s. It has waited since",
        "The API's last answer: POST /compute/instances answered 422: machines are not available "
        "for gpu_1x_h100_sxm5 at the moment",
    )
    assert plugin.state_ids() == set()
    assert entries(plugin) == []

    names = [f"m{number}" for number in range(16)]
    plugin.write(*(native.machine(name, waitForCapacity="1h") for name in names))
    before, began = emulator.state.calls["create"], time.monotonic()
    waiting = plugin.start("up", "--parallel", "16")
    wait_until(lambda: emulator.state.calls["create"] >= before + 3)
    rows = [line for line in waiting.output.splitlines() if "no room yet" in line]
    assert len(rows) == 16
    # With a poll interval of 0.1 s, one asker sends at most one POST in 0.75 s.
    assert emulator.state.calls["create"] - before <= (time.monotonic() - began) / 0.75 + 1
    control(emulator, {})
    assert waiting.wait().exit_code == 0
    assert len(plugin.state_ids()) == 16
    assert plugin.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 16


def control(emulator: EmulatorServer, body: object) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(
        f"{emulator.url}/_emulator/capacity", json.dumps(body), headers=headers, timeout=10
    )
    assert answer.ok, answer.text
