"""The situations in which the enumerated commands start, and the two stacks that they work on.

The stacks are in two organizations of one backend. Both have the same name there, unless the case
says otherwise, so all that tells them apart is the id of their provider. Each has one resource,
which is called RESOURCE in both.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pulumi_fal.api.models import NewInstance

from .account import LATE_SECONDS
from .plugin import KEYS, Conditions, Event
from .stacks import CLOUD, Stack
from .standins import enter
from .world import World

RESOURCE = "a"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
PROGRAM = {
    RESOURCE: {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": KEY, "wait_for_capacity": "5m"}
}
Build = Callable[[World], None]


def _up(*events: tuple[int | str, Event], stack: str = "one") -> Build:
    """A `pulumi up` that ends as the events say."""

    def build(world: World) -> None:
        conditions = Conditions(events=events)
        world.run(conditions, world.engine(stack, conditions).up())

    return build


def _late(world: World) -> None:
    """An `up` whose machine the API makes late, and another one that makes a machine as well."""
    for faults in ((("create", "504_then_made", 1),), ()):
        conditions = Conditions(faults=faults)
        world.run(conditions, world.engine("one", conditions).up())
    world.time.advance(LATE_SECONDS)


def _found_gone(world: World) -> None:
    """An `up` that waits for a machine until that counts as gone, and then it is there again."""
    world.account.state.provisioning = 300.0
    hidden: Event = Event.GLITCH
    for timeout, events in ((5.0, ()), (100.0, (("a wait begins", hidden),))):
        conditions = Conditions(timeout=timeout, events=events, glitch=(90.0, ("list", "get")))
        world.run(conditions, world.engine("one", conditions).up())
    world.account.end_glitches()


def _back_without_new(world: World) -> None:
    """A machine that was found gone is there again, and state has lost the one that replaces it."""
    _found_gone(world)
    (old,) = world.stacks["one"].ids()
    conditions = Conditions(timeout=5.0)
    world.run(conditions, world.engine("one", conditions).up())
    (new,) = world.stacks["one"].ids() - {old}
    world.account.state.kill(new)
    world.run(Conditions(), world.engine("one", Conditions()).refresh())


def _without_record(stack: str) -> Build:
    """What the next commands leave once state has the machine: no record of its create."""

    def build(world: World) -> None:
        for _ in range(2):  # the first one sees the machine, so that the record can go
            world.run(Conditions(), world.engine(stack, Conditions()).refresh())

    return build


def _somebody(world: World) -> None:
    account = world.account.state.account_of(KEYS[0])
    world.account.state.create(NewInstance("gpu_1x_h100_sxm5", "somebody's"), account)


@dataclass(frozen=True)
class Situation:
    """What there is before the commands, and what the API does to their first create."""

    name: str
    builds: tuple[Build, ...] = ()
    fault: str = ""
    """What the first create meets."""
    is_slow: bool = False
    """Whether a machine takes longer to become ready than the resource's timeout."""
    has_state: bool = False
    """Whether state of stack one has a machine."""
    apis: tuple[str, ...] = ("legacy",)
    """Both, where no answer came or may come. With an answer, the APIs differ in no step."""
    others: tuple[str, ...] = ("up",)
    """The commands of the other stack that are run beside one. Without a machine, all but `up`
    have nothing to do."""

    def conditions(self) -> Conditions:
        return Conditions(
            faults=(("create", self.fault, 1),) if self.fault else (),
            timeout=5.0 if self.is_slow else 100.0,
        )


BOTH = ("legacy", "v1")
_TAKEN, _SENT = (("create is taken", Event.KILL),), (("create is sent", Event.KILL),)
_UNTOLD = (("the engine is told", Event.ENGINE_DIES),)
SITUATIONS = (
    Situation("nothing", apis=BOTH),
    Situation("machines are slow", is_slow=True, apis=BOTH),
    Situation("the create's answer gets lost", fault="reset_after", apis=BOTH),
    Situation("the API refuses the create", fault="403"),
    Situation("the API has no room at first", fault="no_room", apis=BOTH),
    Situation("the API makes the machine after a 504", fault="504_then_made", apis=BOTH),
    Situation("in state", (_up(), _without_record("one")), has_state=True),
    Situation("in state, with its record", (_up(),), has_state=True),
    Situation("found gone, and there again", (_found_gone,), has_state=True, others=()),
    Situation(
        "found gone, there again, and the new one lost",
        (_back_without_new,),
        has_state=True,
        others=(),
    ),
    Situation("a late machine beside the present one", (_late,), has_state=True, others=()),
    Situation(
        "a late machine beside the present one, and machines are slow",
        (_late,),
        is_slow=True,
        has_state=True,
        others=(),
    ),
    Situation("no answer, and a machine", (_up(*_TAKEN),), apis=BOTH),
    Situation(
        "no answer, and another stack's machine",
        (_up(*_SENT), _up(stack="two"), _without_record("two")),
        apis=BOTH,
        others=("up", "replace", "destroy", "preview", "audit"),
    ),
    Situation("no answer, and somebody's machine", (_up(*_SENT), _somebody), apis=BOTH),
    Situation("created, and not told", (_up(*_UNTOLD),)),
    Situation("told, and not in state", (_up(("the engine is told", Event.KILL)),)),
)


@dataclass
class Start:
    """A situation that was built once, to be copied for each run."""

    situation: Situation
    api: str
    has_twin: bool = True
    is_native: bool = True
    _built: World = field(init=False)

    def __post_init__(self) -> None:
        random.seed(self.situation.name)  # the ids of machines come from there
        self._built = self._world({})
        enter(self._built)
        for build in self.situation.builds:
            build(self._built)
            self._built.time.advance(5.0)
        self._built.laws.check()

    def copy(self) -> World:
        """Return a world in this situation, which runs from now on."""
        built = self._built
        world = self._world({name: copy.copy(stack) for name, stack in built.stacks.items()})
        for stack in world.stacks.values():
            stack.rows = {name: copy.copy(row) for name, row in stack.rows.items()}
            stack.doomed, stack.creating = list(stack.doomed), list(stack.creating)
        world.wrote, world._count = dict(built.wrote), built._count
        world.time.now = built.time.now
        world.laws.unasked = set(built.laws.unasked)
        for home, disk in world.disks.items():
            disk.entries = dict(built.disks[home].entries)
            disk.locks = dict.fromkeys(built.disks[home].locks)
        account, state = world.account, built.account.state
        account.made_by = dict(built.account.made_by)
        account.late = set(built.account.late)
        account.state.machines = {
            id_: replace(machine, hidden_until=dict(machine.hidden_until))
            for id_, machine in state.machines.items()
        }
        account.state._kept = dict(state._kept)
        account.state.provisioning = 30.0 if self.situation.is_slow else 0.0
        enter(world)
        return world

    def _world(self, stacks: dict[str, Stack]) -> World:
        names = ("one", "acme", "dev"), ("two", "tester", "dev" if self.has_twin else "prod")
        world = World(
            self.api,
            stacks
            or {
                name: Stack(
                    name, CLOUD, organization, title, self.is_native, copy.deepcopy(PROGRAM)
                )
                for name, organization, title in names
            },
        )
        world.poll_interval = 10.0
        world.account.state.provisioning = world.account.state.deletion = 0.0
        return world
