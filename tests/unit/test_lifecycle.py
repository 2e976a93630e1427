"""A machine's life: waits until it is ready and until SSH greets, looks for it, its delete."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from pulumi_fal import errors
from pulumi_fal.api.dialects import Kind, Request
from pulumi_fal.api.models import Instance
from pulumi_fal.clock import time_of_day
from pulumi_fal.emulator.faults import Fault, fault
from pulumi_fal.errors import APIError, NotReadyError, VanishedError
from pulumi_fal.machines import lifecycle
from pulumi_fal.machines.fleet import Absence
from pulumi_fal.machines.lifecycle import REFUSED_SECONDS, RESEND_SECONDS, STOPPED_SECONDS
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import InitFailed
from pulumi_fal.resource.operations import Diff

from ..fakes import ED25519, EIGHT, ID, LIST, refusal, unanswered
from ..sockets import serving
from .threads import pauses
from .world import ABSENCE_SECONDS, CALL, INPUTS, ApiWorld, Log, World


@pytest.fixture
def api() -> ApiWorld:
    """Machines are ready after 100 seconds, and gone 10 seconds after their delete."""
    return ApiWorld(provisioning=100, deletion=10)


def wait(api: ApiWorld, instance: Instance, seconds: float = 1000) -> Instance:
    return api.lifecycle.wait_until_ready(instance, seconds)


def test_ready(api: ApiWorld) -> None:
    """Every change is shown once, and the wait ends soon after the machine is ready."""
    seen: list[tuple[str, bool]] = []
    ready = api.lifecycle.wait_until_ready(
        api.made(EIGHT), 1000, lambda shown: seen.append((shown.status, shown.ip is not None))
    )
    assert ready.is_ready
    assert 100 <= api.passed <= 106
    assert [status for status, _ in seen] == [
        "pending",
        "init",
        "provisioning",
        "provisioning",
        "ready",
    ]
    assert [has_ip for _, has_ip in seen] == [False, False, False, True, True]
    api.api.requests.clear()
    assert wait(api, ready) is ready
    assert api.api.calls == []


def test_stopped(api: ApiWorld) -> None:
    """Long before its time is up, the wait for a machine ends that stays stopped for a minute."""
    machine = api.made(EIGHT)
    api.state.set_status(machine.id, "stopped")
    with pytest.raises(NotReadyError, match="has been stopped for 60 s"):
        wait(api, machine)
    assert STOPPED_SECONDS <= api.passed <= STOPPED_SECONDS + 20


def test_stopped_for_less(api: ApiWorld) -> None:
    """A machine may be started again, and the minute begins anew with each stop."""
    machine = api.made(EIGHT)
    stops = iter(["stopped"] * 15 + ["provisioning"] + ["stopped"] * 15)

    def change(request: Request[object]) -> None:
        if request.kind == "list":
            api.state.machines[machine.id].status = next(stops, None)

    api.api.before = change
    assert wait(api, machine).is_ready


# Outages

OUTAGES = [refusal(522), refusal(503), unanswered(sent=False), unanswered()]
PASSING = [
    refusal(429, retry_after=5.0),
    LIST.error(errors.UnusableAnswerError, "HTML", status=200),
    refusal(307),
    refusal(401),
    refusal(403),
]
NEWS = [refusal(404), refusal(400)]
"""Of a list they say nothing, but of a DELETE they do."""


@pytest.mark.parametrize(
    "error, end",
    [*((error, 75) for error in [*OUTAGES, *PASSING, *NEWS]), (OUTAGES[0], 1800)],
    ids=str,
)
def test_outage(api: ApiWorld, error: APIError, end: float) -> None:
    """What can't be used says nothing about the machine, and an outage may last for long."""
    api.fail("list", error, 20, end)
    assert wait(api, api.made(EIGHT), 3600).is_ready
    assert max(100, end) <= api.passed < max(100, end) + 30


def test_outage_is_shown(api: ApiWorld) -> None:
    """It is shown as it changes and when it is over: a line for each poll would bury the rest."""
    api.fail("list", refusal(503, "down"), 20, 40)
    api.fail("list", unanswered(), 40, 60)
    until = time_of_day(api.clock.wall() + 1000, api.clock.wall())
    wait(api, api.made(EIGHT))
    end = f"The wait goes on until {until}. Ctrl-C is safe: the next run continues."
    assert api.told == [
        f"GET /compute/instances answered 503: down. {end}",
        f"GET /compute/instances got no answer: reset. {end}",
        "The API answers again.",
    ]


