"""A stack under faults, a user who makes the right decisions, and the laws that must always hold.

After the faults are over, commands are repeated until they succeed. When an error names ways out,
the user takes the right one: only a user can know which machine came from which create, and here
the emulator knows.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil
from operator import itemgetter
from pathlib import Path

from pulumi_fal.emulator.server import API_KEY, EmulatorServer

from ..e2e.harness import Result, Stack, machine, tracebacks
from ..e2e.recovery import (
    PATIENCE,
    entries,
    in_plugin,
    nothing_runs,
    pending,
    printed,
    restore_if_cut_off,
    unfinished,
    unlock,
)
from ..processes import replaced
from ..tally import SEED, Record, record

TIMEOUT = 1.5
"""After how many seconds the plugin gives up on an answer. A late answer comes after LATE."""
LATE = 2.2
ROUNDS = 8
"""Within how many runs after the last fault a command must succeed."""

# A fault that lasts for ever ends a wait by its timeout, and a refused key is believed sooner. A
# fault that ends after a few answers must end before either.
WAIT = 12
"""How many seconds a program gives a create, and a delete."""
REFUSED = 4
IN_PLUGIN = {
    "api.client.READ_TIMEOUT": TIMEOUT,
    "api.client.CREATE_READ_TIMEOUT": TIMEOUT,
    "machines.lifecycle.REFUSED_SECONDS": REFUSED,
}
"""The constants that each plugin process has other values of, by their names in the package."""


class Broken(AssertionError):
    """A law is broken."""


@dataclass
class Outcome:
    where: str
    name: str
    runs: int = 0
    failures: int = 0
    ways_out: int = 0
    orphans: int = 0
    duplicates: int = 0
    unnamed: int = 0
    broken: list[str] = field(default_factory=list)
    transcript: str = ""


class World:
    """One stack, the emulator that it talks to, and the outcome so far."""

    def __init__(self, stack: Stack, emulator: EmulatorServer, outcome: Outcome) -> None:
        self.stack = stack
        self.emulator = emulator
        self.outcome = outcome
        stack.env |= {**PATIENCE, "FAL_ADMIN_API_KEY": API_KEY}
        for name, value in IN_PLUGIN.items():
            self.replace_in_plugin(name, value)

    def replace_in_plugin(self, name: str, value: object) -> None:
        in_plugin(self.stack, replaced(name, value))

    def speak_v1(self) -> None:
        endpoint = f"{self.emulator.url}/v1"
        self.stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": endpoint}

    def run(self, *args: str) -> Result:
        calls = self.emulator.state.calls.total()
        result = self.stack.start(*args).wait()
        self.outcome.runs += 1
        if tracebacks(result.output):
            self.outcome.broken.append(f"a traceback from `{result.command}`")
        if result.exit_code > 0:
            self.outcome.failures += 1
            self._look_for_unnamed(result)
        try:
            nothing_runs(self.stack)
        except AssertionError:
            # A process in which the provider was not loaded yet outlives a killed CLI.
            if self.emulator.state.calls.total() > calls:
                raise
            self.stack.kill_all()
        restore_if_cut_off(self.stack)
        unlock(self.stack)
        return result

    def settle(self, *args: str) -> None:
        """Let everything go well from now on, and repeat the command until it succeeds."""
        state = self.emulator.state
        self.emulator.faults.clear()
        # A plugin that was killed in a delete leaves a machine that still exists, but not for long.
        state.advance(state.deletion)
        if self.stack.state_ids() - state.alive() and args == ("up",):
            self.settle("refresh")  # as after any delete that ended without an answer
        for _ in range(ROUNDS):
            result = self.run(*args)
            if result.exit_code == 0:
                return
            self.take_ways_out(result)
        raise Broken(f"`{result.command}` did not succeed within {ROUNDS} runs")

    def take_ways_out(self, result: Result) -> None:
        """Adopt the machine that is the resource's with the command that an error names.

        Where there is none, forget the create.
        """
        for urn, _, *options in printed(result.output, "pulumi-fal pending adopt"):
            if not entries(self.stack):
                self.outcome.broken.append(f"no record of the create of {urn}")
                continue
            self.outcome.ways_out += 1
            made = self.emulator.state.alive() - self.stack.state_ids()
            if made:
                pending(self.stack, "adopt", urn, made.pop(), *options)
            else:
                pending(self.stack, "forget", urn, "--yes")

    def check(self, creations: int, *, alive: int) -> None:
        """Check the laws once all has settled: at most so many creations, and so many alive."""
        state, in_state = self.emulator.state, self.stack.state_ids()
        there, made = state.alive(), state.creations
        twice = max(made - creations, len(there) - alive)
        self.outcome.orphans = max(self.outcome.orphans, len(there - in_state))
        self.outcome.duplicates = max(self.outcome.duplicates, twice)
        if there != in_state:
            self.outcome.broken.append(f"alive are {there}, in state {in_state}")
        if twice > 0 or len(there) != alive:
            self.outcome.broken.append(f"{made} made, {len(there)} alive, {alive} wanted")
        if unfinished(self.stack):
            self.outcome.broken.append("state holds a failed create")

    def _look_for_unnamed(self, result: Result) -> None:
        """Check that a failed command names each machine that may run outside of state.

        A plugin that was killed says nothing; then the next command does.
        """
        output = " ".join(result.output.split())
        if "error reading from server" in output or "connection refused" in output:
            return
        cannot_tell = "may have made a machine" in output and "could not be asked" in output
        for id_ in self.emulator.state.alive() - self.stack.state_ids():
            if id_ not in output and not cannot_tell:
                self.outcome.unnamed += 1
                self.outcome.broken.append(f"`{result.command}` failed without naming {id_}")


def play(
    kind: type[Stack],
    new_stack: Path,
    folder: Path,
    outcome: Outcome,
    act: Callable[[World], None],
    start: str,
) -> Outcome:
    """Play a case in a world of its own, whose stack is `new`, or has a machine that is `ready`."""
    shutil.copytree(new_stack, folder)
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None) as emulator:
        world = World(kind(folder, emulator.env), emulator, outcome)
        try:
            world.stack.write(program())
            if start == "ready":
                world.stack.up()
                world.emulator.state.calls.clear()
            act(world)
        except (AssertionError, TimeoutError, ValueError) as error:
            outcome.broken.append(f"{type(error).__name__}: {error}")
        finally:
            world.stack.kill_all()
        calls = "\n".join(str(call) for call in emulator.log)
        runs = "\n".join(f"$ {run.command}\n{run.output}" for run in world.stack.runs)
        outcome.transcript = f"{runs}\n{calls}"
    return outcome


def program() -> str:
    """A program with one machine, and with the timeouts of a world."""
    timeouts = f"create='{WAIT}s', delete='{WAIT}s'"
    return machine(opts=f"custom_timeouts=pulumi.CustomTimeouts({timeouts})")


# Cases that are drawn from all that there are, and played side by side

WORKERS = int(os.environ.get("CHAOS_WORKERS", "2"))
"""How many cases a test plays at a time; they wait as much as they work."""
ONLY = os.environ.get("CHAOS_ONLY", "")
"""A regular expression; only cases whose place or name it matches are played, and all of them."""
SHARE = float(os.environ.get("CHAOS_SHARE", "0.2"))
"""How much of each row of a table is played in a run; CHAOS_SEED draws other cases every time."""
SHOWN = 3
"""How many broken cases are shown with all that happened."""

Case = tuple[str, str, Callable[["World"], None], str]
"""The place of the fault, its name, what is done, and whether the stack is `new` or `ready`."""

Play = Callable[[Iterable[Case]], None]
"""Plays cases of a test's host; the fixture of this name."""


