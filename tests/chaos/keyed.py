"""Every fault of a create under the v1 API, where the create has an idempotency key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .matrix import FAULTS, meet
from .report import Case
from .world import World

REFUSALS = {"401", "403", "404", "409", "no_room", "redirect"}
"""Faults after which a first attempt is not repeated, whatever key it has."""
TIMES = (1, 3)


def creates(world: World, faults: tuple[tuple[str, int], ...], *, is_refused: bool) -> None:
    """Create one machine with one `up`, and ask nobody, unless the API refuses the create."""
    world.speak_v1()
    for name, times in faults:
        meet(world, "create", name, times)
    result = world.run("up")
    if result.exit_code != 0 and not is_refused:
        world.outcome.broken.append("the create was not sent again with its key")
    world.take_ways_out(result)
    world.settle("up")
    world.check(creations=1, alive=1)


def case(*faults: tuple[str, int]) -> Case:
    """The case of these faults, each for so many creates in a row."""
    play = partial(creates, faults=faults, is_refused=faults[0][0] in REFUSALS)
    return "v1: create: POST", ", ".join(f"{name} x {times}" for name, times in faults), play, "new"


def cases() -> Iterator[Case]:
    """Yield a case for every fault, once and three times in a row, and one for a repeat."""
    for name in FAULTS:
        for times in TIMES:
            yield case((name, times))
    yield case(("reset_after", 1), ("409", 3))
