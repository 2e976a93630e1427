"""A stack under faults, a user who makes the right decisions, and the laws that must always hold.

After the faults are over, commands are repeated until they succeed. When an error names ways out,
the user takes the right one: only a user can know which machine came from which create, and here
the emulator knows.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from threading import Lock

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.emulator.state import Machine

from ..e2e.harness import SSH_KEY, Result, Run, Stack, machine, tracebacks, wait_until
from ..e2e.recovery import (
    PATIENCE,
    entries,
    in_plugin,
    nothing_runs,
    pending,
    plugins,
    printed,
    restore_if_cut_off,
    unlock,
)
from ..processes import replaced

FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIsomebody"
"""The SSH key of somebody who rents in the same account."""
ANOTHER_KEY = "the-api-key-of-another-account"
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
    "api.transport.READ_TIMEOUT": TIMEOUT,
    "api.transport.CREATE_READ_TIMEOUT": TIMEOUT,
    "machines.lifecycle.REFUSED_SECONDS": REFUSED,
}
"""The constants that each plugin process has other values of, by their names in the package."""


class Broken(AssertionError):
    """A law is broken."""


@dataclass
class Outcome:
    """The outcome of a case."""

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
        self.keys = [SSH_KEY]
        """Every SSH key that the program has had; the last one is its current one."""
        self.api_key = API_KEY
        """The API key that is set."""
        self.endpoint = emulator.url
        """Where the commands find the API."""
        self._api_keys: dict[str, str] = {}
        """Every API key that was ever set, by what the provider calls its account."""
        stack.env |= PATIENCE
        self.use_key(API_KEY)
        for name, value in IN_PLUGIN.items():
            self.replace_in_plugin(name, value)

    def replace_in_plugin(self, name: str, value: object) -> None:
        """Give another value to a name of the package in each plugin process."""
        in_plugin(self.stack, replaced(name, value))

    def write(self, key: str | None = None, opts: str = "", **inputs: str) -> None:
        """Write a program that declares the machine, with another SSH key if one is given."""
        if key is not None:
            self.keys.append(key)
        self.stack.write(program(self.keys[-1], opts, **inputs))

    def use_key(self, api_key: str) -> None:
        """Set this key for the commands that follow."""
        self.api_key = self.stack.env["FAL_ADMIN_API_KEY"] = api_key
        self._api_keys[account(self.endpoint, api_key)] = api_key

    def speak_v1(self) -> None:
        """Have the commands that follow use the v1 API."""
        self.endpoint = f"{self.emulator.url}/v1"
        self.stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": self.endpoint}
        self.use_key(self.api_key)

    def rotate_key(self, api_key: str) -> None:
        """Set this key, which is of the same account as the one that is set now."""
        self.emulator.state.same_account(self.api_key, api_key)
        self.use_key(api_key)

    def rename_stack(self, name: str) -> None:
        """Run `pulumi stack rename`."""
        self.stack.run("stack", "rename", name)
        self.stack.name = name

    def rename_project(self, name: str) -> None:
        """Rename the project: in the backend with the stack's full name, and in Pulumi.yaml."""
        self.stack.run("stack", "rename", f"organization/{name}/{self.stack.name}")
        file = self.stack.project / "Pulumi.yaml"
        file.write_text(re.sub("^name: .*", f"name: {name}", file.read_text()))

    def ours(self) -> dict[str, Machine]:
        """The machines that are alive and came from this stack's creates."""
        state = self.emulator.state
        return {
            id_: state.machines[id_]
            for id_ in state.alive()
            if state.machines[id_].requested.ssh_key in self.keys
        }

    def run(self, *args: str, during: Callable[[Run], None] = lambda run: None) -> Result:
        """Run a command to its end. `during` may do something to it meanwhile."""
        calls = self.emulator.state.calls.total()
        run = self.stack.start(*args)
        during(run)
        result = run.wait()
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
        """Run the commands that an error names, with the key of the account that it names.

        Adopt the machine that is the resource's, delete one that has no use, forget any other.
        """
        self._take_key_of(" ".join(result.output.split()))
        for urn, _, *options in printed(result.output, "pulumi-fal pending adopt"):
            entry = next((found for found in entries(self.stack) if found.origin.urn == urn), None)
            if entry is None:
                self.outcome.broken.append(f"no record of the create of {urn}")
                continue
            self.outcome.ways_out += 1
            in_state = self.stack.state_ids()
            made_by_it = [
                id_
                for id_, machine in self.ours().items()
                if id_ not in in_state
                and machine.requested.hashed().ssh_key == entry.requested.ssh_key
            ]
            wanted = NewInstance("", self.keys[-1]).hashed()
            is_wanted = entry.requested.ssh_key == wanted.ssh_key
            if made_by_it and is_wanted:
                self._adopt(urn, made_by_it[0], options)
                continue
            for id_ in made_by_it:
                self.emulator.state.kill(id_)
            pending(self.stack, "forget", urn, "--yes")

    def check(self, creations: int, *, alive: int) -> None:
        """Check the laws once all has settled: at most so many creations, and so many alive."""
        state = self.emulator.state
        ours, in_state = set(self.ours()), self.stack.state_ids()
        made = [one for one in state.machines.values() if one.requested.ssh_key in self.keys]
        twice = max(len(made) - creations, len(ours) - alive)
        self.outcome.orphans = max(self.outcome.orphans, len(ours - in_state))
        self.outcome.duplicates = max(self.outcome.duplicates, twice)
        foreign = {
            id_ for id_, other in state.machines.items() if other.requested.ssh_key == FOREIGN_KEY
        }
        if ours != in_state:
            self.outcome.broken.append(f"alive are {ours}, in state {in_state}")
        if len(ours) != alive or len(made) > creations:
            self.outcome.broken.append(f"{len(made)} made, {len(ours)} alive, {alive} wanted")
        if foreign - state.alive():
            self.outcome.broken.append("a machine of somebody else is gone")
        for resource in self.stack.resources():
            if resource.get("initErrors"):
                self.outcome.broken.append("state holds a failed create")
            self._check_account(resource["id"], resource["outputs"].get("account"))

    def check_known(self, alive: int) -> None:
        """Check the laws between two commands: so many are alive, each in state or on record."""
        ours = set(self.ours())
        recorded = {entry.instance_id for entry in entries(self.stack)}
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
            new: NewInstance, account: str | None = None, idempotency_key: str = ""
        ) -> Instance:
            create(replace(new, ssh_key=FOREIGN_KEY), account)
            return create(new, account, idempotency_key)

        state.create = create_two  # type: ignore[method-assign]

    def strike(self, run: Run, who: str) -> None:
        """Send SIGKILL to the CLI, the plugin, or both."""
        if who in ("plugin", "both"):
            for pid in plugins(self.stack):
                os.kill(pid, signal.SIGKILL)
        if who in ("cli", "both"):
            run.kill()

    def _check_account(self, id_: str, said: str) -> None:
        """Check that state names the account that has the machine, by any of its keys."""
        state = self.emulator.state
        there = state.machines[id_]
        if said not in self._api_keys or state.account_of(self._api_keys[said]) != there.account:
            self.outcome.broken.append(f"{id_} is of the account {there.account}, not {said}")

    def _take_key_of(self, output: str) -> None:
        """Set a key of the account that a message asks for; of several, the next one."""
        named = sorted(set(re.findall(r"the key of another account \((\w+)\)", output)))
        if named:
            now = account(self.endpoint, self.api_key)
            later = [name for name in named if name > now]
            self.use_key(self._api_keys[(later or named)[0]])

    def _adopt(self, urn: str, id_: str, options: list[str]) -> None:
        """Adopt the machine with a key that sees it: a user who knows whose it is has one."""
        state, own = self.emulator.state, self.api_key
        of = state.machines[id_].account
        self.use_key(next(key for key in self._api_keys.values() if state.account_of(key) == of))
        pending(self.stack, "adopt", urn, id_, *options)
        self.use_key(own)

    def _look_for_unnamed(self, result: Result) -> None:
        """Check that a failed command names each machine that may run outside of state.

        A plugin that was killed says nothing; then the next command does.
        """
        output = " ".join(result.output.split())
        if "error reading from server" in output or "connection refused" in output:
            return
        cannot_tell = "may have made a machine" in output and "could not be asked" in output
        # Only another key could tell which machine it is.
        cannot_see = "ended without an answer, and a machine" in output and "account" in output
        for id_ in set(self.ours()) - self.stack.state_ids():
            if id_ not in output and not (cannot_tell or cannot_see):
                self.outcome.unnamed += 1
                self.outcome.broken.append(f"`{result.command}` failed without naming {id_}")


