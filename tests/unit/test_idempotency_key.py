"""Creates under the v1 API: one without an answer is sent again with its idempotency key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.errors import (
    ConfigurationError,
    ConflictError,
    FalError,
    RateLimitedError,
    UnresolvedCreateError,
)
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.entry import KEY_SECONDS, Entry, Phase, Spec
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.sender import Sender
from pulumi_fal.stacks.cache import Elsewhere
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ECDSA, ED25519, ONE, FakeApi, TurnedClock, refusal, settings, unanswered

URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::web"
HERE = Origin(URN, "organization", "file:///here")
SPEC = Spec(ONE, ED25519)
SETTINGS = settings(endpoint="https://fal.test/v1", api="v1")


class Clock(TurnedClock):
    """A clock whose time of day can be set, and goes on while a suspended computer stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = 0.0
        """By how many seconds the time of day has been set, or has gone on alone."""
        self.suspended = 0.0
        """For how many seconds the computer is suspended during the next pause."""

    def wall(self) -> float:
        return super().wall() + self.set_by

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.set_by += self.suspended
        self.suspended = 0.0


class Stacks:
    """A stack that has nothing, beside no others."""

    is_known_gone = False

    def origin(self, urn: str, organization: str) -> Origin:
        return HERE

    def machines(self, origin: Origin) -> tuple[StackMachine, ...]:
        return ()

    def forget(self, origin: Origin) -> None:
        """It is read anew each time."""

    def ids(self, origin: Origin) -> frozenset[str]:
        return frozenset()

    def possible_machines(self, origin: Origin) -> tuple[StackMachine, ...]:
        return ()

    def has(self, origin: Origin, instance_id: str) -> bool:
        return False

    def is_gone(self, origin: Origin) -> bool:
        return self.is_known_gone

    def elsewhere(self, origin: Origin) -> Elsewhere:
        return Elsewhere({}, {})


class World:
    """An API, a journal, and processes that know nothing but what is on disk."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.api = FakeApi(self.clock.now)
        self.journal = Journal(folder)
        self.stacks = Stacks()

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the creates that were sent."""
        creates = [request for request in self.api.requests if request.call == "create"]
        return [request.headers.get("Idempotency-Key", "") for request in creates]

    def launch(self, spec: Spec = SPEC, origin: Origin = HERE, api_key: str = "") -> Instance:
        """A create by a new process."""
        used = replace(SETTINGS, api_key=api_key or SETTINGS.api_key)
        account = Account(used, self.clock, self.journal, self.stacks, send=self.api.send)
        with account.launcher.launch(spec, origin) as instance:
            return instance

    def killed(self, *, taken: bool = True, spec: Spec = SPEC, **others: Any) -> Entry:
        """The entry of a process that was killed while its POST was in flight."""
        entry = Entry(
            origin=HERE,
            account=SETTINGS.account,
            instance_type=spec.instance_type,
            ssh_key=spec.fingerprint,
            sector=spec.sector,
            before=(),
            started=self.clock.wall(),
            idempotency_key="the-key",
            first_sent=self.clock.wall(),
        )
        entry = replace(entry, **others)
        self.journal.write(entry)
        if taken:
            self.api.state.create(spec.instance_type, spec.ssh_key, spec.sector, None, "the-key")
        return entry

    def refusal(self, spec: Spec = SPEC, **others: Any) -> UnresolvedCreateError:
        with pytest.raises(UnresolvedCreateError) as caught:
            self.launch(spec, **others)
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home" / "fal-compute" / "creates")


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
    instance = world.launch()
    assert world.api.state.alive() == {instance.id}
    assert len(world.keys) == times + 1
    assert len(set(world.keys)) == 1


def test_the_key_is_on_disk_before_the_create_is_sent(world: World) -> None:
    """A process that is killed in between leaves what the next one needs."""
    seen: list[Entry | None] = []

    def look(request: Request[Any]) -> None:
        if request.call == "create":
            seen.append(world.journal.find(HERE))

    world.api.before = look
    world.launch()
    (entry,) = seen
    assert entry is not None
    assert [entry.idempotency_key] == world.keys
    assert (entry.phase, entry.first_sent) == (Phase.REQUESTED, world.clock.wall())


@pytest.mark.parametrize("taken", [True, False])
def test_a_create_that_was_killed_is_sent_again_by_the_next_up(world: World, taken: bool) -> None:
    """The machine is the one that the first attempt made, or the only one that is made."""
    world.killed(taken=taken)
    instance = world.launch()
    assert world.api.state.alive() == {instance.id}
    assert world.keys == ["the-key"]
    entry = world.journal.find(HERE)
    assert entry is not None
    assert (entry.phase, entry.instance_id) == (Phase.CREATED, instance.id)


