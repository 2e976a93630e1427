"""The legacy dialect: what its requests are, what their answers mean, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pulumi_fal.api import legacy
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request

from ..fakes import CREATE, DELETE, ED25519, EIGHT, GET, ID, KEY, LIST

FULL = {
    "id": ID,
    "instance_type": EIGHT,
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
}


def listed(*bodies: object) -> list[Instance]:
    return LIST.parse(list(bodies)).instances


@pytest.mark.parametrize(
    "request_, call, line",
    [
        (LIST, "list", "GET /compute/instances"),
        (GET, "get", f"GET /compute/instance/{ID}"),
        (CREATE, "create", "POST /compute/instance"),
        (DELETE, "delete", f"DELETE /compute/instance/{ID}"),
    ],
    ids=["list", "get", "create", "delete"],
)
def test_every_call_has_its_method_and_path(request_: Request[Any], call: str, line: str) -> None:
    """The list has a plural path, and the other calls have a singular one."""
    assert (request_.call, f"{request_.method} {request_.path}") == (call, line)


def test_only_a_create_must_not_be_taken_twice() -> None:
    """Only a create does more when it is taken twice."""
    assert [request.is_idempotent for request in (LIST, GET, DELETE, CREATE)] == [True] * 3 + [
        False
    ]


@pytest.mark.parametrize("sector", [None, ""])
def test_a_create_without_a_sector_does_not_send_the_field(sector: str | None) -> None:
    """A create without a sector leaves the field out, since null may mean something else."""
    body = {"instance_type": EIGHT, "ssh_key": ED25519}
    assert legacy.create_instance(EIGHT, ED25519, sector).body == body
    with_sector = legacy.create_instance(EIGHT, ED25519, "sector_1")
    assert with_sector.body == {**body, "sector": "sector_1"}


@pytest.mark.parametrize("ask", [legacy.get_instance, legacy.delete_instance])
def test_an_id_cannot_lead_to_another_path(ask: Callable[[str], Request[Any]]) -> None:
    """An id from a person can't lead a request to another path."""
    assert ask("../instances?a=b/").path == "/compute/instance/..%2Finstances%3Fa%3Db%2F"


def test_a_delete_expects_no_json() -> None:
    """Any body is accepted after a delete, since the API doesn't specify it."""
    assert not DELETE.json_expected
    assert DELETE.parse(None) is None


def test_a_machine_has_what_the_api_says() -> None:
    """Each field arrives under the API's own name."""
    machine = Instance(ID, EIGHT, "sector_2", "192.0.2.7", "ready")
    assert CREATE.parse(FULL) == GET.parse(FULL) == machine
    assert listed(FULL) == [machine]


@pytest.mark.parametrize("field, missing", [("sector", None), ("ip", None), ("status", "unknown")])
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_an_optional_field_may_be_absent_in_any_way(
    field: str, missing: str | None, absent: str | None
) -> None:
    """Null, blank and missing mean the same: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**FULL, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(CREATE.parse(body), field) == missing


def test_unknown_fields_types_and_statuses_are_no_error() -> None:
    """A newer API may say more, and a status that is not known is not ready."""
    body = {**FULL, "instance_type": "gpu_8x_b200", "status": "rebooting", "region": {"is": "eu"}}
    machine = CREATE.parse(body)
    assert (machine.instance_type, machine.status) == ("gpu_8x_b200", "rebooting")
    assert not machine.is_ready


@pytest.mark.parametrize(
    "body, reason",
    [
        (None, "expected an object, not NoneType"),
        ([FULL], "expected an object, not list"),
        ("text", "expected an object, not str"),
        ({}, "'id' is missing"),
        ({"result": FULL}, "'id' is missing"),
        ({**FULL, "id": None}, "'id' is missing"),
        ({**FULL, "id": ""}, "'id' is missing"),
        ({**FULL, "id": 7}, "'id' is not a string"),
        ({**FULL, "instance_type": None}, "'instance_type' is missing"),
        ({**FULL, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        ({**FULL, "sector": 2}, "'sector' is not a string"),
        ({**FULL, "status": {"is": "ready"}}, "'status' is not a string"),
    ],
)
def test_a_body_that_is_no_machine_is_refused_by_field(body: object, reason: str) -> None:
    """A machine without an id could never be deleted."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        CREATE.parse(body)


@pytest.mark.parametrize("other", ["another", KEY, "\x1b[2J"])
def test_an_answer_about_another_machine_is_refused_and_not_repeated(other: str) -> None:
    """An answer about another machine is refused, as from a cache that mixes answers up."""
    with pytest.raises(ValueError, match=r"^the answer is about another machine$"):
        GET.parse({**FULL, "id": other})


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
    """An entry of a list that can't be read is left out, and the others are kept."""
    entry, other = listed({**FULL, field: odd}, {**FULL, "id": "other"})
    assert getattr(entry, field) == expected
    known = {name: value for name, value in vars(entry).items() if name in FULL}
    assert known.items() - {(field, expected)} <= FULL.items()
    assert other.id == "other"


@pytest.mark.parametrize(
    "body, reason",
    [
        ({"result": []}, "expected an array, not dict"),
        (None, "expected an array, not NoneType"),
        ([FULL, "text"], "expected an object, not str"),
        ([FULL, None], "expected an object, not NoneType"),
        ([FULL, {}], "'id' is missing"),
        ([FULL, {**FULL, "id": None}], "'id' is missing"),
        ([FULL, {**FULL, "id": ""}], "'id' is missing"),
    ],
)
def test_a_list_of_another_shape_is_refused(body: object, reason: str) -> None:
    """A list of another shape says nothing about any machine."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        LIST.parse(body)


def test_text_of_the_api_can_not_control_a_terminal() -> None:
    """Control characters are taken out of ids and statuses, which are printed."""
    machine = CREATE.parse({**FULL, "status": "re\x1b[2J\nady"})
    assert machine.status == "re [2J ady"


FIELDS = [
    {"loc": ["body", "ssh_key"], "msg": "not a key", "type": "x", "input": "hunter2"},
    {"loc": ["body", "sector", 0], "msg": "no such sector", "ctx": {"input": "hunter2"}},
    {"msg": "and more"},
]


@pytest.mark.parametrize(
    "body, reason",
    [
        ({"detail": FIELDS}, "ssh_key: not a key; sector.0: no such sector; and more"),
        ({"detail": FIELDS[:1]}, "ssh_key: not a key"),
        ({"detail": ["one reason", "another"]}, "one reason; another"),
        ({"detail": [{"loc": 7, "msg": "odd"}]}, "odd"),
        ({"detail": {"message": "no capacity"}}, "no capacity"),
        ({"error": {"type": "quota", "message": "no quota left"}}, "no quota left"),
        ({"error": "a text"}, "a text"),
        ({"detail": 7}, None),
        ({}, None),
        ("just text", None),
    ],
)
def test_the_reason_of_an_error_names_fields_and_never_the_input(
    body: object, reason: str | None
) -> None:
    """An error names the fields, and never the input, which may be a secret."""
    assert legacy.reason(body) == reason
