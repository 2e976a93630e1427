"""Creates under the v1 API: one without an answer is sent again with its idempotency key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.errors import (
    ConfigurationError,
    ConflictError,
    FalError,
    RateLimitedError,
    UnresolvedCreateError,
)
from pulumi_fal.machines.journal import KEY_SECONDS, Entry, Phase
from pulumi_fal.machines.sender import Sender
from pulumi_fal.stacks.origin import Origin

from ..fakes import ECDSA, ED25519, HERE, ONE, URN, TurnedClock, settings, unanswered
from ..fakes import refusal as refused
from .world import SPEC, World

SETTINGS = settings(endpoint="https://fal.test/v1", api="v1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home", SETTINGS)


def launch(
    world: World,
    spec: NewInstance = SPEC,
    origin: Origin = HERE,
    api_key: str = SETTINGS.api_key,
    aliases: Sequence[str] = (),
) -> Instance:
    """A create by a new process."""
    world.settings = replace(SETTINGS, api_key=api_key)
    world.restart()
    with world.creates.launch(spec, origin, aliases=aliases) as instance:
        return instance


def refusal(world: World, spec: NewInstance = SPEC, **others: Any) -> UnresolvedCreateError:
    """What a create by a new process says that stops."""
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, spec, **others)
    return caught.value


def killed(world: World, *, taken: bool = True, **others: Any) -> None:
    """Leave the entry of a process that was killed while its POST was in flight."""
    sent = {"idempotency_key": "the-key", "first_sent": world.clock.wall()}
    world.earlier(Phase.REQUESTED, **{**sent, **others})
    if taken:
        world.state.create(NewInstance(ONE, ED25519), None, "the-key")


FAULTS = (
    "reset_before",
    "reset_after",
    "late",
    "500",
    "500_after",
    "502",
    "503",
    "504",
    "522",
    "html",
    "html_after",
    "truncated",
    "wrong_shape",
    "empty",
)


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_create_without_a_usable_answer_is_sent_again_and_makes_one_machine(
    world: World, fault: str, times: int
) -> None:
    """The same key goes with every attempt, and the command succeeds."""
    world.api.faults.add("create", fault, times)
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert len(world.api.keys) == times + 1
    assert len(set(world.api.keys)) == 1


def test_the_key_is_on_disk_before_the_create_is_sent(world: World) -> None:
    """A process that is killed in between leaves what the next one needs."""
    seen: list[Entry | None] = []

    def look(request: Request[Any]) -> None:
        if request.kind == "create":
            seen.append(world.entry())

    world.api.before = look
    launch(world)
    (entry,) = seen
    assert entry is not None
    assert [entry.idempotency_key] == world.api.keys
    assert (entry.phase, entry.first_sent) == (Phase.REQUESTED, world.clock.wall())


def test_a_replacement_does_not_get_the_machine_that_it_replaces(world: World) -> None:
    """The disk was full when the create was answered, so the record does not have its machine."""
    killed(world)
    (old,) = world.state.alive()
    world.stacks.in_state = {old}
    world.restart()
    world.machines.known.add(URN)
    with world.creates.launch(SPEC, HERE) as new:
        assert new.id != old


@pytest.mark.parametrize("taken", [True, False])
def test_a_create_that_was_killed_is_sent_again_by_the_next_up(world: World, taken: bool) -> None:
    """The machine is the one that the first attempt made, or the only one that is made."""
    killed(world, taken=taken)
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert world.api.keys == ["the-key"]
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.instance_id) == (Phase.CREATED, instance.id)


def test_a_create_that_is_sent_again_is_on_record_as_such_before_it_is_sent(world: World) -> None:
    """A command that has read the record before drops only what is unchanged."""
    killed(world, taken=False)
    read = world.entry()
    world.clock.time += 60
    on_record: list[Entry | None] = []

    def look(request: Request[Any]) -> None:
        if request.kind == "create":
            on_record.append(world.entry())

    world.api.before = look
    launch(world)
    assert on_record
    assert read not in on_record


def test_after_the_keys_time_the_candidates_are_named(world: World) -> None:
    """The API may have forgotten the answer, so the same create might make a second machine."""
    killed(world)
    world.clock.time += KEY_SECONDS
    error = refusal(world)
    assert set(error.candidates) == world.state.alive()
    assert world.api.keys == []


def test_an_outage_that_outlasts_the_key_ends_with_the_candidates(world: World) -> None:
    """No attempt is made once the key may be forgotten."""
    world.api.faults.add("create", "500_after", inf)
    began = world.clock.time
    error = refusal(world)
    assert set(error.candidates) == world.state.alive()
    assert len(error.candidates) == 1
    assert world.clock.time - began < KEY_SECONDS + SETTINGS.settle_seconds + 20
    assert len(set(world.api.keys)) == 1


@pytest.mark.parametrize(
    "spec", [NewInstance(ONE, ECDSA), NewInstance("gpu_8x_h100_sxm5", ED25519)], ids=["key", "type"]
)
def test_other_inputs_are_never_sent_with_the_old_key(world: World, spec: NewInstance) -> None:
    """The kept answer is of a machine that is not requested any more."""
    killed(world)
    error = refusal(world, spec)
    assert set(error.candidates) == world.state.alive()
    assert world.api.keys == []


def test_another_accounts_key_is_never_sent_with_the_old_key(world: World) -> None:
    """To another account the idempotency key is new."""
    killed(world)
    assert "the key of another account" in str(refusal(world, api_key="another"))
    assert world.api.keys == []


def make_once(world: World, then: Callable[[], None] = lambda: None) -> None:
    """The first POST is taken, and its answer is lost; after that `then` happens."""

    def lose(request: Request[Any]) -> None:
        if request.kind == "create" and len(world.api.keys) == 1:
            then()
            raise unanswered(request)

    world.api.after = lose


def suspend_in_the_pause(clock: TurnedClock) -> None:
    clock.suspended = 3600


def suspend_in_the_post(clock: TurnedClock) -> None:
    clock.set_by += 3600


def set_back(clock: TurnedClock) -> None:
    clock.set_by -= 300


@pytest.mark.parametrize("happens", [suspend_in_the_pause, suspend_in_the_post, set_back])
def test_a_create_is_not_sent_again_where_the_wall_clock_says_that_its_key_may_be_forgotten(
    world: World, happens: Callable[[TurnedClock], None]
) -> None:
    """Other clocks stand still while a laptop sleeps, and a clock that was set back proves nothing.

    The API has forgotten the key, so another POST would make a second machine.
    """
    make_once(world, lambda: happens(world.clock))
    error = refusal(world)
    assert len(world.api.keys) == 1
    assert set(error.candidates) == world.state.alive()
    assert "POST /compute/instances got no answer: reset" in str(error)


def test_a_clock_that_is_set_back_a_little_gives_the_create_no_more_time(world: World) -> None:
    """Of the two clocks the one that says that the time is up is believed."""
    world.api.faults.add("create", "500_after", inf)
    moments: list[float] = []

    def set_back_later(request: Request[Any]) -> None:
        if request.kind == "create":
            moments.append(world.clock.passed)
            if len(moments) == 10:
                world.clock.set_by -= 30

    world.api.after = set_back_later
    refusal(world)
    assert len(moments) > 10
    assert moments[-1] <= KEY_SECONDS


def test_a_create_of_the_future_is_not_sent_again(world: World) -> None:
    """The clock was set back since, and nobody knows how long ago the create was first sent."""
    killed(world)
    world.clock.set_by -= 60
    assert set(refusal(world).candidates) == world.state.alive()
    assert world.api.keys == []


def test_a_create_whose_time_ends_after_the_decision_is_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computer may be suspended at any moment, so the clock is read right before a POST."""
    killed(world)
    send = Sender.send

    def late(sender: Sender, *args: Any, **kwargs: Any) -> Any:
        world.clock.set_by += KEY_SECONDS
        return send(sender, *args, **kwargs)

    monkeypatch.setattr(Sender, "send", late)
    assert set(refusal(world).candidates) == world.state.alive()
    assert world.api.keys == []


