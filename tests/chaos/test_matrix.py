"""Every fault at every call of create, read and delete under the real engine.

A run plays a part of each row, which follows from CHAOS_SEED; `CHAOS_SHARE=1` plays all, and
`CHAOS_ONLY=REGEX` all cases whose row or name it matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.faults import OUTCOMES, fault

from ..e2e.harness import Stack
from ..e2e.native import in_both
from .world import LATE, Case, Outcome, Play, World, drawn
from .world import play as play_case

FAULTS = [name for name in OUTCOMES if name not in ("ok", "hold")]
"""All outcomes but the right answer, and the one that a test would have to release."""
ENDS_AT_ONCE = {"401", "403", "404", "409", "no_room", "redirect"}
"""After these no call is repeated, so once is the same as for ever, except in a wait."""
SECONDS = {"slow": 0.3, "late": LATE}


def meet(world: World, call: str, name: str, times: float, *, after: int = 0) -> None:
    """Let calls of that kind meet the fault, once `after` of them have gone well."""
    if after:
        world.emulator.faults.add(call, "ok", after)
    world.emulator.faults.add(call, fault(name, seconds=SECONDS.get(name)), times)


def creates(world: World, call: str, name: str, times: float, after: int) -> None:
    """Create one machine, once, whatever fault its calls meet."""
    meet(world, call, name, times, after=after)
    world.take_ways_out(world.run("up"))
    world.settle("up")
    world.check(creations=1, alive=1)


def creates_with_a_key(world: World, call: str, name: str, times: float, after: int) -> None:
    """Create one machine with one `up`, and ask nobody, unless the API refuses the create."""
    world.speak_v1()
    meet(world, call, name, times)
    result = world.run("up")
    if result.exit_code != 0 and name not in ENDS_AT_ONCE:
        world.outcome.broken.append("the create was not sent again with its key")
    world.take_ways_out(result)
    world.settle("up")
    world.check(creations=1, alive=1)


def unlist(world: World) -> None:
    """Hide the machines from lists. One that isn't listed is asked for, unless it was deleted."""
    for id_ in world.emulator.state.alive():
        world.emulator.state.hide(id_, "list")


def reads(world: World, call: str, name: str, times: float, after: int) -> None:
    """A refresh never drops a machine that exists, so `up` creates no second one."""
    if call == "get":
        unlist(world)
    meet(world, call, name, times, after=after)
    world.run("refresh")
    world.settle("up")
    world.check(creations=1, alive=1)


def deletes(world: World, call: str, name: str, times: float, after: int) -> None:
    """State drops a machine only when it is gone."""
    if call == "get":
        unlist(world)
        world.emulator.faults.add("delete", "409")
    meet(world, call, name, times, after=after)
    world.run("destroy")
    if world.emulator.state.alive() - world.stack.state_ids():
        world.outcome.broken.append("state dropped a machine that runs")
    world.settle("destroy")
    world.check(creations=1, alive=0)


PLACES = {
    "create: list before": (creates, "list", 0, "new"),
    "create: POST": (creates, "create", 0, "new"),
    "create: POST with a key": (creates_with_a_key, "create", 0, "new"),
    "create: poll": (creates, "list", 1, "new"),
    "read: list": (reads, "list", 0, "ready"),
    "read: GET": (reads, "get", 0, "ready"),
    "delete: DELETE": (deletes, "delete", 0, "ready"),
    "delete: list after": (deletes, "list", 0, "ready"),
    "delete: GET after": (deletes, "get", 0, "ready"),
}
WAITS = {"create: poll", "delete: DELETE", "delete: list after", "delete: GET after"}
"""The places where only the right answer ends the call before its timeout."""
LIES = {("read: GET", "404"), ("delete: GET after", "404")}
"""Where this lasts, no client can know better: GET doesn't know a machine that the list lacks."""


def case(where: str, name: str, times: float = 1) -> Case:
    act, call, after, start = PLACES[where]
    often = "" if times == 1 else ", for as long as it takes"
    play = partial(act, call=call, name=name, times=times, after=after)
    return where, f"{name}{often}", play, start


def cases() -> Iterator[Case]:
    for where in PLACES:
        for name in FAULTS:
            yield case(where, name)
            is_done = name in ENDS_AT_ONCE and where not in WAITS
            if not is_done and (where, name) not in LIES and not where.startswith("create: POST"):
                yield case(where, name, inf)
        if where == "create: POST":
            yield case(where, "429", inf)


PARTS = 10
"""So many tests share the cases, so that several processes can play them."""


@pytest.mark.parametrize("part", range(PARTS))
@in_both
def test_matrix(play: Play, part: int) -> None:
    """State has exactly the machines that are alive, and a failure names those at risk."""
    play(islice(drawn(cases()), part, None, PARTS))


BROKEN: dict[str, tuple[tuple[str, str], Case, str]] = {
    "a POST is repeated": (
        ("api.retry.may_repeat", "lambda error, **_: True"),
        case("create: POST", "reset_after"),
        "duplicates",
    ),
    "nothing is written down": (
        ("machines.journal.Journal.write", "lambda *args: None"),
        case("create: POST", "html_after"),
        "duplicates",
    ),
    "a 404 is taken for an end": (
        (
            "machines.lifecycle.Lifecycle._found",
            "lambda self, _, answers, *rest: (None for _ in answers)",
        ),
        case("delete: DELETE", "404", inf),
        "orphans",
    ),
}


@pytest.mark.parametrize("law", BROKEN)
def test_broken_law(law: str, new_stack: Path, tmp_path: Path) -> None:
    """A check that finds nothing proves nothing: a law that is broken on purpose is found."""
    (broken_name, value), (where, name, act, start), found = BROKEN[law]

    def break_and_act(world: World) -> None:
        world.replace_in_plugin(broken_name, value)
        act(world)

    outcome = play_case(
        Stack, new_stack, tmp_path / "case", Outcome(where, name), break_and_act, start
    )
    assert outcome.broken
    assert getattr(outcome, found) > 0
