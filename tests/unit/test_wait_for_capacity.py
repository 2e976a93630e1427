"""`wait_for_capacity`, as hosts call the provider: what is on record, on the row, and in state."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from pulumi_fal import clock
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import (
    APIError,
    IncompleteClusterError,
    Interrupted,
    InvalidRequestError,
    NoRoomError,
    UnresolvedCreateError,
)
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import INFO, UNKNOWN, Call, InitFailed
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import CREATE, ED25519, EIGHT, HERE, ONE, URN, refusal, settings
from .world import World

INPUTS = {
    "instance_type": EIGHT,
    "ssh_key": ED25519,
    "sector": "sector_1",
    "wait_for_capacity": "6h",
}
CALL = Call(URN)
NODE = Call(f"urn:pulumi:dev::shop::{CLUSTER_TYPE_TOKEN}${TYPE_TOKEN}::train-1")


class Row:
    """What a create shows on its resource's row."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        assert (severity, ephemeral) == (INFO, True)
        self.said.append(message)


def local(world: World, form: str, seconds: float) -> str:
    """A time in the form of the row, which is that of the place."""
    return time.strftime(form, time.localtime(world.clock.wall() + seconds))


def room_after(world: World, seconds: float) -> list[tuple[Entry | None, bool]]:
    """Have room from a moment on. Returns what is on record when a create waits, and its lock."""
    waiting: list[tuple[Entry | None, bool]] = []
    world.state.capacity = 0
    sleep = world.clock.sleep

    def look(pause: float) -> None:
        if world.api.calls[-1:] == ["create"] and world.state.creations == 0:
            waiting.append((world.entry(), world.journal.try_lock(HERE) is None))
        sleep(pause)
        if world.passed >= seconds:
            world.state.capacity = None

    vars(world.clock)["sleep"] = look
    return waiting


@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_between_two_requests_nothing_is_on_record_but_no_other_process_can_create(
    world: World, api: str
) -> None:
    """A kill then leaves nothing to resolve, and each POST has a record of its own."""
    world.settings = settings(api=api)
    waiting = room_after(world, 1200.0)
    created = operations.create(world.machines, CALL, INPUTS)
    assert len(waiting) > 10
    assert set(waiting) == {(None, True)}
    assert world.state.alive() == {created.id}
    posts = world.api.asked("create")
    assert all(15.0 <= later - earlier <= 60.0 for earlier, later in pairwise(posts))
    # A key that has had its answer would get the same one again.
    assert len(set(world.api.keys)) == (len(posts) if api == "v1" else 1)


@pytest.mark.parametrize("wait", [True, False])
def test_the_timeout_of_create_counts_from_the_accepted_post(world: World, wait: bool) -> None:
    """A machine that took hours to get has all its time to become ready."""
    room_after(world, 2000.0)
    world.state.provisioning = 1000.0
    call, props = replace(CALL, timeout=1500.0), {**INPUTS, "wait": wait}
    created = operations.create(world.machines, call, props)
    assert created.outputs["wait_for_capacity"] == "6h"
    assert (created.outputs["status"] == "ready") is wait
    world.restart()
    world.api.requests.clear()
    room_after(world, world.passed + 2000.0)
    world.state.provisioning = 2000.0
    if wait:
        with pytest.raises(InitFailed, match="not ready after 1500 s"):
            operations.create(world.machines, replace(call, urn=f"{URN}-2"), props)


def test_the_row_shows_the_apis_words_for_how_long_and_until_when(world: World) -> None:
    """Each text has a line in a log, so the longer the wait, the coarser it is."""
    room_after(world, 2400.0)
    row = Row()
    until = local(world, "%H:%M", 6 * 3600.0)
    operations.create(world.machines, replace(CALL, log=row), INPUTS)
    lines = [line for line in row.said if line.startswith("no room")]
    words = "POST /compute/instance answered 400: no capacity left for gpu_8x_h100_sxm5."
    assert lines[0].startswith("no room yet, asking until ")
    assert lines[0].endswith(f"{until}: {words}")
    assert any(" for 5m, asking until " in line for line in lines)
    assert any(" for 35m, asking until " in line for line in lines)
    assert len(lines) == len(set(lines)) < 20


