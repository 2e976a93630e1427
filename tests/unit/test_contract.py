"""What the client sends, and what the emulator and its fake answer, is what the documents say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from openapi_core.exceptions import OpenAPIError
from openapi_spec_validator import validate

from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import ENDPOINTS, resolve
from pulumi_fal.emulator.faults import OUTCOMES, fault
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import CALLS, State, TurnedClock
from pulumi_fal.errors import APIError, AuthenticationError, NotFoundError

from ..contract.documents import APIS, Contract, Wire, document, statuses
from ..fakes import ED25519, EIGHT, ID, ONE, FakeApi, settings

KEY = {"Authorization": "Key emulator"}
UNDOCUMENTED = {("create", 404), ("list", 404), ("list", 409), ("get", 409)}
"""Answers that a call has no reason for, although a fault can be scripted for it."""


def client_of(emulator: EmulatorServer, **env: str) -> Client:
    """A client that makes one attempt."""
    return Client(resolve({**emulator.env, **env}, lambda key: None)).within(0)


def calls_of(client: Client) -> dict[str, Callable[[], object]]:
    """One call of each kind."""
    return {
        "create": lambda: client.create_instance(NewInstance(ONE, ED25519), "a-key"),
        "list": client.list_instances,
        "get": lambda: client.get_instance(ID),
        "delete": lambda: client.delete_instance(ID),
    }


@dataclass
class Side:
    """A client and an emulator that speak one API, and what passes between them."""

    api: str
    emulator: EmulatorServer
    client: Client
    wire: Wire
    contract: Contract

    def check(self) -> list[str]:
        """Hold all that passed to the document, and return its methods and statuses."""
        for sent, answer in self.wire.exchanges:
            self.contract.check_request(sent)
            self.contract.check_answer(sent, answer)
        return self.wire.lines


@pytest.fixture(params=APIS)
def side(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    """Machines that need ten seconds, and two to go, on a clock that stands still."""
    with EmulatorServer(
        api=request.param, provisioning=10, deletion=2, clock=TurnedClock()
    ) as emulator:
        contract = Contract(request.param, emulator.endpoint)
        wire = Wire.recorded(monkeypatch)
        yield Side(request.param, emulator, client_of(emulator), wire, contract)


v1_only = pytest.mark.parametrize("side", ["v1"], indirect=True)


@pytest.mark.parametrize("api", APIS)
def test_documents(api: str) -> None:
    """Each has the client's four kinds of calls at its endpoint, and nothing else."""
    validate(document(api))
    assert [server["url"] for server in document(api)["servers"]] == [ENDPOINTS[api]]
    assert statuses(api).keys() == set(CALLS)


# What is answered


def test_life(side: Side) -> None:
    """Machines are created, listed and found at every age and while they are deleted, then gone."""
    client, state = side.client, side.emulator.state
    kinds = [(ONE, None), (EIGHT, None), (EIGHT, "sector_2")]
    ids = [client.create_instance(NewInstance(k, ED25519, s), f"key-{s}-{k}").id for k, s in kinds]
    seen = set()
    more = {"legacy": (None, None), "v1": ("us-west", "emulator")}[side.api]
    for seconds in (0, 2, 8):
        state.advance(seconds)
        listed = client.list_instances()
        seen |= {machine.status for machine in listed}
        assert [client.get_instance(id_) for id_ in ids] == listed
        assert {(machine.region, machine.creator_user_nickname) for machine in listed} == {more}
    assert seen == {"pending", "init", "ready"}
    for id_ in ids:
        client.delete_instance(id_)
    assert [machine.id for machine in client.list_instances()] == ids
    state.advance(2)
    assert client.list_instances() == []
    for call in (client.get_instance, client.delete_instance):
        with pytest.raises(NotFoundError, match=ids[0]):
            call(ids[0])
    made, deleted = {"legacy": ("200", "200"), "v1": ("201", "204")}[side.api]
    gone = ["GET 200", "GET 200", "GET 404", "DELETE 404"]
    looks = ["GET 200"] * 12
    assert side.check() == [f"POST {made}"] * 3 + looks + [f"DELETE {deleted}"] * 3 + gone


@v1_only
def test_pages(side: Side) -> None:
    """Seven machines on pages of three take three requests. A limit makes a page shorter only."""
    side.emulator.state.page_size = 3
    for _ in range(7):
        side.emulator.state.create(NewInstance(ONE, ED25519))
    assert len(side.client.list_instances()) == 7
    cursors = ["cursor=" in str(sent.url) for sent, _ in side.wire.exchanges]
    assert cursors == [False, True, True]
    for limit, length in ((1, 1), (3, 3), (50, 3), (0, None)):
        url = f"{side.emulator.endpoint}/compute/instances?limit={limit}"
        answer = requests.get(url, headers=KEY, timeout=10)
        assert len(answer.json().get("instances", ())) == (length or 0)
        assert answer.ok is (length is not None)
    for sent, answer in side.wire.exchanges:
        side.contract.check_answer(sent, answer)


