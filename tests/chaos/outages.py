"""An outage in the middle of a wait: the command that waits succeeds nevertheless."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf

from ..e2e.harness import Run, wait_until
from ..e2e.recovery import finish
from .matrix import FAULTS, meet
from .report import Case
from .world import World, wait_for_call

ANSWERS = 3
"""How many answers an outage lasts for, where it isn't a single bad answer."""
LIE = "lapse"
"""Two lists in a row that lack the machine end a delete. And a DELETE that was ignored although
the answer says otherwise is sent again only after minutes."""
ACCEPTED = {"slow", "truncated", "wrong_shape", "empty"}
"""A DELETE that meets one of these is accepted, so it meets just one."""


def creates(world: World, call: str, name: str, times: int) -> None:
    """Create one machine, with one `up`."""
    world.emulator.state.provisioning = inf
    # The first list is the one before the POST.
    outlive(world, "up", 3, call, name, times, lambda: finish(world.emulator.state))
    world.check(creations=1, alive=1)


def updates(world: World, call: str, name: str, times: int) -> None:
    """Finish a machine that an earlier `up` did not see ready, with one `up`."""
    outlive(world, "up", 2, call, name, times, lambda: finish(world.emulator.state))
    world.check(creations=1, alive=1)


def deletes(world: World, call: str, name: str, times: int) -> None:
    """State drops the machine when it is gone."""
    state = world.emulator.state
    state.deletion = 60
    # The wait begins with the DELETE.
    awaited = 0 if call == "delete" else 2

    def end() -> None:
        wait_until(lambda: state.deletions)
        if not world.stack.state_ids():
            world.outcome.broken.append("state dropped a machine that runs")
        state.advance(state.deletion)

    outlive(world, "destroy", awaited, call, name, times, end)
    world.check(creations=1, alive=0)


def outlive(
    world: World,
    command: str,
    awaited: int,
    call: str,
    name: str,
    times: int,
    end: Callable[[], None],
) -> None:
    """Let a wait that has seen so many lists meet a fault so often; then let its end come.

    The command is run once, and must succeed.
    """
    faults = world.emulator.faults

    def strike(run: Run) -> None:
        wait_for_call(world, "list", awaited, run)
        meet(world, call, name, times)
        wait_until(lambda: not faults.left() or run.process.poll() is not None)
        end()

    result = world.run(command, during=strike)
    if left := faults.left():
        world.outcome.broken.append(f"it was over before the outage was: {left}")
    if result.exit_code != 0:
        world.outcome.broken.append(f"`{result.command}` did not outlive the outage")


ROWS = {
    "create: outage": (creates, ["list"], "new"),
    "update: outage": (updates, ["list"], "unfinished"),
    "delete: outage": (deletes, ["delete", "list"], "ready"),
}


def cases() -> Iterator[Case]:
    """Yield a case for every fault, once and for some answers, at every call of each wait."""
    for where, (act, calls, start) in ROWS.items():
        for call in calls:
            for name in FAULTS:
                for times in _times(act, call, name):
                    play = partial(act, call=call, name=name, times=times)
                    yield where, f"{name} x {times}, {call}", play, start


def _times(act: Callable[..., None], call: str, name: str) -> Sequence[int]:
    """How often a wait can meet a fault of that call and still succeed."""
    if act is not deletes or name not in {LIE, *ACCEPTED}:
        return (1, ANSWERS)
    if call == "list":
        return (1,) if name == LIE else (1, ANSWERS)
    return () if name == LIE else (1,)
