"""Schedules: any order of commands under any conditions, drawn by hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from .account import OUTCOMES, Hiding
from .engine import NAMES
from .plugin import HOMES, KEYS, MOMENTS, Conditions, Event
from .stacks import CLOUD, MOVES, UNREAD, Stack, place
from .standins import enter, in_place
from .world import World

KEY, OTHER_KEY = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "AB")
PROGRAMS: list[dict[str, Any]] = [
    {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": KEY},
    {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": OTHER_KEY},
    {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": KEY},
    {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": KEY, "sector": "sector_2"},
    {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": KEY, "wait": False},
    {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": KEY, "wait_for_capacity": "5m"},
]

# The faults that behave differently here are drawn more often.
_KINDS = {
    "create": [
        *("500_after", "reset_after", "late", "429_for_long", "unsent", "409", "taken_late"),
        *("no_room", "no_room_but_made", "409_but_made"),
    ],
    "list": ["500", "522", "html", "403", "429_for_long", "lapse"],
    "get": ["500", "html", "403", "404"],
    "delete": ["404", "409", "403", "500_after"],
}
_LAPSES = {("list", "lapse"), ("get", "404")}
"""The API's own word that a machine is gone: twice in a row it is beyond any provider."""


GLITCHES = (1.0, 20.0, 50.0, 70.0, 90.0)
"""Seconds: a machine counts as gone after a minute without it, and several after two."""
HIDING: tuple[tuple[Hiding, ...], ...] = (("list", "get"), ("list", "get"), ("list",), ("get",))
_LIES = {("delete", "lapse")}
"""A 200 for a DELETE that does nothing, which looks like any that was accepted."""


def _fault(kind: str) -> st.SearchStrategy[tuple[str, str, int]]:
    name = st.sampled_from(_KINDS[kind]) | st.sampled_from(sorted(OUTCOMES))
    return st.tuples(st.just(kind), name, st.sampled_from([1, 2, 99]))


def with_single_lapses(drawn: Iterable[tuple[str, str, int]]) -> tuple[tuple[str, str, int], ...]:
    """The faults as drawn, but with each lapse once, and no lies."""
    faults = [fault for fault in drawn if fault[:2] not in _LIES]
    lapses = {(kind, name, 1) for kind, name, _ in faults if (kind, name) in _LAPSES}
    return (*sorted(lapses), *(fault for fault in faults if fault[:2] not in _LAPSES))


def _moments(steps: int) -> st.SearchStrategy[int | str]:
    return st.integers(1, steps) | st.sampled_from(MOMENTS)


_homes = st.sampled_from([HOMES[0], *HOMES])
_unread = st.sampled_from(["", "", "", *UNREAD])


def _conditions(steps: int, schedules: st.SearchStrategy[list[int]]) -> Any:
    faults = st.one_of(*map(_fault, ("create", "create", "list", "get", "delete")))
    events = st.tuples(_moments(steps), st.sampled_from(Event))
    return st.builds(
        Conditions,
        faults=st.lists(faults, max_size=2).map(with_single_lapses),
        events=st.lists(events, max_size=2).map(tuple),
        schedule=schedules.map(tuple),
        glitch=st.tuples(st.sampled_from(GLITCHES), st.sampled_from(HIDING)),
        seams=st.booleans(),
        unread=_unread,
        timeout=st.sampled_from([100.0, 5.0]),
        key=st.sampled_from([KEYS[0], *KEYS]),
        home=_homes,
    )


_in_order = _conditions(40, st.just([]))
_interleaved = _conditions(100, st.lists(st.integers(0, 3), min_size=1, max_size=40))
_stacks = st.sampled_from(["one", "two"])
_names = st.sampled_from(NAMES)
_some_names = st.frozensets(_names)
_commands = st.sampled_from(["ls", "audit", "forget", "adopt", "delete"])
_moves = st.sampled_from(["", "", *MOVES])
PLACES = {
    "backends": [Stack("one", "s3://one"), Stack("two", "s3://two")],
    "organizations": [Stack("one", CLOUD, "acme"), Stack("two", CLOUD, "tester")],
    "names": [Stack("one", "s3://one"), Stack("two", "s3://one", title="prod")],
}
"""Where the two stacks are: of one name in two backends, or in two organizations of one; or of two
names."""


