"""The two versions of the API: what is sent to each, and how its answers are read.

What differs between them stands in DIALECTS. Everything else must hold for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pulumi_fal.api.dialects import LEGACY, V1, Dialect, Request
from pulumi_fal.api.models import Instance, NewInstance

from ..fakes import ED25519, EIGHT, ID, KEY, ONE

MACHINE = {
    "id": ID,
    "instance_type": EIGHT,
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
}


@dataclass(frozen=True)
class Side:
    """One version of the API, and what it alone has."""

    dialect: Dialect
    create_path: str
    machine_path: str
    fields: dict[str, str]
    """The fields that only this version's machines have."""
    page: Callable[[Any], Any]
    """The body of a list that has these machines."""

    @property
    def full(self) -> dict[str, Any]:
        """The body of a machine with all of its fields."""
        return {**MACHINE, **self.fields}

    def parse(self, body: object) -> Instance:
        """The machine in the answer to a create."""
        return self.dialect.create_instance(NewInstance(ONE, ED25519)).parse(body)

    def listed(self, *bodies: object) -> list[Instance]:
        """The machines in the answer to a list."""
        return self.dialect.list_instances().parse(self.page(list(bodies))).instances


DIALECTS = {
    "legacy": Side(
        dialect=LEGACY,
        create_path="/compute/instance",
        machine_path="/compute/instance/",
        fields={},
        page=lambda machines: machines,
    ),
    "v1": Side(
        dialect=V1,
        create_path="/compute/instances",
        machine_path="/compute/instances/",
        fields={"region": "us-west", "creator_user_nickname": "developer"},
        page=lambda machines: {"instances": machines, "next_cursor": None, "has_more": False},
    ),
}


@pytest.fixture(params=DIALECTS)
def side(request: pytest.FixtureRequest) -> Side:
    return DIALECTS[request.param]


def line(request: Request[Any]) -> str:
    return f"{request.kind}: {request.method} {request.path}"


# Requests


def test_every_call_has_its_method_and_path(side: Side) -> None:
    """Both versions list machines at the same path, without a limit."""
    dialect = side.dialect
    assert line(dialect.list_instances()) == "list: GET /compute/instances"
    assert line(dialect.get_instance(ID)) == f"get: GET {side.machine_path}{ID}"
    assert (
        line(dialect.create_instance(NewInstance(ONE, ED25519)))
        == f"create: POST {side.create_path}"
    )
    assert line(dialect.delete_instance(ID)) == f"delete: DELETE {side.machine_path}{ID}"


def test_cursor() -> None:
    assert line(V1.list_instances("Mg==")) == "list: GET /compute/instances?cursor=Mg%3D%3D"


def test_a_create_without_a_key_must_not_be_sent_twice_and_any_other_call_may(side: Side) -> None:
    """A second create is a second machine; a second list, read or delete changes nothing."""
    dialect = side.dialect
    requests: list[Request[Any]] = [
        dialect.list_instances(),
        dialect.get_instance(ID),
        dialect.delete_instance(ID),
    ]
    assert all(request.is_idempotent for request in requests)
    create = dialect.create_instance(NewInstance(ONE, ED25519))
    assert (create.is_idempotent, create.headers) == (False, {})


def test_only_v1_has_creates_that_may_be_sent_twice() -> None:
    """Such a create has an idempotency key, which the legacy API doesn't support."""
    keyed = V1.create_instance(NewInstance(ONE, ED25519), "the-key")
    assert (keyed.is_idempotent, keyed.headers) == (True, {"Idempotency-Key": "the-key"})
    assert keyed.body == {"instance_type": ONE, "ssh_key": ED25519}
    keyed = LEGACY.create_instance(NewInstance(ONE, ED25519), "the-key")
    assert (keyed.is_idempotent, keyed.headers) == (False, {})


@pytest.mark.parametrize("sector", [None, ""])
def test_a_create_without_a_sector_does_not_send_the_field(side: Side, sector: str | None) -> None:
    """The field is left out, since null may mean something else."""
    body = {"instance_type": EIGHT, "ssh_key": ED25519}
    assert side.dialect.create_instance(NewInstance(EIGHT, ED25519, sector)).body == body
    with_sector = side.dialect.create_instance(NewInstance(EIGHT, ED25519, "sector_1"))
    assert with_sector.body == {**body, "sector": "sector_1"}


def test_an_id_can_not_lead_to_another_path(side: Side) -> None:
    """The id of an import comes from a person, who may paste anything."""
    requests: list[Request[Any]] = [
        side.dialect.get_instance("../keys?a=b/"),
        side.dialect.delete_instance("../keys?a=b/"),
    ]
    assert {request.path for request in requests} == {
        f"{side.machine_path}..%2Fkeys%3Fa%3Db%2F",
    }


def test_a_delete_expects_no_json(side: Side) -> None:
    """Any body is accepted after a delete: one API doesn't specify it, and the other has none."""
    delete = side.dialect.delete_instance(ID)
    assert not delete.json_expected
    assert delete.parse(None) is None


# Machines


def test_a_machine_has_what_the_api_says(side: Side) -> None:
    """Each field arrives under the API's own name; only v1 knows the region and the creator."""
    machine = Instance(ID, EIGHT, "sector_2", "192.0.2.7", "ready", **side.fields)
    assert side.parse(side.full) == side.dialect.get_instance(ID).parse(side.full) == machine
    assert side.listed(side.full) == [machine]


