"""An unresolved create, with what the API and its stack show about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context
from pulumi_fal.errors import FalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.earlier import at_a_glance, offline
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.machines.unresolved import (
    Ask,
    Facts,
    Resume,
    SendAgain,
    StartFresh,
    Stop,
    as_late,
    decide,
)
from pulumi_fal.machines.whose import at_home, is_gone, stack_name, stacks_of, where
from pulumi_fal.stacks.cache import Stacks, in_words
from pulumi_fal.stacks.state import Found, Stack

_PHASES = {
    Phase.REQUESTED: "requested, but the process ended before the answer came",
    Phase.CREATED: "the API created the machine, but Pulumi was not told of it",
    Phase.REPORTED: "the API created the machine, and Pulumi was told of it",
    Phase.ADOPTED: "adopted",
    Phase.LATE: "no usable answer, and followed by another one or forgotten",
}


@dataclass(frozen=True)
class Case:
    """An entry of the journal, with what the API and the stack show about it."""

    entry: Entry
    facts: Facts
    unknown: str
    """Why the machines of the create are not known, or "" if they are."""
    other_key: bool = False
    """Whether the create used another key or endpoint than is set now."""
    homes: Sequence[Stack] = ()
    """The stacks that were read and may be the one that the create is for, mostly one."""
    is_gone: bool = False
    """Whether that stack certainly no longer exists, so that no `up` continues with the machine."""
    is_running: bool = False
    """Whether a process is working on the create."""

    @property
    def name(self) -> str:
        return self.entry.origin.name

    @property
    def stack(self) -> str:
        """The stack that the create is for, by its present name, or that it is gone."""
        origin = self.entry.origin
        if self.is_gone:
            return f"{stack_name(origin)}, which no longer exists"
        names = [(home.name, home.backend) for home in self.homes]
        return " or ".join(
            f"{name}, {backend or 'in an unknown backend'}"
            for name, backend in names or [(stack_name(origin), origin.backend)]
        )

    @property
    def phase(self) -> str:
        if self.is_running:
            return "in progress in another process"
        if self.entry.phase is Phase.REQUESTED and self.entry.problem:
            return f"no usable answer: {self.entry.problem}"
        state = {True: "; it is in state", False: "; it is not in state", None: ""}
        phase = _PHASES[self.entry.phase]
        if self.entry.is_late and self.entry.instance_id:
            phase = "the machine was gone"
        holder = f"; it is in the state of {self.facts.holder}" if self.facts.holder else ""
        return phase + (holder or state[self.facts.in_state])

    @property
    def machines(self) -> str:
        """The machine of the create, or the candidates, as text."""
        if self.entry.instance_id is None:
            if self.unknown:
                return f"not known; {self.unknown}"
            found = self.facts.search.candidates
            return " or ".join(map(show.machine, found)) or "none has appeared"
        if self.facts.machine is not None:
            return show.machine(self.facts.machine)
        known = f"{self.entry.instance_id} ({self.entry.instance_type})"
        missing = (
            "gone: the API does not list it" if self.entry.seen else "not shown by the API yet"
        )
        return f"{known}; {self.unknown or missing}"

    @property
    def unread(self) -> str:
        """The stacks that could not be read and may have a candidate, with the reasons, as text."""
        return "; ".join(in_words(self.facts.search.unread))

    @property
    def may_run(self) -> list[str]:
        """The machines of the create that may still run, as text."""
        if self.facts.in_state or self.facts.holder:
            return []
        if self.entry.instance_id is None:
            if self.unknown:
                return [f"a machine whose id is not known ({self.entry.instance_type})"]
            return [show.machine(candidate) for candidate in self.facts.search.candidates]
        is_gone = self.entry.seen and not (self.facts.machine or self.unknown)
        return [] if is_gone else [self.machines]

    @property
    def what_to_do(self) -> str:
        """What the next `pulumi up` of the stack does, as far as is known now, or a person."""
        if self.is_running:
            return "Nothing, while that process runs."
        if self.entry.is_late:
            return self._what_to_do_when_late
        forget = f"remove this record:\n  pulumi-fal pending forget {self.entry.id}"
        if self.facts.holder:
            return f"If the machine is to stay in that stack, {forget}"
        if self.is_gone and not self.facts.in_state:
            return self._what_to_do_without_stack(forget)
        match decide(self.entry, self.facts):
            case Stop(error):
                return error.what_to_do
            case Resume():
                return (
                    "Run `pulumi up`, unless it is already running: it continues with this machine "
                    "if the program has the resource.\nTo discard the machine, run:\n"
                    f"  pulumi-fal delete {self.entry.instance_id} --force"
                )
            case SendAgain():
                return (
                    "Run `pulumi up`: it sends the create again with the same idempotency key, "
                    "which creates no second machine."
                )
            case StartFresh() if self.facts.in_state:
                return "Nothing: the next `pulumi up` removes this record."
            case StartFresh() if self.entry.instance_id:
                return (
                    "If the program has the resource, run `pulumi up`, which creates a new machine."
                    f"\nIf it does not, {forget}"
                )
            case StartFresh(warning) if warning:
                return (
                    "Run `pulumi up`, which creates a new machine, because these were first seen "
                    "long after this create.\nTo use one of them for this resource:\n"
                    f"  pulumi-fal pending adopt {self.entry.id} ID"
                )
            case StartFresh() | Ask():
                return "Run `pulumi up`: it looks for the machine before it creates one."

    def _what_to_do_without_stack(self, forget: str) -> str:
        if not self.may_run:
            return f"There is no machine and no stack, so {forget}"
        force = " --force" if self.entry.instance_id else ""
        return (
            "No `pulumi up` will continue with it, unless the stack was renamed or moved: then run "
            "`pulumi up` there.\nTo delete the machine, run:\n"
            f"  pulumi-fal delete {self.entry.instance_id or 'ID'}{force}\n"
            f"To keep it, import it into a stack. Before, {forget}"
        )

    @property
    def _what_to_do_when_late(self) -> str:
        is_back = self.facts.machine and not (self.facts.in_state or self.facts.holder)
        if self.unknown or self.facts.search or is_back:
            return unresolved.late_advice(self.entry)
        if as_late(self.entry, (), self.facts.now) is None:
            return "Nothing: the next run of `pulumi` removes this record."
        what = "it comes back" if self.entry.instance_id else "a machine still appears"
        return f"Nothing now: if {what}, every command names it."

    def as_json(self) -> dict[str, Any]:
        entry, machine = self.entry, self.facts.machine
        is_known = not (self.unknown or entry.instance_id)
        return {
            "record": entry.id,
            "urn": entry.origin.urn,
            "name": self.name,
            "stack": entry.origin.stack,
            "project": entry.origin.project,
            "provider": entry.origin.provider or None,
            "backend": entry.origin.backend or None,
            "phase": entry.phase,
            "problem": entry.problem or None,
            "instance_type": entry.instance_type,
            "sector": entry.requested.sector,
            "id": entry.instance_id,
            "status": machine.status if machine else None,
            "ip": machine.ip if machine else None,
            "candidates": [machine.id for machine in self.facts.search.candidates]
            if is_known
            else None,
            "unread_stacks": dict(self.facts.search.unread),
            "in_state": self.facts.in_state,
            "stack_is_gone": self.is_gone,
            "present_stacks": [stack.name for stack in self.homes],
            "machines_unknown": self.unknown or None,
            "since": show.moment(entry.started),
            "what_to_do": self.what_to_do,
        }


def investigate(context: Context, entries: Sequence[Entry]) -> list[Case]:
    """Look up these entries' machines and stacks. Without a key, the machines stay unknown."""
    stacks, is_locked = context.stacks, context.journal.is_locked
    running = {entry.file for entry in entries if not entry.is_late and is_locked(entry)}
    with show.progress() as progress:
        progress.begin("Looking up machines and stacks")
        try:
            facts = at_a_glance(context.machines, entries)
        except FalError as error:
            now = context.clock.wall()
            facts = [
                replace(offline(entry, at_home(entry, stacks), stacks, now), error=error)
                for entry in entries
            ]
        return [
            _case(entry, known, _found(entry, known, stacks), entry.file in running)
            for entry, known in zip(entries, facts, strict=True)
        ]


def _found(entry: Entry, facts: Facts, stacks: Stacks) -> Found:
    """Return the stacks that the entry may be of. A copy of one may be in another backend."""
    found = where(entry, stacks)
    return found if facts.in_state else found | stacks.all()


def _case(entry: Entry, facts: Facts, found: Found, is_running: bool) -> Case:
    unknown = ""
    if facts.error is not None:
        unknown = f"the machines can't be listed: {facts.error}"
    elif not facts.is_own:
        unknown = "it was created with another key or endpoint than is set now"
    return Case(
        entry,
        facts,
        unknown,
        facts.account not in ("", entry.account),
        stacks_of(entry, found),
        is_gone(entry, found),
        is_running,
    )


def is_in_state(entry: Entry, stacks: Stacks) -> bool:
    """Whether the entry's own stack has its machine, so that the next `pulumi` drops the entry."""
    own = at_home(entry, stacks).own if entry.instance_id else None
    return own is not None and entry.instance_id in own.ids
