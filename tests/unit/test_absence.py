"""When a machine counts as gone: the rule, and what a wait, a read and a delete make of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from pulumi_fal import errors
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.machines.fleet import Absence
from pulumi_fal.machines.lifecycle import RESEND_SECONDS

from ..fakes import EIGHT, refusal
from .world import ABSENCE_SECONDS, ApiWorld

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
