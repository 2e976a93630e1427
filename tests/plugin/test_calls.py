"""The engine's calls, one by one, on the real plugin process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2
from tests.unit.support import ED25519, RSA

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from .harness import URN, Plugin, account, partial_state, plain

INPUTS = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519}
UNKNOWN = rpc.UNKNOWN


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return str(caught.value.details())


def has_made(emulator: EmulatorServer, machines: int) -> bool:
    return emulator.state.creations == machines


def until(condition: Callable[[], bool]) -> None:
    """Give the plugin the time to get somewhere."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the plugin did not get there"
        time.sleep(0.01)


def test_check_takes_good_inputs_as_they_are(plugin: Plugin) -> None:
    """And nothing else: outputs that a program names as None are no inputs."""
    checked = plugin.check({**INPUTS, "sector": None, "ip": None, "status": None})
    assert list(checked.failures) == []
    assert plain(checked.inputs) == INPUTS


def test_check_needs_no_key_and_no_network(start: Callable[..., Plugin]) -> None:
    """A preview works offline."""
    plugin = start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT="https://127.0.0.1:1")
    assert list(plugin.check(INPUTS).failures) == []
    plugin.diff("i-1", INPUTS, INPUTS)


def test_check_tells_all_problems_without_a_property(plugin: Plugin) -> None:
    """With one, the engine would print its value, and that may be a private key."""
    failures = plugin.check({"ssh_key": "hunter2", "sector": "nowhere"}).failures
    assert [each.property for each in failures] == ["", "", ""]
    reasons = [each.reason.split(" (")[0] for each in failures]
    assert reasons == [
        "instance_type is missing",
        "ssh_key does not start with a known key type",
        "sector is not one of sector_1, sector_2, sector_3",
    ]
    assert "hunter2" not in "".join(each.reason for each in failures)


def test_check_leaves_unknown_values_alone(plugin: Plugin) -> None:
    """In a preview, other resources' outputs are not known."""
    unknown = dict.fromkeys(("instance_type", "ssh_key", "sector"), UNKNOWN)
    checked = plugin.check(unknown)
    assert list(checked.failures) == []
    assert plain(checked.inputs) == unknown


def test_check_keeps_the_old_key_where_only_its_comment_changes(plugin: Plugin) -> None:
    """So that nothing at all is different."""
    checked = plugin.check({**INPUTS, "ssh_key": f"{ED25519} new"}, INPUTS)
    assert plain(checked.inputs) == INPUTS


@pytest.mark.parametrize(
    "changed, replaces",
    [
        ({}, []),
        ({"ssh_key": f"{ED25519} new"}, []),
        ({"ssh_key": RSA}, ["ssh_key"]),
        ({"sector": "sector_1"}, []),
        ({"sector": "sector_2"}, ["sector"]),
        ({"instance_type": "gpu_1x_h100_sxm5"}, ["instance_type"]),
        ({"instance_type": UNKNOWN}, ["instance_type"]),
    ],
)
def test_diff_leaves_the_details_to_the_engine(
    plugin: Plugin, changed: dict[str, Any], replaces: list[str]
) -> None:
    """Which then honours ignore_changes; ours is only what replaces."""
    olds = {**INPUTS, "sector": "sector_1", "status": "ready"}
    told = plugin.diff("i-1", olds, {**INPUTS, **changed})
    assert told.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN
    assert list(told.replaces) == replaces


def test_create_gives_a_ready_machine(plugin: Plugin, emulator: EmulatorServer) -> None:
    """With the sector that the API chose, apart from the one that was asked for."""
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


