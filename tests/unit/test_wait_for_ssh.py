"""`wait_for_ssh`: a machine is ready only when an SSH server greets on it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.errors import NotReadyError, VanishedError
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import UNKNOWN, Call, InitFailed
from pulumi_fal.resource.operations import Diff

from ..fakes import ED25519, EIGHT, ID, URN
from .world import ABSENCE_SECONDS, ApiWorld, World

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519, "wait_for_ssh": True}
STATE = {**INPUTS, "sector": "sector_1", "ip": "198.18.0.1", "status": "ready"}
UNFINISHED = {**STATE, "unfinished": True}
CALL = Call(URN)


@pytest.fixture
def world(world: World) -> World:
    """Machines are ready after 100 seconds, and SSH servers greet after 130."""
    world.state.provisioning = 100
    world.ssh_at = 130
    return world


def unfinished(world: World, call: Call) -> InitFailed:
    with pytest.raises(InitFailed) as caught:
        operations.create(world.machines, call, INPUTS)
    return caught.value


# check


@pytest.mark.parametrize("given", [None, False])
def test_wait_for_ssh_is_off_by_default(given: bool | None) -> None:
    """The default and an absent input are the same, and must not differ later."""
    news = {**INPUTS, "wait_for_ssh": given}
    assert "wait_for_ssh" not in operations.check(CALL, {}, news).inputs


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"wait_for_ssh": "yes"}, "wait_for_ssh must be True or False, not of type str"),
        (
            {"wait": False},
            (
                "wait_for_ssh is True, but wait is False, so nothing would be awaited; leave one "
                "of them out"
            ),
        ),
        ({"wait": UNKNOWN}, None),
        ({"wait": False, "wait_for_ssh": False}, None),
        ({"wait": False, "wait_for_ssh": UNKNOWN}, None),
    ],
)
def test_check_refuses_what_can_not_be_awaited(given: dict[str, Any], problem: str | None) -> None:
    """Somebody who asks for both would take the machine for one that can be logged in to."""
    failures = operations.check(CALL, {}, {**INPUTS, **given}).failures
    assert [failure.reason for failure in failures] == ([problem] if problem else [])


# create


def test_a_create_ends_when_ssh_greets_and_not_before(world: World) -> None:
    """SSH is asked for at the machine's own ip, and only once the machine is ready."""
    created = operations.create(world.machines, CALL, INPUTS)
    assert 130 <= world.passed <= 140
    assert created.outputs["status"] == "ready"
    ip = created.outputs["ip"]
    assert {asked for asked, _ in world.connected} == {ip}
    assert min(moment for _, moment in world.connected) >= 100


def test_without_it_nobody_connects(world: World) -> None:
    """It is opt-in, because a machine's firewall may be closed."""
    operations.create(world.machines, CALL, {**INPUTS, "wait_for_ssh": False})
    assert world.passed < 130
    assert world.connected == []


def test_ssh_is_asked_for_often_after_a_long_wait(world: World) -> None:
    """The pauses of a long wait for ready would add up to 16 seconds of an idle machine."""
    world.state.provisioning, world.ssh_at = 1000, 1060
    operations.create(world.machines, CALL, INPUTS)
    moments = [moment for _, moment in world.connected]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert max(pauses) <= 3.5


def test_the_row_says_what_is_awaited_and_why_once(world: World) -> None:
    """The row has the reason, so a closed firewall is seen, and never the ip."""
    said: list[str] = []
    call = replace(CALL, log=lambda message, *_, **others: said.append(message))
    operations.create(world.machines, call, INPUTS)
    assert said[-2:] == ["ready", "ready, waiting for SSH on port 22: Connection refused"]


# time is up, Ctrl-C, and a machine that is gone


def test_a_create_whose_time_is_up_has_the_machine_in_state(world: World) -> None:
    """The timeout is that of create, for both waits together. The machine is named, and bills."""
    world.ssh_at = inf
    failed = unfinished(world, replace(CALL, timeout=150))
    assert 150 <= world.passed <= 153
    (id_,) = world.state.alive()
    assert failed.instance_id == id_
    assert failed.reason == (
        f"Machine {id_} ({EIGHT}) is billed, but was not ready after 150 s: its status is "
        "ready, but no SSH server greets on port 22 (Connection refused).\n"
        "Run `pulumi up` again to go on waiting for the same machine.\n"
        f"To delete it:\n  pulumi destroy --target {URN}"
    )
    assert failed.outputs["unfinished"] is True


def test_the_next_up_goes_on_with_the_same_machine(world: World) -> None:
    """An update asks SSH first: where it greets by then, no call to the API is needed."""
    world.ssh_at = 200
    failed = unfinished(world, replace(CALL, timeout=150))
    found = operations.diff(world.machines, CALL, failed.instance_id, failed.outputs, INPUTS)
    assert found == Diff([], changes=True)
    outs = operations.update(world.machines, CALL, failed.instance_id, failed.outputs, INPUTS)
    assert 200 <= world.passed <= 206
    assert "unfinished" not in outs
    assert outs["wait_for_ssh"] is True
    assert world.state.creations == 1