def test_an_end_on_another_day_has_its_date(world: World) -> None:
    """A time of day alone would be taken for that of today."""
    room_after(world, 60.0)
    row = Row()
    props = {**INPUTS, "wait_for_capacity": "48h"}
    operations.create(world.machines, replace(CALL, log=row), props)
    assert f"asking until {local(world, '%Y-%m-%d', 2 * 86400.0)} " in row.said[0]


def test_a_request_id_that_changes_makes_no_new_line(world: World) -> None:
    """The API has another one in each answer. The error has the last one, for fal's support."""
    world.settings = settings(api="v1")
    count = iter(range(1000))

    def refuse(request: Request[Any]) -> None:
        if request.creates:
            raise refusal(400, f"no capacity left (request id req_{next(count)})", request)

    world.api.before = refuse
    row, props = Row(), {**INPUTS, "wait_for_capacity": "40m"}
    with pytest.raises(NoRoomError, match=r"no capacity left \(request id req_\d+\)\.\n"):
        operations.create(world.machines, replace(CALL, log=row), props)
    assert "request id" not in "".join(row.said)
    assert len(row.said) == len(set(row.said)) < 20


def test_when_the_time_is_up_nothing_is_left_but_the_error(world: World) -> None:
    """The next `up` begins anew."""
    world.state.capacity = 0
    with pytest.raises(NoRoomError, match=r"no room for it in 30m\. It has waited since "):
        operations.create(world.machines, CALL, {**INPUTS, "wait_for_capacity": "30m"})
    assert 1800.0 <= world.passed <= 1800.1
    assert world.entry() is None
    assert world.state.creations == 0


def test_ctrl_c_ends_the_wait_with_nothing_made_and_nothing_pending(world: World) -> None:
    """Sleeping is all that a create does most of the time."""
    world.state.capacity = 0
    sleep = world.clock.sleep

    def interrupt(pause: float) -> None:
        if world.passed > 600.0:
            world.clock.interrupt()
        sleep(pause)

    vars(world.clock)["sleep"] = interrupt
    with pytest.raises(Interrupted, match="No machine was created, and nothing is pending"):
        operations.create(world.machines, CALL, INPUTS)
    assert world.entry() is None


@pytest.mark.parametrize(
    "error",
    [
        refusal(403, "no capacity for this key", CREATE),
        refusal(400, "wrong", CREATE),
        refusal(409, "quota exceeded", CREATE),
    ],
)
def test_any_other_refusal_fails_at_once(world: World, error: APIError) -> None:
    """A refusal for another reason ends a create that waits for capacity."""
    world.state.capacity = 0

    def fail(request: Request[Any]) -> None:
        if request.creates and world.passed > 600.0:
            raise error

    world.api.before = fail
    with pytest.raises(type(error)) as caught:
        operations.create(world.machines, CALL, INPUTS)
    assert caught.value is error
    assert world.entry() is None


def test_without_the_input_a_refusal_fails_at_once(world: World) -> None:
    """Waiting is opt-in."""
    world.state.capacity = 0
    with pytest.raises(InvalidRequestError, match="no capacity left"):
        operations.create(world.machines, CALL, {**INPUTS, "wait_for_capacity": None})
    assert world.api.calls.count("create") == 1


def test_a_server_error_that_speaks_of_capacity_may_have_made_a_machine(world: World) -> None:
    """Without an idempotency key the create is not sent again, whatever the text says."""
    world.api.before = lambda request: fail_on_create(request)

    def fail_on_create(request: Request[Any]) -> None:
        if request.creates:
            raise refusal(503, "no capacity left", request)

    with pytest.raises(UnresolvedCreateError):
        operations.create(world.machines, CALL, INPUTS)
    assert world.api.calls.count("create") == 1


def lie(world: World, status: int = 400, lies: Sequence[int] = (1, 2, 3)) -> None:
    """Refuse the first three asks. Those with these numbers make machines all the same."""

    def refuse(request: Request[Any]) -> None:
        if request.creates and len(world.api.asked("create")) <= 3:
            raise refusal(status, "no capacity left", request)

    def before(request: Request[Any]) -> None:
        if len(world.api.asked("create")) not in lies:
            refuse(request)

    world.api.before, world.api.after = before, refuse


