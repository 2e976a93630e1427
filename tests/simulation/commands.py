"""The commands that a person runs: those of Pulumi, and `pulumi-fal pending` and `audit`.

The latter are the real click commands, with a context whose journal, clock, stacks and wire are
those of a simulated process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pulumi_fal.api.client import Client
from pulumi_fal.cli import context as contexts
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.pending import pending

from .account import Owner
from .plugin import Call, Process

if TYPE_CHECKING:
    from .engine import Stages
    from .world import World


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

    def command(self, command: str, name: str) -> Stages:
        """One of ls, audit, adopt and forget; the latter two are about the resource `name`."""
        stack = self.world.stacks[self.process.stack]
        do = getattr(self, f"_{command}")
        call = Call(self.process, Owner(stack.name, name), stack.origin(name).urn)
        self.process.calls.append(call)
        yield [(call, do)]

    def _ls(self, call: Call) -> None:
        self._run(pending, ["ls"])

    def _audit(self, call: Call) -> None:
        self._run(audit, [])

    def _forget(self, call: Call) -> None:
        """Delete what the create left, as the command's advice says, and forget it."""
        for instance_id in self._left(call.owner):
            self.world.account.state.delete(instance_id)
        self.world.laws.forgets(call)
        try:
            self._run(pending, ["forget", *self._named(call)])
        finally:  # an `up` may have sent the create while the command ran
            self.world.laws.forgets(call)

    def _adopt(self, call: Call) -> None:
        """Adopt what the create left, or else what a person may mistake for it.

        Nothing on this computer can tell what a stack of another backend has.
        """
        own = self.world.stacks[call.owner.stack]
        held = {
            stack.name: stack.ids()
            for stack in self.world.stacks.values()
            if stack is not own and stack.backend == own.backend
        }
        others = [instance_id for ids in held.values() for instance_id in sorted(ids)]
        for instance_id in [*self._left(call.owner), *others][:1]:
            urn, *options = self._named(call)
            self._run(pending, ["adopt", urn, instance_id, *options])
            self.world.laws.adopted(call, instance_id, held)

    def _left(self, owner: Owner) -> Sequence[str]:
        """The machines of a resource that state does not have."""
        made = self.world.account.machines_of(owner) - self.world.stacks[owner.stack].ids()
        return sorted(made - self.world.account.not_made_yet())

    def _named(self, call: Call) -> Sequence[str]:
        stack = self.world.stacks[call.owner.stack]
        where = ["--backend", stack.backend, "--organization", stack.organization]
        return [stack.origin(call.owner.name).urn, *where]

    def _run(self, command: click.Command, args: list[str]) -> None:
        with contextlib.suppress(SystemExit):  # `audit` says with it what it has found
            command.main(args, "pulumi-fal", standalone_mode=False, obj=Context(self.process))
