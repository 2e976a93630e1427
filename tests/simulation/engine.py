"""The engine: what Pulumi does with a program, a state and a provider, as it was measured.

A command is an iterator of stages; the jobs of one stage may run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi_fal.resource import operations
from pulumi_fal.resource.call import InitFailed
from pulumi_fal.stacks.origin import Origin

from .account import Owner
from .plugin import Call, Process

if TYPE_CHECKING:
    from .world import World

NAMES = ("a", "b", "c")
Inputs = dict[str, Any]
Job = tuple[Call, Callable[[Call], None]]
Stages = Iterator[list[Job]]


@dataclass(eq=False)
class Row:
    """A resource in state."""

    id: str
    inputs: Inputs
    outputs: dict[str, Any]
    has_errors: bool = False


@dataclass(eq=False)
class Stack:
    """A program and a state. Two stacks of the same names differ by their backend only."""

    name: str
    program: dict[str, Inputs] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    doomed: list[tuple[str, Row]] = field(default_factory=list)
    """Replaced, and not deleted yet."""
    titles: list[str] = field(default_factory=lambda: ["dev"])
    """What Pulumi has called it; the last is the name that it has now."""

    @property
    def backend(self) -> str:
        return f"file:///{self.name}"

    @property
    def title(self) -> str:
        return self.titles[-1]

    def origin(self, name: str, title: str = "") -> Origin:
        stack = title or self.title
        urn = f"urn:pulumi:{stack}::project::pulumi-python:dynamic/fal:ComputeInstance::{name}"
        return Origin(urn, "organization", self.backend)

    def origins(self, name: str) -> list[Origin]:
        """Under every name that the stack has had."""
        return [self.origin(name, title) for title in self.titles]

    def ids(self) -> frozenset[str]:
        """What `pulumi stack export` has."""
        return frozenset(row.id for row in self.every_row())

    def every_row(self) -> list[Row]:
        return [*self.rows.values(), *(row for _, row in self.doomed)]


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
        if after is not None:
            yield [self._job(NAMES[0], lambda _: self._wait_for_end(after))]
        yield [self._job(NAMES[0], self._review)]
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

    def refresh(self) -> Stages:
        yield [self._job(NAMES[0], self._review)]
        yield [self._job(name, self._read) for name in self.stack.rows]

    def destroy(self) -> Stages:
        yield [self._job(NAMES[0], self._review)]
        yield self._deletions(list(self.stack.rows))

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
        self.process.machines.review(call.urn, "organization")

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
        try:
            created = operations.create(self._machines, call.request(), news)
        except Exception as error:
            self.world.laws.create_failed(call, error)
            self.world.said[call.owner] = str(error)
            kept = call.partial_state(error)
            self.process.step("the engine is told")
            if kept is not None and isinstance(error, InitFailed) and self.process.records:
                self.world.laws.create_ended(call, error.instance_id)
                self._take(call, Row(error.instance_id, news, kept, has_errors=True), old)
            raise
        call.on_undelivered(created.undelivered)
        self.process.step("the engine is told")
        if self.process.records:
            self.world.laws.create_ended(call, created.id)
            self._take(call, Row(created.id, news, created.outputs), old)

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
            self.process.step("the engine is told")
            if kept is not None and self.process.records:
                row.inputs, row.outputs, row.has_errors = news, kept, True
            raise
        self.process.step("the engine is told")
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
        self.process.step("the engine is told")
        if not self.process.records:
            return
        if outs is None:
            del self.stack.rows[call.owner.name]
        else:
            row.outputs, row.has_errors = outs, has_errors

    def _delete(self, call: Call, row: Row) -> None:
        operations.delete(self._machines, call.request(), row.id, row.outputs)
        self.world.laws.delete_ended(call, row.id)
        self.process.step("the engine is told")
        if not self.process.records:
            return
        if self.stack.rows.get(call.owner.name) is row:
            del self.stack.rows[call.owner.name]
        self.stack.doomed = [(name, each) for name, each in self.stack.doomed if each is not row]