def test_a_create_that_was_never_taken_needs_no_time_left(world: World) -> None:
    """A key that no request with it has reached the API with is as good as new."""
    world.api.faults.add("create", "429", inf)
    world.clock.suspended = 3600
    with pytest.raises(RateLimitedError):
        launch(world)
    assert world.entry() is None


def conflict(world: World, before: str, detail: str) -> None:
    """Have two creates get a 409, after another failure or after a create that was killed."""
    if before == "killed":
        killed(world)
    elif before:
        world.api.faults.add("create", before)
    world.api.faults.add("create", Fault("409", "in progress", False, 409, detail=detail), 2)


@pytest.mark.parametrize("before", ["", "429", "reset_before", "killed"])
def test_a_conflict_passes(world: World, before: str) -> None:
    """A process, or a gateway on the way, may have sent the same create before."""
    conflict(world, before, "a request with this key is in progress")
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert len(set(world.api.keys)) == 1


def test_a_create_that_never_gets_past_a_conflict_may_have_made_a_machine(world: World) -> None:
    """It stays on record with what the API said."""
    world.api.faults.add("create", "409", inf)
    assert "answered 409" in str(refusal(world))
    entry = world.entry()
    assert entry is not None
    assert "answered 409" in entry.problem


@pytest.mark.parametrize("before", ["", "429"])
def test_a_conflict_that_speaks_of_capacity_is_a_refusal(world: World, before: str) -> None:
    """The API says that it has made no machine."""
    conflict(world, before, "no capacity left")
    with pytest.raises(ConflictError, match="no capacity left"):
        launch(world)
    assert world.entry() is None
    assert world.state.creations == 0


@pytest.mark.parametrize("before", ["reset_before", "killed"])
def test_a_conflict_that_speaks_of_capacity_says_nothing_of_earlier_attempts(
    world: World, before: str
) -> None:
    """One of them may have made a machine, so the create stays on record."""
    conflict(world, before, "no capacity left")
    assert set(refusal(world).candidates) == world.state.alive()
    entry = world.entry()
    assert entry is not None
    assert "to send it again failed" in entry.problem
    assert "no capacity left" in entry.problem