@v1_only
def test_idempotency_key(side: Side) -> None:
    """A create that is sent again gets the same answer; another create can't have its key."""
    create = calls_of(side.client)["create"]
    assert create() == create()
    with pytest.raises(APIError, match="the idempotency key came with another create before"):
        side.client.create_instance(NewInstance(EIGHT, ED25519), "a-key")
    assert side.check() == ["POST 201", "POST 201", "POST 400"]
    assert {sent.headers["Idempotency-Key"] for sent, _ in side.wire.exchanges} == {"a-key"}


# What is refused


@pytest.mark.parametrize("kind", CALLS)
def test_faults(side: Side, kind: str) -> None:
    """The status is one that is documented for the call, and the body is the API's error."""
    documented = statuses(side.api)[kind]
    refusals = {name: fault.status for name, fault in OUTCOMES.items() if fault.detail is not None}
    played = {name: st for name, st in refusals.items() if (kind, st) not in UNDOCUMENTED}
    assert len(played) >= 5
    assert not any(status in documented for call, status in UNDOCUMENTED if call == kind)
    for name in played:
        side.emulator.faults.add(kind, name)
        with pytest.raises(APIError):
            calls_of(side.client)[kind]()
    assert [int(line.split()[1]) for line in side.check()] == [*played.values()]


def test_wrong_key(side: Side) -> None:
    """The emulator checks the key before anything else, and the client says what it lacks."""
    calls = calls_of(client_of(side.emulator, FAL_ADMIN_API_KEY="another"))
    needed = {"legacy": "with the ADMIN scope", "v1": "the compute permission"}[side.api]
    for kind in CALLS:
        side.emulator.faults.add(kind, "500_after")
        with pytest.raises(AuthenticationError, match=needed) as caught:
            calls[kind]()
        assert ("(request id req_" in str(caught.value)) == (side.api == "v1")
        assert side.emulator.faults.take(kind), "the fault was not left for a call with the key"
    assert side.emulator.state.creations == 0
    assert side.check() == ["POST 401", "GET 401", "GET 401", "DELETE 401"]


def post(side: Side, body: dict[str, str | None]) -> requests.Response:
    """Send a create with a body that the client may not send."""
    path = {"legacy": "/compute/instance", "v1": "/compute/instances"}[side.api]
    return requests.post(side.emulator.endpoint + path, headers=KEY, json=body, timeout=10)


@pytest.mark.parametrize(
    "body, field",
    [
        ({"instance_type": "gpu_2x", "ssh_key": ED25519}, "instance_type"),
        ({"ssh_key": ED25519}, "instance_type"),
        ({"instance_type": ONE, "ssh_key": ""}, "ssh_key"),
        ({"instance_type": ONE, "ssh_key": ED25519, "sector": "sector_1"}, "sector"),
        ({"instance_type": EIGHT, "ssh_key": ED25519, "sector": "sector_9"}, "sector"),
    ],
    ids=["type", "no type", "key", "sector of a 1x machine", "sector"],
)
def test_wrong_body(side: Side, body: dict[str, str | None], field: str) -> None:
    """The document and the emulator agree on what a create may not say; the answer names it."""
    post(side, body)
    ((sent, answer),) = side.wire.exchanges
    if side.api == "legacy":
        (problem,) = answer.json()["detail"]
        assert (answer.status_code, problem["loc"]) == (422, ["body", field])
    else:
        message = answer.json()["error"]["message"]
        assert (answer.status_code, message.partition(":")[0]) == (400, field)
    assert side.emulator.state.creations == 0
    side.contract.check_answer(sent, answer)
    with pytest.raises(OpenAPIError):
        side.contract.check_request(sent)


def test_wrong_path(side: Side) -> None:
    """It is refused in the API's own shape, and so is a wrong method."""
    names = {"legacy": {"detail"}, "v1": {"error"}}[side.api]
    one = {"legacy": "/compute/instance", "v1": "/compute/instances"}[side.api]
    paths = {"legacy": ["/elsewhere"], "v1": ["", "/", "/elsewhere"]}[side.api]
    for method, path, status in [
        *(("GET", path, 404) for path in paths),
        ("PUT", f"{one}/{ID}", 405),
    ]:
        answer = requests.request(method, side.emulator.endpoint + path, timeout=10)
        assert (answer.status_code, answer.json().keys()) == (status, names)


# The fake of other tests


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer() as emulator:
        yield emulator


def outcome(client: Client, kind: str, state: State) -> tuple[Any, ...]:
    """What a client of one attempt gets, and how many machines there are afterwards."""
    state.machines.clear()
    try:
        calls_of(client)[kind]()
    except APIError as error:
        got = (type(error), error.method, error.path, error.status, error.instance_id)
        return (*got, error.retry_after, getattr(error, "sent", None), state.creations)
    return ("an answer", state.creations)


@pytest.mark.parametrize("name", sorted(set(OUTCOMES) - {"hold", "late", "slow"}))
@pytest.mark.parametrize("kind", CALLS)
def test_fake(emulator: EmulatorServer, kind: str, name: str) -> None:
    """A client can't tell the fake from the emulator, whatever the fault."""
    fake = FakeApi(lambda: 0.0)
    for faults in (fake.faults, emulator.faults):
        faults.add(kind, fault(name, retry_after=7 if name in ("429", "503") else None))
    faked = Client(settings(), send=fake.send).within(0)
    assert outcome(faked, kind, fake.state) == outcome(client_of(emulator), kind, emulator.state)
