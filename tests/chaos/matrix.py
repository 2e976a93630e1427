"""Every fault of the emulator, at every call that create, read and delete make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import inf

from pulumi_fal.emulator.faults import OUTCOMES, fault

from .report import Case
from .world import LATE, World

FAULTS = [name for name in OUTCOMES if name not in ("ok", "hold")]
"""All but the right answers, at once or when a test releases them: nobody does so here."""
ENDS_AT_ONCE = {"401", "403", "404", "409", "redirect"}
"""What no call is repeated after: once is as good as for ever."""
SECONDS = {"slow": 0.3, "late": LATE}


def meet(world: World, call: str, name: str, times: float, *, after: int = 0) -> None:
    """Let a call meet the fault, once `after` such calls went well."""
    if after:
        world.emulator.faults.add(call, "ok", after)
    world.emulator.faults.add(call, fault(name, seconds=SECONDS.get(name)), times)


def creates(world: World, call: str, name: str, times: float, after: int) -> None:
    """One machine, made once, whatever a call of its create meets."""
    meet(world, call, name, times, after=after)
    world.take_ways_out(world.run("up"))
    world.settle("up")
    world.check(creations=1, alive=1)


def creates_beside_others(world: World, call: str, name: str, times: float, after: int) -> None:
    """Likewise, while somebody else rents the same."""
    world.beside_each_create()
    creates(world, call, name, times, after)


def reads(world: World, call: str, name: str, times: float, after: int) -> None:
    """A refresh never loses a machine that is there, so `up` makes no second."""
    if call == "get":
        for id_ in world.ours():
            world.emulator.state.hide(id_, "list")
    meet(world, call, name, times, after=after)
    world.run("refresh")
    world.settle("up")
    world.check(creations=1, alive=1)


def deletes(world: World, call: str, name: str, times: float, after: int) -> None:
    """State lets go of a machine only when it is gone."""
    meet(world, call, name, times, after=after)
    world.run("destroy")
    if set(world.ours()) - world.stack.state_ids():
        world.outcome.broken.append("state let go of a machine that runs")
    world.settle("destroy")
    world.check(creations=1, alive=0)


PLACES = {
    "create: list before": (creates, "list", 0, False),
    "create: POST": (creates, "create", 0, False),
    "create: POST, others rent": (creates_beside_others, "create", 0, False),
    "create: poll": (creates, "list", 1, False),
    "read: list": (reads, "list", 0, True),
    "read: GET": (reads, "get", 0, True),
    "delete: DELETE": (deletes, "delete", 0, True),
    "delete: list after": (deletes, "list", 0, True),
    "delete: GET after": (deletes, "get", 0, True),
}
LIES = {("read: GET", "404"), ("delete: DELETE", "lapse")}
"""What no client can see through: that GET doesn't know a machine which the list lacks, and that a
DELETE was accepted which was not."""


def case(where: str, name: str, times: float = 1) -> Case:
    """One fault at one place."""
    act, call, after, used = PLACES[where]
    often = "" if times == 1 else ", for as long as it takes"
    play = partial(act, call=call, name=name, times=times, after=after)
    return where, f"{name}{often}", play, used


def cases() -> Iterator[Case]:
    """All of them."""
    for where in PLACES:
        for name in FAULTS:
            if (where, name) in LIES:
                continue
            yield case(where, name)
            if name not in ENDS_AT_ONCE and not where.startswith("create: POST"):
                yield case(where, name, inf)
        if where == "create: POST":
            yield case(where, "429", inf)
