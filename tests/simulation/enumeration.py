"""Every order of two commands with at most two switches, and one event at any place of it.

A command is a process. Its steps are the places where it touches what others see: a file of the
journal, the API, a stack's state. A schedule of two commands A and B is: A runs i steps, B runs j
steps, A goes on to its end, then B. In some B runs to its end in one go, and in one so does A. With
the pairs in both orders, these are all orders with at most two switches, not counting those where
a command ends or waits for a lock of the other one.

What is left out, and why nothing is lost by it:

- A switch before a step that touches nothing of what the other one touches while it runs. Two steps
  are independent unless they touch the same thing and one of them changes it. So both orders end in
  the same state, and one run stands for them. Which steps those are is known from the run before,
  because the schedule with i + 1 steps differs from that with i only in the place of one step.
- How long a command waits counts as independent of all steps. What depends on it is searched with
  a computer that sleeps for an hour, and with machines that the API makes late.
- A kill right after a step that only looks: the kill right before it leaves the same.
- A fault anywhere but where a request is sent, and a sleep of the computer anywhere but in a wait:
  no check can cover the instant between itself and the request.
- A command beside another one, where the stack has no machine and gets none meanwhile, if it then
  does what another command does: `up --replace` is `up`, and `refresh` and `destroy` are `preview`.
- `up` of stack two before `up` of stack one, where they differ by their names only.
- Pairs of commands that both change nothing. Of two updates of one stack the second one starts
  when the first has ended, or when its engine was killed, because Pulumi locks the stack.
- Without an answer to a create, both APIs are searched. With one, no step differs between them.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

from .account import OUTCOMES
from .engine import CommandLine, Stages
from .journal import READ, WRITTEN
from .plugin import WAITS, Event, Process
from .situations import RESOURCE, SITUATIONS, Situation, Start
from .standins import in_place

UPDATES = ("up", "replace", "refresh", "destroy")
"""The commands for which Pulumi locks the stack. `replace` is `up --replace`."""
LOOKS = ("ls", "audit")
"""The commands that change nothing."""
COMMANDS = (*UPDATES, "preview", "adopt", "forget", *LOOKS)
_RECORD = r"[0-9a-f]{16}-[0-9a-f]{16}(?:-[0-9a-f]+)?"
"""The name of a file of the journal, without what follows its dot."""


@dataclass(frozen=True)
class Command:
    """A command, and the stack that it works on."""

    name: str
    stack: str = "one"

    def __str__(self) -> str:
        return f"`{self.name}` of stack {self.stack}"


class Step(NamedTuple):
    """A step of a command: it touches something that others see, or it waits."""

    moment: str
    touched: str = ""
    how: str = ""

    def depends_on(self, other: Step) -> bool:
        """Whether it makes a difference which of the two comes first."""
        one, two = self.touched, other.touched
        if not one or not two or self.how == other.how == READ:
            return False
        # A list of the files depends on each that comes or goes, and so does one of the machines.
        is_list = one.endswith("*") or two.endswith("*")
        has_change = WRITTEN in (self.how, other.how)
        return one == two or (is_list and has_change and one.split()[0] == two.split()[0])

    def __str__(self) -> str:
        return f"{self.moment} ({self.touched})" if self.touched else self.moment


@dataclass(frozen=True)
class Happening:
    """An event, or a fault of the API, at step number `at` of command number `who`."""

    who: int
    at: int
    what: Event | str

    def __str__(self) -> str:
        if isinstance(self.what, Event):
            return self.what.value
        return f"the API fails: {OUTCOMES[self.what].says}"


@dataclass
class Run:
    """A schedule that was run, and how it went."""

    start: Start
    commands: tuple[Command, ...]
    happening: Happening | None = None
    first: int | None = None
    """The step before which the first command gives way; None if it runs to its end."""
    second: int | None = None
    """The step before which the second command then gives way; None if it runs to its end."""
    steps: tuple[list[Step], list[Step]] = field(default_factory=lambda: ([], []))
    """Those of each command."""
    order: list[tuple[int, Step | str]] = field(default_factory=list)
    """All steps in words, each with the number of the command, and what happened between them."""
    beside: list[Step] = field(default_factory=list)
    """What the second command did while the first one gave way."""
    rest: list[Step] = field(default_factory=list)
    """What the first command did while the second one gave way."""
    _last: dict[int, Step] = field(default_factory=dict)
    """The last step of each command."""
    _gave_way: set[int] = field(default_factory=set)
    problem: str = ""
    """The laws that it broke."""

    def __post_init__(self) -> None:
        self._world = world = self.start.copy()
        self._processes: list[Process] = []
        stages = [self._stages(command) for command in self.commands]
        world.turns.is_patient, world.watch = True, self._watch
        world.account.on_nothing = self._changed_nothing
        try:
            world.run(self._conditions, *stages)
            world.watch = None
            world.laws.check()
        except AssertionError as error:
            self.problem = str(error)

    def __str__(self) -> str:
        host = "the native host" if self.start.is_native else "Python's dynamic host"
        lines = [
            f"At first: {self.start.situation.name}, with the {self.start.api} API and {host}.",
            *(f"{self.commands[who]}: {words}" for who, words in self.order),
            f"Then: {self.problem or 'all laws hold'}",
        ]
        words = "\n  ".join(lines)
        for number, record in enumerate(dict.fromkeys(re.findall(_RECORD, words)), 1):
            words = words.replace(record, f"record {number}")
        return words

    @property
    def length(self) -> tuple[int, int]:
        """What makes one schedule shorter than another."""
        whole = (self.first, self.second, self.happening).count(None)
        return len(self.commands) - whole, len(self.order)

    @property
    def is_exclusive(self) -> bool:
        """Whether Pulumi's lock of the stack keeps the two commands apart."""
        is_one_stack = len({command.stack for command in self.commands}) == 1
        are_updates = all(command.name in UPDATES for command in self.commands)
        return len(self.commands) == 2 and is_one_stack and are_updates

    def _stages(self, command: Command) -> Stages:
        world, name = self._world, command.name
        self._conditions = self.start.situation.conditions()
        engine = world.engine(command.stack, self._conditions)
        self._processes.append(engine.process)
        after = self._processes[0] if self.is_exclusive and len(self._processes) == 2 else None
        match name:
            case "up":
                return engine.up(frozenset(), after=after)
            case "replace":
                return engine.up(frozenset([RESOURCE]), after=after)
            case "refresh":
                return engine.refresh(after=after)
            case "destroy":
                return engine.destroy(after=after)
            case "preview":
                return engine.preview()
        return CommandLine(world, engine.process).command(name, RESOURCE)

    def _watch(self, process: Process, moment: str, touched: str, how: str) -> None:
        """What happens at a step, before it is made."""
        if not (touched or moment in WAITS):
            return
        who = self._processes.index(process)
        at = len(self.steps[who])
        step = Step(moment, touched, how)
        self.steps[who].append(step)
        happening = self.happening
        is_here = happening is not None and (who, at) == (happening.who, happening.at)
        if happening is not None and is_here and happening.what is Event.ENGINE_DIES:
            self._happen(happening, process, step)  # first of all, so that the next update starts
            is_here = False
        if at == (self.first, self.second)[who]:
            self._gave_way.add(who)
            self._world.turns.give_way()
            self._gave_way.discard(who)
        if happening is not None and is_here:
            self._happen(happening, process, step)
        self.order.append((who, step))
        self._last[who] = step
        if 1 - who in self._gave_way:
            (self.beside if who else self.rest).append(step)

    def _changed_nothing(self) -> None:
        """The step that was made last has turned out to change nothing."""
        process = self._world.call().process
        who = self._processes.index(process)
        for steps in (self.steps[who], self.beside if who else self.rest):
            if steps and steps[-1] is self._last[who]:
                steps[-1] = steps[-1]._replace(how=READ)

    def _happen(self, happening: Happening, process: Process, step: Step) -> None:
        if isinstance(happening.what, Event):
            self._world.happen(happening.what, process, step.moment)
        elif step.moment.endswith(" is sent"):
            call = step.moment.removesuffix(" is sent")
            self._world.account.faults.add(call, OUTCOMES[happening.what], 1)
        self.order.append((happening.who, f"here {happening}"))


