"""What both hosts promise, each in its real process, as the engine calls it."""

from __future__ import annotations

import time
from functools import partial
from math import inf
from typing import Any

from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY, wait_until
from .harness import Client, Host, account, engine, failure, init_failed

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
IN_STATE = """
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.state import Stack, StackMachine
own = Stack("organization/proj/dev", machines=(StackMachine({id!r}, {urn!r}),))
Stacks.own = lambda self, origin: own
"""
"""A stack that has a machine in state."""


def test_preview_offline(host: Host) -> None:
    """Check and diff need no key and no network, and send unknown values back as they came."""
    client = host.start(FAL_ADMIN_API_KEY=None, FAL_COMPUTE_ENDPOINT="https://127.0.0.1:1")
    assert list(client.check(INPUTS).failures) == []
    unknown = dict.fromkeys((*INPUTS, "sector"), rpc.UNKNOWN)
    assert client.received(client.check(unknown).inputs) == unknown
    told = client.diff("i-1", INPUTS, INPUTS, {**INPUTS, "instance_type": rpc.UNKNOWN})
    assert list(told.replaces) == [client.name("instance_type")]


def test_life(host: Host, emulator: EmulatorServer) -> None:
    """Create, read, update and delete use the same properties, which state keeps."""
    client = host.start()
    assert list(client.check(INPUTS).failures) == []
    made = client.create(INPUTS)
    (machine,) = emulator.state.list()
    outputs = client.received(made.properties)
    assert made.id == machine.id
    assert outputs == {
        **INPUTS,
        "sector": machine.sector,
        "ip": machine.ip,
        "status": "ready",
        "endpoint": emulator.url,
        "account": account(emulator),
    }
    read = client.read(made.id, INPUTS, outputs)
    assert (read.id, client.received(read.properties)) == (made.id, outputs)
    updated = client.update(made.id, outputs, {**INPUTS, "wait": False})
    assert client.received(updated.properties) == {**outputs, "wait": False}
    client.delete(made.id, outputs)
    assert emulator.state.alive() == set()
    assert client.read(made.id, INPUTS, outputs).id == ""  # the engine drops it from state
    assert emulator.state.creations == 1


def test_key_in_config(host: Host, emulator: EmulatorServer) -> None:
    """Without a variable in the environment, the key of the config is used."""
    client = host.start(FAL_ADMIN_API_KEY=None)
    client.configure(apiKey=KEY)
    assert client.create(INPUTS).id in emulator.state.alive()


def test_timeout(host: Host, emulator: EmulatorServer) -> None:
    """A machine that is not ready in time stays in state as unfinished until it is ready."""
    client = host.start()
    emulator.state.provisioning = inf
    id_, outputs, _, reason = client.kept(partial(client.create, INPUTS, timeout=0.2))
    assert {id_} == emulator.state.alive()
    assert (outputs["status"], outputs["unfinished"]) == ("pending", True)
    assert outputs["account"] == account(emulator)
    assert reason.startswith(f"Machine {id_} ({EIGHT}) is billed, but was not ready after 0 s")
    told = client.diff(id_, INPUTS, outputs, INPUTS)
    assert told.changes == provider_pb2.DiffResponse.DIFF_SOME
    read, update = (
        partial(call, id_, outputs=outputs) for call in (client.read, update_of(client))
    )
    assert client.kept(read)[:2] == (id_, outputs)
    assert client.kept(partial(update, timeout=0.2))[:2] == (id_, outputs)
    assert client.kept(partial(update, timeout=0.2))[:2] == (id_, outputs)  # as a hook does
    emulator.state.machines[id_].provisioning = 0
    for answer in (update(), read()):
        finished = client.received(answer.properties)
        assert (finished["status"], "unfinished" in finished) == ("ready", False)


def update_of(client: Client) -> Any:
    return lambda id_, outputs, **fields: client.update(id_, outputs, INPUTS, **fields)


