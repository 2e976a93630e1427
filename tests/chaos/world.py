"""A stack under faults, and a person who tells the truth: what must hold whatever happens.

After the faults are over, commands are repeated until they succeed. When an error names ways out,
the person takes the right one: only the person knows which machine came from which create, and here
it is the emulator that knows.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from threading import Lock

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.machine import Machine
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.machines.entry import Spec

from ..e2e.harness import SSH_KEY, Result, Run, Stack, machine, wait_until
from ..e2e.recovery import (
    PATIENCE,
    entries,
    in_plugin,
    nothing_runs,
    pending,
    plugins,
    restore_if_cut_off,
    unlock,
)

FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIsomebody"
"""The SSH key of somebody who rents in the same account."""
ANOTHER_KEY = "the-api-key-of-another-account"
TIMEOUT = 1.5
"""Seconds after which the plugin gives up on an answer here; a fault that is late is later."""
LATE = 2.2
ROUNDS = 8
"""Within so many runs after the last fault a command must have succeeded."""

# All patience of a world. What lasts for ever ends a wait by its timeout, and a key that is refused
# is believed sooner; what ends after a few answers must end before either.
WAIT = 12
"""Seconds that a program gives a create, and a delete."""
REFUSED = 4
GRACE = 3
IN_PLUGIN = f"""\
from pulumi_fal.api import transport
from pulumi_fal.machines import lifecycle, outage
transport.READ_TIMEOUT = transport.CREATE_READ_TIMEOUT = {TIMEOUT}
outage.REFUSED_SECONDS = {REFUSED}
lifecycle.GRACE_SECONDS = {GRACE}
"""


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
        self.api_key = API_KEY
        """The key that is set."""
        self._api_keys: dict[str, str] = {}
        """Every key that ever was, by what the provider calls its account."""
        self._code = IN_PLUGIN
        stack.env |= PATIENCE
        self.use_key(API_KEY)
        self.in_plugin("")

    def in_plugin(self, code: str) -> None:
        """Have each plugin process run this, too, before anything else."""
        self._code += code
        in_plugin(self.stack, self._code)

    def write(self, key: str | None = None, opts: str = "") -> None:
        """Make the program one that declares the machine, with another key if one is given."""
        if key is not None:
            self.keys.append(key)
        self.stack.write(program(self.keys[-1], opts))

    def use_key(self, api_key: str) -> None:
        """Set this key for the commands that follow."""
        self.api_key = self.stack.env["FAL_ADMIN_API_KEY"] = api_key
        self._api_keys[account(self.emulator.url, api_key)] = api_key

    def rotate_key(self, api_key: str) -> None:
        """Set this key, another one of the same account as the one that is set now."""
        self.emulator.state.same_account(self.api_key, api_key)
        self.use_key(api_key)

    def rename_stack(self, name: str) -> None:
        """`pulumi stack rename`."""
        self.stack.run("stack", "rename", name)
        self.stack.name = name

    def rename_project(self, name: str) -> None:
        """Rename the project: in the backend with the stack's full name, and in Pulumi.yaml."""
        self.stack.run("stack", "rename", f"organization/{name}/{self.stack.name}")
        file = self.stack.project / "Pulumi.yaml"
        file.write_text(re.sub("^name: .*", f"name: {name}", file.read_text()))

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
        """Adopt what is the resource's, delete what is of no use, forget what is neither.

        With the key of the account that the error names, where it names one.
        """
        output = " ".join(result.output.split())
        self._take_key_of(output)
        for command in dict.fromkeys(re.findall(r"`pulumi-fal pending (adopt .+?)`", output)):
            _, urn, _, *options = shlex.split(command)
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
                self._adopt(urn, made_by_it[0], options)
                continue
            for id_ in made_by_it:
                self.emulator.state.kill(id_)
            pending(self.stack, "forget", urn, "--yes")

    def check(self, creations: int, *, alive: int) -> None:
        """The laws, once all has settled. At most so many creations, and as many live as said."""
        state = self.emulator.state
        ours, in_state = set(self.ours()), self.stack.state_ids()
        made = [each for each in state.machines.values() if each.ssh_key in self.keys]
        twice = max(len(made) - creations, len(ours) - alive)
        self.outcome.orphans = max(self.outcome.orphans, len(ours - in_state))
        self.outcome.duplicates = max(self.outcome.duplicates, twice)
        foreign = {id_ for id_, each in state.machines.items() if each.ssh_key == FOREIGN_KEY}
        if ours != in_state:
            self.outcome.broken.append(f"alive are {ours}, in state {in_state}")
        if len(ours) != alive or len(made) > creations:
            self.outcome.broken.append(f"{len(made)} made, {len(ours)} alive, {alive} wanted")
        if foreign - state.alive():
            self.outcome.broken.append("a machine of somebody else is gone")
        for each in self.stack.resources():
            if each.get("initErrors"):
                self.outcome.broken.append("state holds a failed create")
            self._check_account(each["id"], each["outputs"].get("account"))

    def check_known(self, alive: int) -> None:
        """The laws at any moment of rest: so many live, and state or a record names each."""
        ours = set(self.ours())
        recorded = {each.instance_id for each in entries(self.stack)}
        lost = ours - self.stack.state_ids() - recorded
        self.outcome.orphans = max(self.outcome.orphans, len(lost))
        if lost:
            self.outcome.broken.append(f"neither state nor a record has {lost}")
        if len(ours) != alive:
            self.outcome.broken.append(f"{len(ours)} alive, {alive} wanted")

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

    def strike(self, run: Run, who: str) -> None:
        """SIGKILL to the CLI, the plugin, or both."""
        if who in ("plugin", "both"):
            for pid in plugins(self.stack):
                os.kill(pid, signal.SIGKILL)
        if who in ("cli", "both"):
            run.kill()

    def _check_account(self, id_: str, said: str) -> None:
        """State tells the account that has the machine, by whichever of its keys."""
        state = self.emulator.state
        there = state.machines[id_]
        if said not in self._api_keys or state.account_of(self._api_keys[said]) != there.account:
            self.outcome.broken.append(f"{id_} is of the account {there.account}, not {said}")

    def _take_key_of(self, output: str) -> None:
        """Set the key of the account that a message asks for; of several, the next one."""
        named = sorted(set(re.findall(r"the key of another account \((\w+)\)", output)))
        if named:
            now = account(self.emulator.url, self.api_key)
            later = [each for each in named if each > now]
            self.use_key(self._api_keys[(later or named)[0]])

    def _adopt(self, urn: str, id_: str, options: list[str]) -> None:
        """With a key that sees the machine: who knows whose it is has one."""
        state, own = self.emulator.state, self.api_key
        of = state.machines[id_].account
        self.use_key(next(each for each in self._api_keys.values() if state.account_of(each) == of))
        pending(self.stack, "adopt", urn, id_, *options)
        self.use_key(own)

    def _look_for_unnamed(self, result: Result) -> None:
        """A failed command names each machine that may run outside of state.

        A plugin that was killed says nothing any more: then the next command does.
        """
        output = " ".join(result.output.split())
        if "error reading from server" in output or "connection refused" in output:
            return
        cannot_tell = "may have made a machine" in output and "can't be told" in output
        # Where only another key could tell which machine it is.
        cannot_see = "ended without an answer, and a machine" in output and "account" in output
        for id_ in set(self.ours()) - self.stack.state_ids():
            if id_ not in output and not (cannot_tell or cannot_see):
                self.outcome.unnamed += 1
                self.outcome.broken.append(f"`{result.command}` failed without naming {id_}")


