"""Keys of two accounts, and a rotated key: only the account that has a machine can drop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf

from ..e2e.harness import Run
from ..e2e.recovery import finish
from .report import Case
from .world import ANOTHER_KEY, World, wait_for_call

COMMANDS = ("refresh", "up", "destroy", "up --refresh")
STARTS = {"ready": "ready", "unfinished": "unfinished", "killed in mid-wait": "new"}


def another_key(world: World, command: str, begins: str) -> None:
    """A key of another account changes nothing, and with the right key everything goes on."""
    own = begin(world, begins)
    world.use_key(ANOTHER_KEY)
    world.run(*command.split())
    world.check_known(alive=1)
    world.use_key(own)
    finish(world.emulator.state)
    world.settle("up")
    world.check(creations=1, alive=1)
    world.settle("destroy")
    world.check(creations=1, alive=0)


def rotated_key(world: World, command: str, begins: str) -> None:
    """Another key of the same account works as well as the one before."""
    begin(world, begins)
    world.rotate_key("the-key-that-took-its-place")
    finish(world.emulator.state)
    result = world.run(*command.split())
    if result.exit_code != 0:
        world.outcome.broken.append(f"`{result.command}` failed with the rotated key")
    world.check_known(alive=int(command != "destroy" or begins == "killed in mid-wait"))
    if world.ours():
        world.settle("up")
        world.check(creations=1, alive=1)
    world.settle("destroy")
    world.check(creations=1, alive=0)


def begin(world: World, how: str) -> str:
    """Bring about the state before the key changes, and return the key that is set."""
    if how == "killed in mid-wait":
        world.emulator.state.provisioning = inf

        def strike(run: Run) -> None:
            wait_for_call(world, "list", 3, run)
            run.kill()

        world.run("up", during=strike)
    (there,) = world.ours().values()
    if how != "ready":
        there.provisioning = inf
    return world.api_key


WHO: dict[str, Callable[..., None]] = {
    "another key": another_key,
    "rotated key": rotated_key,
}


def cases() -> Iterator[Case]:
    """Yield a case for each command and each kind of machine."""
    for who, act in WHO.items():
        for command in COMMANDS:
            for begins, start in STARTS.items():
                yield (
                    f"{who}: {command}",
                    begins,
                    partial(act, command=command, begins=begins),
                    start,
                )
