"""The engine: what Pulumi does with a program, a state and a provider, as it was measured.

The provider's resource is in state before the first create, and until the stack is destroyed. So is
a create that has not ended.

A command is an iterator of stages; the jobs of one stage may run at the same time.

The commands of `pulumi-fal` are the real click commands, with a context whose journal, clock,
stacks and wire are those of a simulated process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from pulumi_fal.api.client import Client
from pulumi_fal.cli import common
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.delete import delete
from pulumi_fal.cli.pending import pending
from pulumi_fal.machines.account import Account
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import InitFailed
from pulumi_fal.resource.inputs import GONE, UNFINISHED

from .account import Owner
from .journal import WRITTEN
from .plugin import Call, Process
from .stacks import Inputs, Row, Stack, place

if TYPE_CHECKING:
    from .world import World

NAMES = ("a", "b", "c")
Job = tuple[Call, Callable[[Call], None]]
Stages = Iterator[list[Job]]
NOTHING: Mapping[str, str] = MappingProxyType({})


class Engine:
    def __init__(self, world: World, stack: Stack, process: Process) -> None:
        self.world = world
        self.stack = self.state = stack
        """The stack, and its state as the engine has read it, which it writes after each step."""
        self.process = process
        self._imports: Mapping[str, str] = {}
        self._previewed: set[str] | None = None
        """What a preview of the same moment has called a replacement, if there was one."""
        self._replaced: set[str] = set()
        """What this preview calls so."""
        self._is_last = False
        """Whether the provider goes with the last resource."""

    @property
    def _account(self) -> Account:
        return self.process.account

    def up(
        self,
        forced: frozenset[str] = frozenset(),
        *,
        refresh: bool = False,
        delete_first: bool = False,
        goes_on: bool = False,
        imports: Mapping[str, str] = NOTHING,
        after: Process | None = None,
        move: str = "",
    ) -> Stages:
        """`forced`: what `--replace` names. `imports`: by resource, the machine that it imports.

        `goes_on`: whether it is told to `--continue-on-error`. `after`: a process whose engine must
        have ended. `move`: what becomes of the stack then.
        """
        yield from self._wait(after, move)
        self._previewed = self.world.laws.preview_of(self.stack.name)
        self.stack.exists, self._imports = True, imports
        self.process.program = frozenset(self.stack.program)
        if self.stack.program and not self.state.provider:
            self.state.provider = f"provider-{self.process.number}"
            self._save()
        yield from self._begin()
        if refresh:
            yield [self._job(name, self._read, row) for name, row in self.state.rows.items()]
        yield [
            self._job(name, lambda call: self._bring_about(call, forced, delete_first))
            for name in self.stack.program
        ]
        if goes_on or not self.process.errors:
            self._is_last = not self.stack.program
            yield self._deletions(
                [name for name in self.state.rows if name not in self.stack.program]
            )

    def preview(self) -> Stages:
        if self.stack.exists:
            yield [self._job(NAMES[0], self._review)]
            yield [self._job(name, self._diff) for name in self.stack.program]
            self.world.laws.previewed(self.stack.name, self._replaced)

    def refresh(self, *, after: Process | None = None) -> Stages:
        yield from self._wait(after)
        if self.state.every_row():
            yield from self._begin()
            yield [self._job(name, self._read, row) for name, row in self.state.rows.items()]
        else:
            self.process.is_over = True

    def destroy(self, *, after: Process | None = None) -> Stages:
        yield from self._wait(after)
        self._is_last = True
        if self.state.every_row():
            yield from self._begin()
            yield self._deletions(list(self.state.rows))
        else:  # then no plugin is called
            self.state.provider, self.process.is_over = "", True
            self._save()

    def _wait(self, after: Process | None, move: str = "") -> Stages:
        if after is not None:
            yield [self._job(NAMES[0], lambda _: self._wait_for_end(after))]
        if move:
            self.world.move(self.stack.name, move)
        self.state = self.stack.copied()

    def _save(self) -> None:
        self.stack.write(self.state)

    def _begin(self) -> Stages:
        self.process.begin()
        self.process.is_update = True
        yield [self._job(NAMES[0], self._review)]

    def _job(self, name: str, do: Callable[[Call], None], row: Row | None = None) -> Job:
        """With `row`, the job is about what is in state, whatever the program calls it now."""
        urn = self.stack.urn(name) if row is None else self.stack.urn_of(row.called or name)
        call = Call(self.process, Owner(self.stack.name, name), urn)
        self.process.calls.append(call)
        return call, do

    def _deletions(self, names: list[str]) -> list[Job]:
        rows = [(name, self.state.rows[name]) for name in names] + self.state.doomed
        return [
            self._job(name, lambda call, row=row: self._delete(call, row), row)  # type: ignore[misc]
            for name, row in rows
        ]

    def _wait_for_end(self, other: Process) -> None:
        self.world.turns.block(lambda: other.is_over or not (other.engine_lives and other.has_lock))

    def _review(self, call: Call) -> None:
        before = self.world.laws.late_machines(call)
        self._account.review(call.urn)
        self.world.laws.reviewed(call, before)

    def _check(self, call: Call) -> None:
        self.process.checked |= {call.urn, *self.stack.aliases(call.owner.name)}

    def _diff(self, call: Call) -> None:
        row = self.state.rows.get(call.owner.name)
        self._check(call)
        if row is not None:
            news = self.stack.program[call.owner.name]
            diff = operations.diff(self._account, call.request(), row.id, row.outputs, news)
            if diff.replaces and (news != row.inputs or diff.changes):
                self._replaced.add(call.owner.name)

    def _bring_about(self, call: Call, forced: frozenset[str], delete_first: bool) -> None:
        row = self.state.rows.get(call.owner.name)
        news = self.stack.program[call.owner.name]
        self._check(call)
        if row is not None:  # the engine shows it with the old inputs of a check
            self._account.note_in_engine(call.urn)
        if row is None and call.owner.name in self._imports:
            return self._import(call, news, self._imports[call.owner.name])
        if row is None:
            return self._create(call, news, None)
        if call.owner.name in forced:  # without a diff
            return self._replace(call, news, row, delete_first)
        diff = operations.diff(self._account, call.request(), row.id, row.outputs, news)
        differs = news != row.inputs
        if diff.replaces and (differs or diff.changes):
            self.world.laws.replaces(call, row, news, self._previewed)
            return self._replace(call, news, row, delete_first)
        if differs or diff.changes or row.has_errors:
            self._update(call, news, row)
        if self.process.records:
            row.called = self.stack.called(call.owner.name)
            self._save()
        return None

    def _replace(self, call: Call, news: Inputs, row: Row, delete_first: bool) -> None:
        if delete_first:
            self._delete(call, row)
            return self._create(call, news, None) if self.process.records else None
        return self._create(call, news, row)

    def _import(self, call: Call, news: Inputs, instance_id: str) -> None:
        held = self.world.laws.held_by_others(call)
        outs = operations.read_import(self._account, call.request(), instance_id, news)
        self._tell()
        if self.process.records:
            called = self.stack.called(call.owner.name)
            self.state.rows[call.owner.name] = Row(instance_id, news, outs, called=called)
            self._save()
            self.world.laws.imported(call, instance_id, held)

    def _create(self, call: Call, news: Inputs, old: Row | None) -> None:
        self.world.laws.create_begins(call)
        called = self.stack.called(call.owner.name)
        self.state.creating.append((called, news))
        self._save()
        try:
            self._create_until_it_ends(call, news, old)
        finally:
            if self.process.records:
                self.state.creating.remove((called, news))
                self._save()

    def _create_until_it_ends(self, call: Call, news: Inputs, old: Row | None) -> None:
        while True:
            try:
                created = operations.create(self._account, call.request(), news)
            except Exception as error:
                self.world.laws.create_failed(call, error)
                self.world.said[call.owner] = str(error)
                kept = call.partial_state(error)
                if self._is_called_again(call):
                    if kept is not None and isinstance(error, InitFailed):
                        self.world.laws.call_forgotten(call, error.instance_id)
                    self.world.laws.called_again(call)
                    continue
                if kept is not None and isinstance(error, InitFailed) and self.process.records:
                    self.world.laws.create_ended(call, error.instance_id)
                    self._take(call, Row(error.instance_id, news, kept, has_errors=True), old)
                raise
            break
        call.on_undelivered(created.undelivered)
        self._tell()
        if self.process.records:
            self.world.laws.create_ended(call, created.id)
            self._take(call, Row(created.id, news, created.outputs), old)

    def _tell(self) -> None:
        """The engine gets an answer, and writes it to state."""
        self.process.step("the engine is told", f"state of {self.stack.full_name}", WRITTEN)

    def _is_called_again(self, call: Call) -> bool:
        """The engine gets an error. An error hook may have it forget that, and call again."""
        self._tell()
        again, self.process.calls_again = self.process.calls_again, False
        if again:
            call.undelivered.clear()
        return again and self.process.records

    def _take(self, call: Call, row: Row, old: Row | None) -> None:
        call.undelivered.clear()
        row.called = self.stack.called(call.owner.name)
        self.state.rows[call.owner.name] = row
        if old is not None:
            self.state.doomed.append((call.owner.name, old))

    def _update(self, call: Call, news: Inputs, row: Row) -> None:
        try:
            outs = operations.update(self._account, call.request(), row.id, row.outputs, news)
        except Exception as error:
            kept = call.partial_state(error)
            if kept and kept.get(UNFINISHED) == GONE:
                self.world.laws.found_gone(call, row.id)
            if self._is_called_again(call):
                self._update(call, news, row)
                return
            if kept is not None and self.process.records:
                row.inputs, row.outputs, row.has_errors = news, kept, True
                self._save()
            raise
        self._tell()
        if self.process.records:
            row.inputs, row.outputs, row.has_errors = news, outs, False
            self._save()

    def _read(self, call: Call) -> None:
        row = self.state.rows[call.owner.name]
        outs: Inputs | None
        try:
            outs, has_errors = (
                operations.read(self._account, call.request(), row.id, row.outputs),
                False,
            )
        except InitFailed as failed:
            # A host that can't keep partial state answers plainly.
            outs, has_errors = failed.outputs, self.process.conditions.seams
        self._tell()
        if not self.process.records:
            return
        if outs is None:
            self.world.laws.found_gone(call, row.id)
            del self.state.rows[call.owner.name]
        else:
            row.outputs, row.has_errors = outs, has_errors
        self._save()

    def _delete(self, call: Call, row: Row) -> None:
        try:
            operations.delete(self._account, call.request(), row.id, row.outputs)
        except Exception:
            if self._is_called_again(call):
                self._delete(call, row)
                return
            raise
        self.world.laws.delete_ended(call, row)
        self._tell()
        if not self.process.records:
            return
        if self.state.rows.get(call.owner.name) is row:
            del self.state.rows[call.owner.name]
        self.state.doomed = [(name, left) for name, left in self.state.doomed if left is not row]
        if self._is_last and not self.state.every_row():
            self.state.provider = ""
        self._save()


_ROOT = click.Group("pulumi-fal", {"audit": audit, "delete": delete, "pending": pending})


class Context(common.Context):
    """What the commands use in place of the system, the environment and the network."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.clock)
        self.process = process
        self.stacks = process.stacks
        # These replace the cached properties, which would read the environment.
        self.__dict__.update(
            journal=process.journal,
            account=process.account,
            settings=process.settings,
            _config={},
        )

    def client(self) -> Client:
        return Client(self.process.settings, self.clock, send=self.process.send)


