"""The four calls: what each sends, what it takes for an answer, and how long it tries."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.support import ED25519, ID, KEY, TurnedClock, settings

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.errors import APIError, Interrupted

BODY = {"id": ID, "instance_type": "gpu_8x_h100_sxm5", "ip": None, "status": "pending"}
MACHINE = Instance(ID, "gpu_8x_h100_sxm5", status="pending")


class Wire:
    """Answers what it is told, in order; the last one for ever."""

    def __init__(self, *answers: Any, seconds: float = 0) -> None:
        self.answers = list(answers)
        self.seconds = seconds
        self.clock = TurnedClock()
        self.sent: list[Request[Any]] = []
        self.timeouts: list[float | None] = []
        self.told: list[str] = []

    def __call__(self, request: Request[Any], timeout: float | None = None) -> Any:
        self.sent.append(request)
        self.timeouts.append(timeout)
        self.clock.time += self.seconds
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def client(self, retry_budget: float = 120) -> Client:
        asked = settings(retry_budget=retry_budget)
        return Client(asked, self.clock, send=self, notify=self.told.append)


def server_error(method: str = "GET") -> APIError:
    return errors.ServerError(method, "/x", "down", status=503)


def limited(method: str, seconds: float | None = None) -> APIError:
    return errors.RateLimitedError(method, "/x", "slow down", status=429, retry_after=seconds)


def test_list_is_one_get_and_gives_instances() -> None:
    """The API answers a bare array."""
    wire = Wire([BODY, {**BODY, "id": "other"}])
    assert [each.id for each in wire.client().list_instances()] == [ID, "other"]
    assert [each.call for each in wire.sent] == ["list"]


def test_get_is_one_get_by_id() -> None:
    """The path is the singular one."""
    wire = Wire(BODY)
    assert wire.client().get_instance(ID) == MACHINE
    assert [(each.call, each.instance_id) for each in wire.sent] == [("get", ID)]


def test_create_is_one_post_with_what_is_asked_for() -> None:
    """And nothing else in the body."""
    wire = Wire(BODY)
    assert wire.client().create_instance("gpu_8x_h100_sxm5", ED25519, "sector_1") == MACHINE
    body = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519, "sector": "sector_1"}
    assert [(each.call, each.body) for each in wire.sent] == [("create", body)]


def test_delete_is_one_delete_that_expects_no_json() -> None:
    """What it answers is not specified."""
    wire = Wire(None)
    wire.client().delete_instance(ID)
    assert [(each.call, each.instance_id) for each in wire.sent] == [("delete", ID)]


@pytest.mark.parametrize(
    "body, reason",
    [
        ({"result": []}, "expected an array, not dict"),
        (None, "expected an array, not NoneType"),
        ([BODY, "text"], "expected an object, not str"),
        ([{**BODY, "id": None}], "'id' is missing"),
    ],
)
def test_a_list_of_another_shape_is_an_error(body: Any, reason: str) -> None:
    """Taken for an empty list it would drop every machine from state."""
    with pytest.raises(errors.UnusableAnswerError, match=f"unexpected shape: {reason}"):
        Wire(body).client(retry_budget=0.1).list_instances()


@pytest.mark.parametrize("body", [{}, {"result": BODY}, [BODY], None, {**BODY, "id": ""}])
def test_a_create_without_an_id_is_an_error_and_not_repeated(body: Any) -> None:
    """A machine runs, and nobody knows which."""
    wire = Wire(body)
    with pytest.raises(errors.UnusableAnswerError, match="JSON of an unexpected shape") as caught:
        wire.client().create_instance("gpu_1x_h100_sxm5", ED25519)
    assert len(wire.sent) == 1
    assert (caught.value.method, caught.value.status) == ("POST", 200)


@pytest.mark.parametrize("other", ["another", KEY, "\x1b[2J"])
def test_an_answer_about_another_machine_is_an_error(other: str) -> None:
    """A cache on the way might mix them up; what it says is not repeated."""
    wire = Wire({**BODY, "id": other})
    with pytest.raises(errors.UnusableAnswerError, match="is about another machine") as caught:
        wire.client(retry_budget=0.1).get_instance(ID)
    assert caught.value.instance_id == ID
    assert KEY not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_failing_get_is_repeated_until_it_works() -> None:
    """With pauses in between."""
    wire = Wire(server_error(), {"no": "array"}, [BODY])
    assert wire.client().list_instances() == [MACHINE]
    assert len(wire.sent) == 3
    assert len(wire.clock.slept) == 2
    assert 0.25 <= wire.clock.slept[0] <= 0.5 <= wire.clock.slept[1] <= 1


@pytest.mark.parametrize("odd", [{"ip": 7}, {"instance_type": None}, {"sector": [], "status": {}}])
def test_one_odd_entry_does_not_fail_the_list(odd: dict[str, Any]) -> None:
    """Somebody else's machine would keep ours from being destroyed."""
    listed = Wire([{**BODY, **odd, "id": "odd"}, BODY]).client().list_instances()
    assert [each.id for each in listed] == ["odd", ID]


