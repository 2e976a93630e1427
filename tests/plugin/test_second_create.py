"""A second Create of one resource in one process, as the engine calls it where a hook says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import grpc
import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT
from . import harness, native
from .harness import Plugin

DYNAMIC = {"instance_type": EIGHT, "ssh_key": ED25519}
NATIVE = {"instanceType": EIGHT, "sshKey": ED25519}


class Host:
    """One process of either host. It takes the same calls from the engine."""

    def __init__(self, plugin: Plugin, *, is_native: bool) -> None:
        self.plugin = plugin
        provider = native.Provider(plugin.channel)
        if not is_native:
            plugin.check(DYNAMIC)
        self.create: Callable[..., Any] = (
            partial(provider.create, NATIVE) if is_native else partial(plugin.create, DYNAMIC)
        )
        self._update = partial(provider.update) if is_native else partial(plugin.update)
        self._inputs: Mapping[str, Any] = NATIVE if is_native else DYNAMIC
        self._is_native = is_native

    def update(self, id_: str, olds: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        return self.outputs(self._update(id_, olds, self._inputs, **fields).properties)

    def kept(self, call: Callable[[], object]) -> tuple[str, dict[str, Any]]:
        """The id and the outputs that the engine records of a call that fails."""
        with pytest.raises(grpc.RpcError) as caught:
            call()
        if self._is_native:
            return native.kept(caught.value)[:2]
        state = harness.partial_state(caught.value)
        assert state is not None
        return state[:2]

    def outputs(self, properties: Any) -> dict[str, Any]:
        return native.plain(properties) if self._is_native else harness.plain(properties)


@pytest.fixture(params=["dynamic", "native"])
def start_host(request: pytest.FixtureRequest, start: Callable[..., Plugin]) -> Callable[..., Host]:
    """Starts a process of the host, with variables of its environment."""
    is_native = request.param == "native"
    options: dict[str, Any] = {"launcher": native.LAUNCHER} if is_native else {}
    return lambda **environ: Host(start(**options, **environ), is_native=is_native)


@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_a_second_create_goes_on_with_the_machine_of_the_first(
    start_host: Callable[..., Host], emulator: EmulatorServer, api: str
) -> None:
    """Each attempt that fails keeps the id, and the one that succeeds made no other machine."""
    endpoint = emulator.url if api == "legacy" else f"{emulator.url}/v1"
    host = start_host(FAL_COMPUTE_API=api, FAL_COMPUTE_ENDPOINT=endpoint)
    emulator.state.provisioning = 1000
    made = {host.kept(partial(host.create, timeout=0.2))[0] for _ in range(2)}
    assert made == emulator.state.alive()
    emulator.state.advance(2000)
    created = host.create()
    assert {created.id} == made
    assert host.outputs(created.properties)["status"] == "ready"
    assert emulator.state.creations == 1


def test_a_last_attempt_that_meets_another_failure_keeps_the_machine_in_state(
    start_host: Callable[..., Host], emulator: EmulatorServer
) -> None:
    """The API is down, and then the engine gets Ctrl-C."""
    host = start_host()
    emulator.state.provisioning = 1000
    create = partial(host.create, timeout=0.2)
    first = host.kept(create)
    emulator.faults.add("list", "503", inf)
    assert host.kept(create) == first
    host.plugin.cancel()
    assert host.kept(create) == first
    assert emulator.state.alive() == {first[0]}


def test_a_second_update_goes_on_with_the_wait_of_the_first(
    start_host: Callable[..., Host], emulator: EmulatorServer
) -> None:
    """The engine sends the same old outputs again."""
    host = start_host()
    emulator.state.provisioning = 1000
    id_, olds = host.kept(partial(host.create, timeout=0.2))
    assert host.kept(partial(host.update, id_, olds, timeout=0.2)) == (id_, olds)
    emulator.state.advance(2000)
    assert host.update(id_, olds)["status"] == "ready"


def test_a_second_create_after_a_refused_one_makes_one_machine(
    start_host: Callable[..., Host], emulator: EmulatorServer
) -> None:
    """A refused create leaves nothing behind, neither in state nor on disk."""
    host = start_host()
    emulator.state.capacity = 0
    with pytest.raises(grpc.RpcError) as caught:
        host.create()
    assert "capacity" in str(caught.value)
    assert harness.partial_state(caught.value) is None
    emulator.state.capacity = None
    assert {host.create().id} == emulator.state.alive()
