"""The client: its calls, what it repeats, when and for how long, and the API's two versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from pulumi_fal import errors
from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import LEGACY, V1, Dialect, Request, mismatch
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.emulator.faults import Fault, fault
from pulumi_fal.errors import APIError, Interrupted, UnusableAnswerError

from ..fakes import (
    CREATE,
    ED25519,
    EIGHT,
    GET,
    ID,
    KEY,
    LIST,
    ONE,
    UNSENT,
    refusal,
    settings,
    unanswered,
)
from .world import World

NEW = NewInstance(ONE, ED25519)
KEYED = replace(CREATE, headers={"Idempotency-Key": "key"})
HTML, NO_STATUS = (LIST.error(UnusableAnswerError, "no", status=status) for status in (200, None))
FULL = "no capacity left"

RULES: list[tuple[retry.Rule, list[APIError], bool, bool, bool]] = [
    (retry.UNSENT, [unanswered(sent=False)], True, True, False),
    (retry.UNANSWERED, [unanswered()], True, False, True),
    (retry.LIMITED, [refusal(429)], True, True, False),
    (retry.BROKEN, [*map(refusal, (500, 501, 502, 503, 504, 522))], True, False, True),
    (retry.UNREADABLE, [HTML, NO_STATUS], True, False, True),
    (retry.REDIRECTED, [refusal(307)], False, False, True),
    (retry.TIMED_OUT, [refusal(408)], True, False, True),
    (retry.IN_PROGRESS, [refusal(409, "wait", KEYED)], True, False, True),
    (retry.REFUSED, [*map(refusal, (400, 401, 403, 404, 409, 422))], False, False, False),
    (retry.REFUSED, [refusal(409, FULL, KEYED)], False, False, False),
]
"""Whether its errors are repeated, also for a create, and may have made a machine."""


@pytest.mark.parametrize(
    "rule, error, repeats, repeats_create, is_taken",
    [(rule, error, *expected) for rule, errors, *expected in RULES for error in errors],
    ids=str,
)
def test_rule(
    rule: retry.Rule, error: APIError, repeats: bool, repeats_create: bool, is_taken: bool
) -> None:
    """A second list does no more than the first, but a second create is a second machine."""
    assert retry.rule(error) is rule
    assert retry.may_repeat(error, is_idempotent=True) is repeats
    assert retry.may_repeat(error, is_idempotent=False) is repeats_create
    assert retry.may_have_made_a_machine(error) is is_taken


def test_rules() -> None:
    """The documentation prints the table, and a new kind of failure is not repeated by accident."""
    assert list(retry.TABLE) == list(dict.fromkeys(rule for rule, *_ in RULES))
    with pytest.raises(TypeError, match="no rule for APIError"):
        retry.rule(LIST.error(APIError, "new"))


@pytest.mark.parametrize(
    "uniform, pauses",
    [(max, [0.5, 1, 2, 4, 8, 16, 16, 16]), (min, [0.25, 0.5, 1, 2, 4, 8, 8, 8])],
)
def test_delay(uniform: Callable[[float, float], float], pauses: list[float]) -> None:
    """The pause doubles up to 16 seconds, and jitter, which spreads calls, at most halves it."""
    assert [retry.delay(refusal(503), count, uniform) for count in range(1, 9)] == pauses
    assert retry.delay(refusal(503), 2000, uniform) == pauses[-1]  # 2.0 ** 2000 is no float


@pytest.mark.parametrize("asked, least", [(0, 0), (7, 7), (60, 60), (86400, 60)])
def test_retry_after(asked: float, least: float) -> None:
    """Nobody comes back before the time that the API named, and nobody waits a day."""
    error = refusal(429, retry_after=float(asked))
    for attempt in (1, 7):
        assert retry.delay(error, attempt, min) == least
        assert retry.delay(error, attempt, max) == least + 0.5


NOT_SENT, LIMITED, DOWN, DENIED = unanswered(sent=False), refusal(429), refusal(503), refusal(401)


@pytest.mark.parametrize(
    "seconds, steps",
    [
        pytest.param(120, [(DOWN, 100, 20, True), (DOWN, 100, 20.1, False)], id="all"),
        pytest.param(120, [(DENIED, 0, 0, False)], id="no repeat can mend it"),
        pytest.param(120, [(NOT_SENT, 0, 15, True), (NOT_SENT, 0, 15.1, False)], id="not sent"),
        pytest.param(5, [(NOT_SENT, 0, 5.1, False)], id="not sent, with little time"),
        pytest.param(
            120,
            [
                (LIMITED, 0, 20, True),
                (NOT_SENT, 20, 14, True),
                (NOT_SENT, 34, 2, False),
                (LIMITED, 36, 20, True),
                (NOT_SENT, 56, 14, True),
            ],
            id="not sent, after an answer",
        ),
    ],
)
def test_budget(seconds: float, steps: Sequence[tuple[APIError, float, float, bool]]) -> None:
    """What can't be sent has 15 seconds from its first failure in a row, mostly a typo."""
    budget = retry.Budget(seconds, started=0, is_idempotent=True)
    for error, now, pause, expected in steps:
        assert budget.allows(error, now, pause) is expected


