"""A machine's life on the emulator's state, without HTTP and without waiting."""

from __future__ import annotations

from math import inf

import pytest

from pulumi_fal import errors
from pulumi_fal.api.dialects import Kind, Request
from pulumi_fal.api.models import Instance
from pulumi_fal.emulator.faults import fault
from pulumi_fal.machines.lifecycle import REFUSED_SECONDS, STOPPED_SECONDS

from ..fakes import EIGHT, LIST, refusal, unanswered
from .world import ApiWorld


@pytest.fixture
def world() -> ApiWorld:
    """Machines are ready after 100 seconds, and gone 10 seconds after their delete."""
    return ApiWorld(provisioning=100, deletion=10)


def wait(world: ApiWorld, instance: Instance, seconds: float = 1000) -> Instance:
    return world.lifecycle.wait_until_ready(instance, seconds)


def test_a_wait_ends_with_the_ready_machine(world: ApiWorld) -> None:
    """The wait ends soon after the machine is ready, and the machine has an ip."""
    ready = wait(world, world.made(EIGHT))
    assert ready.is_ready
    assert 100 <= world.passed <= 106


def test_a_machine_that_is_ready_is_not_waited_for(world: ApiWorld) -> None:
    """A machine that is ready already costs no call."""
    machine = world.made(EIGHT)
    world.state.advance(200)
    ready = world.state.get(machine.id)
    assert wait(world, ready) is ready
    assert world.api.calls == []


@pytest.mark.parametrize("ip_at, status", [(2.0, None), (0.0, "rebooting")])
def test_ready_takes_both_the_status_and_an_ip(
    world: ApiWorld, ip_at: float, status: str | None
) -> None:
    """A status without an ip, or an ip without the status, lets nobody log in."""
    world.state.ip_at = ip_at
    machine = world.made(EIGHT)
    if status:
        world.state.set_status(machine.id, status)
    with pytest.raises(errors.NotReadyError):
        wait(world, machine, 150)


def test_a_machine_that_stays_stopped_for_a_minute_ends_the_wait(world: ApiWorld) -> None:
    """The error says that it is stopped, long before the wait's own time is up."""
    machine = world.made(EIGHT)
    world.state.set_status(machine.id, "stopped")
    with pytest.raises(errors.NotReadyError, match="has been stopped for 60 s"):
        wait(world, machine)
    assert STOPPED_SECONDS <= world.passed <= STOPPED_SECONDS + 20


def test_a_machine_that_is_stopped_for_less_than_a_minute_is_awaited(world: ApiWorld) -> None:
    """A machine may be started again, and the minute begins anew with each stop."""
    machine = world.made(EIGHT)
    stops = iter(["stopped"] * 15 + ["provisioning"] + ["stopped"] * 15)

    def change(request: Request[object]) -> None:
        if request.kind == "list":
            world.state.machines[machine.id].status = next(stops, None)

    world.api.before = change
    assert wait(world, machine).is_ready


def test_every_change_on_the_way_is_shown_once(world: ApiWorld) -> None:
    """Every change is reported once, from the first answer that has the machine."""
    seen: list[tuple[str, bool]] = []
    world.lifecycle.wait_until_ready(
        world.made(EIGHT), 1000, lambda shown: seen.append((shown.status, shown.ip is not None))
    )
    assert seen == [
        ("pending", False),
        ("init", False),
        ("provisioning", False),
        ("provisioning", True),
        ("ready", True),
    ]


def test_a_wait_that_is_over_names_the_machine_and_the_ways_out(world: ApiWorld) -> None:
    """An error of a wait that is over names the machine, its status and what to run."""
    machine = world.made(EIGHT)
    with pytest.raises(errors.NotReadyError) as caught:
        wait(world, machine, 50)
    assert caught.value.instance_id == machine.id
    assert str(caught.value) == (
        f"Machine {machine.id} ({EIGHT}) is billed, but was not ready after 50 s: its status is "
        "provisioning, and it has no ip yet.\n"
        "Run `pulumi up` again to go on waiting for the same machine."
    )
    assert world.passed == 50


def test_what_becomes_ready_in_the_last_moment_counts(world: ApiWorld) -> None:
    """The last list is asked for when the time is up, so a machine may become ready then."""
    assert wait(world, world.made(EIGHT), 100).is_ready


@pytest.mark.parametrize("lag", [25, 60])
def test_a_new_machine_may_be_missing_from_the_list(world: ApiWorld, lag: float) -> None:
    """A new machine may be missing from the list, and then a GET shows that it is there."""
    world.state.list_lag = lag
    assert wait(world, world.made(EIGHT)).is_ready
    assert ("get" in world.api.calls) == (lag > 30)


BAD_ANSWERS = [
    refusal(522),
    refusal(503),
    refusal(404),
    refusal(400),
    refusal(429, retry_after=5.0),
    unanswered(sent=False),
    unanswered(sent=True),
    LIST.error(errors.UnusableAnswerError, "HTML", status=200),
    refusal(307),
    refusal(401),
    refusal(403),
]
each_bad_answer = pytest.mark.parametrize("error", BAD_ANSWERS, ids=str)


