"""SIGKILL at moments that no call of the API marks: at any time, and just as a create ends."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

from ..e2e.harness import Run, wait_until
from ..tally import SEED
from .report import Case, Play
from .world import World, wait_for_call

Moment = Callable[[World, Run], None]

KILLS = int(os.environ.get("CHAOS_KILLS", "20"))


def test_a_kill_at_any_moment_loses_no_machine_and_creates_no_second(play: Play) -> None:
    """There is one creation in all, whichever process is killed."""
    play(kills(), "Python package")


def kills() -> Iterator[Case]:
    """Cases that follow from CHAOS_SEED."""
    return map(kill, range(SEED, SEED + KILLS))


def kill(seed: int) -> Case:
    """The case whose process and moment follow from the seed."""
    draw = random.Random(seed)
    who = draw.choice(["cli", "cli", "plugin", "both"])
    moments: list[tuple[str, Moment]] = [
        ("any time", partial(any_time, seconds=draw.uniform(0, 3))),
        ("at its end", at_its_end),
    ]
    when, moment = draw.choice(moments)
    act = partial(live, who=who, moment=moment, pause=draw.uniform(0, 0.06))
    return f"killed: {when}, {who}", f"seed {seed}", act, "new"


def live(world: World, who: str, moment: Moment, pause: float) -> None:
    """Run an `up` that is killed, and then as many as it takes."""

    def strike(run: Run) -> None:
        moment(world, run)
        time.sleep(pause)
        world.strike(run, who)

    world.take_ways_out(world.run("up", during=strike))
    world.settle("up")
    world.check(creations=1, alive=1)


def any_time(world: World, run: Run, seconds: float) -> None:
    """Wait so long after the start, whatever happens then."""
    time.sleep(seconds)


def at_its_end(world: World, run: Run) -> None:
    """Wait until the plugin has seen the ready machine, and is about to report it."""
    state = world.emulator.state
    state.provisioning = 0.05
    wait_for_call(world, "create", 1, run)
    wait_until(lambda: all(machine.is_ready for machine in state.list()))
    wait_for_call(world, "list", state.calls["list"] + 1, run)
