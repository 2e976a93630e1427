"""The client: its four calls, for how long it repeats each, and how it is interrupted."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal import errors
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.faults import fault
from pulumi_fal.errors import Interrupted

from ..fakes import ED25519, EIGHT, ID, ONE, UNSENT, settings
from .world import ApiWorld


@pytest.fixture
def world() -> ApiWorld:
    return ApiWorld()


def test_every_method_makes_one_call_and_returns_what_the_api_says(world: ApiWorld) -> None:
    """A method makes exactly one call, and returns the API's answer."""
    client = world.client()
    made = client.create_instance(NewInstance(EIGHT, ED25519, "sector_1"))
    assert (made.instance_type, made.sector) == (EIGHT, "sector_1")
    assert client.list_instances() == [client.get_instance(made.id)] == [made]
    client.delete_instance(made.id)
    assert world.api.state.alive() == set()
    assert world.api.calls == ["create", "list", "get", "delete"]


def test_an_answer_of_another_shape_is_an_error_that_knows_the_call(world: ApiWorld) -> None:
    """Taken for an empty list, it would drop every machine from state."""
    world.api.faults.add("get", "lapse", times=inf)
    with pytest.raises(
        errors.UnusableAnswerError, match="unexpected shape: expected an object, not list"
    ) as caught:
        world.client(retry_budget=0.1).get_instance(ID)
    error = caught.value
    assert (error.method, error.path) == ("GET", f"/compute/instance/{ID}")
    assert (error.status, error.instance_id) == (200, ID)


def test_a_failing_call_is_repeated_with_pauses_until_it_works(world: ApiWorld) -> None:
    """Neither an error nor an answer of another shape is final."""
    for name in ("503", "wrong_shape"):
        world.api.faults.add("list", name)
    assert world.client().list_instances() == []
    first, second = world.clock.slept
    assert 0.25 <= first <= 0.5 <= second <= 1


def test_a_client_without_a_budget_makes_one_attempt_and_the_original_goes_on(
    world: ApiWorld,
) -> None:
    """A caller that waits for machines decides for itself what to do about a failure."""
    world.api.faults.add("list", "503", times=2)
    client = world.client()
    with pytest.raises(errors.ServerError):
        client.within(0).list_instances()
    assert world.api.calls == ["list"]
    assert client.list_instances() == []


def test_a_client_with_a_timeout_passes_it_on_with_every_request(world: ApiWorld) -> None:
    """A preview, which has only seconds, bounds every request."""
    client = world.client()
    client.within(0, timeout=5.0).list_instances()
    client.list_instances()
    assert world.api.timeouts == [5.0, None]


def test_a_call_gives_up_before_its_budget_is_spent(world: ApiWorld) -> None:
    """The engine shows nothing while a call is repeated."""
    world.api.faults.add("list", "503", times=inf)
    with pytest.raises(errors.ServerError):
        world.client(retry_budget=60).list_instances()
    assert 40 < world.clock.passed <= 60


def test_a_failure_that_no_repeat_can_mend_is_raised_at_once(world: ApiWorld) -> None:
    """A machine that does not exist will not exist a second later."""
    with pytest.raises(errors.NotFoundError):
        world.client().get_instance(ID)
    assert world.api.calls == ["get"]


@pytest.mark.parametrize("name", ["503", "500_after", "reset_after", "wrong_shape"])
def test_a_create_that_may_have_been_taken_is_never_repeated(world: ApiWorld, name: str) -> None:
    """A repeat could make a second machine."""
    world.api.faults.add("create", name)
    with pytest.raises(errors.APIError):
        world.client().create_instance(NewInstance(ONE, ED25519))
    assert world.api.calls == ["create"]


def test_a_create_that_is_rate_limited_waits_as_long_as_it_was_told(world: ApiWorld) -> None:
    """An answer of 429 means that nothing was done."""
    world.api.faults.add("create", fault("429", retry_after=7))
    world.client().create_instance(NewInstance(ONE, ED25519))
    assert 7 <= world.clock.passed <= 7.5
    assert world.api.state.creations == 1


def test_a_request_that_can_not_be_sent_is_given_up_after_15_seconds(world: ApiWorld) -> None:
    """A request that can't be sent most likely has a wrong endpoint."""
    world.api.faults.add("list", UNSENT, times=inf)
    with pytest.raises(errors.UnreachableError):
        world.client(retry_budget=1000).list_instances()
    assert 5 < world.clock.passed <= 15


@pytest.mark.parametrize("failures, reports", [(2, 0), (3, 1)])
def test_a_call_that_keeps_failing_is_reported(
    world: ApiWorld, failures: int, reports: int
) -> None:
    """One or two retries are common, but a silent minute is not."""
    world.api.faults.add("list", "500", times=failures)
    world.client().list_instances()
    assert len(world.told) == reports
    for told in world.told:
        answer = "GET /compute/instances answered 500: Internal Server Error."
        assert told.startswith(f"{answer} Trying again in ")


def test_a_long_pause_is_reported_at_once(world: ApiWorld) -> None:
    """The API may ask for a minute, and nobody should wonder why nothing happens."""
    world.api.faults.add("list", fault("429", retry_after=60))
    world.client().list_instances()
    assert len(world.told) == 1


def test_a_retry_that_is_not_allowed_any_more_after_its_pause_is_not_sent(world: ApiWorld) -> None:
    """The error is that of the last attempt."""
    world.api.faults.add("create", "429", times=inf)
    left = iter([True, False])
    with pytest.raises(errors.RateLimitedError):
        world.client().create_instance(NewInstance(ONE, ED25519), may_repeat=lambda: next(left))
    assert world.api.calls == ["create", "create"]


def test_nothing_is_sent_after_an_interrupt(world: ApiWorld) -> None:
    """Nobody wants a machine that is made after Ctrl-C."""
    world.clock.interrupt()
    with pytest.raises(Interrupted):
        world.client().create_instance(NewInstance(ONE, ED25519))
    assert world.api.calls == []


def test_an_interrupt_while_a_call_is_in_flight_stops_its_repeats(world: ApiWorld) -> None:
    """The call itself is allowed to finish first: its answer may be a machine."""
    world.api.before = lambda request: world.clock.interrupt()
    world.api.faults.add("create", "429")
    with pytest.raises(Interrupted):
        world.client().create_instance(NewInstance(ONE, ED25519))
    assert world.api.calls == ["create"]


def test_a_machine_that_was_made_is_returned_although_interrupted(world: ApiWorld) -> None:
    """An answer with an id is never thrown away."""
    world.api.before = lambda request: world.clock.interrupt()
    made = world.client().create_instance(NewInstance(ONE, ED25519))
    assert world.api.state.alive() == {made.id}


def test_the_real_wire_is_used_where_none_is_given() -> None:
    """`Client(settings)` is all that a program without Pulumi needs."""
    with pytest.raises(errors.UnreachableError, match="/compute/instances got no answer"):
        Client(settings("http://127.0.0.1:1", retry_budget=0.1)).list_instances()