def test_time_is_up_in_an_outage(api: ApiWorld) -> None:
    """The error has the machine's last status, and what the API answers since when."""
    api.fail("list", refusal(503), 40)
    with pytest.raises(NotReadyError, match="after 100 s: its status is provisioning") as caught:
        wait(api, api.made(EIGHT), 100)
    outage = "For the last 60 s the API gave no usable answer: GET /compute/instances answered 503"
    assert outage in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", ["list", "delete"])
def test_refused_key(api: ApiWorld, kind: Kind, status: int) -> None:
    """A key that is refused for a minute was revoked. The machine stays in state."""
    machine = api.made(EIGHT)
    api.fail(kind, refusal(status), 20 if kind == "list" else 0)
    acts: dict[str, Callable[[], object]] = {
        "list": lambda: wait(api, machine, 3600),
        "delete": lambda: api.lifecycle.delete(machine.id, 600),
    }
    with pytest.raises(errors.AuthenticationError):
        acts[kind]()
    assert machine.id in api.state.alive()
    assert REFUSED_SECONDS <= api.passed <= 20 + REFUSED_SECONDS + 17


def test_refused_now_and_then(api: ApiWorld) -> None:
    """A gateway that is half broken is no revoked key."""
    machine = api.made(EIGHT)

    def fail(request: Request[object]) -> None:
        if request.kind == "list" and 20 <= api.passed < 90:
            raise refusal(403) if int(api.passed) % 3 else refusal(522)

    api.api.before = fail
    assert wait(api, machine, 3600).is_ready


# Looks


def test_shared_list(api: ApiWorld) -> None:
    """A refresh of hundreds costs a call or two; what a list lacks is asked for, and looked for."""
    for machine in [api.made(EIGHT) for _ in range(3)]:
        api.clock.time += 0.2
        assert api.lifecycle.look(machine.id) is not None
    assert api.api.calls == ["list"]
    late = api.made(EIGHT)
    api.state.hide(late.id, "get", 1)
    assert api.lifecycle.look(late.id) is not None
    assert api.api.calls.count("list") == 2


@pytest.mark.parametrize("interval", [2.0, 60.0])
def test_little_time(api: ApiWorld, interval: float) -> None:
    """A preview looks twice, however long the poll interval, and is not to hang."""
    api.fleet.interval = interval
    assert api.lifecycle.look("gone", 5) is None
    assert api.api.calls == ["list", "get"] * 2
    assert api.passed == 2
    api.clock.time += 1
    api.api.before = lambda request: api.clock.sleep(3)
    with pytest.raises(TimeoutError):
        api.lifecycle.look("gone", 5)


@pytest.mark.parametrize("answered", ["a look", "a wait"])
def test_silent_api(api: ApiWorld, answered: str) -> None:
    """A preview waits once for a silent API. The next answer to any call ends that."""
    machine = api.made()

    def hang(request: Request[object]) -> None:
        api.clock.sleep(min(api.api.timeouts[-1] or inf, 30))
        raise unanswered(request)

    api.api.before = hang
    for _ in range(50):
        with pytest.raises((APIError, TimeoutError)):
            api.lifecycle.look("gone", 5)
    assert api.passed <= 5
    api.api.before = lambda request: None
    with pytest.raises(TimeoutError):
        api.lifecycle.look("gone", 5)
    if answered == "a look":
        api.lifecycle.look(machine.id)
    else:
        api.lifecycle.delete(machine.id, 100)
    assert api.lifecycle.look("gone", 5) is None


def test_error_is_an_answer(api: ApiWorld) -> None:
    """A look that got a 503 keeps no later one from asking."""
    machine = api.made()
    api.api.faults.add("list", "503")
    with pytest.raises(errors.ServerError):
        api.lifecycle.look(machine.id, 5)
    assert api.lifecycle.look(machine.id, 5)


# Deletes


@pytest.mark.parametrize(
    "status, is_hidden", [(409, False), (409, True), (404, False)], ids=["409", "unseen", "404"]
)
def test_refused_for_now(api: ApiWorld, status: int, is_hidden: bool) -> None:
    """A 409 shows that the machine is there, and a 404 of one that is listed is no success."""
    machine = api.made(EIGHT)
    if is_hidden:
        api.hide(machine.id)
    api.fail("delete", refusal(status), end=30)
    api.lifecycle.delete(machine.id, 100)
    assert api.state.deletions == 1
    assert api.passed >= 30


