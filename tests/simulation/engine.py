"""The engine: what Pulumi does with a program, a state and a provider, as it was measured.

A command is an iterator of stages; the jobs of one stage may run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pulumi_fal.resource import operations
from pulumi_fal.resource.call import InitFailed

from .account import Owner
from .disk import WRITTEN
from .plugin import Call, Process
from .stacks import Inputs, Row, Stack

if TYPE_CHECKING:
    from .world import World

NAMES = ("a", "b", "c")
Job = tuple[Call, Callable[[Call], None]]
Stages = Iterator[list[Job]]


class Engine:
    """One command on one stack."""

    def __init__(self, world: World, stack: Stack, process: Process) -> None:
        self.world = world
        self.stack = stack
        self.process = process
        self._machines = process.machines

    def up(
        self,
        forced: frozenset[str],
        *,
        refresh: bool = False,
        delete_first: bool = False,
        after: Process | None = None,
    ) -> Stages:
        """`forced`: what `--replace` names. `after`: a process whose engine must have ended."""
        yield from self._start(after)
        if refresh:
            yield [self._job(name, self._read) for name in self.stack.rows]
        yield [
            self._job(name, lambda call: self._bring_about(call, forced, delete_first))
            for name in self.stack.program
        ]
        if not self.process.errors:
            yield self._deletions(
                [name for name in self.stack.rows if name not in self.stack.program]
            )

    def preview(self) -> Stages:
        yield [self._job(NAMES[0], self._review)]
        yield [self._job(name, self._diff) for name in self.stack.program]

    def refresh(self, *, after: Process | None = None) -> Stages:
        yield from self._start(after)
        yield [self._job(name, self._read) for name in self.stack.rows]

    def destroy(self, *, after: Process | None = None) -> Stages:
        yield from self._start(after)
        yield self._deletions(list(self.stack.rows))

    def _start(self, after: Process | None) -> Stages:
        if after is not None:
            yield [self._job(NAMES[0], lambda _: self._wait_for_end(after))]
        yield [self._job(NAMES[0], self._review)]

    def _job(self, name: str, do: Callable[[Call], None]) -> Job:
        call = Call(self.process, Owner(self.stack.name, name), self.stack.origin(name).urn)
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
        self.process.machines.review(call.urn, self.process.organization)
        self.world.laws.reviewed(call, before)

    def _diff(self, call: Call) -> None:
        row = self.stack.rows.get(call.owner.name)
        if row is not None:
            news = self.stack.program[call.owner.name]
            operations.diff(self._machines, call.request(), row.id, row.outputs, news)

    def _bring_about(self, call: Call, forced: frozenset[str], delete_first: bool) -> None:
        row = self.stack.rows.get(call.owner.name)
        news = self.stack.program[call.owner.name]
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

    def _create(self, call: Call, news: Inputs, old: Row | None) -> None:
        self.world.laws.create_begins(call)
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
