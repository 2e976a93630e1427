"""Every fault at every call of create, read and delete under the real engine, and kills at random.

A run plays a part of each row, which follows from CHAOS_SEED; `CHAOS_SHARE=1` plays all, and
`CHAOS_ONLY=REGEX` all cases whose row or name it matches.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from itertools import chain, islice
from math import inf
from pathlib import Path

import pytest

from ..e2e.harness import Run, Stack, wait_until
from ..e2e.native import in_both
from ..e2e.recovery import strike
from ..tally import SEED
from .matrix import case, cases
from .report import Case, Play, drawn
from .world import Outcome, World, wait_for_call
from .world import play as play_case

PARTS = 5
"""So many tests share the cases, so that several processes can play them."""
KILLS = int(os.environ.get("CHAOS_KILLS", "20"))


@pytest.mark.parametrize("part", range(PARTS))
@in_both
def test_matrix(play: Play, part: int) -> None:
    """State has exactly the machines that are alive, and a failure names those at risk."""
    kills = map(kill, range(SEED, SEED + KILLS))
    play(islice(chain(drawn(cases()), kills), part, None, PARTS))


def kill(seed: int) -> Case:
    """A SIGKILL whose process and moment follow from the seed, at a moment that no call marks."""
    draw = random.Random(seed)
    who = draw.choice(["cli", "cli", "plugin", "both"])
    when = draw.choice(["any time", "at its end"])
    pause = draw.uniform(0, 3 if when == "any time" else 0.06)
    act = partial(is_killed, who=who, when=when, pause=pause)
    return f"killed: {when}, {who}", f"seed {seed}", act, "new"


def is_killed(world: World, who: str, when: str, pause: float) -> None:
    """Run an `up` that is killed, and then as many as it takes."""

    def during(run: Run) -> None:
        if when == "at its end":
            reach_end(world, run)
        time.sleep(pause)
        strike(world.stack, run, who)

    world.take_ways_out(world.run("up", during=during))
    world.settle("up")
    world.check(creations=1, alive=1)


def reach_end(world: World, run: Run) -> None:
    """Wait until the plugin has seen the ready machine, and is about to report it."""
    state = world.emulator.state
    state.provisioning = 0.05
    wait_for_call(world, "create", 1, run)
    wait_until(lambda: all(machine.is_ready for machine in state.list()))
    wait_for_call(world, "list", state.calls["list"] + 1, run)


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
        ("machines.lifecycle.Lifecycle._seen_in", "lambda *args, ask: None"),
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