QUICK = settings(
    max_examples=50,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""Fifty schedules, always the same ones."""

PARTS = 5
"""So many tests share the schedules of one kind that are drawn anew every time."""
MANY = settings(
    QUICK,
    max_examples=int(os.environ.get("SIMULATION_SCHEDULES", "2500")) // PARTS,
    stateful_step_count=12,
    derandomize=False,
)
"""A failure prints the steps, and a line that runs them again when it stands above the class below.

CHAOS_SEED draws the same ones again, SIMULATION_SCHEDULES of each kind."""


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What is made of what was drawn: a search for one thing narrows it."""

    events: tuple[Event, ...] = ()
    at: tuple[int | str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    """The faults that show the mutant, where only few of all faults do."""
    unread: str = ""
    """What no disturbed command can read, where only that shows the mutant."""
    program: dict[str, Any] = field(default_factory=lambda: PROGRAMS[0])
    """What the resources are at first."""
    move: str = ""
    """What becomes of stacks, where only that shows it."""
    lag: float | None = None
    """The seconds until a new machine is listed or known to GET, where only such a lag shows it."""

    def weather(self, conditions: Conditions) -> Conditions:
        """The same with these disturbances in place of those that were drawn."""
        events, faults = conditions.events, conditions.faults
        if self.events:
            events = tuple((at, self.events[len(event) % len(self.events)]) for at, event in events)
        if self.at:
            events = tuple((self.at[len(event) % len(self.at)], event) for _, event in events)
        if self.faults:
            faults = with_single_lapses(
                (*self.faults[len(name) % len(self.faults)], times) for _, name, times in faults
            )
        unread = self.unread or conditions.unread
        return replace(conditions, events=events, faults=faults, unread=unread)


LONG_LAG = 90.0
"""So late that a machine would count as gone, if the API had shown it before."""


class Schedules(RuleBasedStateMachine):
    """Commands on two stacks; after each, all laws."""

    api = "legacy"
    narrowing = Narrowing()
    count = 0
    """How many were run."""

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self._exit = ExitStack()
        self.world = World(self.api)
        self._exit.enter_context(in_place())
        enter(self.world)

    def teardown(self) -> None:
        try:
            if not self.world.laws.violations:
                self.world.settle()
        finally:
            self._exit.close()

    @invariant()
    def laws(self) -> None:
        self.world.laws.check()

    @initialize(
        lag=st.sampled_from([0.0, 8.0, 19.0, LONG_LAG]),
        reads_lag=st.booleans(),
        names=st.sampled_from([1, 2, 3]),
        where=st.sampled_from(sorted(PLACES)),
        is_native=st.booleans(),
    )
    def start(self, lag: float, reads_lag: bool, names: int, where: str, is_native: bool) -> None:
        """`lag`: seconds before a new machine is listed; `reads_lag`: and before GET knows it.

        A long lag begins with the answer to the create.
        """
        account = self.world.account
        if self.narrowing.lag is not None:
            lag, reads_lag = self.narrowing.lag, True
        account.reads_lag = reads_lag
        account.state.list_lag, account.shown_after = (lag, 0.0) if lag < LONG_LAG else (0.0, lag)
        program = dict.fromkeys(NAMES[:names], self.narrowing.program)
        for at in PLACES[where]:  # those are shared by all schedules
            stack = Stack(at.name, at.backend, at.organization, at.title, is_native, dict(program))
            self.world.stacks[stack.name] = stack

    @rule(
        stack=_stacks,
        conditions=_in_order,
        forced=_some_names,
        refresh=st.booleans(),
        delete_first=st.booleans(),
        goes_on=st.booleans(),
    )
    def up(
        self,
        stack: str,
        conditions: Conditions,
        forced: frozenset[str],
        refresh: bool,
        delete_first: bool,
        goes_on: bool,
    ) -> None:
        conditions = self.narrowing.weather(conditions)
        undisturbed = replace(conditions, faults=(), events=(), schedule=())
        self.world.run(undisturbed, self.world.engine(stack, undisturbed).preview())
        stages = self.world.engine(stack, conditions).up(
            forced, refresh=refresh, delete_first=delete_first, goes_on=goes_on
        )
        self.world.run(conditions, stages)

    @rule(stack=_stacks, forced=_some_names, unread=_unread)
    def undisturbed_up(self, stack: str, forced: frozenset[str], unread: str) -> None:
        conditions = Conditions(unread=unread)
        self.world.run(conditions, self.world.engine(stack, conditions).up(forced))

    @rule(stack=_stacks, unread=_unread, name=_names, number=st.integers(0, 5))
    def up_with_an_import(self, stack: str, unread: str, name: str, number: int) -> None:
        """Into a resource that has none, of whatever machine there is, whoever made it."""
        conditions = Conditions(unread=unread)
        imports = self._imports(stack, name, number, conditions)
        self.world.run(conditions, self.world.engine(stack, conditions).up(imports=imports))

    def _imports(
        self, stack: str, name: str, number: int, conditions: Conditions
    ) -> dict[str, str]:
        """What a command imports: nothing of a stack or a computer that it does not look into."""
        account, own = self.world.account, place(self.world.stacks[stack].backend)
        others = [other for other in self.world.stacks.values() if other.name != stack]
        unread, homes = conditions.unread, [home for home in HOMES if home != conditions.home]
        unseen = [other.ids() for other in others if unread or place(other.backend) != own]
        unseen.append(frozenset(entry.instance_id or "" for entry in self.world.entries(*homes)))
        running = sorted(filter(account.runs, account.state.machines.keys() - set().union(*unseen)))
        return {name: running[number % len(running)]} if running else {}

    @rule(stack=_stacks, unread=_unread, command=_commands, name=_names, home=_homes)
    def command(self, stack: str, unread: str, command: str, name: str, home: str) -> None:
        conditions = Conditions(unread=unread, home=home)
        line = self.world.command_line(stack, conditions)
        self.world.run(conditions, line.command(command, name))

    @rule(
        stack=_stacks,
        conditions=_in_order,
        command=st.sampled_from(["refresh", "destroy", "preview"]),
    )
    def without_program(self, stack: str, conditions: Conditions, command: str) -> None:
        conditions = self.narrowing.weather(conditions)
        stages = getattr(self.world.engine(stack, conditions), command)()
        self.world.run(conditions, stages)

    @rule(
        stack=_stacks,
        edit=st.tuples(_names, st.sampled_from([*PROGRAMS, None])) | st.none(),
        person=st.sampled_from(["keeps", "deletes", None]),
        seconds=st.sampled_from([0.0, 1.0, 10.0, 600.0]),
        move=_moves,
        anew=st.none() | st.none() | _names,
    )
    def meanwhile(
        self,
        stack: str,
        edit: tuple[str, dict[str, Any] | None] | None,
        person: str | None,
        seconds: float,
        move: str,
        anew: str | None,
    ) -> None:
        """A program changes, somebody takes the ways out of the last errors, and time passes."""
        if move := self.narrowing.move or move:
            self.world.move(stack, move)
        if edit is not None:
            name, inputs = edit
            self.world.laws.edited(stack)
            program = self.world.stacks[stack].program
            program.pop(name, None)
            if inputs is not None:
                program[name] = inputs
        if anew is not None:
            self.world.call_anew(stack, anew)
        if person is not None:
            self.world.person(stack, keeps=person == "keeps")
        self.world.time.advance(seconds)


class Interleaved(Schedules):
    """Schedules in which creates of one stack, or two stacks, go on at the same time."""

    @rule(stack=_stacks, conditions=_interleaved, forced=_some_names)
    def up_at_once(self, stack: str, conditions: Conditions, forced: frozenset[str]) -> None:
        conditions = self.narrowing.weather(conditions)
        self.world.run(conditions, self.world.engine(stack, conditions).up(forced))

    @rule(conditions=_interleaved)
    def both_up(self, conditions: Conditions) -> None:
        conditions = self.narrowing.weather(conditions)
        stages = [self.world.engine(name, conditions).up() for name in self.world.stacks]
        self.world.run(conditions, *stages)

    @rule(stack=_stacks, conditions=_interleaved, at=_moments(40))
    def up_after_a_cancel(self, stack: str, conditions: Conditions, at: int | str) -> None:
        """`pulumi cancel` unlocks the stack, and two engines write its state."""
        cancelled = replace(conditions, events=((at, Event.UNLOCKED), *conditions.events))
        cancelled = self.narrowing.weather(cancelled)
        self.world.run(cancelled, *self.world.two_ups(stack, cancelled, ""))

    @rule(stack=_stacks, conditions=_interleaved, at=_moments(40), move=_moves)
    def up_before_the_dead_are_gone(
        self, stack: str, conditions: Conditions, at: int | str, move: str
    ) -> None:
        """A plugin whose engine was killed finishes its POST while the next `up` runs."""
        dying = replace(conditions, events=((at, Event.ENGINE_DIES), *conditions.events))
        dying = self.narrowing.weather(dying)
        self.world.run(dying, *self.world.two_ups(stack, dying, self.narrowing.move or move))

    @rule(stack=_stacks, conditions=_interleaved, forced=_some_names)
    def up_beside_a_preview(
        self, stack: str, conditions: Conditions, forced: frozenset[str]
    ) -> None:
        conditions = self.narrowing.weather(conditions)
        preview = self.world.engine(stack, Conditions(unread=conditions.unread)).preview()
        self.world.run(conditions, self.world.engine(stack, conditions).up(forced), preview)

    @rule(
        stack=_stacks,
        conditions=_interleaved,
        command=_commands,
        name=_names,
        number=st.none() | st.integers(0, 5),
    )
    def up_beside_a_command(
        self, stack: str, conditions: Conditions, command: str, name: str, number: int | None
    ) -> None:
        """The command may change what the `up` has read, and the `up` may import what it ends."""
        conditions = self.narrowing.weather(conditions)
        unread, imports = conditions.unread, {}
        if number is not None:
            imports = self._imports(stack, name, number, conditions)
        beside = self.world.command_line(stack, Conditions(unread=unread)).command(command, name)
        self.world.run(conditions, self.world.engine(stack, conditions).up(imports=imports), beside)

    @rule(stack=_stacks, conditions=_interleaved)
    def destroy_at_once(self, stack: str, conditions: Conditions) -> None:
        conditions = self.narrowing.weather(conditions)
        self.world.run(conditions, self.world.engine(stack, conditions).destroy())


class KeyedSchedules(Schedules):
    """Schedules under the v1 API, where a create has an idempotency key."""

    api = "v1"


class KeyedInterleaved(Interleaved):
    """Schedules under the v1 API, with resources and commands that run at the same time."""

    api = "v1"