class Template:
    """Stacks to be copied: `new` has nothing, the others have a machine in state.

    `ready` has one that is, and `unfinished` has one that a create was interrupted in waiting for.
    """

    def __init__(self, new_stack: Path, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._made: dict[str, tuple[Path, Machine | None, str]] = {"new": (new_stack, None, "")}

    def play(
        self, folder: Path, outcome: Outcome, act: Callable[[World], None], *, start: str
    ) -> Outcome:
        """Let a case act in a world of its own, whose stack is a copy of one of the above."""
        with self._lock:
            if start not in self._made:
                self._made[start] = self._make(start)
        source, there, endpoint = self._made[start]
        shutil.copytree(source, folder)
        with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None) as emulator:
            if there is not None:
                # What a copy shares with others is changed for them, too.
                created = emulator.state.now() - 60
                copy = replace(there, created=created, hidden_until={"list": created})
                emulator.state.machines[there.id] = copy
                for file in (folder / ".pulumi" / "stacks").rglob("*.json"):
                    text = file.read_text().replace(endpoint, emulator.url)
                    then, now = (account(each, API_KEY) for each in (endpoint, emulator.url))
                    file.write_text(text.replace(then, now))
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

    def _make(self, start: str) -> tuple[Path, Machine, str]:
        folder = self._folder / start
        shutil.copytree(self._made["new"][0], folder)
        provisioning = 0 if start == "ready" else inf
        with EmulatorServer(provisioning=provisioning, api_key=None) as emulator:
            stack = Stack(folder, emulator.env)
            stack.write(program())
            run = stack.start("up")
            if start == "unfinished":
                wait_until(lambda: emulator.state.calls["list"] >= 3, 60)
                run.interrupt()
            assert (run.wait().exit_code != 0) is (start == "unfinished")
            (made,) = emulator.state.machines.values()
            nothing_runs(stack, 15)
        # The journal names the folder; what is left of it would be another stack's in a copy.
        shutil.rmtree(stack.home)
        return folder, made, emulator.url


def program(key: str = SSH_KEY, opts: str = "") -> str:
    """A program with the one machine, and with a world's patience."""
    timeouts = f"custom_timeouts=pulumi.CustomTimeouts(create='{WAIT}s', delete='{WAIT}s')"
    return machine(ssh_key=key, opts=", ".join(filter(None, [timeouts, opts])))


def account(endpoint: str, api_key: str) -> str:
    """What the provider calls the account of a key."""
    return Settings(endpoint, api_key, "").account


def call_seen(world: World, kind: str, number: int) -> Callable[[Run], bool]:
    """Whether the emulator has met so many calls of a kind by now, or the run is over."""
    return lambda run: world.emulator.state.calls[kind] >= number or run.process.poll() is not None


def wait_for_call(world: World, kind: str, number: int, run: Run) -> None:
    """Return when the call has begun, or the run is over without it."""
    came = call_seen(world, kind, number)
    wait_until(lambda: came(run), 60)