def test_never_accepted(api: ApiWorld) -> None:
    """The error says what the API said, and what to do."""
    machine = api.made(EIGHT)
    api.fail("delete", refusal(409, "still starting"))
    with pytest.raises(errors.StillThereError) as caught:
        api.lifecycle.delete(machine.id, 60)
    assert caught.value.instance_id == machine.id
    said = "may still exist 60 s after its delete began (the API answered 409: still starting)."
    assert f"Machine {machine.id} {said}" in str(caught.value)


def test_deleted_again() -> None:
    """A second call knows that the API has accepted the first one's DELETE."""
    world = ApiWorld(deletion=10)
    machine = world.made()
    with pytest.raises(errors.StillThereError):
        world.lifecycle.delete(machine.id, 5)
    world.clock.sleep(10)
    began = world.passed
    assert world.lifecycle.delete(machine.id, 300)
    assert world.passed - began < 15


def test_refused_for_good(api: ApiWorld) -> None:
    """A 400 is the API's answer, and repeating the request would bring the same."""
    machine = api.made(EIGHT)
    api.fail("delete", refusal(400, "protected"))
    with pytest.raises(errors.InvalidRequestError, match="protected"):
        api.lifecycle.delete(machine.id, 600)
    assert api.passed == 0


@pytest.mark.parametrize("kind", ["delete", "list"])
@pytest.mark.parametrize("error", [*OUTAGES, *PASSING], ids=str)
def test_delete_in_an_outage(api: ApiWorld, error: APIError, kind: Kind) -> None:
    """Neither a DELETE nor a list that fails for half a minute ends the wait."""
    machine = api.made(EIGHT)
    api.fail(kind, error, end=30)
    began = api.clock.wall()
    api.lifecycle.delete(machine.id, 600)
    assert api.state.alive() == set()
    seconds = 60 if isinstance(error, errors.AuthenticationError) else 600
    until = time_of_day(began + seconds, began)
    assert any(f"The wait goes on until {until}. " in told for told in api.told)


def test_retry_after(api: ApiWorld) -> None:
    """A DELETE is not sent again before the time in Retry-After has passed."""
    machine = api.made(EIGHT)
    api.api.faults.add("delete", fault("429", retry_after=20))
    api.lifecycle.delete(machine.id, 600)
    assert api.api.calls.count("delete") == 2
    assert api.passed >= 20 + 10


# wait_for_ssh

AWAITS_SSH = {**INPUTS, "wait_for_ssh": True}
STATE = {**AWAITS_SSH, "ip": "198.18.0.1", "status": "ready"}
UNFINISHED = {**STATE, "unfinished": True}


@pytest.fixture
def ssh(world: World) -> World:
    """Machines are ready after 100 seconds, and SSH servers greet after 130."""
    world.state.provisioning = 100
    world.ssh_at = 130
    return world


def test_ssh(ssh: World) -> None:
    """A create ends when SSH greets at the machine's own ip, and the row says what it awaits."""
    log = Log()
    created = ssh.create(replace(CALL, log=log), wait_for_ssh=True)
    assert 130 <= ssh.passed <= 140
    assert created.outputs["status"] == "ready"
    assert {asked for asked, _ in ssh.connected} == {created.outputs["ip"]}
    assert min(moment for _, moment in ssh.connected) >= 100
    assert log.texts[-2:] == ["ready", "ready, waiting for SSH on port 22: Connection refused"]


def test_ssh_after_a_long_wait(ssh: World) -> None:
    """The pauses of a long wait for ready would add up to 16 seconds of an idle machine."""
    ssh.state.provisioning, ssh.ssh_at = 1000, 1060
    ssh.create(wait_for_ssh=True)
    assert max(pauses([moment for _, moment in ssh.connected])) <= 3.5


