"""The v1 API's wire: what is sent, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pulumi_fal.api import v1
from pulumi_fal.api.client import Client
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import resolve
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.errors import APIError, AuthenticationError, UnusableAnswerError

from ..fakes import ED25519, EIGHT, ID, ONE, FakeApi, TurnedClock, settings

FULL = {
    "id": ID,
    "instance_type": EIGHT,
    "region": "us-west",
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
    "creator_user_nickname": "developer",
}


@pytest.mark.parametrize(
    "request_, call, line",
    [
        (v1.list_instances(), "list", "GET /compute/instances"),
        (v1.list_instances("Mg=="), "list", "GET /compute/instances?cursor=Mg%3D%3D"),
        (v1.get_instance(ID), "get", f"GET /compute/instances/{ID}"),
        (v1.create_instance(ONE, ED25519, None), "create", "POST /compute/instances"),
        (v1.delete_instance(ID), "delete", f"DELETE /compute/instances/{ID}"),
    ],
    ids=["list", "next page", "get", "create", "delete"],
)
def test_every_call_has_its_method_and_path(request_: Request[Any], call: str, line: str) -> None:
    """All paths are plural, and the list is asked for without a limit."""
    assert (request_.call, f"{request_.method} {request_.path}") == (call, line)


@pytest.mark.parametrize("ask", [v1.get_instance, v1.delete_instance])
def test_an_id_can_not_lead_to_another_path(ask: Callable[[str], Request[Any]]) -> None:
    """The id of an import comes from a person, who may paste anything."""
    assert ask("../keys?x=1").path == "/compute/instances/..%2Fkeys%3Fx%3D1"


def test_only_a_create_with_a_key_may_be_taken_twice() -> None:
    """Without the key a second create is a second machine."""
    plain = v1.create_instance(ONE, ED25519, None)
    keyed = v1.create_instance(ONE, ED25519, None, "the-key")
    assert (plain.is_idempotent, plain.headers) == (False, {})
    assert (keyed.is_idempotent, keyed.headers) == (True, {"Idempotency-Key": "the-key"})
    assert plain.body == keyed.body == {"instance_type": ONE, "ssh_key": ED25519}


def test_a_machine_has_its_region_and_who_made_it() -> None:
    """The legacy API tells neither."""
    found = v1.get_instance(ID).parse(FULL)
    assert vars(found) == FULL


def test_sector_ip_and_creator_may_be_absent() -> None:
    """A new machine has no ip yet, and a machine with one GPU has no sector."""
    needed = {name: FULL[name] for name in ("id", "instance_type", "region", "status")}
    found = v1.get_instance(ID).parse(needed)
    assert (found.sector, found.ip, found.creator_user_nickname) == (None, None, None)


def test_an_answer_about_another_machine_is_refused() -> None:
    """A cache on the way might mix answers up."""
    with pytest.raises(ValueError, match="another machine"):
        v1.get_instance("other").parse(FULL)


@pytest.mark.parametrize(
    "body, cursor",
    [
        ({"instances": [FULL], "next_cursor": "Mg==", "has_more": True}, "Mg=="),
        ({"instances": [FULL], "next_cursor": None, "has_more": False}, None),
        ({"instances": [FULL]}, None),
    ],
)
def test_a_page_names_the_next_one(body: dict[str, Any], cursor: str | None) -> None:
    """The last page has no cursor."""
    page = v1.list_instances().parse(body)
    assert ([machine.id for machine in page.instances], page.next_cursor) == ([ID], cursor)


@pytest.mark.parametrize(
    "body, problem",
    [
        ([FULL], "expected an object, not list"),
        ({"instances": FULL}, "expected an array, not dict"),
        ({"instances": [], "next_cursor": 2}, "'next_cursor' is not a string"),
        ({"instances": [], "has_more": True}, "no cursor for the next one"),
    ],
)
def test_a_page_of_another_shape_is_refused(body: Any, problem: str) -> None:
    """A list that ends too early would make machines look as if they were gone."""
    with pytest.raises(ValueError, match=problem):
        v1.list_instances().parse(body)


@pytest.mark.parametrize(
    "body, reason",
    [
        ({"error": {"type": "x", "message": "No.", "request_id": "r1"}}, "No (request id r1)"),
        ({"error": {"type": "x", "message": "No."}}, "No."),
        ({"error": "plain"}, "plain"),
        ({"error": {"type": "x"}}, None),
        ({"detail": "another API's"}, None),
        ([], None),
    ],
)
def test_the_reason_of_an_error_is_its_message_and_the_requests_id(
    body: Any, reason: str | None
) -> None:
    """The id is what fal's support asks for."""
    assert v1.reason(body) == reason