def test_ctrl_c_ends_the_wait_for_ssh_at_once(world: World) -> None:
    """The machine is in state, as after any wait that was interrupted."""
    world.ssh_at = inf

    def interrupt(request: Request[object]) -> None:
        if world.connected:
            world.clock.interrupt()

    world.api.before = interrupt
    failed = unfinished(world, CALL)
    assert len(world.connected) <= 2
    assert "was interrupted.\nThe machine is billed; its status was ready." in failed.reason


def test_a_machine_that_is_gone_is_not_waited_for(world: World) -> None:
    """The API is asked in the meantime, so the wait ends long before its time is up."""
    world.ssh_at = inf

    def delete(request: Request[object]) -> None:
        if len(world.connected) == 3:
            for id_ in world.state.alive():
                world.state.delete(id_)

    world.api.before = delete
    with pytest.raises(VanishedError, match="it was ready when last seen"):
        operations.create(world.machines, CALL, INPUTS)
    assert world.passed < 130 + ABSENCE_SECONDS


def test_a_machine_that_is_ready_was_shown_so_it_can_be_gone() -> None:
    """It is no new machine, which may be missing from lists for long."""
    world = ApiWorld()
    world.ssh_at = inf
    ready = world.state.get(world.made(EIGHT).id)
    world.hide(ready.id)
    with pytest.raises(VanishedError):
        world.lifecycle.wait_until_ready(ready, 1000, on_silence=lambda reason: None)


def test_a_machine_that_is_stopped_ends_the_wait() -> None:
    """No SSH server will greet on it until somebody starts it."""
    world = ApiWorld()
    machine = world.made(EIGHT)
    world.ssh_at = inf

    def stop(request: Request[object]) -> None:
        if len(world.connected) == 3:
            world.state.set_status(machine.id, "stopped")

    world.api.before = stop
    with pytest.raises(NotReadyError, match="has been stopped for 60 s"):
        world.lifecycle.wait_until_ready(machine, 1000, on_silence=lambda reason: None)
    assert len(world.connected) == 3


def test_the_ip_that_the_api_shows_last_is_the_one_to_ask() -> None:
    """An update begins with the ip in state, which may have changed since."""
    world = ApiWorld()
    world.ssh_at = 10
    machine = world.made(EIGHT)
    actual = world.state.get(machine.id)
    stale = replace(actual, ip="198.18.99.99")
    ready = world.lifecycle.wait_until_ready(stale, 1000, on_silence=lambda reason: None)
    assert ready == actual
    assert [ip for ip, _ in world.connected][:2] == ["198.18.99.99", actual.ip]


# update and read


def test_an_update_to_true_waits_and_replaces_nothing(world: World) -> None:
    """As with `wait`, the next `up` waits for the machine that exists."""
    world.state.provisioning = 0
    id_ = world.machine(EIGHT)
    olds = {name: value for name, value in STATE.items() if name != "wait_for_ssh"}
    assert operations.diff(world.machines, CALL, id_, olds, INPUTS) == Diff([])
    outs = operations.update(world.machines, CALL, id_, olds, INPUTS)
    assert 130 <= world.passed <= 140
    assert outs["wait_for_ssh"] is True


def test_an_update_to_false_waits_for_nothing(world: World) -> None:
    """The machine is ready, so nothing is left to await, even if SSH never answered."""
    news = {**INPUTS, "wait_for_ssh": False}
    checked = operations.check(CALL, INPUTS, news).inputs
    outs = operations.update(world.machines, CALL, ID, UNFINISHED, checked)
    assert "unfinished" not in outs
    assert "wait_for_ssh" not in outs
    assert world.connected == []


def test_a_machine_that_was_greeted_on_is_not_asked_again(world: World) -> None:
    """Another change of the same resource waits for nothing."""
    operations.update(world.machines, CALL, ID, STATE, {**INPUTS, "ssh_key": f"{ED25519} new"})
    assert world.connected == []


def test_a_refresh_finishes_a_machine_that_greets(world: World) -> None:
    """As with `ready`, a refresh that finds nothing missing ends the create."""
    world.state.provisioning, world.ssh_at = 0, 0
    outs = operations.read(world.machines, CALL, world.machine(EIGHT), UNFINISHED)
    assert outs is not None
    assert "unfinished" not in outs


def test_a_refresh_does_not_take_silence_for_success(world: World) -> None:
    """The engine would take a plain read for the end of the create, and never wait again."""
    world.state.provisioning, world.ssh_at = 0, inf
    id_ = world.machine(EIGHT)
    with pytest.raises(InitFailed) as caught:
        operations.read(world.machines, CALL, id_, UNFINISHED)
    assert caught.value.outputs["unfinished"] is True
    assert caught.value.reason == (
        f"Machine {id_} is billed, but not ready yet: no SSH server greets on port 22 "
        "(Connection refused)."
    )
    assert len(world.connected) == 1


def test_a_refresh_of_a_finished_machine_does_not_connect(world: World) -> None:
    """What SSH does after the create is not the provider's business."""
    world.ssh_at = inf
    id_ = world.machine(EIGHT)
    operations.read(world.machines, CALL, id_, STATE)
    assert world.connected == []