def test_second_create(host: Host, emulator: EmulatorServer) -> None:
    """Where a hook calls Create again, it goes on with the same machine, whatever fails."""
    client = host.start()
    emulator.state.provisioning = inf
    create = partial(client.create, INPUTS, timeout=0.2)
    first = client.kept(create)
    assert client.kept(create).id == first.id
    emulator.faults.add("list", "503", inf)
    assert client.kept(create)[:2] == first[:2]
    emulator.faults.clear()
    emulator.state.machines[first.id].provisioning = 0
    made = client.create(INPUTS)
    assert (made.id, client.received(made.properties)["status"]) == (first.id, "ready")
    assert emulator.state.creations == 1


def test_in_state(host: Host, emulator: EmulatorServer) -> None:
    """A create replaces a machine in state only if the engine has checked its inputs before.

    The engine does for `--replace`, which brings no diff, and has no old inputs of a new resource.
    """
    client = host.start()
    made = client.create(INPUTS).id
    second = host.start(IN_STATE.format(id=made, urn=client.urn))
    second.check(INPUTS)
    said = failure(lambda: second.create(INPUTS)).details()
    assert f"`pulumi up` of this stack has just made {made}" in said
    second.check(INPUTS, INPUTS)
    assert {made, second.create(INPUTS).id} == emulator.state.alive()


def named(client: Client, numbers: range, **inputs: str) -> list[Any]:
    """Start creates of so many resources."""
    given = {**INPUTS, **inputs}
    return [client.create_later(given, urn=f"{client.urn}-{number}") for number in numbers]


def test_many_at_once(host: Host, emulator: EmulatorServer) -> None:
    """No machine waits for the end of another's create. The SDK's pool has four threads."""
    client = host.start()
    emulator.state.provisioning = inf
    creates = named(client, range(12))
    wait_until(lambda: emulator.state.creations == 12)
    creates += named(client, range(12, 24))
    wait_until(lambda: emulator.state.creations == 24)
    machine = list(emulator.state.machines.values())[-1]
    machine.provisioning = 0
    wait_until(lambda: any(create.done() for create in creates))
    (done,) = [create for create in creates if create.done()]
    assert done.result().id == machine.id


def test_cancel(host: Host, emulator: EmulatorServer) -> None:
    """Ctrl-C ends all waits at once. A machine stays in state; without one, nothing is left."""
    client = host.start()
    emulator.state.capacity, emulator.state.provisioning = 1, inf
    (waiting,) = named(client, range(1))
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    (queued,) = named(client, range(1, 2), wait_for_capacity="1h")
    wait_until(lambda: emulator.state.calls["create"] >= 3)
    began = time.monotonic()
    client.cancel()
    assert {client.kept(waiting.result).id} == emulator.state.alive()
    refused = failure(queued.result)
    assert "interrupted. No machine was created, and nothing is pending" in refused.details()
    assert init_failed(refused) is None
    assert time.monotonic() - began < 3
    assert not any(f"{client.urn}-1" in record.read_text() for record in host.records())
    assert host.plugin.process.poll() is None


def test_capacity(host: Host, emulator: EmulatorServer) -> None:
    """Creates wait for capacity as one, with the API's words on each row and nothing on record."""
    state = emulator.state
    state.capacity, state.capacity_status = 0, 409
    api, path = {"dynamic": ("legacy", ""), "native": ("v1", "/v1")}[host.name]
    environ = {"FAL_COMPUTE_API": api, "FAL_COMPUTE_ENDPOINT": emulator.url + path}
    with engine() as (address, logged):
        client = host.start(**environ, engine=address)
        creates = named(client, range(8), wait_for_capacity="1h")
        wait_until(lambda: state.calls["create"] >= 3)
        wait_until(lambda: host.records() == [])
        # One asks for all: eight would have sent eight times as many in that time.
        assert state.calls["create"] <= 4
        wait_until(lambda: len({line.urn for line in logged}) == 8)
        assert {line.ephemeral for line in logged} == {True}
        assert logged[0].message.startswith("no capacity yet, asking until ")
        assert logged[0].message.endswith(f" 409: machines are out of stock for {EIGHT}.")
        state.capacity = 2
        wait_until(lambda: state.creations == 2)
        state.capacity = None
        assert {create.result(30).id for create in creates} == state.alive()
    assert state.creations == 8
