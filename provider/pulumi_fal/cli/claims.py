"""Whose a machine is, as far as stacks and the journal say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import click

from pulumi_fal import stack
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Home
from pulumi_fal.cli import ages
from pulumi_fal.cli.context import Context
from pulumi_fal.errors import JournalError, StackError
from pulumi_fal.machines.decision import candidates
from pulumi_fal.machines.entry import Entry, Phase

stack_option = click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="STACK",
    help="A stack to look into; may be given several times. By default all stacks of the backend "
    "that `pulumi` uses here.",
)


class Whose(Enum):
    """What can be said of a machine."""

    STACK = "in stack"
    PENDING = "pending"
    FORGOTTEN = "forgotten"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Claim:
    """A resource that has a machine in its state, or a create that is not settled and made it."""

    id: str
    urn: str
    stack: str
    home: Home = field(default_factory=Home)
    """Where state's machine was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded that it created or imported state's machine."""


@dataclass(frozen=True)
class Claims:
    """All that could be read, and what could not be, with the reason."""

    stacks: list[str]
    held: list[Claim]
    pending: list[Entry]
    doubtful: list[Entry]
    """Creates of which Pulumi was told, whose stack can't be asked whether it took that in."""
    unreadable: dict[str, str]

    @property
    def created(self) -> Mapping[str, float]:
        """By machine, when a stack first recorded it, where one says so."""
        return ages.earliest((claim.id, claim.created) for claim in self.held)

    def whose(self, instances: Iterable[Instance]) -> list[tuple[Instance, Whose, Claim | None]]:
        """Each machine, what can be said of it, and by which claim.

        Nothing is called forgotten while a stack can't be read that may have it, or while a create
        without an answer may have made it.
        """
        held = {each.id: each for each in self.held}
        pending = {
            each.instance_id: _claim(each, each.instance_id)
            for each in self.pending
            if each.instance_id
        }
        instances = list(instances)
        perhaps = {
            found.id: _claim(entry, found.id)
            for entry in self.pending
            if entry.instance_id is None
            for found in candidates(entry, instances, {*held, *pending})
        }
        perhaps |= {
            each.instance_id: _claim(each, each.instance_id)
            for each in self.doubtful
            if each.instance_id
        }
        said: list[tuple[Instance, Whose, Claim | None]] = []
        for each in instances:
            if each.id in held:
                said.append((each, Whose.STACK, held[each.id]))
            elif each.id in pending:
                said.append((each, Whose.PENDING, pending[each.id]))
            elif each.id in perhaps:
                said.append((each, Whose.UNKNOWN, perhaps[each.id]))
            else:
                said.append((each, Whose.UNKNOWN if self.unreadable else Whose.FORGOTTEN, None))
        return said


def gather(context: Context, stacks: Sequence[str]) -> Claims:
    """Read the journal and the stacks, all of the backend where none is named.

    To be called with a list of machines in hand: the journal has each that is made here before it
    exists, and until a stack has it. StackError where there is no list of all stacks.
    """
    claims = Claims([], [], [], [], {})
    returned = []
    for entry in context.journal.entries():
        if isinstance(entry, JournalError):
            claims.unreadable[f"record {entry.path}"] = f"it {entry.problem}"
        elif entry.phase is Phase.REPORTED:
            returned.append(entry)
        else:
            claims.pending.append(entry)
    for name, machines in stack.read_all(list(dict.fromkeys(stacks)) or _all()).items():
        if isinstance(machines, StackError):
            claims.unreadable[f"stack {name}"] = str(machines)
        else:
            claims.stacks.append(name)
            claims.held.extend(
                Claim(machine.id, machine.urn, name, machine.home, machine.created)
                for machine in machines
            )
    # A stack that can be asked has the machine, or somebody took it out again: neither is pending.
    claims.doubtful.extend(each for each in returned if context.stacks.ids(each.origin) is None)
    return claims


def _all() -> list[str]:
    try:
        return stack.names()
    except StackError as error:
        raise StackError(f"{error}. Name the stacks that count with --stack.") from None


def _claim(entry: Entry, instance_id: str) -> Claim:
    origin = entry.origin
    name = f"{origin.organization or '?'}/{origin.project}/{origin.stack}"
    return Claim(instance_id, origin.urn, name)