def test_ssh_time_is_up(ssh: World) -> None:
    """The timeout is for both waits. The machine is in state, and the next `up` goes on."""
    ssh.ssh_at = 200
    failed = ssh.create_fails(replace(CALL, timeout=150), wait_for_ssh=True)
    assert 150 <= ssh.passed <= 153
    id_ = failed.instance_id
    assert ssh.state.alive() == {id_}
    assert f"Machine {id_} ({EIGHT}) is billed, but was not ready after 150 s" in failed.reason
    assert "no SSH server greets on port 22 (Connection refused)" in failed.reason
    assert failed.outputs["unfinished"] is True
    found = operations.diff(ssh.account, CALL, id_, failed.outputs, AWAITS_SSH)
    assert found == Diff([], changes=True)
    outs = operations.update(ssh.account, CALL, id_, failed.outputs, AWAITS_SSH)
    assert 200 <= ssh.passed <= 206
    assert "unfinished" not in outs
    assert ssh.state.creations == 1


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "stopped"])
def test_ssh_of_a_lost_machine(is_gone: bool) -> None:
    """The API is asked in the meantime. A machine that is ready was shown, so it can be gone."""
    api = ApiWorld()
    api.ssh_at = inf
    ready = api.state.get(api.made(EIGHT).id)

    def lose(request: Request[object]) -> None:
        if len(api.connected) == 3:
            api.state.set_status(ready.id, "stopped")

    if is_gone:
        api.hide(ready.id)
    api.api.before = lose
    error = VanishedError if is_gone else NotReadyError
    with pytest.raises(error, match=r"was ready when last seen|has been stopped for 60 s"):
        api.lifecycle.wait_until_ready(ready, 1000, on_no_ssh=lambda reason: None)
    assert len(api.connected) == (1 if is_gone else 3)


def test_ssh_at_another_ip() -> None:
    """An update begins with the ip in state, which may have changed since."""
    api = ApiWorld()
    api.ssh_at = 10
    actual = api.state.get(api.made(EIGHT).id)
    stale = replace(actual, ip="198.18.99.99")
    assert api.lifecycle.wait_until_ready(stale, 1000, on_no_ssh=lambda reason: None) == actual
    assert [ip for ip, _ in api.connected][:2] == ["198.18.99.99", actual.ip]


def test_ssh_in_an_update(ssh: World) -> None:
    """One to True waits for the machine that exists. One to False waits for nothing."""
    ssh.state.provisioning = 0
    id_ = ssh.machine(EIGHT)
    olds = {name: value for name, value in STATE.items() if name != "wait_for_ssh"}
    outs = operations.update(ssh.account, CALL, ID, UNFINISHED, INPUTS)
    assert not {"unfinished", "wait_for_ssh"} & set(outs)
    operations.update(ssh.account, CALL, ID, STATE, {**AWAITS_SSH, "ssh_key": f"{ED25519} new"})
    assert ssh.connected == []
    assert operations.diff(ssh.account, CALL, id_, olds, AWAITS_SSH) == Diff([])
    assert operations.update(ssh.account, CALL, id_, olds, AWAITS_SSH)["wait_for_ssh"] is True
    assert 130 <= ssh.passed <= 140


def test_ssh_in_a_refresh(ssh: World) -> None:
    """It finishes a machine that greets, and does not take silence for success."""
    ssh.state.provisioning, ssh.ssh_at = 0, inf
    id_ = ssh.machine(EIGHT)
    operations.read(ssh.account, CALL, id_, STATE)
    assert ssh.connected == []
    with pytest.raises(InitFailed) as caught:
        operations.read(ssh.account, CALL, id_, UNFINISHED)
    assert caught.value.outputs["unfinished"] is True
    assert "not ready yet: no SSH server greets" in caught.value.reason
    assert len(ssh.connected) == 1
    ssh.ssh_at = 0
    assert "unfinished" not in (operations.read(ssh.account, CALL, id_, UNFINISHED) or UNFINISHED)


# Greetings, on real sockets

OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n"
NO_SSH = "what answers is no SSH server"


def sends(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def talks(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 1000)


@pytest.mark.parametrize(
    "answer, problem",
    [
        (sends(OPENSSH), None),
        (sends(b"SSH-1.99-anything"), None),
        (sends(b""), NO_SSH),
        (sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), NO_SSH),
        (sends(b"Welcome.\r\n" + OPENSSH), NO_SSH),
        (talks, NO_SSH),
        (lambda connection: connection.recv(1), "no answer within 0 s"),
    ],
    ids=["OpenSSH", "old", "nothing", "HTTP", "late", "without end", "silent"],
)
def test_greeting(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], object], problem: str | None
) -> None:
    """An SSH server begins with its greeting. What is silent is left after a time limit."""
    if problem and "within" in problem:
        monkeypatch.setattr(lifecycle, "_GREETING_SECONDS", 0.1)
    with serving(answer) as url:
        monkeypatch.setattr(lifecycle, "SSH_PORT", int(url.rpartition(":")[2]))
        assert lifecycle.ssh_problem("127.0.0.1") == problem


