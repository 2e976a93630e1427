"""A stack under faults, and a person who tells the truth: what must hold whatever happens.

After the faults are over, commands are repeated until they succeed. When an error names ways out,
the person takes the right one: only the person knows which machine came from which create, and here
it is the emulator that knows.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pulumi_fal.emulator.machine import Machine
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.launch import Spec

from ..e2e.harness import SSH_KEY, Result, Run, Stack, machine, wait_until
from ..e2e.recovery import (
    PATIENCE,
    entries,
    in_plugin,
    nothing_runs,
    pending,
    restore_if_cut_off,
    unlock,
)

FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIsomebody"
TIMEOUT = 1.5
"""Seconds after which the plugin gives up on an answer here; a fault that is late is later."""
LATE = 2.2
ROUNDS = 6
"""Within so many runs after the last fault a command must have succeeded."""


class Broken(AssertionError):
    """A law is broken."""


@dataclass
class Outcome:
    """What became of a case."""

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
    """One stack, the emulator that it talks to, and what was seen on the way."""

    def __init__(self, stack: Stack, emulator: EmulatorServer, outcome: Outcome) -> None:
        self.stack = stack
        self.emulator = emulator
        self.outcome = outcome
        self.keys = [SSH_KEY]
        """Every key that the program ever had: the last is the one that it has now."""
        stack.env |= PATIENCE
        in_plugin(
            stack,
            "from pulumi_fal import transport\n"
            f"transport.READ_TIMEOUT = transport.CREATE_READ_TIMEOUT = {TIMEOUT}\n",
        )

    def write(self, key: str | None = None, opts: str = "") -> None:
        """Make the program one that declares the machine, with another key if one is given."""
        if key is not None:
            self.keys.append(key)
        self.stack.write(machine(ssh_key=self.keys[-1], opts=opts))

    def ours(self) -> dict[str, Machine]:
        """The machines that live and came from this stack's creates."""
        state = self.emulator.state
        return {
            id_: state.machines[id_]
            for id_ in state.alive()
            if state.machines[id_].ssh_key in self.keys
        }

    def run(self, *args: str, during: Callable[[Run], None] = lambda run: None) -> Result:
        """A command to its end. `during` may do something to it meanwhile."""
        calls = self.emulator.state.calls.total()
        run = self.stack.start(*args)
        during(run)
        result = run.wait(90)
        self.outcome.runs += 1
        if "Traceback (most recent call last)" in result.output:
            self.outcome.broken.append(f"a traceback from `{result.command}`")
        if result.exit_code > 0:
            self.outcome.failures += 1
            self._look_for_unnamed(result)
        try:
            nothing_runs(self.stack, 15)
        except AssertionError:
            # Pulumi's own process, in which nothing of ours was loaded yet, outlives a killed CLI.
            if self.emulator.state.calls.total() > calls:
                raise
            self.stack.kill_all()
        restore_if_cut_off(self.stack)
        unlock(self.stack)
        return result

    def settle(self, *args: str) -> None:
        """Let all go well from now on, and repeat the command until it succeeds."""
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
        """Adopt what is the resource's, delete what is of no use, forget what is neither."""
        output = " ".join(result.output.split())
        for urn in dict.fromkeys(re.findall(r"`pulumi-fal pending adopt (\S+) \S+`", output)):
            entry = next((each for each in entries(self.stack) if each.origin.urn == urn), None)
            if entry is None:
                self.outcome.broken.append(f"no record of the create of {urn}")
                continue
            self.outcome.ways_out += 1
            in_state = self.stack.state_ids()
            made_by_it = [
                id_
                for id_, each in self.ours().items()
                if id_ not in in_state and Spec("", each.ssh_key).fingerprint == entry.ssh_key
            ]
            is_wanted = entry.ssh_key == Spec("", self.keys[-1]).fingerprint
            if made_by_it and is_wanted:
                pending(self.stack, "adopt", urn, made_by_it[0])
                continue
            for id_ in made_by_it:
                self.emulator.state.kill(id_)
            pending(self.stack, "forget", urn, "--yes")

    def check(self, creations: int, *, alive: int) -> None:
        """The laws, once all has settled. At most so many creations, and as many live as said."""
        state = self.emulator.state
        ours, in_state = set(self.ours()), self.stack.state_ids()
        made = [each for each in state.machines.values() if each.ssh_key in self.keys]
        self.outcome.orphans = len(ours - in_state)
        self.outcome.duplicates = max(len(made) - creations, len(ours) - alive, 0)
        foreign = {id_ for id_, each in state.machines.items() if each.ssh_key == FOREIGN_KEY}
        if ours != in_state:
            self.outcome.broken.append(f"alive are {ours}, in state {in_state}")
        if len(ours) != alive or len(made) > creations:
            self.outcome.broken.append(f"{len(made)} made, {len(ours)} alive, {alive} wanted")
        if foreign - state.alive():
            self.outcome.broken.append("a machine of somebody else is gone")
        if any(each.get("initErrors") for each in self.stack.resources()):
            self.outcome.broken.append("state holds a failed create")

    def beside_each_create(self) -> None:
        """Let somebody else rent a machine of the same type during each POST of ours."""
        state, create = self.emulator.state, self.emulator.state.create

        def create_two(
            instance_type: str,
            ssh_key: str,
            sector: str | None = None,
            account: str | None = None,
        ) -> object:
            create(instance_type, FOREIGN_KEY, account=account)
            return create(instance_type, ssh_key, sector, account)

        state.create = create_two  # type: ignore[method-assign, assignment]

    def _look_for_unnamed(self, result: Result) -> None:
        """A failed command names each machine that may run outside of state.

        A plugin that was killed says nothing any more: then the next command does.
        """
        output = " ".join(result.output.split())
        if "error reading from server" in output or "connection refused" in output:
            return
        for id_ in set(self.ours()) - self.stack.state_ids():
            cannot_tell = "may have made a machine" in output and "can't be told" in output
            if id_ not in output and not cannot_tell:
                self.outcome.unnamed += 1
                self.outcome.broken.append(f"`{result.command}` failed without naming {id_}")


