"""The engine's calls on the real plugin process: what only the wire and the process show."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, wait_until
from .harness import URN, Plugin, account, plain

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
UNKNOWN = rpc.UNKNOWN


def failure(call: Callable[[], object]) -> str:
    """What a call that fails says."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return str(caught.value.details())


def has_made(emulator: EmulatorServer, machines: int) -> bool:
    return emulator.state.creations == machines


def test_check_and_diff_need_no_key_and_no_network(start: Callable[..., Plugin]) -> None:
    """A preview works offline and without a key."""
    plugin = start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT="https://127.0.0.1:1")
    assert list(plugin.check(INPUTS).failures) == []
    assert list(plugin.diff("i-1", INPUTS, INPUTS).replaces) == []


def test_settings_that_cannot_work_are_found_in_the_preview_and_told_once(
    start: Callable[..., Plugin],
) -> None:
    """Every resource has the same problem, and one that fails is enough to stop the command."""
    plugin = start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT=None)
    plugin.configure(fal_endpoint="http://fal.test")
    (failure,) = plugin.check(INPUTS).failures
    assert failure.property == ""  # the engine would print its value
    assert failure.reason.startswith("The endpoint (http://fal.test) can't be used")
    assert list(plugin.check(INPUTS).failures) == []


def test_unknown_values_arrive_as_such_and_are_sent_back(plugin: Plugin) -> None:
    """In a preview, the outputs of other resources are not known, and may be a change."""
    unknown = dict.fromkeys(("instance_type", "ssh_key", "sector"), UNKNOWN)
    checked = plugin.check(unknown)
    assert list(checked.failures) == []
    assert plain(checked.inputs) == unknown
    told = plugin.diff("i-1", INPUTS, {**INPUTS, "instance_type": UNKNOWN})
    assert list(told.replaces) == ["instance_type"]


def test_diff_lets_the_engine_compare_the_inputs(plugin: Plugin) -> None:
    """The engine then honours ignore_changes."""
    told = plugin.diff("i-1", {**INPUTS, "status": "ready"}, INPUTS)
    assert told.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN


def test_create_sends_the_outputs_of_a_ready_machine(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """State keeps these values under these names."""
    made = plugin.create(INPUTS)
    (instance,) = emulator.state.list()
    assert made.id == instance.id
    assert plain(made.properties) == {
        **INPUTS,
        "sector": instance.sector,
        "ip": instance.ip,
        "status": "ready",
        "endpoint": emulator.url,
        "account": account(emulator),
    }


def test_read_sends_no_id_for_a_machine_that_is_gone(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """An answer without an id tells the engine to drop the machine from state."""
    made = plugin.create(INPUTS)
    emulator.state.kill(made.id)
    assert plugin.read(made.id, plain(made.properties)).id == ""


def test_a_preview_of_an_unfinished_machine_does_not_wait_for_an_api_that_hangs(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """A preview takes five seconds at most, and replaces nothing that it can't look at."""
    made = plugin.create(INPUTS)
    state = {**plain(made.properties), "unfinished": True, "status": "pending"}
    emulator.faults.add("list", "hold", times=99)
    started = time.monotonic()
    told = plugin.diff(made.id, state, INPUTS)
    assert time.monotonic() - started < 6
    assert list(told.replaces) == []
    emulator.faults.release()


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"FAL_ADMIN_API_KEY": None}, "ConfigurationError: No fal API key is set"),
        ({"FAL_ADMIN_API_KEY": "wrong"}, "AuthenticationError: "),
        ({"FAL_COMPUTE_ENDPOINT": "https://127.0.0.1:1"}, "UnreachableError: "),
    ],
)
def test_an_error_is_its_class_and_message_and_no_traceback(
    start: Callable[..., Plugin], environ: dict[str, str], expected: str
) -> None:
    """The SDK would send twenty lines of source code."""
    said = failure(lambda: start(**environ).create(INPUTS))
    assert said.startswith(expected)
    assert "\n" not in said.strip()


def test_the_key_may_come_from_the_config_of_the_stack(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """Without a variable in the environment, the key in `fal:apiKey` is used."""
    plugin = start(FAL_ADMIN_API_KEY=None)
    plugin.configure(fal_apiKey=emulator.env["FAL_ADMIN_API_KEY"])
    assert plugin.create(INPUTS).id in emulator.state.alive()


def test_more_than_four_calls_are_served_at_a_time(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """The SDK's pool has four threads, and each call here waits for as long as a machine takes."""
    emulator.state.provisioning = 1000
    creates: list[Any] = []
    for machines in (12, 24, 25):
        urns = [f"{URN}-{number}" for number in range(len(creates), machines)]
        creates += [plugin.create_later(INPUTS, timeout=60, urn=urn) for urn in urns]
        wait_until(partial(has_made, emulator, machines))
    assert not any(create.done() for create in creates)
    emulator.state.advance(2000)
    assert {create.result().id for create in creates} == emulator.state.alive()
