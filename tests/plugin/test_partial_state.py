"""A machine that exists is in state or on record, also where the call that made it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, wait_until
from .harness import Plugin, account, partial_state, plain

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}


def kept(call: Callable[[], object]) -> tuple[str, dict[str, Any], str]:
    """What the engine records of a call that fails: the id, the outputs and the reason."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    state = partial_state(caught.value)
    assert state is not None
    id_, outputs, (reason,) = state
    return id_, outputs, reason


def test_an_unfinished_machine_stays_so_until_its_wait_has_ended_well(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """Create, diff, read and update leave a machine unfinished until it is ready."""
    emulator.state.provisioning = 1000
    id_, outputs, reason = kept(lambda: plugin.create(INPUTS, timeout=0.3))
    assert {id_} == emulator.state.alive()
    assert outputs == {
        **INPUTS,
        "status": "pending",
        "unfinished": True,
        "endpoint": emulator.url,
        "account": account(emulator),
    }
    assert reason.startswith(f"Machine {id_} ({EIGHT}) is billed, but was not ready after 0 s")
    assert plugin.diff(id_, outputs, INPUTS).changes == provider_pb2.DiffResponse.DIFF_SOME
    not_ready = f"Machine {id_} is billed, but not ready yet: its status is pending."
    assert kept(lambda: plugin.read(id_, outputs)) == (id_, outputs, not_ready)
    assert kept(lambda: plugin.update(id_, outputs, INPUTS, timeout=0.2))[:2] == (id_, outputs)
    emulator.state.advance(2000)
    for answer in (plugin.update(id_, outputs, INPUTS), plugin.read(id_, outputs)):
        finished = plain(answer.properties)
        assert (finished["status"], "unfinished" in finished) == ("ready", False)
    assert emulator.state.creations == 1


def test_cancel_ends_a_waiting_create_at_once_with_the_machine_in_state(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """One Ctrl-C ends a wait, and the machine stays in state."""
    emulator.state.provisioning = 1000
    create = plugin.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    started = time.monotonic()
    plugin.cancel()
    id_, _, _ = kept(create.result)
    assert time.monotonic() - started < 3
    assert {id_} == emulator.state.alive()


def test_a_plugin_ends_with_its_engine_and_the_next_create_has_its_machine(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """The plugin ends when its standard input hangs up, since a killed engine can't end it."""
    emulator.state.provisioning = 1000
    dying = start()
    dying.check(INPUTS)
    create = dying.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    assert dying.process.stdin is not None
    dying.process.stdin.close()
    assert dying.process.wait(10) is not None
    assert create.exception() is not None
    emulator.state.advance(2000)
    (id_,) = emulator.state.alive()
    assert start().create(INPUTS).id == id_
    assert emulator.state.creations == 1
