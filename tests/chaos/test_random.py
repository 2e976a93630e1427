"""Lives of a stack drawn at random: commands, faults, deaths, Ctrl-C, machines of somebody else.

`CHAOS_SEED=N CHAOS_LIVES=1 make chaos` plays the life again that a failure names by its seed.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.faults import fault

from ..e2e.harness import Run
from ..e2e.recovery import plugins
from .matrix import FAULTS, SECONDS
from .report import Case, broken, play_all, print_table
from .world import Template, World, wait_for_call

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

LIVES = int(os.environ.get("CHAOS_LIVES", "200"))
LIES = {("get", "404"), ("delete", "lapse")}
"""As in matrix.py, by call."""
SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def test_no_life_of_a_stack_loses_a_machine_or_makes_a_second(
    template: Template, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was met on the way, all settles, with one machine; and then with none."""
    outcomes = play_all(map(life, range(SEED, SEED + LIVES)), template, tmp_path)
    with capsys.disabled():
        print_table(outcomes, f"{LIVES} lives, CHAOS_SEED={SEED}")
    assert not broken(outcomes), broken(outcomes)


def life(seed: int) -> Case:
    """What happens in it follows from the seed, as far as the machine's speed lets it."""
    return f"{1 + seed % 3} steps", f"seed {seed}", partial(live, seed=seed), False


def live(world: World, seed: int) -> None:
    """So many steps under faults; then all goes well, `up` settles, and so does `destroy`."""
    draw = random.Random(seed)
    state = world.emulator.state
    state.provisioning = draw.choice([0, 0.2, 0.6])
    state.deletion = draw.choice([0, 0.2])
    state.list_lag = draw.choice([0, 0.3])
    if draw.random() < 0.3:
        world.beside_each_create()
    opts = draw.choice(["", "", "delete_before_replace=True"])
    world.write(opts=opts)
    commands = ["up", "up", "up", "refresh", "replace", "up", "destroy"]
    creations = 1
    for number in range(1 + seed % 3):
        for call in ("list", "create", "get", "delete"):
            meet_some(world, call, draw)
        command = draw.choice(commands[:2] if number == 0 else commands)
        # A changed input is worth another machine, and so is an `up` after a `destroy`.
        creations += command in ("replace", "destroy")
        if command == "replace":
            world.write(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{seed:07}{number}{'C' * 34}", opts)
        result = world.run("up" if command == "replace" else command, during=disturb(world, draw))
        world.emulator.faults.clear()
        world.take_ways_out(result)
    world.settle("up")
    world.check(creations=creations, alive=1)
    world.settle("destroy")
    world.check(creations=creations, alive=0)


def meet_some(world: World, call: str, draw: random.Random) -> None:
    """Up to three faults of a call, with good answers between them."""
    names = [each for each in FAULTS if (call, each) not in LIES]
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        # A command makes one POST, and many list calls.
        if good := draw.randrange(4 if call == "list" else 2):
            world.emulator.faults.add(call, "ok", good)
        name = draw.choice(names)
        times = draw.choice([1, 1, 1, 2, inf])
        if name == "lapse":  # a second one would be a lie
            times = 1
            names.remove(name)
        world.emulator.faults.add(call, fault(name, seconds=SECONDS.get(name)), times)


def disturb(world: World, draw: random.Random) -> Callable[[Run], None]:
    """Nothing, mostly; else a death or Ctrl-C, at a call drawn at random."""
    what = draw.choice(["nothing"] * 4 + ["Ctrl-C", "kill cli", "kill plugin", "kill both"])
    call, more = draw.choice(["list", "list", "list", "create", "delete"]), draw.randrange(1, 4)
    number = world.emulator.state.calls[call] + more

    def act(run: Run) -> None:
        if what == "nothing":
            return
        wait_for_call(world, call, number, run)
        if what == "Ctrl-C":
            if run.process.poll() is None:
                run.interrupt()
            return
        if what in ("kill plugin", "kill both"):
            for pid in plugins(world.stack):
                os.kill(pid, signal.SIGKILL)
        if what in ("kill cli", "kill both"):
            run.kill()

    return act