# Calls


def test_repeated(world: World) -> None:
    """Neither an error nor an answer of another shape is final."""
    for name in ("503", "wrong_shape"):
        world.api.faults.add("list", name)
    assert world.client().list_instances() == []
    first, second = world.clock.slept
    assert 0.25 <= first <= 0.5 <= second <= 1


def test_within(world: World) -> None:
    """A client without a budget makes one attempt, with its timeout; the original goes on."""
    world.api.faults.add("list", "503", times=2)
    client = world.client()
    with pytest.raises(errors.ServerError):
        client.within(0, timeout=5.0).list_instances()
    assert client.list_instances() == []
    assert world.api.timeouts == [5.0, None, None]


@pytest.mark.parametrize("name", ["503", "500_after", "reset_after", "wrong_shape"])
def test_create_not_repeated(world: World, name: str) -> None:
    """A create that may have been taken is not sent again: it could make a second machine."""
    world.api.faults.add("create", name)
    with pytest.raises(APIError):
        world.client().create_instance(NEW)
    assert world.api.calls == ["create"]


@pytest.mark.parametrize(
    "name, times, reports",
    [("500", 2, 0), ("500", 3, 1), (fault("429", retry_after=60), 1, 1)],
    ids=["two retries", "three retries", "a long pause"],
)
def test_reports(world: World, name: str | Fault, times: int, reports: int) -> None:
    """One or two retries are common, but a silent minute is not."""
    world.api.faults.add("list", name, times=times)
    world.client().list_instances()
    assert len(world.told) == reports
    for told in world.told:
        assert told.startswith("GET /compute/instances answered ")
        assert " Trying again in " in told


@pytest.mark.parametrize("name, budget, least", [("503", 60, 40), (UNSENT, 1000, 5)], ids=str)
def test_gives_up(world: World, name: str | Fault, budget: float, least: float) -> None:
    """A call gives up before its time is over, because the engine shows nothing meanwhile."""
    world.api.faults.add("list", name, times=inf)
    with pytest.raises(APIError):
        world.client(retry_budget=budget).list_instances()
    assert least < world.passed <= min(budget, 15 if name is UNSENT else inf)


@pytest.mark.parametrize("outcome", ["ok", "429"])
def test_interrupt(world: World, outcome: str) -> None:
    """A call in flight gets its answer, which may be a machine, and nothing is sent after it."""
    world.api.before = lambda request: world.clock.interrupt()
    world.api.faults.add("create", outcome)
    if outcome == "ok":
        made = world.client().create_instance(NEW)
        assert world.state.alive() == {made.id}
    with pytest.raises(Interrupted):
        world.client().create_instance(NEW)
    assert world.api.calls == ["create"]


# Pages


@pytest.fixture
def cursors() -> list[str]:
    return []


@pytest.fixture
def paged(world: World, cursors: list[str]) -> Client:
    """A v1 client whose API has seven machines, on pages of three."""
    machines = [{"id": world.made().id} for _ in range(7)]

    def send(request: Request[Any], timeout: float | None = None) -> Any:
        cursors.append(request.path.partition("cursor=")[2] or "0")
        world.api.send(request)
        start, end = int(cursors[-1]), int(cursors[-1]) + 3
        return {"instances": machines[start:end], "next_cursor": str(end) if end < 7 else None}

    return Client(settings(api="v1"), world.clock, send=send)


