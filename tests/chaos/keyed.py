"""Every fault of a create under the v1 API, where the create has an idempotency key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .matrix import FAULTS, meet
from .report import Case
from .world import World

REFUSALS = {"401", "403", "404", "409", "redirect"}
"""Faults after which a first attempt is not repeated, whatever key it has."""
TIMES = (1, 3)


def creates(world: World, name: str, times: int) -> None:
    """Create one machine with one `up`, and ask nobody, unless the API refuses the create."""
    world.speak_v1()
    meet(world, "create", name, times)
    result = world.run("up")
    if result.exit_code != 0 and name not in REFUSALS:
        world.outcome.broken.append("the create was not sent again with its key")
    world.take_ways_out(result)
    world.settle("up")
    world.check(creations=1, alive=1)


def cases() -> Iterator[Case]:
    """Yield a case for every fault, once and three times in a row."""
    for name in FAULTS:
        for times in TIMES:
            play = partial(creates, name=name, times=times)
            yield "v1: create: POST", f"{name} x {times}", play, "new"
