"""What the client sends, and what the emulator answers, is what the APIs' documents say."""

from __future__ import annotations

import json
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
from pulumi_fal.emulator.faults import OUTCOMES
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import CALLS, TurnedClock
from pulumi_fal.errors import APIError, AuthenticationError, NotFoundError

from ..contract.documents import APIS, Contract, Wire, document, statuses
from ..fakes import ED25519, EIGHT, ID, ONE

REFUSALS = [name for name, outcome in OUTCOMES.items() if outcome.detail is not None]
"""The faults that are an error in the API's own shape."""
UNDOCUMENTED = {("create", 404), ("list", 404), ("list", 409), ("get", 409)}
"""Answers that a call has no reason for, although a fault can be scripted for it."""


@dataclass
class Side:
    """A client and an emulator that speak one API, and what passes between them."""

    api: str
    emulator: EmulatorServer
    client: Client
    wire: Wire
    contract: Contract

    def call(self, kind: str) -> None:
        """One attempt of that kind of call."""
        calls: dict[str, Callable[[], object]] = {
            "create": lambda: self.client.create_instance(NewInstance(ONE, ED25519), "a-key"),
            "list": self.client.list_instances,
            "get": lambda: self.client.get_instance(ID),
            "delete": lambda: self.client.delete_instance(ID),
        }
        calls[kind]()

    def check(self) -> list[str]:
        """Hold all that passed to the document; the methods and statuses of it."""
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
        client = Client(resolve(emulator.env, lambda key: None)).within(0)
        contract = Contract(request.param, emulator.endpoint)
        yield Side(request.param, emulator, client, Wire.recorded(monkeypatch), contract)


def post(side: Side, body: dict[str, str | None]) -> requests.Response:
    """Send a create with a body that the client may not send."""
    path = {"legacy": "/compute/instance", "v1": "/compute/instances"}[side.api]
    key = {"Authorization": "Key emulator"}
    return requests.post(side.emulator.endpoint + path, headers=key, json=body, timeout=10)


@pytest.mark.parametrize("api", APIS)
def test_the_documents_are_valid_and_about_the_endpoints_of_the_client(api: str) -> None:
    """Each has the client's four kinds of calls, and nothing else."""
    validate(document(api))
    assert [server["url"] for server in document(api)["servers"]] == [ENDPOINTS[api]]
    assert statuses(api).keys() == set(CALLS)


def test_the_whole_life_of_machines_is_as_documented(side: Side) -> None:
    """Machines are created, listed and found at every age and while they are deleted, then gone."""
    client, state = side.client, side.emulator.state
    ids = [
        client.create_instance(NewInstance(kind, ED25519, sector), f"key-{number}").id
        for number, (kind, sector) in enumerate([(ONE, None), (EIGHT, None), (EIGHT, "sector_2")])
    ]
    statuses_seen = set()
    more = {"legacy": (None, None), "v1": ("us-west", "emulator")}[side.api]
    for seconds in (0, 2, 3, 4, 5):
        state.advance(seconds)
        listed = client.list_instances()
        statuses_seen |= {machine.status for machine in listed}
        assert [client.get_instance(id_) for id_ in ids] == listed
        assert [machine.id for machine in listed] == ids
        assert {(machine.region, machine.creator_user_nickname) for machine in listed} == {more}
    assert statuses_seen == {"pending", "init", "provisioning", "ready"}
    for id_ in ids:
        client.delete_instance(id_)
    assert [machine.id for machine in client.list_instances()] == ids
    state.advance(2)
    assert client.list_instances() == []
    for call in (client.get_instance, client.delete_instance):
        with pytest.raises(NotFoundError, match=ids[0]):
            call(ids[0])
    made, deleted = {"legacy": ("200", "200"), "v1": ("201", "204")}[side.api]
    lines = side.check()
    assert lines[:3] == [f"POST {made}"] * 3
    assert lines[3:-7] == ["GET 200"] * 20
    assert lines[-7:-2] == [*[f"DELETE {deleted}"] * 3, "GET 200", "GET 200"]
    assert lines[-2:] == ["GET 404", "DELETE 404"]


def test_a_new_machine_has_the_fields_of_its_api_and_no_others(side: Side) -> None:
    """The documents allow others; the legacy API has null where v1 leaves a field out."""
    side.call("create")
    ((_, answer),) = side.wire.exchanges
    found = {name: value for name, value in answer.json().items() if name != "id"}
    shared = {"instance_type": ONE, "status": "pending"}
    assert (
        found
        == {
            "legacy": {**shared, "sector": None, "ip": None},
            "v1": {**shared, "region": "us-west", "creator_user_nickname": "emulator"},
        }[side.api]
    )