class CommandLine:
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
        elsewhere = self.world.named_elsewhere(self.process)
        left = [
            instance_id for instance_id in self._left(call.owner) if instance_id not in elsewhere
        ]
        for instance_id in [*left, *self._of_others(call.owner)][:1]:
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
        made = self.world.account.machines_of(owner) - self.world.stacks[owner.stack].ids()
        return sorted(made - self.world.account.not_made_yet())

    def _of_others(self, owner: Owner) -> Sequence[str]:
        """The machines that other stacks of the backend have."""
        own = self.world.stacks[owner.stack]
        others = [
            stack
            for stack in self.world.stacks.values()
            if stack is not own and place(stack.backend) == place(own.backend)
        ]
        return [instance_id for stack in others for instance_id in sorted(stack.ids())]

    def _create(self, call: Call) -> str:
        """The record of the resource's create; or its URN, but not if that is another stack's."""
        own = [entry.id for entry in self.world.entries_of(call.owner)]
        others = [entry for entry in self.world.entries() if entry.origin.urn == call.urn]
        return own[0] if own else "none" if others else call.urn

    def _run(self, call: Call, *args: str) -> int:
        try:
            _ROOT.main(list(args), "pulumi-fal", standalone_mode=False, obj=Context(self.process))
        except SystemExit as end:  # `audit` says with it what it has found
            return int(end.code or 0)
        return 0
