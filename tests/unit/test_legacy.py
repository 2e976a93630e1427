"""The legacy dialect: what its answers mean, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pulumi_fal.api import legacy
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request

FULL = {
    "id": "0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10",
    "instance_type": "gpu_8x_h100_sxm5",
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
}


def read(body: object) -> Instance:
    """The machine in the answer to a create."""
    return legacy.create_instance("gpu_8x_h100_sxm5", "key", None).parse(body)


def read_entry(body: object) -> Instance:
    """The machine in the one entry of a list."""
    (instance,) = legacy.list_instances().parse([body])
    return instance


def test_an_instance_has_what_the_api_says() -> None:
    """Each field arrives under the API's own name."""
    assert read(FULL) == Instance(
        id="0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10",
        instance_type="gpu_8x_h100_sxm5",
        sector="sector_2",
        ip="192.0.2.7",
        status="ready",
    )


@pytest.mark.parametrize("field", ["sector", "ip"])
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_an_optional_field_may_be_absent_in_any_way(field: str, absent: str | None) -> None:
    """Null, blank and missing all mean None: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**FULL, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(read(body), field) is None


@pytest.mark.parametrize(
    "field, odd, expected",
    [
        ("instance_type", None, ""),
        ("instance_type", 8, ""),
        ("sector", {"name": "sector_1"}, None),
        ("ip", ["192.0.2.7"], None),
        ("status", 3, "unknown"),
    ],
)
def test_an_odd_entry_of_a_list_hides_no_other(
    field: str, odd: object, expected: str | None
) -> None:
    """It may be anybody's machine: what can't be read of it is left out."""
    body = {**FULL, field: odd}
    assert getattr(read_entry(body), field) == expected
    if field != "status":
        assert read_entry(body).status == "ready"


@pytest.mark.parametrize("body", [{**FULL, "id": None}, {**FULL, "id": ""}, {}, None, "text"])
def test_an_entry_of_a_list_without_an_id_is_none(body: object) -> None:
    """It can't be told which machine it is, so nothing can be said of any."""
    with pytest.raises(ValueError, match=r"expected an object|'id' is"):
        read_entry(body)


def test_a_missing_status_is_unknown() -> None:
    """And so not ready."""
    instance = read({**FULL, "status": None})
    assert instance.status == "unknown"
    assert not instance.is_ready


def test_a_new_status_is_kept_and_is_not_ready() -> None:
    """The API may learn statuses before we do."""
    instance = read({**FULL, "status": "rebooting"})
    assert instance.status == "rebooting"
    assert not instance.is_ready


def test_unknown_fields_and_types_are_no_error() -> None:
    """A newer API may say more."""
    body = {**FULL, "instance_type": "gpu_8x_b200", "region": {"name": "eu"}}
    assert read(body).instance_type == "gpu_8x_b200"


@pytest.mark.parametrize(
    "body, reason",
    [
        (None, "expected an object, not NoneType"),
        ([FULL], "expected an object, not list"),
        ("text", "expected an object, not str"),
        ({}, "'id' is missing"),
        ({**FULL, "id": None}, "'id' is missing"),
        ({**FULL, "id": ""}, "'id' is missing"),
        ({**FULL, "id": 7}, "'id' is not a string"),
        ({**FULL, "instance_type": None}, "'instance_type' is missing"),
        ({**FULL, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        ({**FULL, "sector": 2}, "'sector' is not a string"),
        ({**FULL, "status": {"is": "ready"}}, "'status' is not a string"),
    ],
)
def test_what_is_no_instance_is_refused_by_field(body: object, reason: str) -> None:
    """A machine without an id could never be deleted."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read(body)


TYPE, SSH_KEY = "gpu_8x_h100_sxm5", "ssh-ed25519 AAAA"


@pytest.mark.parametrize(
    "request_, call, line",
    [
        (legacy.list_instances(), "list", "GET /compute/instances"),
        (legacy.get_instance("an-id"), "get", "GET /compute/instance/an-id"),
        (legacy.create_instance(TYPE, SSH_KEY, None), "create", "POST /compute/instance"),
        (legacy.delete_instance("an-id"), "delete", "DELETE /compute/instance/an-id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_call_has_its_method_and_path(request_: Request[Any], call: str, line: str) -> None:
    """One path is plural and three are singular."""
    assert (request_.call, f"{request_.method} {request_.path}") == (call, line)


def test_only_a_create_must_not_be_taken_twice() -> None:
    """A second create is a second machine; the API has no idempotency key."""
    assert legacy.list_instances().is_idempotent
    assert legacy.get_instance("an-id").is_idempotent
    assert legacy.delete_instance("an-id").is_idempotent
    assert not legacy.create_instance(TYPE, SSH_KEY, None).is_idempotent


@pytest.mark.parametrize("sector", [None, ""])
def test_a_create_without_a_sector_does_not_send_the_field(sector: str | None) -> None:
    """Null might not mean that the API chooses one."""
    body = {"instance_type": TYPE, "ssh_key": SSH_KEY}
    assert legacy.create_instance(TYPE, SSH_KEY, sector).body == body
    assert legacy.create_instance(TYPE, SSH_KEY, "sector_1").body == {**body, "sector": "sector_1"}


@pytest.mark.parametrize("ask", [legacy.get_instance, legacy.delete_instance])
def test_an_id_cannot_lead_to_another_path(ask: Callable[[str], Request[Any]]) -> None:
    """An import's id comes from a person."""
    assert ask("../instances?a=b/").path == "/compute/instance/..%2Finstances%3Fa%3Db%2F"


def test_a_delete_expects_no_json() -> None:
    """What the API answers to a delete is not specified."""
    request = legacy.delete_instance("an-id")
    assert not request.json_expected
    assert request.parse(None) is None