def drawn(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield some cases of each row: its share, and at least one."""
    for row, of_row in groupby(cases, key=itemgetter(0)):
        there = list(of_row)
        count = len(there) if ONLY else ceil(SHARE * len(there))
        yield from random.Random(f"{SEED} {row}").sample(there, count)


def play_all(cases: Iterable[Case], host: type[Stack], new: Path, folder: Path) -> list[Outcome]:
    """Play every case, a few at a time, each in a folder of its own."""

    def play_one(numbered: tuple[int, Case]) -> Outcome:
        number, (where, name, act, start) = numbered
        return play(host, new, folder / str(number), Outcome(where, name), act, start)

    with ThreadPoolExecutor(WORKERS) as pool:
        chosen = (case for case in cases if re.search(ONLY, f"{case[0]}, {case[1]}"))
        return list(pool.map(play_one, enumerate(chosen)))


def count(outcomes: list[Outcome], host: str, record_property: Record) -> None:
    """Count the outcomes for the table at the end of the run, by the call that met the fault."""
    record(record_property, host)
    for outcome in outcomes:
        record(
            record_property,
            f"{host}: {outcome.where.partition(':')[0]}",
            cases=1,
            runs=outcome.runs,
            failures=outcome.failures,
            ways_out=outcome.ways_out,
            unnamed=outcome.unnamed,
            orphans=outcome.orphans,
            duplicates=outcome.duplicates,
            broken=int(bool(outcome.broken)),
        )


def broken(outcomes: list[Outcome]) -> str:
    """What is wrong, case by case; "" if nothing is."""
    bad = [outcome for outcome in outcomes if outcome.broken]
    lines = [f"{case.where}, {case.name}: {'; '.join(case.broken)}" for case in bad]
    transcripts = [f"--- {case.where}, {case.name}\n{case.transcript}" for case in bad[:SHOWN]]
    return "\n".join([*lines, *transcripts])
