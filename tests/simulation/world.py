"""All that there is: an account, a disk, two stacks and a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.state import TurnedClock
from pulumi_fal.errors import ElsewhereError
from pulumi_fal.machines.decision import as_forgotten
from pulumi_fal.machines.entry import GRACE_SECONDS, Phase
from pulumi_fal.machines.journal import Journal

from . import disk
from .account import OUTCOMES, Account, Owner
from .commands import CommandLine
from .engine import Engine, Job, Stages
from .in_place import journal_folder
from .laws import Laws
from .plugin import KEY_OF, KEYS, WAITS, Call, Conditions, Event, Process
from .stacks import Stack, pulumi
from .turns import Died, Turn, Turns

ROUNDS = 24
"""How many commands it may take at most until nothing changes any more."""


class World:
    """The whole of it, in one process and without waiting."""

    def __init__(self, api: str = "legacy", stacks: dict[str, Stack] | None = None) -> None:
        """`api`: which one all processes speak. `stacks`: two that differ by their backend only,
        unless given."""
        self.api = api
        self.time = TurnedClock(1000.0)
        self.turns = Turns(self.time, self._deadlock)
        self.account = Account(self.turns)
        self.laws = Laws(self)
        self.account.on_made = lambda instance_id: self.laws.made(self.call(), instance_id)
        self.account.on_delete = lambda instance_id: self.laws.deleting(self.call(), instance_id)
        self.disk = disk.Disk(self._disk_step)
        self.stacks = stacks or {name: Stack(name, f"file:///{name}") for name in ("one", "two")}
        self.processes: list[Process] = []
        self.said: dict[Owner, str] = {}
        """With what the last command's creates failed, as a person reads it."""
        self._calls: dict[Turn, Call] = {}
        self.watch: Callable[[Process, str, str, str], None] | None = None
        """Called at each step of a process."""
        self.conditions = Conditions()
        """Of the commands that run now, or ran last: all of them meet the same faults."""
        self._power: Conditions | None = None
        self.poll_interval = 2.0
        self._is_watched = True
        self.journal = Journal(journal_folder())

    # What happens.

    def run(self, conditions: Conditions, *commands: Stages) -> None:
        """Run one command, or several at the same time."""
        self.conditions = conditions
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
        for process in self.processes:
            self.laws.command_ended(process)
        self.account.faults.clear()
        self.disk.trouble = disk.NOTHING
        if self._power is not None:
            self.disk.lose_power(self._power.synced)
            self._power = None
        self.processes.clear()

    def up(
        self,
        stack: str,
        conditions: Conditions,
        forced: frozenset[str] = frozenset(),
        *,
        refresh: bool = False,
        delete_first: bool = False,
    ) -> Stages:
        return self.engine(stack, conditions).up(forced, refresh=refresh, delete_first=delete_first)

    def two_ups(self, stack: str, conditions: Conditions) -> tuple[Stages, Stages]:
        """`up`, and another right after the first one's engine was killed, or has ended."""
        first, second = (self.engine(stack, one) for one in (conditions, Conditions()))
        nothing = frozenset[str]()
        return first.up(nothing), second.up(nothing, after=first.process)

    def preview(self, stack: str, conditions: Conditions) -> Stages:
        return self.engine(stack, conditions).preview()

    def command_line(self, stack: str, command: str, name: str) -> Stages:
        """A command of `pulumi-fal`, about a resource of a stack."""
        return CommandLine(self, self.engine(stack, Conditions()).process).command(command, name)

    def refresh(self, stack: str, conditions: Conditions) -> Stages:
        return self.engine(stack, conditions).refresh()

    def destroy(self, stack: str, conditions: Conditions) -> Stages:
        return self.engine(stack, conditions).destroy()

    def happen(self, event: Event, process: Process, moment: str) -> None:
        """One event, in the middle of a process's step."""
        ours = sorted(filter(self.account.runs, self.account.made_by))
        match event:
            case Event.KILL:
                process.is_dead = True
            case Event.POWER:
                self._power = process.conditions
                for one in self.processes:
                    one.is_dead = True
            case Event.CANCEL:
                process.clock.interrupt()
            case Event.ENGINE_DIES:
                process.engine_lives = False
                process.clock.interrupt()
                for call in process.calls:
                    while call.undelivered:
                        call.undelivered.pop()()
            case Event.STATE_LOST:
                process.saves = False
            case Event.DISK_FULL:
                self.disk.trouble = disk.FULL
            case Event.DISK_GONE:
                self.disk.trouble = disk.GONE
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
            case Event.STUCK if ours:
                self.account.state.stuck(
                    max(ours, key=lambda id_: self.account.machine(id_).created)
                )

    def person(self, stack: str, *, keeps: bool) -> None:
        """Take the ways out that the errors name, truthfully: `keeps` to adopt, or to delete."""
        for owner, said in list(self.said.items()):
            if owner.stack != stack:
                continue
            del self.said[owner]
            # One message may be of several records, under each name that the stack has had.
            for message in re.split(r"(?=An earlier create for|A create for)", said):
                self._take_way_out(owner, message, keeps=keeps)

    def _take_way_out(self, owner: Owner, said: str, *, keeps: bool) -> None:
        stack = self.stacks[owner.stack]
        named = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", said))
        urn = re.search(r"pulumi-fal pending forget (\S+)", said)
        origin = next(
            (origin for origin in stack.origins(owner.name) if urn and origin.urn == urn[1]), None
        )
        entry = self.journal.find(origin) if origin else None
        if entry is None or not named:
            return
        mine = sorted((self.account.machines_of(owner) - stack.ids()) & named)
        now = stack.origin(owner.name)
        is_free = entry.origin == now or self.journal.find(now) is None
        keeps = keeps and is_free and bool(mine)
        if keeps and entry.phase is not Phase.ADOPTED:
            chosen, *mine = mine
            adopted = replace(
                entry, origin=now, phase=Phase.ADOPTED, instance_id=chosen, problem=""
            )
            self.journal.write(adopted)
        for instance_id in mine:
            self.account.state.delete(instance_id)
        if not keeps or entry.origin != now:
            late = as_forgotten(entry, named, self.turns.wall())
            self.journal.drop(entry)
            if late is not None:
                self.journal.write(late)

    def settle(self) -> None:
        """Run `up` and take the ways out until nothing changes; then all must be as declared."""
        for machine in self.account.state.machines.values():
            machine.stuck_at = float("inf")
        keys = dict.fromkeys(self.stacks, KEYS[0])
        said: dict[str, list[Exception]] = {name: [] for name in self.stacks}
        for count in range(ROUNDS):
            self.time.advance(GRACE_SECONDS)  # so that nothing is too new to be missed
            before = self._picture()
            problems = {}
            refresh = count % 2 == 1
            for name, stack in self.stacks.items():
                conditions = Conditions(key=keys[name])
                engine = self.engine(name, conditions)
                self.run(conditions, engine.up(frozenset(), refresh=refresh))
                errors = engine.process.errors
                problems.update({(name, key): error for key, error in errors.items()})
                self.person(name, keeps=True)
                self._drop_twins(stack)
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

    def rename(self, stack: str) -> None:
        """`pulumi stack rename`: state moves on under another name, and nothing else does."""
        titles = self.stacks[stack].titles
        titles.append(f"dev{len(titles)}")

    # How it is done.

    def call(self) -> Call:
        """The call that is being served by whoever's turn it is."""
        turn = self.turns.current
        assert turn is not None
        return self._calls[turn]

    def pulumi(self, args: tuple[str, ...], backend: str) -> Any:
        """What the `pulumi` command prints for whoever's turn it is."""
        return pulumi(self.call().process, self.stacks.values(), args, backend)

    def agrees(self) -> bool:
        """Whether a person says yes at a prompt: unless a machine was named that is the person's,
        runs, and is in no state."""
        call = self.call()
        own = self.account.machines_of(call.owner) - self.stacks[call.owner.stack].ids()
        words = "\n".join(call.process.output)
        return not any(instance_id in words for instance_id in own)

    def try_lock(self, descriptor: int) -> bool:
        """Lock a file for whoever's turn it is."""
        turn = self.turns.current
        is_locked = self.disk.try_lock(descriptor, self.call().process)
        if turn is not None and not is_locked:
            turn.needs_others = True
        return is_locked

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Nothing happens at the steps in this block."""
        self._is_watched = False
        try:
            yield
        finally:
            self._is_watched = True

    def _is_sending(self, process: Process) -> bool:
        """Whether another one is between its last check and its request: no client covers that."""
        others = [other for other in self.processes if other is not process]
        return any(other.moment == "create is sent" for other in others)

    def _is_elsewhere(self, error: Exception) -> bool:
        """Whether it says truly that a machine is another account's."""
        return isinstance(error, ElsewhereError) and self.account.runs(error.instance_id)

    def engine(self, stack: str, conditions: Conditions) -> Engine:
        process = Process(self, stack, conditions)
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

    def _disk_step(self, moment: str, name: str, how: str) -> None:
        if self.turns.current is not None and self._is_watched:
            kind = "lock" if name.endswith(".lock") else "file"
            self.call().process.step(moment, f"{kind} {name}" if name else "", how)

    def _deadlock(self) -> None:
        self.laws.violations.append("all wait for one another, and nobody asks")
        for process in self.processes:
            process.is_dead = True

    def _drop_twins(self, stack: Stack) -> None:
        """`pulumi state delete`, as the refusal to delete a machine that was taken over says."""
        ids = {row.id for row in stack.rows.values()}
        stack.doomed = [(name, row) for name, row in stack.doomed if row.id not in ids]

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