@each_bad_answer
def test_an_answer_that_can_not_be_used_ends_no_wait(
    world: ApiWorld, error: errors.APIError
) -> None:
    """An answer that can't be used says nothing about the machine, and the next one does."""
    world.fail("list", error, 20, 75)
    assert wait(world, world.made(EIGHT)).is_ready
    assert world.passed < 130


@pytest.mark.parametrize("error", BAD_ANSWERS[:2] + BAD_ANSWERS[5:7], ids=str)
def test_an_outage_may_last_as_long_as_the_wait(world: ApiWorld, error: errors.APIError) -> None:
    """A wait of an hour succeeds after half an hour of 5xx answers, or without a network."""
    world.fail("list", error, 20, 1800)
    assert wait(world, world.made(EIGHT), 3600).is_ready
    assert 1800 <= world.passed < 1820


def test_an_outage_is_shown_as_it_changes_and_when_it_is_over(world: ApiWorld) -> None:
    """A line for each of a hundred polls would bury the rest of the log."""

    def fail(request: Request[object]) -> None:
        if 20 <= world.passed < 60:
            raise refusal(503, "down") if world.passed < 40 else unanswered()

    world.api.before = fail
    wait(world, world.made(EIGHT))
    assert world.told == [
        "GET /compute/instances answered 503: down. The wait goes on.",
        "GET /compute/instances got no answer: reset. The wait goes on.",
        "The API answers again.",
    ]