def test_another_endpoint_does_not_say_that_a_machine_is_gone(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """An emulator's address that is still set in a terminal would lose a real machine."""
    for call in (plugin.read, plugin.delete):
        state = {**INPUTS, "status": "ready", "endpoint": "https://rest.alpha.fal.ai"}
        with pytest.raises(grpc.RpcError) as caught:
            call("i-1", state)
        assert "Machine i-1 was last seen at https://rest.alpha.fal.ai, and the " in str(
            caught.value
        )
    assert emulator.state.calls["delete"] == 0


OTHER_KEY = "another-accounts-key"


@pytest.fixture
def accounts() -> Iterator[EmulatorServer]:
    """An emulator that takes any key; machines that are ready at once."""
    with EmulatorServer(api_key=None) as server:
        yield server


def of_key(start: Callable[..., Plugin], accounts: EmulatorServer, key: str) -> Plugin:
    return start(FAL_COMPUTE_ENDPOINT=accounts.url, FAL_ADMIN_API_KEY=key)


@pytest.mark.parametrize("call", ["read", "delete", "update"])
def test_another_accounts_key_loses_no_machine(
    start: Callable[..., Plugin], accounts: EmulatorServer, call: str
) -> None:
    """It sees nothing, which proves nothing; and the message says which key does."""
    owner = of_key(start, accounts, "owner")
    made = owner.create({**INPUTS, "wait": False})
    state = plain(made.properties)
    other = of_key(start, accounts, OTHER_KEY)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: other.read(made.id, state),
        "delete": lambda: other.delete(made.id, state),
        "update": lambda: other.update(made.id, state, INPUTS),
    }
    with pytest.raises(grpc.RpcError) as caught:
        calls[call]()
    assert partial_state(caught.value) is None
    said = str(caught.value.details())
    assert said.startswith(f"ElsewhereError: Machine {made.id} was last seen with the key of ")
    assert f"another account ({state['account']})" in said
    assert accounts.state.alive() == {made.id}
    assert accounts.state.calls["delete"] == 0


def test_another_accounts_key_replaces_no_unfinished_machine(
    start: Callable[..., Plugin], accounts: EmulatorServer
) -> None:
    """A diff can't tell that it is gone, so it doesn't say so."""
    made = of_key(start, accounts, "owner").create(INPUTS)
    state = {**plain(made.properties), "unfinished": True, "status": "pending"}
    other = of_key(start, accounts, OTHER_KEY)
    assert list(other.diff(made.id, state, INPUTS).replaces) == []


def test_a_rotated_key_that_sees_the_machine_takes_state_over(
    start: Callable[..., Plugin], accounts: EmulatorServer
) -> None:
    """It is of the same account, and from now on its absence is proof again."""
    owner = of_key(start, accounts, "owner")
    made = owner.create(INPUTS)
    accounts.state.same_account("owner", "rotated")
    rotated = of_key(start, accounts, "rotated")
    seen = plain(rotated.read(made.id, plain(made.properties)).properties)
    assert seen["account"] == Settings(accounts.url, "rotated", "").account
    accounts.state.kill(made.id)
    assert of_key(start, accounts, "rotated").read(made.id, seen).id == ""