@pytest.mark.parametrize(
    "field, missing",
    [
        ("sector", None),
        ("ip", None),
        ("status", "unknown"),
        ("region", None),
        ("creator_user_nickname", None),
    ],
)
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_an_optional_field_may_be_absent_in_any_way(
    side: Side, field: str, missing: str | None, absent: str | None
) -> None:
    """Null, blank and missing mean the same: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**side.full, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(side.parse(body), field) == missing


def test_unknown_fields_types_and_statuses_are_no_error(side: Side) -> None:
    """A newer API may say more, and a status that is not known is not ready."""
    body = {**side.full, "instance_type": "gpu_8x_b200", "status": "rebooting", "rack": {"is": 7}}
    machine = side.parse(body)
    assert (machine.instance_type, machine.status) == ("gpu_8x_b200", "rebooting")
    assert not machine.is_ready


@pytest.mark.parametrize(
    "body, reason",
    [
        (None, "expected an object, not NoneType"),
        ([MACHINE], "expected an object, not list"),
        ("text", "expected an object, not str"),
        ({}, "'id' is missing"),
        ({"result": MACHINE}, "'id' is missing"),
        ({**MACHINE, "id": None}, "'id' is missing"),
        ({**MACHINE, "id": ""}, "'id' is missing"),
        ({**MACHINE, "id": 7}, "'id' is not a string"),
        ({**MACHINE, "instance_type": None}, "'instance_type' is missing"),
        ({**MACHINE, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        ({**MACHINE, "sector": 2}, "'sector' is not a string"),
        ({**MACHINE, "status": {"is": "ready"}}, "'status' is not a string"),
    ],
)
def test_a_body_that_is_no_machine_is_refused_by_field(
    side: Side, body: object, reason: str
) -> None:
    """A machine without an id could never be deleted. The answer to a create needs no more."""
    is_of_both = "'id'" in reason or "an object" in reason
    for parse in (side.dialect.get_instance(ID).parse, *([side.parse] if is_of_both else [])):
        with pytest.raises(ValueError, match=f"^{reason}$"):
            parse(body)


@pytest.mark.parametrize("other", ["another", KEY, "\x1b[2J"])
def test_an_answer_about_another_machine_is_refused_and_not_repeated(
    side: Side, other: str
) -> None:
    """A cache on the way might mix answers up, and the text of a wrong one is not to be trusted."""
    with pytest.raises(ValueError, match=r"^the answer is about another machine$"):
        side.dialect.get_instance(ID).parse({**side.full, "id": other})


def test_text_of_the_api_can_not_control_a_terminal(side: Side) -> None:
    """Control characters are taken out of ids and statuses, which are printed."""
    machine = side.parse({**side.full, "status": "re\x1b[2J\nady"})
    assert machine.status == "re [2J ady"


# Lists


@pytest.mark.parametrize(
    "field, odd, expected",
    [
        ("instance_type", None, ""),
        ("instance_type", 8, ""),
        ("sector", {"name": "sector_1"}, None),
        ("ip", ["192.0.2.7"], None),
        ("status", 3, "unknown"),
        ("region", 3, None),
    ],
)
def test_a_field_of_a_machine_that_can_not_be_read_hides_nothing_else(
    side: Side, field: str, odd: object, expected: str | None
) -> None:
    """In a list it hides no other machine, and in the answer to a create not the id."""
    entry, other = side.listed({**side.full, field: odd}, {**side.full, "id": "other"})
    assert side.parse({**side.full, field: odd}) == entry
    assert getattr(entry, field) == expected
    known = {name: value for name, value in vars(entry).items() if name in side.full}
    assert known.items() - {(field, expected)} <= side.full.items()
    assert other.id == "other"


@pytest.mark.parametrize(
    "machines, reason",
    [
        ({"result": []}, "expected an array, not dict"),
        (None, "expected an array, not NoneType"),
        ([MACHINE, "text"], "expected an object, not str"),
        ([MACHINE, None], "expected an object, not NoneType"),
        ([MACHINE, {}], "'id' is missing"),
        ([MACHINE, {**MACHINE, "id": None}], "'id' is missing"),
        ([MACHINE, {**MACHINE, "id": ""}], "'id' is missing"),
    ],
)
def test_a_list_of_another_shape_is_refused(side: Side, machines: object, reason: str) -> None:
    """A list of another shape says nothing about any machine."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        side.dialect.list_instances().parse(side.page(machines))


@pytest.mark.parametrize(
    "body, cursor",
    [
        ({"instances": [MACHINE], "next_cursor": "Mg==", "has_more": True}, "Mg=="),
        ({"instances": [MACHINE], "next_cursor": None, "has_more": False}, None),
        ({"instances": [MACHINE]}, None),
    ],
)
def test_a_page_of_v1_names_the_next_one(body: dict[str, Any], cursor: str | None) -> None:
    """The last page has no cursor."""
    page = V1.list_instances().parse(body)
    assert ([machine.id for machine in page.instances], page.next_cursor) == ([ID], cursor)


@pytest.mark.parametrize(
    "body, problem",
    [
        ([MACHINE], "expected an object, not list"),
        ({"instances": [], "next_cursor": 2}, "'next_cursor' is not a string"),
        ({"instances": [], "has_more": True}, "no cursor for the next one"),
    ],
)
def test_a_page_of_v1_that_may_hide_the_next_one_is_refused(body: Any, problem: str) -> None:
    """A list that ends too early would make machines look as if they were gone."""
    with pytest.raises(ValueError, match=problem):
        V1.list_instances().parse(body)


# Errors

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
def test_the_reason_of_a_legacy_error_names_fields_and_never_the_input(
    body: object, reason: str | None
) -> None:
    """The input may be a secret."""
    assert LEGACY.list_instances().reason(body) == reason


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
def test_the_reason_of_a_v1_error_is_its_message_and_the_requests_id(
    body: Any, reason: str | None
) -> None:
    """The id is what fal's support asks for."""
    assert V1.list_instances().reason(body) == reason