@pytest.mark.parametrize("api", ["legacy", "v1"])
@pytest.mark.parametrize("status", [400, 409, 422, 429])
def test_a_refusal_that_is_not_true_makes_one_machine_and_not_one_with_each_ask(
    world: World, api: str, status: int
) -> None:
    """The list before the next ask shows it, so the create stops and names it."""
    world.settings = settings(api=api)
    lie(world, status)
    with pytest.raises(UnresolvedCreateError, match="no capacity left") as caught:
        operations.create(world.machines, CALL, INPUTS)
    assert world.state.creations == 1
    assert set(caught.value.candidates) == world.state.alive()
    world.api.before = world.api.after = lambda request: None
    world.restart()
    if api == "v1":  # the key shows whose it is
        assert {operations.create(world.machines, CALL, INPUTS).id} == world.state.alive()
    else:
        with pytest.raises(UnresolvedCreateError):
            operations.create(world.machines, CALL, INPUTS)
    assert world.state.creations == 1


@pytest.mark.parametrize("whose", ["another type", "stack", "record", "create", "deleted"])
def test_a_machine_that_is_surely_anothers_does_not_end_the_wait(world: World, whose: str) -> None:
    """Others rent machines while a create waits for hours."""
    lie(world, lies=())
    sleep, others = world.clock.sleep, list[str]()
    records, other = world.creates.records, replace(HERE, urn=f"{URN}-2")

    def rent(pause: float) -> None:
        if not others:
            others.append(world.machine(ONE if whose == "another type" else EIGHT))
            if whose == "stack":
                world.stacks.others = {"organization/shop/prod": set(others)}
            if whose == "record":
                world.earlier(Phase.CREATED, others[0], origin=other)
            if whose == "create":
                records.begin(other, world_request())
                records.remember(other, world.earlier(Phase.LATE), world.state.get(others[0]))
            if whose == "deleted":
                world.creates.deleted_ids.update(others)
        sleep(pause)

    vars(world.clock)["sleep"] = rent
    assert operations.create(world.machines, CALL, INPUTS).id not in others
    assert len(others) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_beside_another_create_the_next_ask_looks_for_what_a_refusal_has_made(
    world: World, number: int
) -> None:
    """The machine of a create without an answer would look like it, so the look is put off."""
    lie(world, lies=(number,))
    flight, sleep = ExitStack(), world.clock.sleep
    flight.enter_context(world.creates.sending())

    def land(pause: float) -> None:
        if len(world.api.asked("create")) == 2:
            flight.close()
        sleep(pause)

    vars(world.clock)["sleep"] = land
    with pytest.raises(UnresolvedCreateError):
        operations.create(world.machines, CALL, INPUTS)
    assert len(world.api.asked("create")) == 2
    assert world.state.creations == 1


def test_a_429_for_want_of_room_is_not_retried_by_the_client(world: World) -> None:
    """The client's own retries come sooner than those of a create that waits."""

    def fail(request: Request[Any]) -> None:
        if request.creates and world.passed < 600.0:
            raise refusal(429, "no machines available", request)

    world.api.before = fail
    operations.create(world.machines, CALL, INPUTS)
    posts = world.api.asked("create")
    assert all(later - earlier >= 15.0 for earlier, later in pairwise(posts))
    world.api.before = lambda request: None
    world.api.faults.add("create", "429")
    before = world.passed
    operations.create(world.machines, replace(CALL, urn=f"{URN}-2"), INPUTS)
    assert world.passed - before < 15.0  # too many requests: that is retried as ever


def test_the_record_of_an_earlier_create_is_there_again_after_each_refusal(world: World) -> None:
    """Its machine may still appear, while the new create waits."""
    entry = world.earlier(Phase.REQUESTED, searched=True, problem="it was reset")
    waiting = room_after(world, 600.0)
    created = operations.create(world.machines, CALL, INPUTS)
    assert {kept.started for kept, _ in waiting if kept} == {entry.started}
    assert {kept.phase for kept, _ in waiting if kept} == {Phase.REQUESTED}
    phases = [kept.phase for kept in world.journal.readable()]
    assert sorted(phases) == sorted([Phase.LATE, Phase.REPORTED])
    assert world.state.alive() == {created.id}
    assert len([warning for warning in world.warnings if "earlier create" in warning]) <= 1


