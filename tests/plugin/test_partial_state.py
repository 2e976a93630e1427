"""A machine that exists is in state, whatever goes wrong in the call that made it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, wait_until
from .harness import Plugin, account, partial_state, plain

INPUTS = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519}


def fails(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def unfinished(plugin: Plugin, emulator: EmulatorServer) -> tuple[str, Mapping[str, Any]]:
    """A machine whose create timed out: its id and what the engine recorded."""
    emulator.state.provisioning = 1000
    kept = partial_state(fails(lambda: plugin.create(INPUTS, timeout=0.3)))
    assert kept is not None
    return kept[0], kept[1]


def test_a_create_that_times_out_leaves_the_machine_in_state(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """With its id, what is known of it, and the reason; `custom_timeouts` says when."""
    emulator.state.provisioning = 1000
    started = time.monotonic()
    kept = partial_state(fails(lambda: plugin.create(INPUTS, timeout=0.3)))
    assert time.monotonic() - started < 10
    assert kept is not None
    id_, outputs, (reason,) = kept
    assert {id_} == emulator.state.alive()
    assert outputs == {
        **INPUTS,
        "status": "pending",
        "unfinished": True,
        "endpoint": emulator.url,
        "account": account(emulator),
    }
    assert reason.startswith(f"Machine {id_} (gpu_8x_h100_sxm5) runs and bills, but was not ready")
    assert "`pulumi up` again" in reason


@pytest.mark.parametrize("fault", ["401", "500", "522", "html", "reset_before", "wrong_shape"])
def test_a_create_whose_answers_can_not_be_used_leaves_the_machine_in_state(
    plugin: Plugin, emulator: EmulatorServer, fault: str
) -> None:
    """The naive provider loses it here; this one waits on, until the time is up."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS, timeout=1)
    wait_until(lambda: emulator.state.creations == 1)
    emulator.faults.add("list", fault, times=999)
    kept = partial_state(fails(create.result))
    assert kept is not None
    id_, _, (reason,) = kept
    assert {id_} == emulator.state.alive()
    assert id_ in reason
    assert "the API gave no usable answer: GET /compute/instances" in reason


@pytest.mark.parametrize("fault", ["403", "404", "522", "html", "redirect", "lapse"])
def test_one_bad_answer_ends_no_wait(plugin: Plugin, emulator: EmulatorServer, fault: str) -> None:
    """Sixty-four creates would fail at once, since they share it."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS, timeout=60)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    emulator.faults.add("list", fault)
    wait_until(lambda: not emulator.faults.left())
    emulator.state.advance(2000)
    assert create.result().id in emulator.state.alive()


def test_cancel_ends_a_waiting_create_at_once_with_the_machine_in_state(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """One Ctrl-C is enough."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    started = time.monotonic()
    plugin.cancel()
    kept = partial_state(fails(create.result))
    assert time.monotonic() - started < 3
    assert kept is not None
    assert {kept[0]} == emulator.state.alive()


def test_a_create_that_the_api_refuses_leaves_nothing_in_state(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """There is no machine, and the engine must not believe that there is."""
    emulator.state.capacity = 0
    assert partial_state(fails(lambda: plugin.create(INPUTS))) is None


def test_a_machine_that_vanishes_while_awaited_fails_by_name_and_is_not_kept(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """The next `up` makes another."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    (id_,) = emulator.state.alive()
    emulator.state.kill(id_)
    error = fails(create.result)
    assert partial_state(error) is None
    assert error.details().startswith(f"VanishedError: Machine {id_} (gpu_8x_h100_sxm5) is gone")


def test_diff_has_work_left_for_an_unfinished_machine(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """Although no input differs: else `up` would leave it as it is."""
    id_, outputs = unfinished(plugin, emulator)
    told = plugin.diff(id_, outputs, INPUTS)
    assert told.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert list(told.replaces) == []


def test_diff_replaces_no_new_machine_that_the_api_does_not_show_yet(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """Reads may lag: it was made a moment ago, and its wait goes on."""
    emulator.state.list_lag = 1000
    id_, outputs = unfinished(plugin, emulator)
    emulator.state.hide(id_, "get")
    assert list(plugin.diff(id_, outputs, INPUTS).replaces) == []


def test_update_goes_on_with_the_wait_for_the_same_machine(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """It never makes another, and the machine is finished then."""
    id_, outputs = unfinished(plugin, emulator)
    emulator.state.advance(2000)
    updated = plain(plugin.update(id_, outputs, INPUTS).properties)
    assert (updated["status"], "unfinished" in updated) == ("ready", False)
    assert updated["ip"]
    assert emulator.state.creations == 1


def test_update_that_times_out_keeps_the_machine_unfinished(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """As often as it takes."""
    id_, outputs = unfinished(plugin, emulator)
    outputs = {**outputs, "ip": "198.18.0.9"}
    emulator.faults.add("list", "500", times=99)
    kept = partial_state(fails(lambda: plugin.update(id_, outputs, INPUTS, timeout=0.2)))
    assert kept is not None
    assert (kept[0], kept[1]["unfinished"]) == (id_, True)
    # What an earlier run saw is not written over with nothing.
    assert (kept[1]["status"], kept[1]["ip"]) == ("pending", "198.18.0.9")


def test_read_of_an_unfinished_machine_keeps_it_so(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """A plain answer clears the engine's errors, and `up` would skip the rest of the wait."""
    id_, outputs = unfinished(plugin, emulator)
    kept = partial_state(fails(lambda: plugin.read(id_, outputs)))
    assert kept is not None
    assert (kept[0], kept[1]["unfinished"]) == (id_, True)
    assert kept[2] == [f"Machine {id_} is not ready yet: its status is pending."]


def test_read_of_an_unfinished_machine_that_became_ready_finishes_it(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """Then there is nothing left to wait for."""
    id_, outputs = unfinished(start(), emulator)
    emulator.state.advance(2000)
    there = plain(start().read(id_, outputs).properties)
    assert (there["status"], "unfinished" in there) == ("ready", False)


def test_the_plugin_ends_with_its_engine(plugin: Plugin, emulator: EmulatorServer) -> None:
    """A killed engine can't end it: its standard input hangs up, and nothing else happens."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS)  # which ends when nobody holds it
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    assert plugin.process.stdin is not None
    plugin.process.stdin.close()
    assert plugin.process.wait(10) is not None
    assert create.exception() is not None


@pytest.mark.parametrize("end", ["killed", "without its engine"])
def test_the_next_create_goes_on_with_the_machine_of_a_process_that_died(
    start: Callable[..., Plugin], emulator: EmulatorServer, end: str
) -> None:
    """Nothing reached the state then; what is on disk is enough."""
    emulator.state.provisioning = 1000
    dying = start()
    dying.check({**INPUTS, "__organization": "organization"})
    create = dying.create_later(INPUTS)  # which ends when nobody holds it
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    if end == "killed":
        dying.kill()
    else:
        assert dying.process.stdin is not None
        dying.process.stdin.close()
        dying.process.wait(10)
    assert create.exception() is not None
    emulator.state.advance(2000)
    (id_,) = emulator.state.alive()
    assert start().create(INPUTS).id == id_
    assert emulator.state.creations == 1