class Template:
    """Stacks as they are before and after a first `up`, to be copied."""

    def __init__(self, new_stack: Path, folder: Path) -> None:
        self.new = new_stack
        self.used = folder / "used"
        shutil.copytree(new_stack, self.used)
        with EmulatorServer() as emulator:
            stack = Stack(self.used, emulator.env)
            stack.write(machine())
            stack.up()
            (self.machine,) = emulator.state.machines.values()
            self.endpoint = emulator.url
        # The journal names the folder; what is left of it would be another stack's in a copy.
        shutil.rmtree(stack.home)

    def play(
        self, folder: Path, outcome: Outcome, act: Callable[[World], None], *, used: bool
    ) -> Outcome:
        """Let a case act in a world of its own. `used`: with a machine that is ready."""
        shutil.copytree(self.used if used else self.new, folder)
        with EmulatorServer(provisioning=0.2, deletion=0.1) as emulator:
            if used:
                there = replace(self.machine, created=emulator.state.now() - 60)
                emulator.state.machines[there.id] = there
                for file in (folder / ".pulumi" / "stacks").rglob("*.json"):
                    file.write_text(file.read_text().replace(self.endpoint, emulator.url))
            world = World(Stack(folder, emulator.env), emulator, outcome)
            try:
                world.write()
                act(world)
            except (AssertionError, TimeoutError, ValueError) as error:
                outcome.broken.append(f"{type(error).__name__}: {error}")
            finally:
                world.stack.kill_all()
            calls = "\n".join(str(call) for call in emulator.state.log)
            runs = "\n".join(f"$ {run.command}\n{run.output}" for run in world.stack.runs)
            outcome.transcript = f"{runs}\n{calls}"
        return outcome


def call_seen(world: World, kind: str, number: int) -> Callable[[Run], bool]:
    """Whether the emulator has met so many calls of a kind by now, or the run is over."""
    return lambda run: world.emulator.state.calls[kind] >= number or run.process.poll() is not None


def wait_for_call(world: World, kind: str, number: int, run: Run) -> None:
    """Return when the call has begun, or the run is over without it."""
    came = call_seen(world, kind, number)
    wait_until(lambda: came(run), 60)