def test_after_the_keys_time_the_candidates_are_named(world: World) -> None:
    """The API may have forgotten the answer, so the same create might make a second machine."""
    world.killed()
    world.clock.time += KEY_SECONDS
    error = world.refusal()
    assert set(error.candidates) == world.api.state.alive()
    assert world.keys == []


def test_an_outage_that_outlasts_the_key_ends_with_the_candidates(world: World) -> None:
    """No attempt is made once the key may be forgotten."""
    world.api.faults.add("create", "500_after", inf)
    began = world.clock.time
    error = world.refusal()
    assert set(error.candidates) == world.api.state.alive()
    assert len(error.candidates) == 1
    assert world.clock.time - began < KEY_SECONDS + SETTINGS.appear_seconds + 20
    assert len(set(world.keys)) == 1


@pytest.mark.parametrize(
    "spec", [Spec(ONE, ECDSA), Spec("gpu_8x_h100_sxm5", ED25519)], ids=["key", "type"]
)
def test_other_inputs_are_never_sent_with_the_old_key(world: World, spec: Spec) -> None:
    """The kept answer is of a machine that is not requested any more."""
    world.killed()
    error = world.refusal(spec)
    assert set(error.candidates) == world.api.state.alive()
    assert world.keys == []


def test_another_accounts_key_is_never_sent_with_the_old_key(world: World) -> None:
    """To another account the idempotency key is new."""
    world.killed()
    assert "the key of another account" in str(world.refusal(api_key="another"))
    assert world.keys == []


def make_once(world: World, then: Callable[[], None] = lambda: None) -> None:
    """The first POST is taken, and its answer is lost; after that `then` happens."""

    def lose(request: Request[Any]) -> None:
        if request.call == "create" and len(world.keys) == 1:
            then()
            raise unanswered(request)

    world.api.after = lose


def suspend_in_the_pause(clock: Clock) -> None:
    clock.suspended = 3600


def suspend_in_the_post(clock: Clock) -> None:
    clock.set_by += 3600


def set_back(clock: Clock) -> None:
    clock.set_by -= 300


@pytest.mark.parametrize("happens", [suspend_in_the_pause, suspend_in_the_post, set_back])
def test_a_create_is_not_sent_again_where_the_wall_clock_says_that_its_key_may_be_forgotten(
    world: World, happens: Callable[[Clock], None]
) -> None:
    """Other clocks stand still while a laptop sleeps, and a clock that was set back proves nothing.

    The API has forgotten the key, so another POST would make a second machine.
    """
    make_once(world, lambda: happens(world.clock))
    error = world.refusal()
    assert len(world.keys) == 1
    assert set(error.candidates) == world.api.state.alive()
    assert "POST /compute/instances got no answer: reset" in str(error)


def test_a_clock_that_is_set_back_a_little_gives_the_create_no_more_time(world: World) -> None:
    """Of the two clocks the one that says that the time is up is believed."""
    world.api.faults.add("create", "500_after", inf)
    moments: list[float] = []

    def set_back_later(request: Request[Any]) -> None:
        if request.call == "create":
            moments.append(world.clock.passed)
            if len(moments) == 10:
                world.clock.set_by -= 30

    world.api.after = set_back_later
    world.refusal()
    assert len(moments) > 10
    assert moments[-1] <= KEY_SECONDS


def test_a_create_of_the_future_is_not_sent_again(world: World) -> None:
    """The clock was set back since, and nobody knows how long ago the create was first sent."""
    world.killed()
    world.clock.set_by -= 60
    assert set(world.refusal().candidates) == world.api.state.alive()
    assert world.keys == []