def test_read_keeps_a_new_machine_that_the_api_does_not_show_yet(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """Right after a create that waits for nothing, reads may lag behind."""
    made = plugin.create({**INPUTS, "wait": False})
    for call in ("list", "get"):
        emulator.state.hide(made.id, call)
    there = plugin.read(made.id, plain(made.properties))
    assert there.id == made.id
    assert plain(there.properties) == plain(made.properties)


def test_a_preview_of_an_unfinished_machine_does_not_wait_for_an_api_that_hangs(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """Five seconds at most; then it says that there is work left, and replaces nothing."""
    made = plugin.create(INPUTS)
    state = {**plain(made.properties), "unfinished": True, "status": "pending"}
    emulator.faults.add("list", "hold", times=99)
    started = time.monotonic()
    told = plugin.diff(made.id, state, INPUTS)
    assert time.monotonic() - started < 6
    assert list(told.replaces) == []
    emulator.faults.release()


def test_read_tells_what_the_api_says_now(plugin: Plugin, emulator: EmulatorServer) -> None:
    """And keeps what only the inputs know."""
    made = plugin.create(INPUTS)
    emulator.state.set_status(made.id, "rebooting")
    there = plugin.read(made.id, plain(made.properties))
    assert there.id == made.id
    assert plain(there.properties) == {**plain(made.properties), "status": "rebooting"}


def test_read_drops_a_machine_that_is_really_gone(plugin: Plugin, emulator: EmulatorServer) -> None:
    """Neither listed, nor known when asked for."""
    made = plugin.create(INPUTS)
    emulator.state.kill(made.id)
    assert plugin.read(made.id, plain(made.properties)).id == ""


@pytest.mark.parametrize("fault", ["401", "403", "500", "503", "html", "wrong_shape", "redirect"])
def test_read_fails_where_the_api_does_not_say(
    plugin: Plugin, emulator: EmulatorServer, fault: str
) -> None:
    """A failure keeps the machine in state; an answer that is none must not drop it."""
    made = plugin.create(INPUTS)
    emulator.state.kill(made.id)
    emulator.faults.add("list", fault, times=99)
    assert "GET /compute/instances answered" in failure(
        lambda: plugin.read(made.id, plain(made.properties))
    )


def test_update_records_without_a_call(plugin: Plugin, emulator: EmulatorServer) -> None:
    """Whatever needs the API replaces."""
    made = plugin.create(INPUTS)
    calls = emulator.state.calls.total()
    news = {**INPUTS, "ssh_key": f"{ED25519} new"}
    updated = plugin.update(made.id, plain(made.properties), news)
    assert plain(updated.properties) == {**plain(made.properties), **news}
    assert emulator.state.calls.total() == calls


def test_delete_returns_when_the_machine_is_gone(plugin: Plugin, emulator: EmulatorServer) -> None:
    """Not when the API has merely accepted it."""
    emulator.state.deletion = 0.3
    made = plugin.create(INPUTS)
    plugin.delete(made.id, plain(made.properties))
    assert emulator.state.alive() == set()


def test_delete_of_a_machine_that_is_gone_succeeds(plugin: Plugin) -> None:
    """Somebody was faster."""
    plugin.delete("0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10", INPUTS)


def test_delete_gives_up_when_its_custom_timeout_is_over(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """And says that the machine stays in state."""
    emulator.state.deletion = 1000
    made = plugin.create(INPUTS)
    said = failure(lambda: plugin.delete(made.id, plain(made.properties), timeout=0.2))
    assert said.startswith(f"StillThereError: Machine {made.id} may still exist 0 s after")


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"FAL_ADMIN_API_KEY": None}, "ConfigurationError: No fal API key is set"),
        ({"FAL_COMPUTE_ENDPOINT": "http://fal.test"}, "ConfigurationError: The endpoint (http://f"),
        ({"FAL_COMPUTE_POLL_INTERVAL": "0"}, "ConfigurationError: FAL_COMPUTE_POLL_INTERVAL (or"),
        ({"FAL_ADMIN_API_KEY": "wrong"}, "AuthenticationError: "),
        ({"FAL_COMPUTE_ENDPOINT": "https://127.0.0.1:1"}, "UnreachableError: "),
    ],
)
def test_an_error_is_its_class_and_message_and_no_traceback(
    start: Callable[..., Plugin], environ: dict[str, str], expected: str
) -> None:
    """The SDK would send twenty lines of our source."""
    said = failure(lambda: start(**environ).create(INPUTS))
    assert said.startswith(expected)
    assert "Traceback" not in said
    assert "\n" not in said.strip()


def test_what_the_api_refuses_is_its_own_word(plugin: Plugin, emulator: EmulatorServer) -> None:
    """Capacity errors come so."""
    emulator.state.capacity = 0
    assert failure(lambda: plugin.create(INPUTS)).strip() == (
        "InvalidRequestError: POST /compute/instance answered 400: "
        "no capacity left for gpu_8x_h100_sxm5."
    )


def test_the_key_may_come_from_the_stacks_config(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """Where the environment has none."""
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
        until(partial(has_made, emulator, machines))
    assert not any(create.done() for create in creates)
    emulator.state.advance(2000)
    assert {create.result().id for create in creates} == emulator.state.alive()
