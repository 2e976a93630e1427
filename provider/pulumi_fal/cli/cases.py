"""An unresolved create, with what the API and its stack show about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context
from pulumi_fal.errors import FalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import (
    Decision,
    Facts,
    Resume,
    SendAgain,
    StartFresh,
    Stop,
    as_late,
    decide,
)
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.facts import offline
from pulumi_fal.stacks.cache import in_words
from pulumi_fal.stacks.origin import Origin

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

    @property
    def name(self) -> str:
        return self.entry.origin.name

    @property
    def stack(self) -> str:
        origin = self.entry.origin
        if origin.is_stateless:
            return "none: `pulumi do` made this create"
        where = f", {origin.backend}" if origin.backend else ", in an unknown backend"
        return f"{origin.organization or '?'}/{origin.project}/{origin.stack}{where}"

    @property
    def phase(self) -> str:
        if self.entry.phase is Phase.REQUESTED and self.entry.problem:
            return f"no usable answer: {self.entry.problem}"
        state = {True: "; it is in state", False: "; it is not in state", None: ""}
        return _PHASES[self.entry.phase] + state[self.facts.in_state]

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
        return f"{known}; {self.unknown or 'gone: the API does not list it'}"

    @property
    def unread(self) -> str:
        """The stacks that could not be read and may have a candidate, with the reasons, as text."""
        return "; ".join(in_words(self.facts.search.unread))

    @property
    def may_run(self) -> list[str]:
        """The machines of the create that may still run, as text."""
        if self.facts.in_state:
            return []
        if self.entry.instance_id is None:
            if self.unknown:
                return [f"a machine whose id is not known ({self.entry.instance_type})"]
            return [show.machine(candidate) for candidate in self.facts.search.candidates]
        return [self.machines] if self.facts.machine or self.unknown else []

    @cached_property
    def decision(self) -> Decision:
        """What the next `pulumi up` will decide, as far as is known now."""
        return decide(self.entry, self.facts)

    @property
    def what_to_do(self) -> str:
        if self.entry.is_late:
            return self._what_to_do_when_late
        if self.entry.origin.is_stateless:
            return self._what_to_do_when_stateless
        urn = shlex.quote(self.entry.origin.urn)
        forget = f"\n  pulumi-fal pending forget {urn}"
        match self.decision:
            case Stop(error):
                return error.what_to_do
            case Resume():
                return (
                    "Run `pulumi up`, unless it is already running: it continues with this "
                    "machine.\nTo discard the machine, run:\n"
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
                    f"\nIf it does not, remove this record:{forget}"
                )
            case StartFresh(warning) if warning:
                return (
                    "Run `pulumi up`, which creates a new machine, because these were first seen "
                    "long after this create.\nTo use one of them for this resource:\n"
                    f"  pulumi-fal pending adopt {urn} ID"
                )
            case StartFresh():
                return "Run `pulumi up`: it looks for the machine before it creates one."

    @property
    def _what_to_do_when_stateless(self) -> str:
        if self.unknown:
            return (
                "Run `pulumi-fal pending ls` again when the API can be reached, with the key that "
                "the create was made with."
            )
        machine = self.facts.machine
        found = [machine] if machine else list(self.facts.search.candidates)
        return unresolved.stateless(self.entry, found)

    @property
    def _what_to_do_when_late(self) -> str:
        if self.unknown or self.facts.search:
            return unresolved.late_advice(self.entry)
        if as_late(self.entry, (), self.facts.now) is None:
            return "Nothing: the next run of `pulumi` removes this record."
        return "Nothing now: if a machine still appears, every command names it."

    def as_json(self) -> dict[str, Any]:
        entry, machine = self.entry, self.facts.machine
        is_known = not (self.unknown or entry.instance_id)
        return {
            "urn": entry.origin.urn,
            "name": self.name,
            "stack": entry.origin.stack,
            "project": entry.origin.project,
            "organization": entry.origin.organization or None,
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
            "machines_unknown": self.unknown or None,
            "since": show.moment(entry.started),
            "what_to_do": self.what_to_do,
        }


def investigate(context: Context, entries: Iterable[Entry]) -> list[Case]:
    """Look up these entries' machines and stacks. Without a key, the machines stay unknown."""
    resources = [(entry, _resource(context, entry)) for entry in entries]
    try:
        found = context.machines.facts.at_a_glance(resources)
    except FalError as error:
        now = context.clock.wall()
        found = [
            replace(offline(entry, origin, context.stacks, now), error=error)
            for entry, origin in resources
        ]
    return [_case(entry, facts) for (entry, _), facts in zip(resources, found, strict=True)]


def _resource(context: Context, entry: Entry) -> Origin:
    """Return the resource of the entry, with its organization if only one can be meant."""
    possible = context.stacks.possible(entry.origin)
    return possible[0] if len(possible) == 1 else entry.origin


def _case(entry: Entry, facts: Facts) -> Case:
    # A running create would know its backend and organization. An entry that lacks them is treated
    # as uncertain, and the advice includes the options for them, with placeholders if several fit.
    origin = replace(
        facts.origin,
        backend=facts.origin.backend or "BACKEND",
        organization=facts.origin.organization or "ORGANIZATION",
    )
    unknown = ""
    if facts.error is not None:
        unknown = f"the machines can't be listed: {facts.error}"
    elif not facts.is_own:
        unknown = "it was created with another key or endpoint than is set now"
    other_key = facts.account not in ("", entry.account)
    return Case(entry, replace(facts, origin=origin), unknown, other_key)
