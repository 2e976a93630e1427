"""The engine: what Pulumi does with a program, a state and a provider, as it was measured.

The provider's resource is in state before the first create, and until the stack is destroyed. So is
a create that has not ended.

A command is an iterator of stages; the jobs of one stage may run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pulumi_fal.machines.process import Machines
from pulumi_fal.resource import imports, operations
from pulumi_fal.resource.call import InitFailed
from pulumi_fal.resource.outputs import GONE, UNFINISHED

from .account import Owner
from .disk import WRITTEN
from .plugin import Call, Process
from .stacks import Inputs, Row, Stack

if TYPE_CHECKING:
    from .world import World

NAMES = ("a", "b", "c")
Job = tuple[Call, Callable[[Call], None]]
Stages = Iterator[list[Job]]
NOTHING: Mapping[str, str] = MappingProxyType({})


class Engine:
    """One command on one stack."""

    def __init__(self, world: World, stack: Stack, process: Process) -> None:
        self.world = world
        self.stack = stack
        self.process = process
        self._imports: Mapping[str, str] = {}
        self._is_last = False
        """Whether the provider goes with the last resource."""

    @property
    def _machines(self) -> Machines:
        return self.process.machines

    def up(
        self,
        forced: frozenset[str] = frozenset(),
        *,
        refresh: bool = False,
        delete_first: bool = False,
        imports: Mapping[str, str] = NOTHING,
        after: Process | None = None,
        move: str = "",
    ) -> Stages:
        """`forced`: what `--replace` names. `imports`: by resource, the machine that it imports.

        `after`: a process whose engine must have ended. `move`: what becomes of the stack then.
        """
        yield from self._wait(after, move)
        self.stack.exists, self._imports = True, imports
        if self.stack.program and not self.stack.provider:
            self.stack.provider = f"provider-{self.process.number}"
        yield from self._begin()
        if refresh:
            yield [self._job(name, self._read) for name in self.stack.rows]
        yield [
            self._job(name, lambda call: self._bring_about(call, forced, delete_first))
            for name in self.stack.program
        ]
        if not self.process.errors:
            self._is_last = not self.stack.program
            yield self._deletions(
                [name for name in self.stack.rows if name not in self.stack.program]
            )

    def preview(self) -> Stages:
        if self.stack.exists:
            yield [self._job(NAMES[0], self._review)]
            yield [self._job(name, self._diff) for name in self.stack.program]

    def refresh(self, *, after: Process | None = None) -> Stages:
        yield from self._wait(after)
        if self.stack.every_row():
            yield from self._begin()
            yield [self._job(name, self._read) for name in self.stack.rows]
        else:
            self.process.is_over = True

    def destroy(self, *, after: Process | None = None) -> Stages:
        yield from self._wait(after)
        self._is_last = True
        if self.stack.every_row():
            yield from self._begin()
            yield self._deletions(list(self.stack.rows))
        else:  # then no plugin is called
            self.stack.provider, self.process.is_over = "", True

    def _wait(self, after: Process | None, move: str = "") -> Stages:
        if after is not None:
            yield [self._job(NAMES[0], lambda _: self._wait_for_end(after))]
        if move:
            self.world.move(self.stack.name, move)

    def _begin(self) -> Stages:
        self.process.begin()
        self.process.is_update = True
        yield [self._job(NAMES[0], self._review)]

    def _job(self, name: str, do: Callable[[Call], None]) -> Job:
        call = Call(self.process, Owner(self.stack.name, name), self.stack.urn(name))
        self.process.calls.append(call)
        return call, do

    def _deletions(self, names: list[str]) -> list[Job]:
        rows = [(name, self.stack.rows[name]) for name in names] + self.stack.doomed
        return [
            self._job(name, lambda call, row=row: self._delete(call, row))  # type: ignore[misc]
            for name, row in rows
        ]

    def _wait_for_end(self, other: Process) -> None:
        self.world.turns.block(lambda: other.is_over or not other.engine_lives)

    def _review(self, call: Call) -> None:
        before = self.world.laws.late_machines(call)
        self._machines.review(call.urn)
        self.world.laws.reviewed(call, before)

    def _diff(self, call: Call) -> None:
        row = self.stack.rows.get(call.owner.name)
        if row is not None:
            news = self.stack.program[call.owner.name]
            operations.diff(self._machines, call.request(), row.id, row.outputs, news)

    def _bring_about(self, call: Call, forced: frozenset[str], delete_first: bool) -> None:
        row = self.stack.rows.get(call.owner.name)
        news = self.stack.program[call.owner.name]
        if row is not None:  # the engine shows it with the old inputs of a check
            self._machines.known.add(call.urn)
        if row is None and call.owner.name in self._imports:
            return self._import(call, news, self._imports[call.owner.name])
        if row is None:
            return self._create(call, news, None)
        if call.owner.name in forced:  # without a diff
            return self._replace(call, news, row, delete_first)
        diff = operations.diff(self._machines, call.request(), row.id, row.outputs, news)
        differs = news != row.inputs
        if diff.replaces and (differs or diff.changes):
            return self._replace(call, news, row, delete_first)
        if differs or diff.changes or row.has_errors:
            return self._update(call, news, row)
        return None

    def _replace(self, call: Call, news: Inputs, row: Row, delete_first: bool) -> None:
        if delete_first:
            self._delete(call, row)
            return self._create(call, news, None) if self.process.records else None
        return self._create(call, news, row)

    def _import(self, call: Call, news: Inputs, instance_id: str) -> None:
        held = self.world.laws.held_by_others(call)
        outs = imports.read(self._machines, call.request(), instance_id, news)
        self._tell()
        if self.process.records:
            self.stack.rows[call.owner.name] = Row(instance_id, news, outs)
            self.world.laws.imported(call, instance_id, held)

    def _create(self, call: Call, news: Inputs, old: Row | None) -> None:
        self.world.laws.create_begins(call)
        self.stack.creating.append(call.owner.name)
        try:
            self._create_until_it_ends(call, news, old)
        finally:
            if self.process.records:
                self.stack.creating.remove(call.owner.name)

    def _create_until_it_ends(self, call: Call, news: Inputs, old: Row | None) -> None:
        while True:
            try:
                created = operations.create(self._machines, call.request(), news)
            except Exception as error:
                self.world.laws.create_failed(call, error)
                self.world.said[call.owner] = str(error)
                kept = call.partial_state(error)
                if self._is_called_again(call):
                    if kept is not None and isinstance(error, InitFailed):
                        self.world.laws.call_forgotten(call, error.instance_id)
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
        self.stack.rows[call.owner.name] = row
        if old is not None:
            self.stack.doomed.append((call.owner.name, old))

    def _update(self, call: Call, news: Inputs, row: Row) -> None:
        try:
            outs = operations.update(self._machines, call.request(), row.id, row.outputs, news)
        except Exception as error:
            kept = call.partial_state(error)
            if kept and kept.get(UNFINISHED) == GONE:
                self.world.laws.found_gone(call, row.id)
            if self._is_called_again(call):
                self._update(call, news, row)
                return
            if kept is not None and self.process.records:
                row.inputs, row.outputs, row.has_errors = news, kept, True
            raise
        self._tell()
        if self.process.records:
            row.inputs, row.outputs, row.has_errors = news, outs, False

    def _read(self, call: Call) -> None:
        row = self.stack.rows[call.owner.name]
        outs: Inputs | None
        try:
            outs, has_errors = (
                operations.read(self._machines, call.request(), row.id, row.outputs),
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
            del self.stack.rows[call.owner.name]
        else:
            row.outputs, row.has_errors = outs, has_errors

    def _delete(self, call: Call, row: Row) -> None:
        try:
            operations.delete(self._machines, call.request(), row.id, row.outputs)
        except Exception:
            if self._is_called_again(call):
                self._delete(call, row)
                return
            raise
        self.world.laws.delete_ended(call, row.id)
        self._tell()
        if not self.process.records:
            return
        if self.stack.rows.get(call.owner.name) is row:
            del self.stack.rows[call.owner.name]
        self.stack.doomed = [(name, left) for name, left in self.stack.doomed if left is not row]
        if self._is_last and not self.stack.every_row():
            self.stack.provider = ""
