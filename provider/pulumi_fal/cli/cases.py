"""A create that is not settled, with all that can be found out about it now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.context import IMPATIENT, Context
from pulumi_fal.errors import FalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import ADOPTED, ASKED, RETURNED, WAITING, Entry

_PHASES = {
    ASKED: "asked for, and the process ended before the answer came",
    WAITING: "made, and Pulumi has not been told of it yet",
    RETURNED: "made, and Pulumi was told of it",
    ADOPTED: "adopted",
}


@dataclass(frozen=True)
class Case:
    """An entry of the journal, and the machines and the state that it may be about."""

    entry: Entry
    machine: Instance | None
    candidates: list[Instance] | None
    """What an unanswered create may have made; None where that can't be told."""
    in_state: bool | None
    """Whether the stack has the machine by now; None where it can't be told."""
    unknown: str
    """Why the machines can't be told; "" where they can."""
    other_key: bool = False
    """Whether it was made with another key, or at another endpoint, than is set now."""

    @property
    def name(self) -> str:
        return self.entry.origin.urn.rpartition("::")[2]

    @property
    def stack(self) -> str:
        origin = self.entry.origin
        where = f", {origin.backend}" if origin.backend else ", in a backend that is not known"
        return f"{origin.organization or '?'}/{origin.project}/{origin.stack}{where}"

    @property
    def phase(self) -> str:
        if self.entry.phase == ASKED and self.entry.problem:
            return f"no usable answer: {self.entry.problem}"
        state = {True: ", and it is in state", False: ", but it is not in state", None: ""}
        return _PHASES.get(self.entry.phase, self.entry.phase) + state[self.in_state]

    @property
    def machines(self) -> str:
        """The machine, or those that it may be, in words."""
        if self.entry.instance_id is None:
            if self.candidates is None:
                return f"not known; {self.unknown}"
            return " or ".join(map(show.machine, self.candidates)) or "none has appeared"
        if self.machine is not None:
            return show.machine(self.machine)
        known = f"{self.entry.instance_id} ({self.entry.instance_type})"
        return f"{known}; {self.unknown or 'gone: the API does not list it'}"

    @property
    def may_run(self) -> list[str]:
        """The machines that run on for all that is known, in words."""
        if self.in_state:
            return []
        if self.entry.instance_id is None:
            if self.candidates is None:
                return [f"a machine whose id is not known ({self.entry.instance_type})"]
            return [show.machine(each) for each in self.candidates]
        return [self.machines] if self.machine or self.unknown else []

    @property
    def what_to_do(self) -> str:
        if self.in_state:
            return "Nothing: the next `pulumi up` drops this entry."
        urn = shlex.quote(self.entry.origin.urn)
        adopt, forget = f"`pulumi-fal pending adopt {urn} ", f"`pulumi-fal pending forget {urn}`"
        if self.entry.instance_id is None:
            if self.candidates and len(self.candidates) == 1:
                return (
                    f"If it is this resource's: {adopt}{self.candidates[0].id}`. If it is of no "
                    f"use: delete it. If it is not this resource's: {forget}. Then run `pulumi up`."
                )
            if self.candidates:
                return (
                    f"If one of them is this resource's: {adopt}ID`. If one is of no use: delete "
                    f"it. If none is this resource's: {forget}. Then run `pulumi up`."
                )
            return "Run `pulumi up`: it looks for the machine, and makes one where there is none."
        if self.machine is None and not self.unknown:
            return f"Run `pulumi up`, which makes a new one, or {forget}."
        adopt += f"{self.entry.instance_id}`"
        if self.entry.phase != RETURNED and self.entry.origin.is_certain:
            return (
                "Run `pulumi up`, if none is under way: it goes on with this machine. To be rid of "
                f"it: delete it, then {forget}."
            )
        return f"To have it: {adopt}. To be rid of it: delete it, then {forget}."

    def as_json(self) -> dict[str, Any]:
        entry = self.entry
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
            "sector": entry.sector,
            "id": entry.instance_id,
            "status": self.machine.status if self.machine else None,
            "ip": self.machine.ip if self.machine else None,
            "candidates": self.candidates and [each.id for each in self.candidates],
            "in_state": self.in_state,
            "machines_unknown": self.unknown or None,
            "since": show.moment(entry.started),
            "what_to_do": self.what_to_do,
        }


def look_into(context: Context, entries: Iterable[Entry], journal: Iterable[Entry]) -> list[Case]:
    """What is known of `entries`, of all that the `journal` has. Without a key it is little."""
    machines: Mapping[str, Instance] | None = None
    unknown = account = ""
    try:
        account = context.settings.account
        machines = {each.id: each for each in context.client(IMPATIENT).list_instances()}
    except FalError as error:
        unknown = f"the machines can't be listed: {error}"
    known = {each.instance_id for each in journal if each.instance_id}
    return [
        _case(entry, machines, unknown, known, context.stacks.ids(entry.origin), account)
        for entry in entries
    ]


def _case(
    entry: Entry,
    machines: Mapping[str, Instance] | None,
    unknown: str,
    known: set[str],
    held: frozenset[str] | None,
    account: str,
) -> Case:
    machine = (machines or {}).get(entry.instance_id or "")
    candidates = None
    if machines is not None and entry.instance_id is None:
        candidates = unresolved.candidates(entry, machines.values(), known | (held or set()))
    other_key = bool(account) and entry.account != account
    if other_key and machine is None and not candidates:
        candidates = None
        unknown = unknown or "it was made with another key, or at another endpoint, than is set now"
    in_state = None if held is None or not entry.instance_id else entry.instance_id in held
    return Case(entry, machine, candidates, in_state, unknown, other_key)