def test_both_apis_have_the_same_machines(side: Side) -> None:
    """The emulator serves both on one port; only v1 tells a machine's region."""
    made = side.client.create_instance(NewInstance(ONE, ED25519))
    other, path, region = {"legacy": ("v1", "/v1", "us-west"), "v1": ("legacy", "", None)}[side.api]
    endpoint = f"{side.emulator.url}{path}"
    env = {**side.emulator.env, "FAL_COMPUTE_API": other, "FAL_COMPUTE_ENDPOINT": endpoint}
    (seen,) = Client(resolve(env, lambda key: None)).list_instances()
    assert (seen.id, seen.region) == (made.id, region)


@pytest.mark.parametrize("side", ["v1"], indirect=True)
def test_every_page_of_a_list_is_as_documented(side: Side) -> None:
    """Seven machines on pages of three take three requests, two of them with a cursor."""
    side.emulator.state.page_size = 3
    for _ in range(7):
        side.emulator.state.create(NewInstance(ONE, ED25519))
    assert len(side.client.list_instances()) == 7
    assert side.check() == ["GET 200"] * 3
    cursors = ["cursor=" in str(sent.url) for sent, _ in side.wire.exchanges]
    assert cursors == [False, True, True]


@pytest.mark.parametrize("side", ["v1"], indirect=True)
def test_a_limit_makes_a_page_shorter_and_never_longer(side: Side) -> None:
    """The client sends none, since the largest one is not published."""
    side.emulator.state.page_size = 3
    for _ in range(4):
        side.emulator.state.create(NewInstance(ONE, ED25519))
    url = f"{side.emulator.endpoint}/compute/instances"
    key = {"Authorization": "Key emulator"}
    lengths = [
        len(requests.get(f"{url}?limit={limit}", headers=key, timeout=10).json()["instances"])
        for limit in (1, 3, 50)
    ]
    assert lengths == [1, 3, 3]
    assert requests.get(f"{url}?limit=0", headers=key, timeout=10).status_code == 400
    for sent, answer in side.wire.exchanges:
        side.contract.check_answer(sent, answer)


def test_a_sector_of_null_is_for_the_legacy_api_only(side: Side) -> None:
    """The v1 API documents a sector that is there or not; the client sends null to neither."""
    answer = post(side, {"instance_type": EIGHT, "ssh_key": ED25519, "sector": None})
    assert answer.status_code == {"legacy": 200, "v1": 400}[side.api]


@pytest.mark.parametrize("side", ["v1"], indirect=True)
def test_a_create_that_is_sent_again_is_as_documented(side: Side) -> None:
    """Both requests have the same key in the same header, and both answers are the machine."""
    first, second = (
        side.client.create_instance(NewInstance(ONE, ED25519), "a-key") for _ in range(2)
    )
    assert first == second
    assert side.check() == ["POST 201", "POST 201"]
    assert {sent.headers["Idempotency-Key"] for sent, _ in side.wire.exchanges} == {"a-key"}


@pytest.mark.parametrize("kind", CALLS)
def test_every_fault_that_the_api_itself_answers_is_as_documented(side: Side, kind: str) -> None:
    """The status is one that is documented for the call, and the body is the API's error."""
    documented = statuses(side.api)[kind]
    played = [name for name in REFUSALS if (kind, OUTCOMES[name].status) not in UNDOCUMENTED]
    assert len(played) >= 5
    assert not any(status in documented for call, status in UNDOCUMENTED if call == kind)
    for name in played:
        side.emulator.faults.add(kind, name)
        with pytest.raises(APIError):
            side.call(kind)
    assert [int(line.split()[1]) for line in side.check()] == [
        OUTCOMES[name].status for name in played
    ]


def test_a_list_that_is_late_or_empty_is_as_documented(side: Side) -> None:
    """Faults that only delay or empty a list leave the answer readable."""
    for name in ("ok", "slow", "lapse"):
        side.emulator.faults.script(f"list={name}:seconds=0")
        side.client.list_instances()
    assert side.check() == ["GET 200"] * 3


def test_a_refused_key_is_answered_as_documented(side: Side) -> None:
    """The emulator checks the key before anything else."""
    env = {**side.emulator.env, "FAL_ADMIN_API_KEY": "another"}
    side.client = Client(resolve(env, lambda key: None)).within(0)
    for kind in CALLS:
        side.emulator.faults.add(kind, "500_after")
        with pytest.raises(AuthenticationError):
            side.call(kind)
        assert side.emulator.faults.take(kind), "the fault was not left for a call with the key"
    assert side.emulator.state.creations == 0
    assert side.check() == ["POST 401", "GET 401", "GET 401", "DELETE 401"]


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_key_that_is_refused_is_told_what_it_lacks(side: Side, status: str) -> None:
    """The legacy API needs a scope, and v1 a permission of the account."""
    side.emulator.faults.add("list", status)
    needed = {"legacy": "with the ADMIN scope", "v1": "the compute permission"}[side.api]
    with pytest.raises(AuthenticationError, match=needed) as caught:
        side.call("list")
    assert ("(request id req_" in str(caught.value)) == (side.api == "v1")


def test_an_unknown_machine_is_answered_as_documented(side: Side) -> None:
    """The account has no machine of that id."""
    for kind in ("get", "delete"):
        with pytest.raises(NotFoundError):
            side.call(kind)
    assert side.check() == ["GET 404", "DELETE 404"]