class Template:
    """Stacks to be copied: `new` is empty, `ready` and `unfinished` have such a machine."""

    def __init__(self, new_stack: Path, folder: Path, kind: type[Stack] = Stack) -> None:
        """`kind` makes the stacks; its programs may use another plugin."""
        self._folder = folder
        self._kind = kind
        self._lock = Lock()
        self._made: dict[str, tuple[Path, Machine | None, str]] = {"new": (new_stack, None, "")}

    def play(
        self, folder: Path, outcome: Outcome, act: Callable[[World], None], *, start: str
    ) -> Outcome:
        """Play a case in a world of its own, whose stack is a copy of one of the templates."""
        with self._lock:
            if start not in self._made:
                self._made[start] = self._make(start)
        source, there, endpoint = self._made[start]
        shutil.copytree(source, folder)
        with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None) as emulator:
            if there is not None:
                # The emulator changes its machines, and each copy needs one of its own.
                created = emulator.state.now() - 60
                copy = replace(there, created=created, hidden_until={"list": created})
                emulator.state.machines[there.id] = copy
                for file in (folder / ".pulumi" / "stacks").rglob("*.json"):
                    text = file.read_text().replace(endpoint, emulator.url)
                    then, now = (account(url, API_KEY) for url in (endpoint, emulator.url))
                    file.write_text(text.replace(then, now))
            world = World(self._kind(folder, emulator.env), emulator, outcome)
            try:
                world.write()
                act(world)
            except (AssertionError, TimeoutError, ValueError) as error:
                outcome.broken.append(f"{type(error).__name__}: {error}")
            finally:
                world.stack.kill_all()
            calls = "\n".join(str(call) for call in emulator.log)
            runs = "\n".join(f"$ {run.command}\n{run.output}" for run in world.stack.runs)
            outcome.transcript = f"{runs}\n{calls}"
        return outcome

    def _make(self, start: str) -> tuple[Path, Machine, str]:
        folder = self._folder / start
        shutil.copytree(self._made["new"][0], folder)
        provisioning = 0 if start == "ready" else inf
        with EmulatorServer(provisioning=provisioning, api_key=None) as emulator:
            stack = self._kind(folder, emulator.env)
            stack.write(program())
            run = stack.start("up")
            if start == "unfinished":
                wait_until(lambda: emulator.state.calls["list"] >= 3)
                run.interrupt()
            assert (run.wait().exit_code != 0) is (start == "unfinished")
            (made,) = emulator.state.machines.values()
            nothing_runs(stack)
        # The journal has the folder's name, so in a copy its records would be another stack's.
        shutil.rmtree(stack.home)
        return folder, made, emulator.url


def program(key: str = SSH_KEY, opts: str = "", **inputs: str) -> str:
    """A program with one machine, and with the timeouts of a world."""
    timeouts = f"custom_timeouts=pulumi.CustomTimeouts(create='{WAIT}s', delete='{WAIT}s')"
    return machine(ssh_key=key, opts=", ".join(filter(None, [timeouts, opts])), **inputs)


def account(endpoint: str, api_key: str) -> str:
    """What the provider calls the account of this key."""
    return Settings(endpoint, api_key, "").account


def call_seen(world: World, kind: str, number: int) -> Callable[[Run], bool]:
    """A function that says whether so many such calls have begun, or the run is over."""
    return lambda run: world.emulator.state.calls[kind] >= number or run.process.poll() is not None


def wait_for_call(world: World, kind: str, number: int, run: Run) -> None:
    """Return when so many such calls have begun, or when the run is over."""
    came = call_seen(world, kind, number)
    wait_until(lambda: came(run))
