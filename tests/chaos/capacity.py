"""A create that waits for room: refusals that come again, other faults between them, and kills."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..e2e.harness import Run
from ..e2e.recovery import entries
from .matrix import meet
from .report import Case
from .world import World, wait_for_call

FAULTS = (
    "403",
    "404",
    "429",
    "500",
    "500_after",
    "reset_before",
    "reset_after",
    "late",
    "html_after",
    "truncated",
    "redirect",
)
"""One for each row of the table of retries, and those that take effect."""
PASSES = {"429"}
"""The fault after which the create goes on waiting, under either API."""


def waits(world: World, name: str, api: str) -> None:
    """Create one machine, once, whatever the request meets between two refusals."""
    begin(world, api)
    meet(world, "create", "no_room", 2)
    meet(world, "create", name, 1)
    meet(world, "create", "no_room", 1)
    result = world.run("up")
    if result.exit_code != 0 and name in PASSES:
        world.outcome.broken.append("the create did not go on waiting")
    world.take_ways_out(result)
    world.settle("up")
    world.check(creations=1, alive=1)


def is_killed(world: World, who: str, api: str) -> None:
    """Leave nothing, or what the request under way may have made."""
    begin(world, api)
    world.emulator.state.capacity = 0

    def strike(run: Run) -> None:
        wait_for_call(world, "create", 3, run)
        world.strike(run, who)

    world.run("up", during=strike)
    if any(entry.instance_id for entry in entries(world.stack)):
        world.outcome.broken.append("a machine is on record, and there was room for none")
    world.emulator.state.capacity = None
    world.settle("up")
    world.check(creations=1, alive=1)


def begin(world: World, api: str) -> None:
    if api == "v1":
        world.speak_v1()
    world.write(wait_for_capacity="1h")


def cases() -> Iterator[Case]:
    """Yield a case for every fault and every kill, with each API."""
    for api in ("legacy", "v1"):
        where = f"{api}: waiting for capacity"
        for name in FAULTS:
            yield where, name, partial(waits, name=name, api=api), "new"
        for who in ("plugin", "cli", "both"):
            yield where, f"{who} killed", partial(is_killed, who=who, api=api), "new"
