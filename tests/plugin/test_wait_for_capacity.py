"""Creates that wait for room, in the real process of either host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, wait_until
from . import native
from .harness import URN, Plugin

NATIVE_URN = native.URN
DYNAMIC = {"instance_type": EIGHT, "ssh_key": ED25519, "wait_for_capacity": "1h"}
NATIVE = {"instanceType": EIGHT, "sshKey": ED25519, "waitForCapacity": "1h"}


class Host:
    """A process, and what it logs."""

    def __init__(self, plugin: Plugin, logged: list[Any], *, is_native: bool) -> None:
        self.plugin, self.logged, self._is_native = plugin, logged, is_native
        self._provider = native.Provider(plugin.channel)
        if is_native:
            self._provider.handshake(plugin.engine)
        else:
            plugin.check(DYNAMIC)

    def create(self, number: int, **inputs: str) -> Any:
        if self._is_native:
            return self._provider.create_later(NATIVE | inputs, urn=f"{NATIVE_URN}-{number}")
        return self.plugin.create_later(DYNAMIC | inputs, urn=f"{URN}-{number}")


@pytest.fixture(params=[("dynamic", "legacy"), ("native", "v1")], ids="-".join)
def host(
    request: pytest.FixtureRequest, start: Callable[..., Plugin], emulator: EmulatorServer
) -> Iterator[Host]:
    name, api = request.param
    endpoint = emulator.url + ("/v1" if api == "v1" else "")
    options: dict[str, Any] = {"launcher": native.LAUNCHER} if name == "native" else {}
    environ = {"FAL_COMPUTE_API": api, "FAL_COMPUTE_ENDPOINT": endpoint}
    with native.engine() as (engine, logged):
        plugin = start(**environ, **options, engine=engine)
        yield Host(plugin, logged, is_native=name == "native")


def entries(folder: Path) -> list[Path]:
    return list((folder / "home" / "fal-compute" / "creates").glob("*.json"))


def test_creates_wait_as_one_and_each_gets_a_machine_as_room_comes(
    host: Host, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """The row shows the API's words; nothing is on record between two requests."""
    state = emulator.state
    state.capacity, state.capacity_status = 0, 409
    creates = [host.create(number) for number in range(8)]
    wait_until(lambda: state.calls["create"] >= 3)
    wait_until(lambda: entries(tmp_path) == [])
    # One asks for all: eight would have sent eight times as many in that time.
    assert state.calls["create"] <= 4
    wait_until(lambda: len(host.logged) >= 8)
    shown = {(message.urn, message.ephemeral) for message in host.logged}
    assert len(shown) == 8
    assert {ephemeral for _, ephemeral in shown} == {True}
    text = host.logged[0].message
    assert text.startswith("no room yet, asking until ")
    assert text.endswith(f" answered 409: machines are out of stock for {EIGHT}.")
    state.capacity = 2
    wait_until(lambda: state.creations == 2)
    state.capacity = None
    assert {create.result(30).id for create in creates} == state.alive()
    assert state.creations == 8


def test_cancel_ends_the_wait_at_once_with_nothing_made_and_nothing_on_record(
    host: Host, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """It is what the engine sends at Ctrl-C. The process need not die for it."""
    emulator.state.capacity = 0
    creates = [host.create(number) for number in range(8)]
    wait_until(lambda: emulator.state.calls["create"] >= 2)
    started = time.monotonic()
    host.plugin.cancel()
    for create in creates:
        error = create.exception()
        assert isinstance(error, grpc.RpcError)
        assert "was interrupted. No machine was created, and nothing is pending" in str(error)
    assert time.monotonic() - started < 2
    assert entries(tmp_path) == []
    assert emulator.state.creations == 0


def test_when_the_time_is_up_the_error_has_the_apis_words(
    host: Host, emulator: EmulatorServer
) -> None:
    """It is plain text: no machine exists that could be partial state."""
    emulator.state.capacity = 0
    create = host.create(1, wait_for_capacity="1s", waitForCapacity="1s")
    with pytest.raises(grpc.RpcError) as caught:
        create.result()
    details = caught.value.details()
    assert details is not None
    assert "NoRoomError: Machine box-1 " in details
    assert "The API's last answer: POST /compute/instance" in details
    assert "Traceback" not in details


def test_a_process_whose_engine_dies_ends_and_leaves_nothing(
    host: Host, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """Nobody would get the machine that it still waits for."""
    emulator.state.capacity = 0
    create = host.create(1)
    wait_until(lambda: emulator.state.calls["create"] >= 2 and entries(tmp_path) == [])
    assert host.plugin.process.stdin is not None
    host.plugin.process.stdin.close()
    assert host.plugin.process.wait(10) is not None
    assert create.exception() is not None
    assert entries(tmp_path) == []