def test_another_address() -> None:
    """Nothing runs at the ips of the emulator's machines, and the variable may be forgotten.

    No reason has an ip, which may be a secret.
    """

    def problem(address: str) -> str | None:
        return lifecycle.chosen_greeting({"FAL_COMPUTE_SSH_ADDRESS": address})("198.18.0.1")

    where = "the address in FAL_COMPUTE_SSH_ADDRESS"
    with serving(sends(OPENSSH)) as url:
        address = url.removeprefix("http://")
        assert problem(address) is None
    assert problem(address) == f"Connection refused at {where}"
    with serving(sends(b"")) as url:
        assert problem(url.removeprefix("http://")) == f"what answers at {where} is no SSH server"
    for wrong in ("127.0.0.1", "127.0.0.1:ssh", "[::1]"):
        assert problem(wrong) == "FAL_COMPUTE_SSH_ADDRESS is not IP:PORT"


# When a machine counts as gone: the rule, and what a wait, a read and a delete make of it

EACH_TEN = tuple(range(0, 120, 10))
LOOKS, GONE = ["list", "get"] * 2, [*["list"] * 12, "get"]
SHOWN = -1
"""Stands for a look that finds the machine, in a list of the moments of looks that miss it."""


@pytest.mark.parametrize(
    "looks, others, is_gone",
    [
        pytest.param([0], [], False, id="one look"),
        pytest.param([*EACH_TEN[:6], 59], [], False, id="for 59 s"),
        pytest.param(EACH_TEN[:7], [], True, id="for 60 s"),
        pytest.param([*EACH_TEN, 119], ["another"], False, id="one of several, for 119 s"),
        pytest.param([*EACH_TEN, 120], ["another"], True, id="one of several, for 120 s"),
        pytest.param(EACH_TEN[:7], ["this"], True, id="missed by two calls"),
        pytest.param([*EACH_TEN[:6], SHOWN, *EACH_TEN[6:]], [], False, id="shown in between"),
        pytest.param([0, 20, 40, SHOWN, 60, 80, 100, 120], [], True, id="gone after that"),
        pytest.param([0, 100], [], False, id="looked for twice, before and after an outage"),
        pytest.param([0, 100, 120, 140], [], True, id="and then for a minute"),
    ],
)
def test_a_minute_of_looks(looks: Sequence[float], others: Sequence[str], is_gone: bool) -> None:
    """Of two minutes if several go at once. Two looks are few, however far apart they are."""
    world = ApiWorld()
    for other in others:
        Absence(world.fleet, other).missed()
    began = world.clock.time
    with Absence(world.fleet, "this") as absence:
        for look in looks:
            world.clock.time = max(world.clock.time, began + look)
            absence.end() if look == SHOWN else absence.missed()
        assert absence.is_over is is_gone


Times = Sequence[tuple[float, float]]


def trouble(world: ApiWorld, id_: str, hidden: Times, down: Times = ()) -> None:
    """Nothing shows the machine, and a DELETE says 404, at some times; or the API is down."""

    def meet(request: Request[Any]) -> None:
        if any(start <= world.passed < end for start, end in down):
            raise refusal(503, "down", request)
        for start, end in hidden:
            if start <= world.passed < end:
                world.hide(id_, end - world.passed)
                if request.kind == "delete":
                    raise refusal(404, "no such machine", request)

    world.api.before = meet


@pytest.mark.parametrize("others", [[], ["another"]], ids=["alone", "with another"])
@pytest.mark.parametrize(
    "hidden, down, was_shown, gone_at",
    [
        pytest.param([(10, 65), (70, 125)], [], False, None, id="twice for 55 s"),
        pytest.param([(10, inf)], [], False, 10, id="for good"),
        pytest.param([(0, inf)], [], True, 0, id="for good, and shown to an earlier process"),
        pytest.param([(0, inf)], [], False, None, id="never shown"),
        pytest.param([(0, 150)], [], False, None, id="first shown late"),
        pytest.param([(10, 130)], [(12, 100)], False, None, id="beside an outage"),
    ],
)
def test_waits(
    hidden: Times, down: Times, was_shown: bool, gone_at: float | None, others: list[str]
) -> None:
    """A machine that was never shown may still appear, and only the time ends its wait."""
    world = ApiWorld(provisioning=200)
    machine = world.made(EIGHT)
    for other in others:
        Absence(world.fleet, other).missed()
    trouble(world, machine.id, hidden, down)

    def wait() -> Instance:
        return world.lifecycle.wait_until_ready(machine, 500, seen=was_shown)

    if gone_at is not None:
        with pytest.raises(errors.VanishedError, match="has not shown it for") as caught:
            wait()
        assert caught.value.instance_id == machine.id
        seconds = ABSENCE_SECONDS * (2 if others else 1)
        assert gone_at + seconds <= world.passed <= gone_at + seconds + 10
    elif hidden == [(0, inf)]:
        with pytest.raises(errors.NotReadyError, match="the API has not shown it yet"):
            wait()
        assert world.passed == 500
    else:
        assert wait().is_ready