def fake(machines: int, page_size: int) -> tuple[FakeApi, Client, list[str]]:
    """A v1 client on an API whose list has pages; the cursors that it asks for."""
    clock = TurnedClock()
    api, cursors = FakeApi(clock.now), list[str]()
    ids = [api.state.create(ONE, ED25519).id for _ in range(machines)]

    def send(request: Request[Any], timeout: float | None = None) -> Any:
        cursor = request.path.partition("cursor=")[2] or "0"
        cursors.append(cursor)
        api.send(request)
        start = int(cursor)
        shown = [{"id": machine} for machine in ids[start : start + page_size]]
        following = str(start + page_size) if start + page_size < len(ids) else None
        return {"instances": shown, "next_cursor": following}

    return api, Client(settings(api="v1"), clock, send=send), cursors


def test_a_list_is_all_of_its_pages() -> None:
    """Seven machines on pages of three take three requests."""
    _, client, cursors = fake(7, 3)
    assert len(client.list_instances()) == 7
    assert cursors == ["0", "3", "6"]


def test_a_page_that_fails_is_repeated_and_not_the_whole_list() -> None:
    """A poll makes one attempt of a list, and would rarely get to the end of many pages."""
    api, client, cursors = fake(7, 3)
    api.faults.add("list", "ok")
    api.faults.add("list", "503", 2)
    assert len(client.within(0).list_instances()) == 7
    assert cursors == ["0", "3", "3", "3", "6"]


def test_the_first_page_fails_as_any_call_does() -> None:
    """A poll that makes one attempt hears of it at once."""
    api, client, cursors = fake(7, 3)
    api.faults.add("list", "503")
    with pytest.raises(APIError):
        client.within(0).list_instances()
    assert cursors == ["0"]


def test_a_cursor_that_comes_back_is_an_error() -> None:
    """Otherwise the list would never end."""

    def send(request: Request[Any], timeout: float | None = None) -> Any:
        return {"instances": [], "next_cursor": "same"}

    with pytest.raises(UnusableAnswerError, match="the pages of the list have no end"):
        Client(settings(api="v1"), TurnedClock(), send=send).list_instances()


@pytest.fixture
def emulator() -> Any:
    with EmulatorServer(api="v1") as server:
        yield server


def test_the_client_and_the_emulator_agree_on_the_wire(emulator: EmulatorServer) -> None:
    """All four calls go over real HTTP, with a list of several pages."""
    emulator.state.page_size = 2
    client = Client(resolve(emulator.env, lambda key: None))
    made = [client.create_instance(ONE, ED25519, None, f"key-{number}") for number in range(5)]
    assert client.create_instance(ONE, ED25519, None, "key-0") == made[0]
    listed = client.list_instances()
    assert {machine.id for machine in listed} == {machine.id for machine in made}
    assert client.get_instance(made[0].id) in listed
    assert {(machine.region, machine.creator_user_nickname) for machine in listed} == {
        ("us-west", "emulator")
    }
    client.delete_instance(made[0].id)
    assert emulator.state.deletions == 1
    assert {call.api for call in emulator.log} == {"v1"}


def test_both_apis_have_the_same_machines(emulator: EmulatorServer) -> None:
    """The emulator serves both on one port."""
    client = Client(resolve(emulator.env, lambda key: None))
    made = client.create_instance(ONE, ED25519)
    legacy = {**emulator.env, "FAL_COMPUTE_API": "legacy", "FAL_COMPUTE_ENDPOINT": emulator.url}
    (seen,) = Client(resolve(legacy, lambda key: None)).list_instances()
    assert (seen.id, seen.region) == (made.id, None)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_what_it_lacks(emulator: EmulatorServer, status: int) -> None:
    """The v1 API wants an account that has the compute permission."""
    emulator.faults.add("list", str(status))
    with pytest.raises(AuthenticationError, match="the compute permission") as caught:
        Client(resolve(emulator.env, lambda key: None)).list_instances()
    assert "(request id req_" in str(caught.value)


def test_a_key_that_comes_with_another_create_is_refused(emulator: EmulatorServer) -> None:
    """The kept answer is of another machine than the one that is requested."""
    client = Client(resolve(emulator.env, lambda key: None))
    client.create_instance(ONE, ED25519, None, "key")
    with pytest.raises(APIError, match="answered 400"):
        client.create_instance(EIGHT, ED25519, None, "key")


def test_a_key_is_kept_for_its_time_and_for_its_account(emulator: EmulatorServer) -> None:
    """After that, or with another account's key, the same create makes another machine."""
    state = emulator.state
    first = state.create(ONE, ED25519, None, "one", "key")
    assert state.create(ONE, ED25519, None, "one", "key").id == first.id
    assert state.create(ONE, ED25519, None, "two", "key").id != first.id
    state.advance(600)
    assert state.create(ONE, ED25519, None, "one", "key").id != first.id