def test_a_wait_whose_time_is_up_in_an_outage_says_so(world: ApiWorld) -> None:
    """An error in an outage has the machine's last status, and what the API answers since when."""
    world.fail("list", refusal(503), 40)
    with pytest.raises(errors.NotReadyError) as caught:
        wait(world, world.made(EIGHT), 100)
    said = str(caught.value)
    assert "was not ready after 100 s: its status is provisioning" in said
    assert (
        "For the last 60 s the API gave no usable answer: GET /compute/instances answered 503: no."
        in said
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_for_a_minute_ends_the_wait(world: ApiWorld, status: int) -> None:
    """A key that is refused for a minute was revoked, and no later answer will be another."""
    world.fail("list", refusal(status), 20)
    with pytest.raises(errors.AuthenticationError):
        wait(world, world.made(EIGHT), 3600)
    assert 20 + REFUSED_SECONDS <= world.passed <= 20 + REFUSED_SECONDS + 17


def test_refusals_with_another_answer_between_them_are_counted_anew(world: ApiWorld) -> None:
    """A gateway that is half broken is no revoked key."""
    machine = world.made(EIGHT)

    def fail(request: Request[object]) -> None:
        if request.kind == "list" and 20 <= world.passed < 90:
            raise refusal(403) if int(world.passed) % 3 else BAD_ANSWERS[0]

    world.api.before = fail
    assert wait(world, machine, 3600).is_ready


def test_reads_of_one_moment_share_a_list_and_absence_takes_a_newer_one(world: ApiWorld) -> None:
    """A refresh of hundreds costs a call or two; what a list lacks is asked for, and looked for."""
    machines = [world.made(EIGHT) for _ in range(3)]
    for machine in machines:
        world.clock.time += 0.2
        assert world.lifecycle.look(machine.id) is not None
    assert world.api.calls == ["list"]
    late = world.made(EIGHT)
    world.state.hide(late.id, "get", 1)
    assert world.lifecycle.look(late.id) is not None
    assert world.api.calls.count("list") == 2


def test_a_list_that_has_failed_is_not_shared_with_later_reads(world: ApiWorld) -> None:
    """The next list may succeed, and one failure must not fail all reads of the same second."""
    machine = world.made(EIGHT)
    world.fail("list", refusal(401), end=0.1)
    with pytest.raises(errors.AuthenticationError):
        world.lifecycle.look(machine.id)
    world.clock.time += 0.1
    assert world.lifecycle.look(machine.id) is not None


# Looks with little time, as in a preview.


def look(world: ApiWorld, instance_id: str = "gone", seconds: float = 5) -> Instance | None:
    return world.lifecycle.look(instance_id, seconds)


@pytest.mark.parametrize("interval", [2.0, 60.0])
def test_a_look_with_little_time_takes_two_however_long_the_poll_interval(
    world: ApiWorld, interval: float
) -> None:
    """A preview is not to hang."""
    world.fleet.interval = interval
    assert look(world) is None
    assert world.api.calls == ["list", "get"] * 2
    assert world.passed == 2


def test_a_look_that_has_no_more_time_says_that_it_can_not_tell(world: ApiWorld) -> None:
    """Where the API hangs, a machine is neither there nor missing."""
    world.api.before = lambda request: world.clock.sleep(3)
    with pytest.raises(TimeoutError):
        look(world)


@pytest.mark.parametrize("answered", ["a look", "a wait"])
def test_looks_with_little_time_wait_once_for_a_silent_api(world: ApiWorld, answered: str) -> None:
    """A preview asks for one machine after another. The next answer to any call ends that."""
    machine = world.made()

    def wait(request: Request[object]) -> None:
        world.clock.sleep(min(world.api.timeouts[-1] or inf, 30))
        raise unanswered(request)

    world.api.before = wait
    for _ in range(50):
        with pytest.raises((errors.APIError, TimeoutError)):
            look(world)
    assert world.passed <= 5
    world.api.before = lambda request: None
    with pytest.raises(TimeoutError):
        look(world)
    if answered == "a look":
        world.lifecycle.look(machine.id)
    else:
        world.lifecycle.delete(machine.id, 100)
    assert look(world) is None


def test_a_look_that_got_an_error_keeps_no_later_one_from_asking(world: ApiWorld) -> None:
    """A 503 is an answer."""
    machine = world.made()
    for _ in range(20):
        world.clock.time += 1  # a list that is older is not shared
        world.api.before = lambda request: world.clock.sleep(1)
        world.api.faults.add("list", "503")
        with pytest.raises(errors.ServerError):
            look(world, machine.id)
        world.api.before = lambda request: None
        assert look(world, machine.id)
    assert len(world.api.calls) == 40


def test_delete_waits_until_the_machine_is_no_longer_listed(world: ApiWorld) -> None:
    """A machine whose delete was accepted bills until it is gone."""
    machine = world.made(EIGHT)
    world.lifecycle.delete(machine.id, 100)
    assert world.state.alive() == set()
    assert 10 <= world.passed <= 16
    assert world.api.calls[0] == "delete"


def test_a_409_says_that_the_machine_is_there_whatever_reads_say(world: ApiWorld) -> None:
    """After a 409 the machine counts as there, although no read shows it."""
    machine = world.made(EIGHT)
    world.hide(machine.id)
    world.fail("delete", refusal(409), end=30)
    world.lifecycle.delete(machine.id, 100)
    assert world.state.deletions == 1


@pytest.mark.parametrize("status", [409, pytest.param(404, id="404 although listed")])
def test_a_delete_that_is_refused_for_now_is_asked_again(world: ApiWorld, status: int) -> None:
    """A 404 of a machine that is still listed is no success, and a 409 passes."""
    machine = world.made(EIGHT)
    world.fail("delete", refusal(status), end=30)
    world.lifecycle.delete(machine.id, 100)
    assert world.state.alive() == set()
    assert world.passed >= 40


def test_a_delete_that_is_never_accepted_says_what_the_api_said(world: ApiWorld) -> None:
    """A delete that was never accepted fails with what the API said."""
    machine = world.made(EIGHT)
    world.fail("delete", refusal(409, "still starting"))
    with pytest.raises(errors.StillThereError) as caught:
        world.lifecycle.delete(machine.id, 60)
    assert caught.value.instance_id == machine.id
    assert str(caught.value) == (
        f"Machine {machine.id} may still exist 60 s after its delete began (the API "
        "answered 409: still starting).\nIt stays in state, and may still run and bill. Run the "
        "command again to continue."
    )


def test_a_delete_that_takes_too_long_gives_up(world: ApiWorld) -> None:
    """The error says that the API had accepted the delete."""
    world.state.deletion = 1000
    machine = world.made(EIGHT)
    with pytest.raises(errors.StillThereError, match="the API had accepted it"):
        world.lifecycle.delete(machine.id, 60)
    assert world.passed == 60
    assert world.api.calls.count("delete") == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_for_a_minute_ends_a_delete(world: ApiWorld, status: int) -> None:
    """The machine stays in state, although lists still come."""
    machine = world.made(EIGHT)
    world.fail("delete", refusal(status))
    with pytest.raises(errors.AuthenticationError):
        world.lifecycle.delete(machine.id, 600)
    assert machine.id in world.state.alive()
    assert REFUSED_SECONDS <= world.passed <= REFUSED_SECONDS + 17


def test_a_delete_that_the_api_refuses_for_good_ends_with_its_word(world: ApiWorld) -> None:
    """A 400 is the API's answer, and repeating the request would bring the same."""
    machine = world.made(EIGHT)
    world.fail("delete", refusal(400, "protected"))
    with pytest.raises(errors.InvalidRequestError, match="protected"):
        world.lifecycle.delete(machine.id, 600)
    assert world.passed == 0


@pytest.mark.parametrize("kind", ["delete", "list"])
@pytest.mark.parametrize("error", [BAD_ANSWERS[0], *BAD_ANSWERS[4:]], ids=str)
def test_an_answer_that_can_not_be_used_ends_no_delete(
    world: ApiWorld, error: errors.APIError, kind: Kind
) -> None:
    """Neither a DELETE nor a list that fails for half a minute ends the wait."""
    machine = world.made(EIGHT)
    world.fail(kind, error, end=30)
    world.lifecycle.delete(machine.id, 600)
    assert world.state.alive() == set()
    assert any("The wait goes on." in told for told in world.told)


def test_a_delete_that_is_told_to_come_later_does(world: ApiWorld) -> None:
    """Nothing is sent before the time in Retry-After has passed."""
    machine = world.made(EIGHT)
    world.api.faults.add("delete", fault("429", retry_after=20))
    world.lifecycle.delete(machine.id, 600)
    assert world.api.calls.count("delete") == 2
    assert world.passed >= 20 + 10
