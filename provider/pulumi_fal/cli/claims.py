"""Which stack or pending create each machine belongs to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.cli import ages, show
from pulumi_fal.cli.context import Context
from pulumi_fal.cli.show import Progress
from pulumi_fal.errors import JournalError, StackError
from pulumi_fal.machines.decision import candidates
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.stacks import state

stack_option = click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="STACK",
    help="A stack to read; may be given several times. By default all stacks of the backend that "
    "`pulumi` uses here.",
)


class Whose(Enum):
    """To whom a machine belongs, in the words that reports use."""

    STACK = "in stack"
    PENDING = "pending"
    FORGOTTEN = "forgotten"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Claim:
    """A resource that has a machine in state, or a pending create that made the machine."""

    id: str
    urn: str
    stack: str
    account_id: AccountId = field(default_factory=AccountId)
    """Where a machine in state was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded a machine in state, in seconds since the epoch; None if unknown."""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]


@dataclass(frozen=True)
class Claims:
    """The contents of the stacks and the journal, and what could not be read."""

    stacks: list[str]
    held: list[Claim]
    pending: list[Entry]
    doubtful: list[Entry]
    """Creates that were reported to Pulumi, but whose stack can't be read to see the result."""
    unreadable: dict[str, str]
    """A stack or a record, and why it can't be read."""

    @property
    def created(self) -> Mapping[str, float]:
        """The earliest time at which a stack recorded each machine, by the machine's id."""
        return ages.earliest((claim.id, claim.created) for claim in self.held)

    def whose(self, instances: Iterable[Instance]) -> list[tuple[Instance, Whose, Claim | None]]:
        """Return each machine with its owner, and with the claim that shows the owner.

        A machine is unknown instead of forgotten if a stack that may have it can't be read, or if
        a create without an answer may have made it.
        """
        held = {claim.id: claim for claim in self.held}
        pending = {
            entry.instance_id: _claim(entry, entry.instance_id)
            for entry in self.pending
            if entry.instance_id
        }
        instances = list(instances)
        perhaps = {
            machine.id: _claim(entry, machine.id)
            for entry in self.pending
            if entry.instance_id is None
            for machine in candidates(entry, instances, {*held, *pending}, self.pending)
        }
        perhaps |= {
            entry.instance_id: _claim(entry, entry.instance_id)
            for entry in self.doubtful
            if entry.instance_id
        }
        said: list[tuple[Instance, Whose, Claim | None]] = []
        for machine in instances:
            if machine.id in held:
                said.append((machine, Whose.STACK, held[machine.id]))
            elif machine.id in pending:
                said.append((machine, Whose.PENDING, pending[machine.id]))
            elif machine.id in perhaps:
                said.append((machine, Whose.UNKNOWN, perhaps[machine.id]))
            else:
                said.append((machine, Whose.UNKNOWN if self.unreadable else Whose.FORGOTTEN, None))
        return said


def gather(context: Context, stacks: Sequence[str]) -> Claims:
    """Read the journal and the named stacks, or all stacks of the backend if none is named.

    List the machines before calling this: the journal has every machine that is created on this
    computer from before it exists until a stack has it. Raises StackError if all stacks are wanted
    and they can't be listed, and JournalError if the folder of records can't be read.
    """
    claims = Claims([], [], [], [], {})
    with show.progress() as progress:
        _read_records(context, claims, progress)
        try:
            names = list(dict.fromkeys(stacks)) or _names(progress)
        except StackError as error:
            raise StackError(f"{error}. Name the stacks that count with --stack.") from None
        _read_stacks(claims, names, progress)
    return claims


def gather_readable(context: Context, seconds: float = math.inf, note: str = "") -> Claims:
    """Return what `gather` does of all stacks. Whatever can't be read is among the unreadable.

    That includes a stack that there is no time for within so many seconds. `note` follows how far
    the reading is, on a terminal.
    """
    claims, began = Claims([], [], [], [], {}), time.monotonic()
    with show.progress(note) as progress:
        try:
            _read_records(context, claims, progress)
        except JournalError as error:
            claims.unreadable[f"folder {error.path}"] = f"it {error.problem}"
        try:
            names = _names(progress, min(seconds, pulumi_cli.SECONDS))
        except StackError as error:
            claims.unreadable["the list of stacks"] = str(error)
        else:
            _read_stacks(claims, names, progress, seconds, began)
    return claims


def _read_records(context: Context, claims: Claims, progress: Progress) -> None:
    progress.begin("Reading the records of creates")
    for entry in context.journal.entries():
        if isinstance(entry, JournalError):
            claims.unreadable[f"record {entry.path}"] = f"it {entry.problem}"
        elif entry.phase is not Phase.REPORTED or entry.origin.is_stateless:
            claims.pending.append(entry)
        # If its stack can be read, that has the machine, or somebody has removed it there.
        elif context.stacks.ids(entry.origin) is None:
            claims.doubtful.append(entry)


def _names(progress: Progress, seconds: float = pulumi_cli.SECONDS) -> list[str]:
    """Return the names of all stacks. On a remote backend, listing them may take long."""
    progress.begin("Listing the stacks")
    return state.names(seconds=seconds)


def _read_stacks(
    claims: Claims,
    names: Sequence[str],
    progress: Progress,
    seconds: float = math.inf,
    began: float | None = None,
) -> None:
    progress.begin("Reading stacks", len(names))
    answers = state.read_all(names, seconds=seconds, began=began, on_read=progress.step)
    for name, machines in answers.items():
        if isinstance(machines, StackError):
            claims.unreadable[f"stack {name}"] = str(machines)
        else:
            claims.stacks.append(name)
            claims.held.extend(
                Claim(machine.id, machine.urn, name, machine.account_id, machine.created)
                for machine in machines
            )


def _claim(entry: Entry, instance_id: str) -> Claim:
    origin = entry.origin
    name = f"{origin.organization or '?'}/{origin.project}/{origin.stack}"
    if origin.is_stateless:
        name = "pulumi do"
    return Claim(instance_id, origin.urn, name)
