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

NEW = NewInstance(ONE, ED25519)
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
        return self.dialect.create_instance(NEW).parse(body)

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


def test_path(side: Side) -> None:
    """Every call has its method and path, and no id leads to another path."""
    dialect, paste = side.dialect, "../keys?a=b/"
    quoted = "..%2Fkeys%3Fa%3Db%2F"
    assert line(dialect.list_instances()) == "list: GET /compute/instances"
    assert line(dialect.get_instance(paste)) == f"get: GET {side.machine_path}{quoted}"
    assert line(dialect.create_instance(NEW)) == f"create: POST {side.create_path}"
    assert line(dialect.delete_instance(paste)) == f"delete: DELETE {side.machine_path}{quoted}"


def test_cursor() -> None:
    assert line(V1.list_instances("Mg==")) == "list: GET /compute/instances?cursor=Mg%3D%3D"


def test_idempotent(side: Side) -> None:
    """A second create is a second machine, unless it has a key, which only v1 knows."""
    dialect = side.dialect
    for request in (
        dialect.list_instances(),
        dialect.get_instance(ID),
        dialect.delete_instance(ID),
    ):
        assert request.is_idempotent
    create, keyed = dialect.create_instance(NEW), dialect.create_instance(NEW, "the-key")
    assert (create.is_idempotent, create.headers) == (False, {})
    is_v1 = dialect is V1
    headers = {"Idempotency-Key": "the-key"} if is_v1 else {}
    assert (keyed.is_idempotent, keyed.headers, keyed.body) == (is_v1, headers, create.body)


@pytest.mark.parametrize("sector", [None, "", "sector_1"])
def test_sector(side: Side, sector: str | None) -> None:
    """Without one the field is left out, since null may mean something else."""
    body = side.dialect.create_instance(NewInstance(EIGHT, ED25519, sector)).body
    given = {"sector": sector} if sector else {}
    assert body == {"instance_type": EIGHT, "ssh_key": ED25519, **given}


def test_delete(side: Side) -> None:
    """Any body is accepted after a delete: one API doesn't specify it, and the other has none."""
    delete = side.dialect.delete_instance(ID)
    assert not delete.json_expected
    assert delete.parse(None) is None


# Machines


def test_machine(side: Side) -> None:
    """Each field arrives under the API's own name; only v1 knows the region and the creator."""
    machine = Instance(ID, EIGHT, "sector_2", "192.0.2.7", "ready", **side.fields)
    assert side.parse(side.full) == side.dialect.get_instance(ID).parse(side.full) == machine
    assert side.listed(side.full) == [machine]


@pytest.mark.parametrize("field", ["sector", "ip", "status", "region", "creator_user_nickname"])
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_absent_field(side: Side, field: str, absent: str | None) -> None:
    """Null, blank and missing mean the same: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**side.full, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(side.parse(body), field) == ("unknown" if field == "status" else None)


def test_news(side: Side) -> None:
    """A newer API may say more, and none of it can control a terminal."""
    news = {"instance_type": "gpu_8x_b200", "status": "re\x1b[2J\nboot", "rack": {"is": 7}}
    machine = side.parse({**side.full, **news})
    assert (machine.instance_type, machine.status) == ("gpu_8x_b200", "re [2J boot")
    assert not machine.is_ready


@pytest.mark.parametrize(
    "body, reason",
    [
        (None, "expected an object, not NoneType"),
        ([MACHINE], "expected an object, not list"),
        ({"result": MACHINE}, "'id' is missing"),
        ({**MACHINE, "id": ""}, "'id' is missing"),
        ({**MACHINE, "id": 7}, "'id' is not a string"),
        ({**MACHINE, "instance_type": None}, "'instance_type' is missing"),
        ({**MACHINE, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        ({**MACHINE, "sector": 2}, "'sector' is not a string"),
        ({**MACHINE, "status": {"is": "ready"}}, "'status' is not a string"),
        ({**MACHINE, "id": KEY}, "the answer is about another machine"),
    ],
)
def test_no_machine(side: Side, body: object, reason: str) -> None:
    """A body that is none is refused by field, and not quoted: it might be another's answer."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        side.dialect.get_instance(ID).parse(body)


@pytest.mark.parametrize("body", [None, [MACHINE], {}, {**MACHINE, "id": None}])
def test_no_created_machine(side: Side, body: object) -> None:
    """A machine without an id could never be deleted. The answer to a create needs no more."""
    with pytest.raises(ValueError, match=r"'id' is missing|expected an object, not "):
        side.parse(body)


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
def test_odd_field(side: Side, field: str, odd: object, expected: str | None) -> None:
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
        ([MACHINE, {}], "'id' is missing"),
    ],
)
def test_no_list(side: Side, machines: object, reason: str) -> None:
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
def test_page(body: dict[str, Any], cursor: str | None) -> None:
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
def test_hidden_page(body: Any, problem: str) -> None:
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
def test_legacy_reason(body: object, reason: str | None) -> None:
    """It names the fields, and never the input, which may be a secret."""
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
def test_v1_reason(body: Any, reason: str | None) -> None:
    """It is the message with the request's id, which is what fal's support asks for."""
    assert V1.list_instances().reason(body) == reason
