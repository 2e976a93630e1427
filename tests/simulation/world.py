"""All that there is: an account, two computers, two stacks and a person."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import click

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.state import TurnedClock
from pulumi_fal.errors import ElsewhereError, FalError
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.stacks.cache import ONLY_ORGANIZATION

from . import journal
from .account import OUTCOMES, Account, Owner
from .engine import CommandLine, Engine, Job, Stages
from .laws import Laws
from .plugin import HOMES, KEY_OF, KEYS, WAITS, Call, Conditions, Event, Process
from .stacks import Stack, place, pulumi
from .turns import Died, Turn, Turns

_NOT_SHOWN = "he API has not shown"
"""What a wait and a refresh say of a machine that may still appear."""
ROUNDS = 24
"""How many commands it may take at most until nothing changes any more."""


class World:
    """Accounts, computers, stacks and people, in one process and without waiting."""

    def __init__(self, api: str = "legacy", stacks: dict[str, Stack] | None = None) -> None:
        """`api`: which one all processes speak. `stacks`: two that differ by their backend only,
        unless given."""
        self.api = api
        self.time = TurnedClock(1000.0)
        self.turns = Turns(self.time, self._deadlock)
        self.account = Account(self)
        self.laws = Laws(self)
        self.disks = {home: journal.Disk() for home in HOMES}
        self.stacks = stacks or {name: Stack(name, f"s3://{name}") for name in ("one", "two")}
        self.left_behind: list[Stack] = []
        """What stacks were before they moved, where nobody has removed it."""
        self.wrote: dict[str, Owner] = {}
        """By the file of each record, whose create it is of."""
        self.processes: list[Process] = []
        self.said: dict[Owner, str] = {}
        """With what the last command's creates failed, as a person reads it."""
        self.said_at: dict[str, str] = {}
        """By stack, on which computer its last command ran."""
        self._calls: dict[Turn, Call] = {}
        self.watch: Callable[[Process, str, str, str], None] | None = None
        """Called at each step of a process."""
        self.poll_interval = 2.0
        self._count = 0

    # What happens.

    def run(self, conditions: Conditions, *commands: Stages) -> None:
        """Run one command, or several at the same time, which meet the same faults."""
        self.account.met.clear()
        for kind, name, times in conditions.faults:
            self.account.faults.add(kind, OUTCOMES[name], times)
        schedule = iter(conditions.schedule)
        if len(commands) == 1 and conditions.schedule:
            for stage in commands[0]:
                self.turns.run([self._turn([job]) for job in stage], schedule)
        else:
            turns = [self._turn(chain.from_iterable(stages)) for stages in commands]
            self.turns.run(turns, schedule)
        self.account.faults.clear()
        for one in self.disks.values():
            one.trouble = journal.NOTHING
        self.processes.clear()

    def two_ups(self, stack: str, conditions: Conditions, move: str) -> tuple[Stages, Stages]:
        """`up`, and another right after the first one's engine was killed, or has ended."""
        undisturbed = Conditions(home=conditions.home)
        first, second = (self.engine(stack, one) for one in (conditions, undisturbed))
        return first.up(), second.up(after=first.process, move=move)

    def command_line(self, stack: str, conditions: Conditions) -> CommandLine:
        """A person at the computer of a stack, who runs a command of `pulumi-fal`."""
        return CommandLine(self, self.engine(stack, conditions).process)

    def happen(self, event: Event, process: Process, moment: str) -> None:
        """One event, in the middle of a process's step."""
        ours = sorted(filter(self.account.runs, self.account.made_by))
        match event:
            case Event.KILL:
                process.is_dead = True
                self.account.show_soon(self._known_machines())
            case Event.POWER:
                for one in self.processes:
                    one.is_dead = one.is_dead or one.home == process.home
                self.account.show_soon(self._known_machines())
            case Event.CANCEL:
                process.clock.interrupt()
            case Event.ENGINE_DIES:
                process.engine_lives = False
                process.clock.interrupt()
                for call in process.calls:
                    while call.undelivered:
                        call.undelivered.pop()()
            case Event.UNLOCKED:
                process.has_lock = False
                if process.backend.startswith("http"):  # Pulumi Cloud refuses what it writes then
                    process.saves = False
            case Event.STATE_LOST:
                process.saves = False
            case Event.DISK_FULL | Event.DISK_GONE:
                self.disk.trouble = journal.FULL if event is Event.DISK_FULL else journal.GONE
                self.account.shown_after = 0.0
                self.account.show_soon(self._known_machines())
            case Event.AGAIN:
                process.calls_again = True
            case Event.SLEEP if moment in WAITS and not self._is_sending(process):
                self.turns.slept += 3600.0
                self.account.state.advance(3600.0)
            case Event.FOREIGN:
                account = self.account.state.account_of(KEYS[0])
                self.account.state.create(NewInstance("gpu_1x_h100_sxm5", "somebody's"), account)
            case Event.VANISH if ours:
                self.account.state.kill(ours[0])
            case Event.GLITCH:
                self.account.glitch(self._known_machines(), *process.conditions.glitch)
            case Event.STUCK if ours:
                self.account.state.stuck(
                    max(ours, key=lambda id_: self.account.machine(id_).created)
                )

    def person(self, stack: str, *, keeps: bool) -> None:
        """Take the ways out that the errors name, truthfully: `keeps` to adopt, or to delete."""
        said = {owner: words for owner, words in self.said.items() if owner.stack == stack}
        for owner, words in said.items():
            # One message may be of several records, under each name that the stack has had.
            for message in re.split(r"(?=An earlier create for|A create for)", words):
                self._take_way_out(owner, message, keeps=keeps)

    def _take_way_out(self, owner: Owner, said: str, *, keeps: bool) -> None:
        ways = [
            shlex.split(line) for line in re.findall(r"^  pulumi-fal (.+)$", said, re.MULTILINE)
        ]
        adopt, delete, forget = (
            next((way for way in ways if word in way[:2]), [])
            for word in ("adopt", "delete", "forget")
        )
        outside = self.account.machines_of(owner) - self.stacks[owner.stack].ids()
        if any(self.account.lacked(id_) and not self.account.shows(id_) for id_ in outside):
            return  # who sees no machine may think that there is none, so this waits for the API
        mine = sorted(outside & set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", said)))
        is_adopted = any(entry.phase is Phase.ADOPTED for entry in self.entries_of(owner))
        exists = self.stacks[owner.stack].exists  # else another one would get the machine
        keeps = keeps and bool(mine and adopt) and exists and not is_adopted
        if keeps and self._does(owner, adopt, mine[0]):
            forget, mine = [], mine[1:]
        for instance_id in mine if delete else ():
            self._does(owner, [*delete, "--yes", "--force"], instance_id)
        if forget:
            self._does(owner, forget)

    def _does(self, owner: Owner, way: list[str], instance_id: str = "") -> bool:
        """Run a command from a message, about the person's own record and machine."""
        home = self.said_at[owner.stack]
        mine = [
            entry
            for entry in self.entries(home)
            if self._is_theirs(entry, owner, way)
            and (
                way[0] != "pending"
                or (entry.origin.urn == way[2] and entry.is_late == ("--late" in way))
            )
        ]
        if not mine:
            return False  # it is about another stack's
        words = {"ID": instance_id, mine[0].origin.urn: mine[0].id}
        args = [words.get(word, word) for word in way]
        state, machine = self.account.state, self.account.state.machines.get(instance_id)
        see = [key for key in KEYS if machine and machine.belongs_to(state.account_of(key))]
        conditions = Conditions(key=[*see, KEY_OF[mine[0].account]][0], home=home)
        line = self.command_line(owner.stack, conditions)
        self.run(conditions, line.command("run", owner.name, args))
        if any("Add --stack" in str(error) for error in line.process.errors.values()):
            return self._does(
                owner, [*way, "--stack", self.stacks[owner.stack].full_name], instance_id
            )
        return not line.process.errors

    def _is_theirs(self, entry: Entry, owner: Owner, way: list[str]) -> bool:
        """Whether an entry is of the resource, or of another one that has lost nothing by it."""
        other = self.wrote[entry.file]
        named = {one.instance_id for one in self.entries() if one.file != entry.file}
        left = self.account.machines_of(other) - self.stacks[other.stack].ids() - named
        is_open = "forget" in way or ("adopt" in way and not entry.origin.provider)
        return other == owner or (is_open and not left)

    def _delete_what_is_left(self, stack: str) -> None:
        """Delete what no `up` continues with, because state has another machine by now."""
        outside = set(self.account.made_by) - self.stacks[stack].ids()
        for instance_id in filter(self.account.runs, sorted(outside)):
            owner = self.account.made_by[instance_id]
            if owner.stack == stack:
                self._does(owner, ["delete", "ID", "--yes", "--force"], instance_id)

    def settle(self) -> None:
        """Run `up` and take the ways out until nothing changes; then all must be as declared."""
        self.account.end_glitches()
        for machine in self.account.state.machines.values():
            machine.stuck_at = float("inf")
        keys = dict.fromkeys(self.stacks, KEYS[0])
        said: dict[str, list[Exception]] = {name: [] for name in self.stacks}
        for count in range(ROUNDS):
            self.time.advance(30.0)
            before = self._picture()
            problems = {}
            refresh = count % 2 == 1
            for name, stack in self.stacks.items():
                conditions = Conditions(key=keys[name])
                engine = self.engine(name, conditions)
                self.run(conditions, engine.up(refresh=refresh))
                errors = engine.process.errors
                problems.update({(name, key): error for key, error in errors.items()})
                self.person(name, keeps=True)
                if not errors:
                    self._delete_what_is_left(name)
                self._drop_twins(stack)
                self._drop_never_shown(
                    stack, [*map(str, errors.values()), *engine.process.warnings]
                )
                said[name] += errors.values()
                if refresh:
                    keys[name] = _wanted_key(said[name], keys[name])
                    said[name].clear()
            self.laws.check()
            unsolved = [error for error in problems.values() if not self._is_elsewhere(error)]
            is_as_declared = all(
                set(stack.rows) == set(stack.program) and not stack.doomed
                for stack in self.stacks.values()
            )
            if refresh and not unsolved and is_as_declared and before == self._picture():
                break
        else:
            raise AssertionError(f"it does not settle: {problems}, {keys}, {self._picture()}")
        for stack in self.stacks.values():
            for name, row in stack.rows.items():
                assert self.account.runs(row.id), f"{name} of {stack.name}: {row.id} is gone"

    def move(self, stack: str, how: str) -> None:
        """What people do to a stack between two commands, one of MOVES."""
        moved, before = self.stacks[stack], copy.copy(self.stacks[stack])
        self._count += 1
        if how == "rename":
            moved.title = f"{moved.title}-{self._count}"
        elif how == "spell" and moved.backend.startswith("http"):
            moved.organization = f"{moved.organization}-{self._count}"
        elif how == "spell":
            moved.backend = f"{place(moved.backend)}?spelled={self._count}"
        elif how == "remove":
            self.laws.given_up |= moved.ids()
            moved.clear()
            moved.exists = False
        elif moved.exists:
            moved.backend = f"s3://moved-{self._count}"
            moved.organization, moved.creating = ONLY_ORGANIZATION, []
            if how == "migrate":
                before.rows, before.doomed = dict(moved.rows), list(moved.doomed)
                self.left_behind.append(before)

    def call_anew(self, stack: str, name: str) -> None:
        """Give a resource another name in the program, with an alias of each that it had."""
        self._count += 1
        names = self.stacks[stack].names
        names[name] = (*names.get(name, (name,)), f"{name}-{self._count}")

    # How it is done.

    def call(self) -> Call:
        turn = self.turns.current
        assert turn is not None
        return self._calls[turn]

    def pulumi(self, args: tuple[str, ...], backend: str) -> Any:
        return pulumi(self.call().process, self.everywhere(), args, backend)

    def everywhere(self) -> list[Stack]:
        """All stacks that can be read, also what was left behind by a move."""
        return [*filter(lambda stack: stack.exists, self.stacks.values()), *self.left_behind]

    @property
    def disk(self) -> journal.Disk:
        """The one of the computer on which whoever's turn it is runs."""
        return self.disks[self.call().process.home]

    def entries(self, *homes: str) -> list[Entry]:
        """What is on record, on all computers unless some are named."""
        disks = [self.disks[home].entries for home in homes or HOMES]
        return [entry for entries in disks for _, entry in sorted(entries.items())]

    def named_elsewhere(self, process: Process) -> set[str | None]:
        """What other computers have on record: another create made it, and still names it."""
        homes = [home for home in HOMES if home != process.home]
        return {entry.instance_id for entry in self.entries(*homes)}

    def entries_of(self, owner: Owner, *homes: str, late: bool | None = None) -> list[Entry]:
        """What is on record of a resource's creates, with `late` only the late ones or no such."""
        return [
            entry
            for entry in self.entries(*homes)
            if self.wrote[entry.file] == owner and late in (None, entry.is_late)
        ]

    def count_process(self) -> int:
        self._count += 1
        return self._count

    def agrees(self, question: str) -> bool:
        """Whether a person says yes to a question: if nothing gets lost by it that is the person's,
        runs, and is in no state, and nobody else loses anything."""
        call = self.call()
        self.laws.asked(call)
        own = self.account.machines_of(call.owner) - self.stacks[call.owner.stack].ids()
        words = "\n".join(call.process.output)
        shown = {instance_id for instance_id in own if instance_id in words}
        if question.startswith("Delete"):
            return bool(shown) or "may have been made" not in words
        return shown <= self.named_elsewhere(call.process)

    def _known_machines(self) -> set[str]:
        in_state = {instance_id for stack in self.everywhere() for instance_id in stack.ids()}
        return in_state | {entry.instance_id for entry in self.entries() if entry.instance_id}

    def _is_sending(self, process: Process) -> bool:
        """Whether another one is between its last check and its request: no client covers that."""
        others = [other for other in self.processes if other is not process]
        return any(other.moment == "create is sent" for other in others)

    def _is_elsewhere(self, error: Exception) -> bool:
        """Whether it says truly that a machine is another account's."""
        return isinstance(error, ElsewhereError) and self.account.runs(error.instance_id)

    def engine(self, stack: str, conditions: Conditions) -> Engine:
        process = Process(self, stack, conditions)
        self.said_at[stack] = conditions.home
        self.processes.append(process)
        for owner in [owner for owner in self.said if owner.stack == stack]:
            del self.said[owner]
        return Engine(self, self.stacks[stack], process)

    def _turn(self, jobs: Iterable[Job]) -> Turn:
        def run() -> None:
            for call, do in jobs:
                self._calls[turn] = call
                if call.process.records:
                    self._serve(call, do)
            if turn in self._calls:
                self._calls[turn].process.is_over = True

        turn = Turn(run)
        turn.is_doomed = lambda: turn in self._calls and self._calls[turn].process.is_dead
        return turn

    def _serve(self, call: Call, do: Callable[[Call], None]) -> None:
        try:
            do(call)
        except Died:
            pass
        except Exception as error:  # noqa: BLE001 - as the host of plugins does
            call.process.errors[call.owner.name] = error
            if not isinstance(error, (FalError, click.ClickException, click.Abort)):
                self.laws.violations.append(f"{call.owner} ends with {error!r}")

    def _deadlock(self) -> None:
        self.laws.violations.append("all wait for one another, and nobody asks")
        for process in self.processes:
            process.is_dead = True

    def _drop_twins(self, stack: Stack) -> None:
        """`pulumi state delete`, as the refusal to delete a machine that was taken over says."""
        ids = {row.id for row in stack.rows.values()}
        stack.doomed = [(name, row) for name, row in stack.doomed if row.id not in ids]

    def _drop_never_shown(self, stack: Stack, said: Iterable[str]) -> None:
        """Drop a machine that vanished before the API showed it, since nothing proves that."""
        hidden = "\n".join(words for words in said if _NOT_SHOWN in words)
        for name, row in list(stack.rows.items()):
            if row.id in hidden and not self.account.runs(row.id):
                del stack.rows[name]

    def _picture(self) -> object:
        rows = {
            name: [(key, row.id, row.has_errors) for key, row in stack.rows.items()]
            for name, stack in self.stacks.items()
        }
        return rows, [stack.doomed for stack in self.stacks.values()]


def _wanted_key(errors: Iterable[Exception], now: str) -> str:
    """The key that a person sets next: the one of an account that a message names, in turn."""
    said = " ".join(map(str, errors))
    named = {KEY_OF[account] for account in re.findall(r"another account \((\w+)\)", said)}
    later = sorted(key for key in named if key > now) + sorted(named)
    return later[0] if later else now