FAULTS = {
    "create": ("reset_after", "403", "504_then_made"),
    "list": ("500", "lapse"),
    "get": ("500", "404"),
    "delete": ("500_after", "404"),
}
"""What each call may meet: one fault of each kind that the provider tells apart."""


@dataclass(frozen=True)
class Case:
    """One command, or two, in one situation."""

    situation: Situation
    api: str
    commands: tuple[Command, ...]
    has_twin: bool = True
    """Whether the other organization has a stack of the same name."""
    is_native: bool = True
    """Whether the host tells the provider's id."""
    events: tuple[Event | str, ...] = ()
    """What may happen in it, if not everything may."""

    def runs(self, start: Start) -> Iterator[Run]:
        """Run every schedule that may make a difference."""
        happenings: dict[Happening, None] = {}
        for run in self._orders(start, None):
            for happening in self._happenings(run):
                if not self.events or happening.what in self.events:
                    happenings[happening] = None
            yield run
        for happening in happenings:
            yield from self._orders(start, happening)

    def _orders(self, start: Start, happening: Happening | None) -> Iterator[Run]:
        def run_it(first: int | None = None, second: int | None = None) -> Run:
            return Run(start, self.commands, happening, first, second)

        one_by_one = run_it()
        yield one_by_one
        steps, beside, earliest = one_by_one.steps[0], list[Step](), 1
        if one_by_one.is_exclusive:  # then a switch before the first one's engine dies has no end
            is_free = happening is not None and happening.what is Event.ENGINE_DIES
            earliest = happening.at if happening is not None and is_free else len(steps)
        for first in range(earliest, len(steps) if len(self.commands) == 2 else 0):
            moved = steps[first - 1]
            if first > earliest and not _depends(moved, beside):
                continue  # as with one step less
            run = run_it(first)
            yield run
            beside = run.beside
            is_new, rest = first == earliest, steps[first:]
            for second in range(1, len(beside)):
                is_new = is_new or moved.depends_on(beside[second - 1])
                if not is_new or not _depends(beside[second - 1], rest):
                    continue  # as with one step less of the first, or of the second
                run = run_it(first, second)
                yield run
                rest = run.rest

    def _happenings(self, run: Run) -> Iterator[Happening]:
        """What may happen at the steps of a run, where it may make a difference."""
        for who, command in enumerate(self.commands):
            steps = run.steps[who]
            if command.name in UPDATES:
                yield Happening(who, 0, Event.AGAIN)
            for at, step in enumerate(steps):
                call = step.moment.removesuffix(" is sent")
                yield from (Happening(who, at, fault) for fault in FAULTS.get(call, ()))
                if step.moment in WAITS:
                    yield Happening(who, at, Event.SLEEP)
                if at and steps[at - 1].how not in ("", READ):
                    yield Happening(who, at, Event.KILL)
                    if run.is_exclusive and who == 0:
                        yield Happening(who, at, Event.ENGINE_DIES)