def test_a_create_whose_time_ends_after_the_decision_is_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computer may be suspended at any moment, so the clock is read right before a POST."""
    world.killed()
    send = Sender.send

    def late(sender: Sender, *args: Any, **kwargs: Any) -> Any:
        world.clock.set_by += KEY_SECONDS
        return send(sender, *args, **kwargs)

    monkeypatch.setattr(Sender, "send", late)
    assert set(world.refusal().candidates) == world.api.state.alive()
    assert world.keys == []


def test_a_create_that_was_never_taken_needs_no_time_left(world: World) -> None:
    """A key that no request with it has reached the API with is as good as new."""
    world.api.faults.add("create", "429", inf)
    world.clock.suspended = 3600
    with pytest.raises(RateLimitedError):
        world.launch()
    assert world.journal.find(HERE) is None


@pytest.mark.parametrize("taken", [True, False])
def test_a_conflict_with_an_earlier_attempt_passes(world: World, taken: bool) -> None:
    """The API may still be working on the first request, in this process or in an earlier one."""
    if taken:
        world.killed()
    else:
        world.api.faults.add("create", "reset_before")
    world.api.faults.add("create", "409", times=2)
    instance = world.launch()
    assert world.api.state.alive() == {instance.id}
    assert len(set(world.keys)) == 1


@pytest.mark.parametrize("before", [[], ["429"]])
def test_a_conflict_without_an_earlier_attempt_is_a_refusal(
    world: World, before: list[str]
) -> None:
    """With a new key nothing can be in progress, and nine minutes of retries would not help."""
    for fault in (*before, "409"):
        world.api.faults.add("create", fault)
    with pytest.raises(ConflictError, match="answered 409"):
        world.launch()
    assert len(world.keys) == len(before) + 1
    assert world.journal.find(HERE) is None


def test_a_renamed_stacks_key_is_never_sent_for_the_stacks_new_name(world: World) -> None:
    """The machine may be there under the old name, so it is named."""
    world.killed(origin=replace(HERE, urn=URN.replace("dev", "old")))
    world.stacks.is_known_gone = True
    assert set(world.refusal().candidates) == world.api.state.alive()
    assert world.keys == []


def test_another_resource_has_a_key_of_its_own(world: World) -> None:
    """Two equal resources are two machines."""
    first = world.launch()
    second = world.launch(origin=replace(HERE, urn=f"{URN}-2"))
    assert first.id != second.id
    assert len(set(world.keys)) == 2


def test_an_answer_with_a_machine_that_was_there_before_is_not_taken(world: World) -> None:
    """Whatever made the API give it, it is somebody else's machine."""
    theirs = world.api.state.create(ONE, ED25519, None, None, "the-key")
    world.killed(taken=False, before=(theirs.id,))
    error = world.refusal()
    assert theirs.id not in error.candidates
    assert f"the API answered with {theirs.id}, which existed before it" in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429])
def test_a_repeat_that_is_refused_forgets_nothing_and_says_so(world: World, status: int) -> None:
    """The first attempt may have made a machine all the same. The refusal is kept on disk."""
    world.killed()

    def refuse(request: Request[Any]) -> None:
        if request.call == "create":
            raise refusal(status, "no", request)

    world.api.before = refuse
    for _ in range(2):  # the next `up` says the same, and the refusals don't pile up
        error = world.refusal()
        entry = world.journal.find(HERE)
        assert entry is not None
        assert set(error.candidates) == world.api.state.alive()
        assert entry.problem in str(error)
        assert entry.problem.startswith(
            "the process ended before the answer came. The attempt to send it again failed: "
            f"POST /compute/instances answered {status}: no."
        )
        assert entry.problem.count(f"answered {status}") == 1


def test_a_refusal_is_kept_although_the_repeats_are_interrupted(world: World) -> None:
    """A rate limit may last longer than a person waits, and `pending ls` then says what it was."""
    world.killed()
    world.api.faults.add("create", "429", inf)

    def interrupt(request: Request[Any]) -> None:
        if len(world.keys) == 3:
            world.clock.interrupt()

    world.api.before = interrupt
    assert "answered 429" in str(world.refusal())
    entry = world.journal.find(HERE)
    assert entry is not None
    assert "to send it again failed: POST /compute/instances answered 429" in entry.problem


def test_a_repeat_that_this_computer_can_not_send_says_why(world: World) -> None:
    """The environment of the next `up` may have a broken proxy."""
    world.killed()

    def refuse(request: Request[Any]) -> None:
        if request.call == "create":
            raise ConfigurationError("Nothing was sent to the API: no proxy.")

    world.api.before = refuse
    error = str(world.refusal())
    assert "to send it again failed: Nothing was sent to the API: no proxy." in error


def test_a_first_create_that_is_refused_leaves_no_trace(world: World) -> None:
    """The API's answer says that there is no machine."""
    world.api.faults.add("create", "403")
    with pytest.raises(FalError, match="403"):
        world.launch()
    assert world.journal.find(HERE) is None


@pytest.mark.parametrize("outcome", ["400", "interrupt"])
def test_what_ends_the_repeats_takes_nothing_back(world: World, outcome: str) -> None:
    """A refusal, or Ctrl-C, after an attempt that may have made a machine."""

    def end(request: Request[Any]) -> None:
        if request.call != "create":
            return
        if len(world.keys) > 1:
            raise refusal(400, "no", request)
        if outcome == "interrupt":
            world.clock.interrupt()

    lost: Callable[[Request[Any]], None] = _lost
    world.api.before, world.api.after = end, lost
    error = world.refusal()
    entry = world.journal.find(HERE)
    assert entry is not None
    assert "reset" in entry.problem
    assert ("answered 400: no" in entry.problem) is (outcome == "400")
    assert "may have made a machine" in str(error)


def test_without_a_key_of_its_own_an_entry_is_not_sent_again(world: World) -> None:
    """Such an entry was written under the legacy API."""
    world.killed(idempotency_key="", account=SETTINGS.account)
    assert set(world.refusal().candidates) == world.api.state.alive()
    assert world.keys == []


def _lost(request: Request[Any]) -> None:
    if request.call == "create":
        raise unanswered(request)