def test_page_fails(world: World, paged: Client, cursors: list[str]) -> None:
    """A page is repeated, and not the whole list. The first one fails as any call does."""
    world.api.faults.add("list", "ok")
    world.api.faults.add("list", "503", 2)
    assert len(paged.within(0).list_instances()) == 7
    assert cursors == ["0", "3", "3", "3", "6"]
    world.api.faults.add("list", "503")
    with pytest.raises(APIError):
        paged.within(0).list_instances()
    assert cursors[5:] == ["0"]


@pytest.mark.parametrize(
    "api, body, problem",
    [
        ("v1", {"instances": [], "next_cursor": "same"}, "the pages of the list have no end"),
        ("v1", [], "JSON as the legacy API answers, although FAL_COMPUTE_API"),
        ("legacy", {}, "JSON of an unexpected shape: expected an array, not dict"),
    ],
    ids=["cursors in a circle", "the other version", "another shape"],
)
def test_wrong_list(api: str, body: Any, problem: str) -> None:
    """Taken for an empty list, it would drop every machine from state."""
    client = Client(settings(api=api, retry_budget=0), send=lambda request, timeout: body)
    with pytest.raises(UnusableAnswerError, match=problem) as caught:
        client.list_instances()
    assert caught.value.path == "/compute/instances"


# The two versions of the API: what is sent to each, and how its answers are read
#
# What differs is in the rows. test_contract.py has the paths, the bodies and the pages.

MACHINE = {
    "id": ID,
    "instance_type": EIGHT,
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
}
COMPLETE = {**MACHINE, "region": "us-west", "creator_user_nickname": "developer"}
PAGE = V1.list_instances()
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
    body: dict[str, Any] = {**COMPLETE, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(created(V1, body), field) == ("unknown" if field == "status" else None)


def test_news() -> None:
    """A newer API may say more, and none of it can control a terminal."""
    news = {"instance_type": "gpu_8x_b200", "status": "re\x1b[2J\nboot", "rack": {"is": 7}}
    machine = created(V1, {**COMPLETE, **news})
    assert (machine.instance_type, machine.status) == ("gpu_8x_b200", "re [2J boot")
    assert not machine.is_ready


@pytest.mark.parametrize(
    "of, body, reason",
    [
        (GET, None, "expected an object, not NoneType"),
        (GET, [MACHINE], "expected an object, not list"),
        (GET, {"result": MACHINE}, "'id' is missing"),
        (GET, {**MACHINE, "id": ""}, "'id' is missing"),
        (GET, {**MACHINE, "id": 7}, "'id' is not a string"),
        (GET, {**MACHINE, "instance_type": None}, "'instance_type' is missing"),
        (GET, {**MACHINE, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        (GET, {**MACHINE, "id": KEY}, "the answer is about another machine"),
        # The answer to a create needs no more than an id: a machine without one can't be deleted.
        (CREATE, [MACHINE], "expected an object, not list"),
        (CREATE, {**MACHINE, "id": None}, "'id' is missing"),
        # A list of another shape, or that ends too early, says nothing about any machine.
        (LIST, {"result": []}, "expected an array, not dict"),
        (LIST, None, "expected an array, not NoneType"),
        (LIST, [MACHINE, "text"], "expected an object, not str"),
        (PAGE, {"instances": [MACHINE, {}]}, "'id' is missing"),
        (PAGE, [MACHINE], "expected an object, not list"),
        (PAGE, {"instances": [], "next_cursor": 2}, "'next_cursor' is not a string"),
        (PAGE, {"instances": [], "has_more": True}, ".* no cursor for the next one"),
    ],
)
def test_unusable(of: Request[Any], body: Any, reason: str) -> None:
    """A body that is none is refused by field, and not quoted: it might be another's answer."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        of.parse(body)


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
    machine = Instance(**{**COMPLETE, field: expected})  # type: ignore[arg-type]
    other = Instance(**{**COMPLETE, "id": "other"})
    assert listed(api, {**COMPLETE, field: odd}, vars(other)) == [machine, other]
    assert created(api, {**COMPLETE, field: odd}) == machine


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