def _depends(step: Step, others: list[Step]) -> bool:
    return any(step.depends_on(other) for other in others)


def cases() -> Iterator[Case]:
    for situation in SITUATIONS:
        for api in situation.apis:
            for commands in _commands(situation):
                yield Case(situation, api, commands)
            for name, has_twin in product(COMMANDS, (True, False)):
                yield Case(situation, api, (Command(name),), has_twin, is_native=False)


def quick_cases() -> Iterator[Case]:
    """Each command by itself, and the pairs that have once lost a machine.

    Where the host does not tell the provider's id, the APIs hardly differ, so one of them will do.
    """
    for case in cases():
        names = tuple(command.name for command in case.commands)
        is_told_apart = case.is_native or case.api == "legacy"
        if len(names) == 1 and case.has_twin and is_told_apart:
            yield case
        elif (case.situation.name, names) in _PAIRS and {c.stack for c in case.commands} == {"one"}:
            yield replace(case, events=(Event.KILL,))


_PAIRS = {
    ("in state, with its record", ("preview", "replace")),
    ("the create's answer gets lost", ("up", "forget")),
    ("the API makes the machine after a 504", ("up", "up")),
    ("no answer, and a machine", ("adopt", "up")),
}


def _commands(situation: Situation) -> Iterator[tuple[Command, ...]]:
    for name in COMMANDS:
        yield (Command(name),)
    for one, two in product(COMMANDS, COMMANDS):
        is_known = _is_known(situation, one, two) or _is_known(situation, two, one)
        if not (is_known or (one in LOOKS and two in LOOKS)):
            yield Command(one), Command(two)
    for name, other in product(COMMANDS, situation.others):
        if not (_is_known(situation, name) or (name in LOOKS and other in LOOKS)):
            yield Command(name), Command(other, "two")
            if situation.builds or name != other:  # else the stacks differ by their names only
                yield Command(other, "two"), Command(name)


_CREATE = ("up", "replace")
_WITHOUT_STATE = {"replace": "up", "refresh": "preview", "destroy": "preview"}
"""What commands are the same as where the stack has no machine."""


def _is_known(situation: Situation, name: str, beside: str = "") -> bool:
    """Whether a command does what another one does that is run as well.

    `beside` is the command of the same stack that is run with it.
    """
    return not situation.has_state and name in _WITHOUT_STATE and beside not in _CREATE


@dataclass
class Found:
    count: int = 0
    """How many schedules were run."""
    broken: int = 0
    """How many of them broke a law."""
    shortest: Run | None = None
    """The shortest one that did."""


@contextmanager
def _little_garbage_collection() -> Iterator[None]:
    """Leave out of it what is there already: each run makes little garbage, in many objects."""
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(200_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def search(cases: Iterable[Case], until: str = "") -> Found:
    """Run all schedules of the cases. With `until`, stop at the first problem with these words."""
    found = Found()
    starts: dict[tuple[str, str, bool, bool], Start] = {}
    with in_place(), _little_garbage_collection():
        for case in cases:
            key = (case.situation.name, case.api, case.has_twin, case.is_native)
            if key not in starts:
                starts[key] = Start(case.situation, case.api, case.has_twin, case.is_native)
            for run in case.runs(starts[key]):
                found.count += 1
                if run.problem:
                    found.broken += 1
                    if found.shortest is None or run.length < found.shortest.length:
                        found.shortest = run
                    if until and until in run.problem:
                        found.shortest = run
                        return found
    return found