def test_a_client_without_a_budget_makes_one_attempt_and_the_original_goes_on() -> None:
    """Who waits for machines decides for itself what to do about a failure."""
    wire = Wire(server_error(), server_error(), [])
    client = wire.client()
    with pytest.raises(errors.ServerError):
        client.within(0).list_instances()
    assert len(wire.sent) == 1
    assert client.list_instances() == []


def test_a_client_with_a_timeout_gives_it_to_each_request() -> None:
    """A preview has but seconds."""
    wire = Wire([])
    wire.client().within(0, timeout=5.0).list_instances()
    assert wire.timeouts == [5.0]


def test_a_call_gives_up_within_its_budget() -> None:
    """Not after it: the engine shows nothing while a call is repeated."""
    wire = Wire(server_error(), seconds=1)
    with pytest.raises(errors.ServerError):
        wire.client(retry_budget=60).list_instances()
    assert 40 < wire.clock.time - 1000 <= 61


def test_a_failure_that_no_repeat_can_mend_is_raised_at_once() -> None:
    """A wrong key stays wrong."""
    wire = Wire(errors.NotFoundError("GET", "/x", "gone", status=404))
    with pytest.raises(errors.NotFoundError):
        wire.client().get_instance(ID)
    assert len(wire.sent) == 1


def test_a_post_that_may_have_been_taken_is_never_repeated() -> None:
    """The first law: never two machines."""
    wire = Wire(server_error("POST"), BODY)
    with pytest.raises(errors.ServerError):
        wire.client().create_instance("gpu_1x_h100_sxm5", ED25519)
    assert len(wire.sent) == 1


def test_a_post_that_was_refused_for_now_waits_as_long_as_it_was_told() -> None:
    """429 means that nothing was done."""
    wire = Wire(limited("POST", 7), BODY)
    assert wire.client().create_instance("gpu_1x_h100_sxm5", ED25519) == MACHINE
    assert 7 <= wire.clock.slept[0] <= 7.5


def test_what_cannot_be_sent_is_given_up_after_15_seconds() -> None:
    """The endpoint is wrong, most likely."""
    wire = Wire(errors.UnreachableError("GET", "/x", "connection refused", sent=False))
    with pytest.raises(errors.UnreachableError):
        wire.client(retry_budget=1000).list_instances()
    assert wire.clock.time - 1000 <= 15


def test_a_call_that_keeps_failing_is_told_of() -> None:
    """One or two repeats are everyday matters; a silent minute is not."""
    two = Wire(server_error(), server_error(), [])
    two.client().list_instances()
    assert two.told == []
    three = Wire(server_error(), server_error(), server_error(), [])
    three.client().list_instances()
    (told,) = three.told
    assert told.startswith("GET /x answered 503: down. Trying again in ")


def test_nothing_is_sent_after_an_interrupt() -> None:
    """A machine made after Ctrl-C is one that nobody wants."""
    wire = Wire(BODY)
    wire.clock.interrupt()
    with pytest.raises(Interrupted):
        wire.client().create_instance("gpu_1x_h100_sxm5", ED25519)
    assert wire.sent == []


def test_an_interrupt_while_a_call_is_under_way_stops_its_repeats() -> None:
    """The call itself ends first: its answer may be a machine."""
    wire = Wire(limited("POST", 60), BODY)

    def send(request: Request[Any], timeout: float | None) -> Any:
        wire.clock.interrupt()
        return wire(request, timeout)

    with pytest.raises(Interrupted):
        Client(settings(), wire.clock, send=send).create_instance("gpu_1x_h100_sxm5", ED25519)
    assert len(wire.sent) == 1


def test_a_machine_that_was_made_is_told_of_although_interrupted() -> None:
    """An answer with an id is never thrown away."""
    wire = Wire(BODY)

    def send(request: Request[Any], timeout: float | None) -> Any:
        wire.clock.interrupt()
        return wire(request, timeout)

    client = Client(settings(), wire.clock, send=send)
    assert client.create_instance("gpu_1x_h100_sxm5", ED25519) == MACHINE


def test_the_real_wire_is_used_where_none_is_given() -> None:
    """`Client(settings)` is all that a program without Pulumi needs."""
    with pytest.raises(errors.UnreachableError, match="/compute/instances got no answer"):
        Client(settings("http://127.0.0.1:1", retry_budget=0.1)).list_instances()