def test_a_create_beyond_the_capacity_is_answered_as_documented(side: Side) -> None:
    """The request is right, and refused."""
    side.emulator.state.capacity = 0
    with pytest.raises(APIError, match="no capacity left"):
        side.call("create")
    assert side.check() == ["POST 400"]


@pytest.mark.parametrize("side", ["v1"], indirect=True)
def test_a_key_of_another_create_is_answered_as_documented(side: Side) -> None:
    """The kept answer is of another machine than the one that is requested."""
    side.call("create")
    with pytest.raises(APIError, match="the idempotency key came with another create before"):
        side.client.create_instance(NewInstance(EIGHT, ED25519), "a-key")
    assert side.check() == ["POST 201", "POST 400"]


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
def test_a_request_that_is_not_as_documented_is_refused_as_documented(
    side: Side, body: dict[str, str | None], field: str
) -> None:
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


def test_a_path_that_the_api_has_not_is_refused_in_its_own_shape(side: Side) -> None:
    """The client can read why a wrong endpoint is wrong."""
    names = {"legacy": {"detail"}, "v1": {"error"}}[side.api]
    paths = {"legacy": ["/elsewhere"], "v1": ["", "/", "/elsewhere"]}[side.api]
    for method, path, status in [
        *(("GET", path, 404) for path in paths),
        ("PUT", "/compute/instances", 405),
    ]:
        answer = requests.request(method, side.emulator.endpoint + path, timeout=10)
        assert (answer.status_code, answer.json().keys()) == (status, names)


def test_a_path_names_all_of_its_methods_to_a_wrong_one(side: Side) -> None:
    """Each method has a route of its own, and the first one would speak for itself only."""
    one = {"legacy": "instance", "v1": "instances"}[side.api]
    answer = requests.put(f"{side.emulator.endpoint}/compute/{one}/{ID}", timeout=10)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, GET")


# The documents themselves: a check that lets everything pass would prove nothing.


def exchanged(side: Side, kind: str) -> tuple[requests.PreparedRequest, requests.Response]:
    """The exchange of a call that succeeds."""
    id_ = side.emulator.state.create(NewInstance(ONE, ED25519)).id
    if kind == "create":
        side.call(kind)
    elif kind == "get":
        side.client.get_instance(id_)
    else:
        side.call("list")
    return side.wire.exchanges[-1]


def test_a_wrong_request_is_found_out(side: Side) -> None:
    """The method, path, body and key of a request are looked at."""
    sent, _ = exchanged(side, "create")
    method, url, body = sent.method, str(sent.url), json.loads(sent.body or b"")
    key = {"Authorization": sent.headers["Authorization"]}
    right: dict[str, Any] = {"method": method, "url": url, "json": body, "headers": key}
    side.contract.check_request(requests.Request(**right).prepare())
    wrongs: tuple[dict[str, Any], ...] = (
        {"method": "PUT"},
        {"url": f"{url}-elsewhere"},
        {"json": {"instance_type": ONE}},
        {"json": {**body, "ssh_key": 1}},
        {"json": None},
        {"headers": {}},
    )
    for wrong in wrongs:
        with pytest.raises(OpenAPIError):
            side.contract.check_request(requests.Request(**{**right, **wrong}).prepare())


@pytest.mark.parametrize("kind", ["create", "list", "get"])
def test_a_wrong_answer_is_found_out(side: Side, kind: str) -> None:
    """A machine without one of its fields is not a machine."""
    sent, answer = exchanged(side, kind)
    right = answer.content
    for name in ("id", "instance_type", "status"):
        body = json.loads(right)
        if kind == "list":
            machines = body if side.api == "legacy" else body["instances"]
            del machines[0][name]
        else:
            del body[name]
        answer._content = json.dumps(body).encode()
        with pytest.raises(OpenAPIError):
            side.contract.check_answer(sent, answer)


@pytest.mark.parametrize("side", ["v1"], indirect=True)
def test_a_wrong_page_is_found_out(side: Side) -> None:
    """All three fields of a page are required, and so is a machine's region."""
    sent, answer = exchanged(side, "list")
    page: dict[str, Any] = {"instances": [], "next_cursor": None, "has_more": False}
    machine = {"id": ID, "instance_type": ONE, "status": "ready"}
    for body in (
        *({name: value for name, value in page.items() if name != left_out} for left_out in page),
        {**page, "next_cursor": 2},
        {**page, "instances": [machine]},
    ):
        answer._content = json.dumps(body).encode()
        with pytest.raises(OpenAPIError):
            side.contract.check_answer(sent, answer)


def test_a_status_that_is_not_documented_is_found_out(side: Side) -> None:
    """A document that allowed any status would say nothing."""
    sent, answer = exchanged(side, "list")
    answer.status_code = 418
    with pytest.raises(OpenAPIError):
        side.contract.check_answer(sent, answer)
