"""Lives of a stack that are drawn at random.

They consist of commands, faults, outages, kills, Ctrl-C, machines of somebody else, keys of another
account, rotated keys, and stacks and projects that are renamed.

`CHAOS_SEED=N CHAOS_LIVES=1` plays the life again whose seed a failure names.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from math import inf

import pytest

from pulumi_fal.emulator.faults import fault

from ..e2e.harness import Run
from ..tally import SEED
from .matrix import FAULTS, SECONDS
from .outages import ANSWERS
from .report import Case, Play
from .world import ANOTHER_KEY, World, wait_for_call

pytestmark = pytest.mark.timeout(7200)

LIVES = int(os.environ.get("CHAOS_LIVES", "40"))
PARTS = 4
"""So many tests share the lives, so that several processes can play them."""
LAPSES = {("list", "lapse"), ("get", "404")}
"""Answers that say a machine is gone. Twice in a row, no client can know better."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_life_of_a_stack_loses_a_machine_or_creates_a_second(play: Play, part: int) -> None:
    """Whatever happened in it, `up` settles with one machine, and then `destroy` with none."""
    play(map(life, range(SEED + part, SEED + LIVES, PARTS)), "Python package")


def life(seed: int) -> Case:
    """The case whose events follow from the seed, as far as the computer's speed allows."""
    return f"lives: {1 + seed % 3} steps", f"seed {seed}", partial(live, seed=seed), "new"


def live(world: World, seed: int) -> None:
    """Take some steps under faults; then let all go well, and settle `up` and `destroy`."""
    draw = random.Random(seed)
    state = world.emulator.state
    state.provisioning = draw.choice([0, 0.2, 0.6])
    state.deletion = draw.choice([0, 0.2])
    state.list_lag = draw.choice([0, 0.3])
    if draw.random() < 0.3:
        world.beside_each_create()
    opts = draw.choice(["", "", "delete_before_replace=True"])
    world.write(opts=opts)
    commands = ["up", "up", "up", "up --refresh", "refresh", "replace", "up", "destroy"]
    creations = 1
    for number in range(1 + seed % 3):
        change_names(world, draw, number)
        if draw.random() < 0.2:
            meet_outage(world, draw)
        else:
            for call in ("list", "create", "get", "delete"):
                meet_some(world, call, draw)
        command = draw.choice(commands[:2] if number == 0 else commands)
        # A changed input takes another machine, and so does an `up` after a `destroy`.
        creations += command in ("replace", "destroy")
        if command == "replace":
            world.write(
                f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{seed % 10**7:07}{number}{'C' * 34}", opts
            )
            command = "up"
        own = world.api_key
        if draw.random() < 0.15:
            world.use_key(ANOTHER_KEY)
        result = world.run(*command.split(), during=disturb(world, draw))
        world.emulator.faults.clear()
        if draw.random() < 0.8:
            world.take_ways_out(result)
        world.use_key(own)
    world.settle("up")
    world.check(creations=creations, alive=1)
    world.settle("destroy")
    world.check(creations=creations, alive=0)


def change_names(world: World, draw: random.Random, number: int) -> None:
    """Sometimes rename the stack or the project, or rotate the key."""
    if draw.random() < 0.15:
        world.rename_stack(f"dev{number}")
    if draw.random() < 0.1:
        world.rename_project(f"test{number}")
    if draw.random() < 0.15:
        world.rotate_key(f"the-key-number-{number}")


def meet_outage(world: World, draw: random.Random) -> None:
    """Let every call meet the same fault some times, after some good answers."""
    name = draw.choice([name for name in FAULTS if name not in ("404", "lapse")])
    for call in ("list", "create", "get", "delete"):
        if good := draw.randrange(4 if call == "list" else 2):
            world.emulator.faults.add(call, "ok", good)
        world.emulator.faults.add(call, fault(name, seconds=SECONDS.get(name)), ANSWERS)


def meet_some(world: World, call: str, draw: random.Random) -> None:
    """Let a call meet up to three faults, with good answers between them."""
    names = FAULTS[:]
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        # A command makes one POST, and many list calls.
        if good := draw.randrange(4 if call == "list" else 2):
            world.emulator.faults.add(call, "ok", good)
        name = draw.choice(names)
        times = draw.choice([1, 1, 1, 2, inf])
        if (call, name) in LAPSES:
            times = 1
            names.remove(name)
        world.emulator.faults.add(call, fault(name, seconds=SECONDS.get(name)), times)


def disturb(world: World, draw: random.Random) -> Callable[[Run], None]:
    """Mostly do nothing, else kill a process or press Ctrl-C, at a call drawn at random."""
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
        world.strike(run, what.removeprefix("kill "))

    return act