def read(world: ApiWorld, id_: str) -> Instance | None:
    """What a refresh does, and a create with the machine of an earlier one."""
    return world.lifecycle.look(id_) or world.lifecycle.confirm_gone(id_)


@pytest.mark.parametrize(
    "hidden, seconds, calls",
    [
        pytest.param({}, 0, ["list"], id="listed"),
        pytest.param({"list": inf}, 0, ["list", "get"], id="shown by a GET"),
        pytest.param({"list": 1, "get": 1}, 2, ["list", "get", "list"], id="missing for a moment"),
        pytest.param({"list": 55, "get": inf}, 57, [*LOOKS, *["list"] * 11], id="for 55 s"),
        pytest.param({"list": inf, "get": 55}, 62, [*LOOKS, *GONE], id="a GET shows it in the end"),
        pytest.param({"list": inf, "get": inf}, 62, [*LOOKS, *GONE], id="gone"),
    ],
)
def test_reads(hidden: dict[Any, float], seconds: float, calls: list[str]) -> None:
    """The reads of one moment share the lists of that minute."""
    world = ApiWorld()
    machine = world.made()
    for kind, end in hidden.items():
        world.state.hide(machine.id, kind, end)
    found = read(world, machine.id)
    assert (found is None) is (hidden == {"list": inf, "get": inf})
    assert (world.passed, world.api.calls) == (seconds, calls)


def test_read_in_an_outage() -> None:
    """Nobody can tell then whether the machine is there."""
    world = ApiWorld()
    machine = world.made()
    trouble(world, machine.id, [(0, inf)], [(10, inf)])
    with pytest.raises(errors.ServerError):
        read(world, machine.id)


@pytest.mark.parametrize(
    "end, others, is_ours, seconds",
    [
        pytest.param(inf, [], False, 60, id="gone before"),
        pytest.param(inf, ["another"], False, 120, id="gone before, as another one is"),
        pytest.param(45, [], True, 45, id="not shown at first"),
        pytest.param(0, [], True, 0, id="there"),
    ],
)
def test_refused_deletes(end: float, others: list[str], is_ours: bool, seconds: float) -> None:
    """Its 404 may come from a stale replica as well. The caller is told that it was not ours."""
    world = ApiWorld()
    machine = world.made()
    for other in others:
        Absence(world.fleet, other).missed()
    trouble(world, machine.id, [(0, end)])
    assert world.lifecycle.delete(machine.id, 300) is is_ours
    assert seconds <= world.passed <= seconds + 10
    assert (machine.id in world.state.alive()) is not is_ours


@pytest.mark.parametrize(
    "hidden, ignored, seconds",
    [
        pytest.param({}, 0, 10, id="it is gone"),
        pytest.param({"list": 0.3, "get": 0.3}, 0, 10, id="one look misses it"),
        pytest.param({"list": inf}, 0, 10, id="only lists miss it"),
        pytest.param({}, 1, RESEND_SECONDS + 10, id="a gateway says 200, and does nothing"),
        pytest.param({"list": inf}, 1, RESEND_SECONDS + 10, id="so it does, and lists miss it"),
    ],
)
def test_accepted_deletes(hidden: dict[Any, float], ignored: int, seconds: float) -> None:
    """It takes no minute, which would be one for each destroy."""
    world = ApiWorld(deletion=10)
    machine = world.made()
    for kind, end in hidden.items():
        world.state.hide(machine.id, kind, end)
    for _ in range(ignored):
        world.api.faults.add("delete", Fault("ignored", "200 without the work", False, 200))
    assert world.lifecycle.delete(machine.id, 1200)
    assert world.state.alive() == set()
    assert seconds <= world.passed <= seconds + 15
    assert world.api.calls[-2:] == ["list", "get"]
    assert world.api.calls.count("delete") == 1 + ignored
    assert world.fleet.absence_seconds == ABSENCE_SECONDS
