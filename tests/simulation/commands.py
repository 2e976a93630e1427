"""The commands of `pulumi-fal` that a person runs.

They are the real click commands, with a context whose journal, clock, stacks and wire are those of
a simulated process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pulumi_fal.api.client import Client
from pulumi_fal.cli import context as contexts
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.delete import delete
from pulumi_fal.cli.pending import pending

from .account import Owner
from .plugin import Call, Process

if TYPE_CHECKING:
    from .engine import Stages
    from .world import World

_ROOT = click.Group("pulumi-fal", {"audit": audit, "delete": delete, "pending": pending})


class Context(contexts.Context):
    """What the commands use in place of the system, the environment and the network."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.clock)
        self.process = process
        self.stacks = process.stacks
        # These replace the cached properties, which would read the environment.
        self.__dict__.update(
            journal=process.journal,
            machines=process.machines,
            settings=process.settings,
            _config={},
        )

    def client(self, *, is_short: bool = False) -> Client:
        return Client(self.process.settings, self.clock, send=self.process.send)


class CommandLine:
    """`pulumi-fal` in one process."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        process.is_plugin = False

    def command(self, command: str, name: str, args: Sequence[str] = ()) -> Stages:
        """One of ls, audit, adopt, forget, delete, and run with `args`; about the resource."""
        stack = self.world.stacks[self.process.stack]
        do = getattr(self, f"_{command}")
        call = Call(self.process, Owner(stack.name, name), stack.urn(name))
        self.process.calls.append(call)
        yield [(call, lambda call: do(call, *args))]

    def _ls(self, call: Call) -> None:
        self._run(call, "pending", "ls")

    def _audit(self, call: Call) -> None:
        self.world.laws.audit_begins(call)
        code = self._run(call, "audit", "--json")
        said = "\n".join(self.process.output)
        report = json.loads(said) if said.startswith("{") else {"machines": []}
        self.world.laws.audited(call, report["machines"], code)

    def _forget(self, call: Call) -> None:
        """Delete what the create left, as the command's advice says, and forget it."""
        for instance_id in self._left(call.owner):
            self.world.account.state.delete(instance_id)
        self.world.laws.forgets(call)
        try:
            self._run(call, "pending", "forget", self._create(call))
        finally:  # an `up` may have sent the create while the command ran
            self.world.laws.forgets(call)

    def _adopt(self, call: Call) -> None:
        """Adopt what the create left, or else what a person may mistake for it."""
        for instance_id in [*self._left(call.owner), *self._of_others(call.owner)][:1]:
            held = self.world.laws.held_by_others(call)
            create = self._create(call)
            options = ["--for", call.urn] if create != call.urn else []
            self._run(call, "pending", "adopt", create, instance_id, *options)
            self.world.laws.adopted(call, instance_id, held)

    def _delete(self, call: Call) -> None:
        """Delete what the create left, or what is somebody's, or what another stack has."""
        account, others = self.world.account, self._of_others(call.owner)
        foreign = sorted(filter(account.runs, account.state.machines.keys() - account.made_by))
        for instance_id in [*self._left(call.owner), *foreign, *others][:1]:
            self._run(call, "delete", instance_id)

    def _left(self, owner: Owner) -> Sequence[str]:
        """The machines of a resource that state does not have."""
        made = self.world.account.machines_of(owner) - self.world.stacks[owner.stack].ids()
        return sorted(made - self.world.account.not_made_yet())

    def _of_others(self, owner: Owner) -> Sequence[str]:
        """The machines that other stacks have."""
        others = [stack for stack in self.world.stacks.values() if stack.name != owner.stack]
        return [instance_id for stack in others for instance_id in sorted(stack.ids())]

    def _create(self, call: Call) -> str:
        """The record of the resource's create; or its URN, but not if that is another stack's."""
        own = [entry.id for entry in self.world.entries_of(call.owner)]
        others = [entry for entry in self.world.entries() if entry.origin.urn == call.urn]
        return own[0] if own else "none" if others else call.urn

    def _run(self, call: Call, *args: str) -> int:
        """Run a command, and return its exit code."""
        try:
            _ROOT.main(list(args), "pulumi-fal", standalone_mode=False, obj=Context(self.process))
        except SystemExit as end:  # `audit` says with it what it has found
            return int(end.code or 0)
        return 0
