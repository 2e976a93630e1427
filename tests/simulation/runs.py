"""One run of one or two commands: who gives way where, and what happens there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from .account import OUTCOMES
from .commands import CommandLine
from .disk import READ, WRITTEN
from .engine import Stages
from .plugin import WAITS, Event, Process
from .situations import RESOURCE, Start

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


@dataclass(frozen=True)
class Schedule:
    """Who runs for how many steps, and what happens."""

    first: int | None = None
    """The step before which the first command gives way; None if it runs to its end."""
    second: int | None = None
    """The step before which the second command then gives way; None if it runs to its end."""
    happening: Happening | None = None

    @property
    def length(self) -> int:
        """How many switches and events there are."""
        return 3 - (self.first, self.second, self.happening).count(None)


@dataclass
class Run:
    """A schedule that was run, and how it went."""

    start: Start
    commands: tuple[Command, ...]
    schedule: Schedule
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
        return len(self.commands) + self.schedule.length, len(self.order)

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
        schedule, happening = self.schedule, self.schedule.happening
        is_here = happening is not None and (who, at) == (happening.who, happening.at)
        if happening is not None and is_here and happening.what is Event.ENGINE_DIES:
            self._happen(happening, process, step)  # first of all, so that the next update starts
            is_here = False
        if at == (schedule.first, schedule.second)[who]:
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