def test_the_machine_of_an_earlier_create_is_resumed_without_a_place_in_the_queue(
    world: World,
) -> None:
    """It runs and bills, so its create waits for nothing."""
    machine = world.machine(EIGHT)
    world.earlier(Phase.CREATED, machine, requested=world_request().hashed())
    world.state.capacity = 0
    created = operations.create(world.machines, CALL, INPUTS)
    assert created.id == machine
    assert "create" not in world.api.calls


def world_request() -> NewInstance:
    return NewInstance.of(INPUTS)


def test_a_change_of_the_duration_is_an_update_without_a_call(world: World) -> None:
    """It concerns only the create."""
    state = {**INPUTS, "ip": "198.18.0.1", "status": "ready"}
    for changed in ({**INPUTS, "wait_for_capacity": "1h"}, {**INPUTS}):
        if changed == INPUTS:
            del changed["wait_for_capacity"]
        diff = operations.diff(world.machines, CALL, "an id", state, changed)
        assert (diff.replaces, diff.changes) == ([], None)
        outs = operations.update(world.machines, CALL, "an id", state, changed)
        assert outs.get("wait_for_capacity") == changed.get("wait_for_capacity")
        assert world.api.calls == []


@pytest.mark.parametrize("value", ["6h", "30m", "1h30m", "90s", "1.5h", "1d12h", UNKNOWN, None])
def test_a_duration_has_the_forms_of_custom_timeouts(value: Any) -> None:
    """A value that is not known yet is checked when it is."""
    result = operations.check(CALL, {}, {**INPUTS, "wait_for_capacity": value})
    assert result.failures == []
    assert result.inputs.get("wait_for_capacity") is value


@pytest.mark.parametrize("value", ["6", "6 h", "6 hours", "-1h", "0s", "0", "31d", "1:30h"])
def test_a_wrong_duration_is_refused_and_quoted(value: str) -> None:
    """A typo is found in the preview."""
    result = operations.check(CALL, {}, {**INPUTS, "wait_for_capacity": value})
    assert [failure.property for failure in result.failures] == ["wait_for_capacity"]
    assert result.failures[0].reason == (
        "wait_for_capacity must be a duration of at most 30 days such as 6h, 30m or 1h30m, "
        f"not {value!r}"
    )


@pytest.mark.parametrize("value", [3600.0, True, ED25519, "forever", "1a2b3c4d5e6f7a8b"])
def test_what_is_no_duration_at_all_is_not_quoted(value: Any) -> None:
    """It may be another input's value, and a secret."""
    (failure,) = operations.check(CALL, {}, {**INPUTS, "wait_for_capacity": value}).failures
    assert str(value) not in failure.reason


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0m"),
        (59, "0m"),
        (60, "1m"),
        (599, "9m"),
        (899, "10m"),
        (3000, "50m"),
        (3600, "1h"),
        (5400, "1h 30m"),
        (21599, "5h 30m"),
        (90000, "1d 1h"),
    ],
)
def test_how_long_a_wait_has_lasted_is_rounded_down(seconds: float, words: str) -> None:
    """A wait is never said to have been longer than it was."""
    assert clock.shown_duration(clock.rounded_duration(seconds)) == words


# Clusters


def test_when_the_time_is_up_the_error_is_that_of_a_full_sector(world: World) -> None:
    """The advice for a machine that is alone, another sector, would be wrong for a cluster's."""
    world.state.capacity = 0
    with pytest.raises(IncompleteClusterError) as caught:
        operations.create(world.machines, NODE, {**INPUTS, "wait_for_capacity": "5m"})
    happened, advice, others, command = str(caught.value).splitlines()
    assert happened.startswith("Machine train-1 (gpu_8x_h100_sxm5 in sector_1) was not created")
    assert advice == "If the sector is full, run `pulumi up` again when it has room."
    assert others.startswith("Other machines of cluster train may exist, and are billed.")
    assert command == "  pulumi-fal ls"
