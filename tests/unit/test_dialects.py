"""The two versions of the API: what is sent to each, and how its answers are read.

What differs is in the rows. test_contract.py has the paths, the bodies and the pages.
"""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.api.dialects import LEGACY, V1, Dialect, mismatch
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
FULL = {**MACHINE, "region": "us-west", "creator_user_nickname": "developer"}
each_api = pytest.mark.parametrize("api", [LEGACY, V1], ids=["legacy", "v1"])


def created(api: Dialect, body: object) -> Instance:
    return api.create_instance(NEW).parse(body)


def listed(api: Dialect, *machines: object) -> list[Instance]:
    body = {"instances": list(machines)} if api is V1 else list(machines)
    return api.list_instances().parse(body).instances


# Requests


@each_api
def test_quoted(api: Dialect) -> None:
    """No id and no cursor leads to another path."""
    for request in (api.get_instance("../keys?a=b/"), api.delete_instance("../keys?a=b/")):
        assert request.path == f"{api.instance}/..%2Fkeys%3Fa%3Db%2F"
    assert api.list_instances("Mg==&").path == "/compute/instances?cursor=Mg%3D%3D%26"


@each_api
def test_idempotent(api: Dialect) -> None:
    """A second create is a second machine, unless it has a key, which only v1 knows."""
    for request in (api.list_instances(), api.get_instance(ID), api.delete_instance(ID)):
        assert request.is_idempotent
    create, keyed = api.create_instance(NEW), api.create_instance(NEW, "the-key")
    assert (create.is_idempotent, create.headers) == (False, {})
    headers = {"Idempotency-Key": "the-key"} if api is V1 else {}
    assert (keyed.is_idempotent, keyed.headers) == (api is V1, headers)


# Machines


@pytest.mark.parametrize("field", ["sector", "ip", "status", "region", "creator_user_nickname"])
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_absent_field(field: str, absent: str | None) -> None:
    """Null, blank and missing mean the same: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**FULL, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(created(V1, body), field) == ("unknown" if field == "status" else None)


def test_news() -> None:
    """A newer API may say more, and none of it can control a terminal."""
    news = {"instance_type": "gpu_8x_b200", "status": "re\x1b[2J\nboot", "rack": {"is": 7}}
    machine = created(V1, {**FULL, **news})
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
        ({**MACHINE, "id": KEY}, "the answer is about another machine"),
    ],
)
def test_no_machine(body: object, reason: str) -> None:
    """A body that is none is refused by field, and not quoted: it might be another's answer."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        LEGACY.get_instance(ID).parse(body)


@pytest.mark.parametrize("body", [None, [MACHINE], {}, {**MACHINE, "id": None}])
def test_no_created_machine(body: object) -> None:
    """A machine without an id could never be deleted. The answer to a create needs no more."""
    with pytest.raises(ValueError, match=r"'id' is missing|expected an object, not "):
        created(LEGACY, body)


@each_api
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
def test_odd_field(api: Dialect, field: str, odd: object, expected: str | None) -> None:
    """In a list it hides no other machine, and in the answer to a create not the id."""
    machine = Instance(**{**FULL, field: expected})  # type: ignore[arg-type]
    other = Instance(**{**FULL, "id": "other"})
    assert listed(api, {**FULL, field: odd}, vars(other)) == [machine, other]
    assert created(api, {**FULL, field: odd}) == machine


@pytest.mark.parametrize(
    "api, body, reason",
    [
        (LEGACY, {"result": []}, "expected an array, not dict"),
        (LEGACY, None, "expected an array, not NoneType"),
        (LEGACY, [MACHINE, "text"], "expected an object, not str"),
        (V1, {"instances": [MACHINE, {}]}, "'id' is missing"),
        (V1, [MACHINE], "expected an object, not list"),
        (V1, {"instances": [], "next_cursor": 2}, "'next_cursor' is not a string"),
        (V1, {"instances": [], "has_more": True}, "no cursor for the next one"),
    ],
)
def test_no_list(api: Dialect, body: Any, reason: str) -> None:
    """A list of another shape, or that ends too early, says nothing about any machine."""
    with pytest.raises(ValueError, match=f"{reason}$"):
        api.list_instances().parse(body)


# Errors

FIELDS = [
    {"loc": ["body", "ssh_key"], "msg": "not a key", "type": "x", "input": "hunter2"},
    {"loc": ["body", "sector", 0], "msg": "no such sector", "ctx": {"input": "hunter2"}},
    {"msg": "and more"},
]


@pytest.mark.parametrize(
    "api, body, reason",
    [
        (LEGACY, {"detail": FIELDS}, "ssh_key: not a key; sector.0: no such sector; and more"),
        (LEGACY, {"detail": ["one reason", "another"]}, "one reason; another"),
        (LEGACY, {"detail": [{"loc": 7, "msg": "odd"}]}, "odd"),
        (LEGACY, {"detail": {"message": "no capacity"}}, "no capacity"),
        (LEGACY, {"error": {"type": "quota", "message": "no quota left"}}, "no quota left"),
        (LEGACY, {"error": "a text"}, "a text"),
        (LEGACY, {"detail": 7}, None),
        (LEGACY, "just text", None),
        (V1, {"error": {"message": "No.", "request_id": "r1"}}, "No (request id r1)"),
        (V1, {"error": {"message": "No."}}, "No."),
        (V1, {"error": "plain"}, "plain"),
        (V1, {"error": {"type": "x"}}, None),
        (V1, {"detail": "another API's"}, None),
        (V1, [], None),
    ],
)
def test_reason(api: Dialect, body: Any, reason: str | None) -> None:
    """It names the fields, or the id that support asks for. The input may be a secret."""
    assert api.reason(body) == reason


@pytest.mark.parametrize(
    "api, body, is_other",
    [
        ("legacy", {"instances": [MACHINE]}, True),
        ("v1", [MACHINE], True),
        ("v1", {"detail": "Not Found"}, True),
        ("v1", {"detail": "Method Not Allowed"}, True),
        ("legacy", [MACHINE], False),
        ("legacy", {"detail": "Not Found"}, False),
        ("legacy", {"instances": "of something else"}, False),
        ("v1", {"instances": []}, False),
        ("v1", {"detail": [{"msg": "no capacity"}]}, False),
        ("v1", "text", False),
    ],
)
def test_mismatch(api: str, body: Any, is_other: bool) -> None:
    """The setting is named only if the answer shows that it may be wrong."""
    other = "v1" if api == "legacy" else "legacy"
    said = f"as the {other} API answers, although FAL_COMPUTE_API (or fal:api) is {api}"
    assert mismatch(api, body) == (said if is_other else "")