@pytest.mark.parametrize("provider", ["", "an-id"])
def test_a_key_is_sent_under_the_stacks_new_name_if_it_surely_is_that_stack(
    world: World, provider: str
) -> None:
    """Where it may be of a stack that was removed, the machine is named instead."""
    world.stacks.providers = {"an-id": "pulumi:providers:fal"}
    killed(world, origin=replace(HERE, urn=URN.replace("dev", "old"), provider=provider))
    if provider:
        assert {launch(world).id} == world.state.alive()
        assert world.api.keys == ["the-key"]
    else:
        assert set(refusal(world).candidates) == world.state.alive()
        assert world.api.keys == []


def test_a_key_is_sent_again_for_a_resource_of_another_name_by_its_alias(world: World) -> None:
    """It is the same resource to the engine, so the machine of its create is its own."""
    earlier = replace(HERE, urn=f"{URN}-earlier")
    killed(world, origin=earlier)
    assert {launch(world, aliases=[earlier.urn]).id} == world.state.alive()
    assert world.api.keys == ["the-key"]
    assert [entry.origin for entry in world.journal.readable()] == [HERE]


def test_another_resource_has_a_key_of_its_own(world: World) -> None:
    """Two equal resources are two machines."""
    first = launch(world)
    second = launch(world, origin=replace(HERE, urn=f"{URN}-2"))
    assert first.id != second.id
    assert len(set(world.api.keys)) == 2


def test_an_answer_with_a_machine_that_was_there_before_is_not_taken(world: World) -> None:
    """Whatever made the API give it, it is somebody else's machine."""
    theirs = world.state.create(NewInstance(ONE, ED25519), None, "the-key")
    killed(world, taken=False, before=(theirs.id,))
    error = refusal(world)
    assert theirs.id not in error.candidates
    assert f"the API answered with {theirs.id}, which existed before it" in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429])
def test_a_repeat_that_is_refused_forgets_nothing_and_says_so(world: World, status: int) -> None:
    """The first attempt may have made a machine all the same. The refusal is kept on disk."""
    killed(world)

    def refuse(request: Request[Any]) -> None:
        if request.kind == "create":
            raise refused(status, "no", request)

    world.api.before = refuse
    for _ in range(2):  # the next `up` says the same, and the refusals don't pile up
        error = refusal(world)
        entry = world.entry()
        assert entry is not None
        assert set(error.candidates) == world.state.alive()
        assert entry.problem in str(error)
        assert entry.problem.startswith(
            "the process ended before the answer came. The attempt to send it again failed: "
            f"POST /compute/instances answered {status}: no."
        )
        assert entry.problem.count(f"answered {status}") == 1


def test_a_refusal_is_kept_although_the_repeats_are_interrupted(world: World) -> None:
    """A rate limit may last longer than a person waits, and `pending ls` then says what it was."""
    killed(world)
    world.api.faults.add("create", "429", inf)

    def interrupt(request: Request[Any]) -> None:
        if len(world.api.keys) == 3:
            world.clock.interrupt()

    world.api.before = interrupt
    assert "answered 429" in str(refusal(world))
    entry = world.entry()
    assert entry is not None
    assert "to send it again failed: POST /compute/instances answered 429" in entry.problem


def test_a_repeat_that_this_computer_can_not_send_says_why(world: World) -> None:
    """The environment of the next `up` may have a broken proxy."""
    killed(world)

    def refuse(request: Request[Any]) -> None:
        if request.kind == "create":
            raise ConfigurationError("Nothing was sent to the API: no proxy.")

    world.api.before = refuse
    error = str(refusal(world))
    assert "to send it again failed: Nothing was sent to the API: no proxy." in error


def test_a_first_create_that_is_refused_leaves_no_trace(world: World) -> None:
    """The API's answer says that there is no machine."""
    world.api.faults.add("create", "403")
    with pytest.raises(FalError, match="403"):
        launch(world)
    assert world.entry() is None


@pytest.mark.parametrize("outcome", ["400", "interrupt"])
def test_what_ends_the_repeats_takes_nothing_back(world: World, outcome: str) -> None:
    """A refusal, or Ctrl-C, after an attempt that may have made a machine."""

    def end(request: Request[Any]) -> None:
        if request.kind != "create":
            return
        if len(world.api.keys) > 1:
            raise refused(400, "no", request)
        if outcome == "interrupt":
            world.clock.interrupt()

    lost: Callable[[Request[Any]], None] = _lost
    world.api.before, world.api.after = end, lost
    error = refusal(world)
    entry = world.entry()
    assert entry is not None
    assert "reset" in entry.problem
    assert ("answered 400: no" in entry.problem) is (outcome == "400")
    assert "may have made a machine" in str(error)


def test_without_a_key_of_its_own_an_entry_is_not_sent_again(world: World) -> None:
    """Such an entry was written under the legacy API."""
    killed(world, idempotency_key="", account=SETTINGS.account)
    assert set(refusal(world).candidates) == world.state.alive()
    assert world.api.keys == []


def _lost(request: Request[Any]) -> None:
    if request.kind == "create":
        raise unanswered(request)
