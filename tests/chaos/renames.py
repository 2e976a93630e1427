"""After a create was killed, its stack or project is renamed, or its key is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf

from ..e2e.harness import Run
from ..e2e.recovery import STAGES, Stage
from .report import Case
from .world import ANOTHER_KEY, World

Change = Callable[[World], None]


def rename_both(world: World) -> None:
    """Rename the stack, and then the project."""
    world.rename_stack("renamed")
    world.rename_project("renamed")


RENAMES: dict[str, Change] = {
    "stack": lambda world: world.rename_stack("renamed"),
    "project": lambda world: world.rename_project("renamed"),
    "stack and project": rename_both,
}


def creates(world: World, stage: str, who: str, changes: Sequence[Change]) -> None:
    """Create one machine, once, whatever has been renamed and whatever else `up` meets."""
    killed_at(world, stage, who)
    own = world.api_key
    for change in changes:
        change(world)
    result = world.run("up")
    world.emulator.faults.clear()
    if set_another_key in changes:
        world.use_key(own)
    world.take_ways_out(result)
    world.settle("up")
    world.check(creations=1, alive=1)


def set_another_key(world: World) -> None:
    """Set a key of an account that doesn't see the machine."""
    world.use_key(ANOTHER_KEY)


def lose_the_list(world: World) -> None:
    """Let every list of the machines fail."""
    world.emulator.faults.add("list", "500", inf)


def killed_at(world: World, name: str, who: str) -> None:
    """Run an `up` that is killed at that stage of its create."""
    stage = Stage(world.emulator, name)

    def strike(run: Run) -> None:
        stage.reached_by(run)
        world.strike(run, who)
        stage.release()

    world.run("up", during=strike)
    stage.end()


ROWS: dict[str, tuple[Change, ...]] = {
    **{f"renamed: {what}": (rename,) for what, rename in RENAMES.items()},
    "renamed, then another key": (rename_both, set_another_key),
    "renamed, then no list": (rename_both, lose_the_list),
    "rotated key, then no list": (lambda world: world.rotate_key("a-new-key"), lose_the_list),
}


def cases() -> Iterator[Case]:
    """Yield a case for each stage, each process that is killed, and each change."""
    for where, changes in ROWS.items():
        for stage in STAGES:
            # Nothing was created by then, so the other key may well create a machine.
            if stage == "before the POST" and set_another_key in changes:
                continue
            for who in ("cli", "plugin", "both"):
                play = partial(creates, stage=stage, who=who, changes=changes)
                yield where, f"{stage}, {who} killed", play, "new"
