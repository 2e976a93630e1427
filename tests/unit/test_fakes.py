"""The fake of the API against the emulator: a client can't tell one from the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.api.transport import Transport
from pulumi_fal.emulator.faults import OUTCOMES, Faults, fault
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.emulator.state import State
from pulumi_fal.errors import APIError

from ..fakes import CREATE, DELETE, ED25519, GET, ID, LIST, ONE, FakeApi, settings

REQUESTS = {request.kind: request for request in (LIST, GET, CREATE, DELETE)}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer() as emulator:
        yield emulator


def outcome(client: Client, request: Request[Any], state: State) -> tuple[Any, ...]:
    """What a client of one attempt gets, and how many machines there are afterwards."""
    state.machines.clear()
    calls: dict[str, Callable[[], object]] = {
        "list": client.list_instances,
        "get": lambda: client.get_instance(ID),
        "create": lambda: client.create_instance(NewInstance(ONE, ED25519)),
        "delete": lambda: client.delete_instance(ID),
    }
    got: tuple[Any, ...]
    try:
        calls[request.kind]()
        got = ("an answer",)
    except APIError as error:
        got = (type(error), error.method, error.path, error.status, error.instance_id)
        got += (error.retry_after, getattr(error, "sent", None))
    return (*got, state.creations)


@pytest.mark.parametrize("name", sorted(set(OUTCOMES) - {"hold", "late", "slow"}))
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=list(REQUESTS))
def test_every_fault_has_the_same_outcome(
    emulator: EmulatorServer, request_: Request[Any], name: str
) -> None:
    """A client can't tell the fake from the emulator, whatever the fault."""
    fake = FakeApi(lambda: 0.0)
    found = Settings(emulator.url, API_KEY, "a test")
    for faults in (fake.faults, emulator.faults):
        script(faults, request_, name)
    real = Client(found, send=Transport(found).send).within(0)
    faked = Client(settings(), send=fake.send).within(0)
    assert outcome(faked, request_, fake.state) == outcome(real, request_, emulator.state)


def script(faults: Faults, request: Request[Any], name: str) -> None:
    faults.add(request.kind, fault(name, retry_after=7 if name in ("429", "503") else None))
