"""`pulumi-fal pending` lists and resolves creates that are not in state yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import common
from pulumi_fal.cli.common import Context, Reader, pass_context
from pulumi_fal.errors import JournalError, NotFoundError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.earlier import at_a_glance
from pulumi_fal.machines.journal import Entry, Phase, new_file
from pulumi_fal.machines.unresolved import Ask, Facts, Resume, SendAgain, StartFresh, Stop, decide
from pulumi_fal.machines.whose import Evidence, at_home, is_gone, stack_name, stacks_of, where
from pulumi_fal.stacks.cache import Origin, Stacks, in_words
from pulumi_fal.stacks.state import Stack
from pulumi_fal.tokens import PROVIDER_TYPES, is_ours

# A create, with what is known of it.

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
    homes: Sequence[Stack]
    """The stacks that were read and may be the one that the create is for, mostly one."""
    is_gone: bool
    """Whether that stack certainly no longer exists, so that no `up` continues with the machine."""
    is_running: bool
    """Whether a process is working on the create."""

    @property
    def unknown(self) -> str:
        """Why the machines of the create are not known, or "" if they are."""
        if self.facts.error is not None:
            return f"the machines can't be listed: {self.facts.error}"
        other_key = "it was created with another key or endpoint than is set now"
        return "" if self.facts.is_own else other_key

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
            return " or ".join(map(str, found)) or "none has appeared"
        if self.facts.instance is not None:
            return str(self.facts.instance)
        known = f"{self.entry.instance_id} ({self.entry.instance_type})"
        missing = (
            "gone: the API does not list it" if self.entry.seen else "not shown by the API yet"
        )
        return f"{known}; {self.unknown or missing}"

    @property
    def may_run(self) -> list[str]:
        """The machines of the create that may still run, as text."""
        if self.facts.in_state or self.facts.holder:
            return []
        if self.entry.instance_id is None:
            if self.unknown:
                return [f"a machine whose id is not known ({self.entry.instance_type})"]
            return [*map(str, self.facts.search.candidates)]
        is_gone = self.entry.seen and not (self.facts.instance or self.unknown)
        return [] if is_gone else [self.machines]

    @property
    def what_to_do(self) -> str:
        """What the next `pulumi up` of the stack does, as far as is known now, or a person."""
        if self.is_running:
            return "Nothing, while that process runs."
        if self.entry.is_late:
            return self._what_to_do_when_late()
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

    def _what_to_do_when_late(self) -> str:
        is_back = self.facts.instance and not (self.facts.in_state or self.facts.holder)
        if self.unknown or self.facts.search or is_back:
            return unresolved.late_advice(self.entry)
        if self.entry.as_late((), self.facts.now) is None:
            return "Nothing: the next run of `pulumi` removes this record."
        what = "it comes back" if self.entry.instance_id else "a machine still appears"
        return f"Nothing now: if {what}, every command names it."

    def as_json(self) -> dict[str, Any]:
        entry, instance = self.entry, self.facts.instance
        return {
            "record": entry.id,
            "urn": entry.origin.urn,
            "name": entry.origin.name,
            "stack": entry.origin.stack,
            "project": entry.origin.project,
            "provider": entry.origin.provider or None,
            "backend": entry.origin.backend or None,
            "phase": entry.phase,
            "problem": entry.problem or None,
            "instance_type": entry.instance_type,
            "sector": entry.requested.sector,
            "id": entry.instance_id,
            "status": instance.status if instance else None,
            "ip": instance.ip if instance else None,
            "candidates": None
            if self.unknown or entry.instance_id
            else [instance.id for instance in self.facts.search.candidates],
            "unread_stacks": dict(self.facts.search.unread),
            "in_state": self.facts.in_state,
            "stack_is_gone": self.is_gone,
            "present_stacks": [stack.name for stack in self.homes],
            "machines_unknown": self.unknown or None,
            "since": common.moment(entry.started),
            "what_to_do": self.what_to_do,
        }


def investigate(context: Context, entries: Sequence[Entry]) -> list[Case]:
    """Look up these entries' machines and stacks. Without a key, the machines stay unknown."""
    stacks, is_locked = context.stacks, context.journal.is_locked
    running = {entry.file for entry in entries if not entry.is_late and is_locked(entry)}
    with common.progress() as say:
        say("Looking up machines and stacks")
        cases = []
        for entry, known in zip(entries, at_a_glance(context.account, entries), strict=True):
            found = where(entry, stacks)
            if not known.in_state:  # a copy of the stack may be in another backend
                found |= stacks.all()
            homes, gone = stacks_of(entry, found), is_gone(entry, found)
            cases.append(Case(entry, known, homes, gone, entry.file in running))
        return cases


def is_in_state(entry: Entry, stacks: Stacks) -> bool:
    """Whether the entry's own stack has its machine, so that the next `pulumi` drops the entry."""
    own = at_home(entry, stacks).own if entry.instance_id else None
    return own is not None and entry.instance_id in own.ids


# The commands.


@click.group()
def pending() -> None:
    """List and resolve creates that are not in state yet."""


@pending.command("ls")
@common.json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List every unresolved create, and what to do about it.

    The machines are looked up with the API. Without a key, only what is on disk is shown.
    """
    found = list(context.journal.entries())
    entries = [entry for entry in found if isinstance(entry, Entry)]
    unreadable = [error for error in found if isinstance(error, JournalError)]
    cases = investigate(context, entries) if entries else []
    if as_json:
        broken = [{"unreadable": error.path, "problem": error.problem} for error in unreadable]
        common.print_json([*(case.as_json() for case in cases), *broken])
        return
    in_state = [case for case in cases if case.facts.in_state]
    for case in cases:
        if case not in in_state:
            _print(context, case)
    for error in unreadable:
        common.print_record(
            error.path,
            {
                "phase": f"unreadable: it {error.problem}",
                "to do": "Fix the file, or delete it if no machine depends on it: `pulumi-fal "
                "audit` shows the machines that are in no stack.",
            },
        )
    if len(found) == len(in_state):
        common.print_lines("No create is pending.")
    if in_state:
        common.print_lines(
            f"Records of creates whose machine is in state: {len(in_state)}. The next run of "
            "`pulumi` removes them."
        )


CREATE = click.argument("create", metavar="CREATE")
_CHANGED = (
    "The record of this create has changed since this command read it, so nothing was done. Run "
    "`pulumi-fal pending ls` again."
)


@pending.command()
@CREATE
@click.argument("instance_id", metavar="ID")
@click.option(
    "--for",
    "new_urn",
    default="",
    metavar="URN",
    help="The resource's current URN, if its stack or project was renamed.",
)
@click.option(
    "--stack",
    default="",
    metavar="STACK",
    help="The full name of the resource's stack, if several organizations have one of that name.",
)
@click.option(
    "--yes", is_flag=True, expose_value=False, help="Taken as by other commands: it asks nothing."
)
@pass_context
def adopt(context: Context, create: str, instance_id: str, new_urn: str, stack: str) -> None:
    """Assign machine ID to a resource.

    The next `pulumi up` continues with that machine. CREATE is the record that `pulumi-fal pending
    ls` shows, or the resource's URN or name if only one pending create has it. All stacks of the
    backend are read before, because a machine must not be in two stacks.
    """
    if new_urn and not is_ours(new_urn):
        raise click.BadParameter("that is not the URN of a ComputeInstance", param_hint="'--for'")
    (entry, *_) = _find(context, create)
    if entry.is_late:
        raise click.ClickException(
            f"This create of {_name(entry)} was followed by another one or forgotten, so the "
            f"resource can't have {instance_id}. Import the machine into a stack instead."
        )
    reader, instance = Reader(context), _machine(context, entry, instance_id)
    for _ in range(2):  # while many stacks are read, one of them may have imported the machine
        evidence = reader.read([instance])
        origin = _origin(context, entry, new_urn, stack, evidence)
        why = next(_objections(entry, origin, instance, evidence), "")
        if why:
            raise click.ClickException(_refused(entry, instance_id) + why)
    adopted = replace(
        entry,
        origin=origin,
        phase=Phase.ADOPTED,
        instance_id=instance_id,
        problem="",
        started=context.clock.wall(),
        file=new_file(origin),
    )
    if not context.journal.exchange(entry, adopted):
        raise click.ClickException(_CHANGED)
    common.print_lines(
        f"Machine {instance_id} is assigned to {_name(entry)}. The next `pulumi up` of "
        f"{origin.project}/{origin.stack} continues with it."
    )


@pending.command()
@CREATE
@click.option(
    "--late",
    is_flag=True,
    help="Remove the records of creates that got no answer and were followed by another one.",
)
@common.yes_option
@pass_context
def forget(context: Context, create: str, late: bool, yes: bool) -> None:
    """Remove the record of a create. Its machine, if there is one, is not touched.

    A create that got no answer in the last ten minutes stays on record as late. CREATE is the
    record that `pulumi-fal pending ls` shows, or the resource's URN or name if only one pending
    create has it.
    """
    entries = _find(context, create, late=late)
    name, cases = _name(entries[0]), investigate(context, entries)
    now = context.clock.wall()
    for case in cases:
        if case.facts.in_state and not case.facts.instance and case.entry.may_appear(now):
            raise click.ClickException(
                f"Machine {case.entry.instance_id} of {name} is in state, and the API has not "
                "shown it yet. Without this record it would count as gone after a minute. The next "
                "run of `pulumi` that sees it removes the record. Else run this command again ten "
                "minutes after the create."
            )
    for machine in dict.fromkeys(machine for case in cases for machine in case.may_run):
        common.print_lines(f"This machine may still run and bill, but is not in state: {machine}")
    if not yes:
        click.confirm(f"Forget the create of {name}?", abort=True)
    kept = []
    for case in cases:
        shown = (found.id for found in case.facts.search.candidates)
        kept.append(case.entry.as_forgotten(shown, now))
        if not context.journal.exchange(case.entry, kept[-1]):
            raise click.ClickException(_CHANGED)
    then = f"The next `pulumi up` creates a new machine for {name}."
    if any(kept):
        then += "\nIf the API still makes the machine of this create, every command names it."
    elif entries[0].is_late:
        then = f"The present machine of {name} is not affected."
    elif cases[0].is_gone:
        then = "No machine was touched."
    elif cases[0].facts.in_state:
        then = f"Machine {entries[0].instance_id} stays in state."
    common.print_lines(f"Removed the record. {then}")


def _find(context: Context, create: str, *, late: bool = False) -> list[Entry]:
    """Return the entry that an argument means, or with `late` the late entries of one resource.

    Without another entry, the late ones are returned as well. Entries whose machine is in state
    don't count if there are others: the next `pulumi` removes them. Raises ClickException unless
    exactly one resource matches.
    """
    found = list(context.journal.entries())
    named = [
        entry
        for entry in found
        if isinstance(entry, Entry)
        and common.plain(create)
        in map(common.plain, (entry.id, entry.origin.urn, entry.origin.name))
        and (entry.is_late or not late)
    ]
    named = [entry for entry in named if not entry.is_late] or named
    if len(named) > 1:
        named = [entry for entry in named if not is_in_state(entry, context.stacks)] or named
    if not named:
        for error in found:
            if isinstance(error, JournalError):
                raise error
        raise click.ClickException(
            f"No create of {create!r} is pending. `pulumi-fal pending ls` lists the pending "
            "creates."
        )
    is_one = len({entry.origin.urn for entry in named}) == 1 and named[0].is_late
    if len(named) > 1 and not is_one:
        lines = "".join(
            f"\n  {entry.id}  {entry.origin.urn} {entry.origin.backend}".rstrip() for entry in named
        )
        raise click.ClickException(
            f"Several creates match {create!r}. Name one by its record:{lines}"
        )
    if context.journal.is_locked(named[0]) and not named[0].is_late:
        raise click.ClickException(
            f"The create for {_name(named[0])} is in progress in another process. Run this command "
            "again when that process has ended."
        )
    return named


def _machine(context: Context, entry: Entry, instance_id: str) -> Instance:
    """Return the machine. Raises ClickException if there is none, as far as the key can tell."""
    refused, settings = _refused(entry, instance_id), context.settings
    try:
        return context.client().get_instance(instance_id)
    except NotFoundError as error:
        if entry.account in ("", settings.account):
            raise click.ClickException(f"{refused}there is no such machine. ({error})") from None
    where = f" at {entry.endpoint}" if entry.endpoint else ""
    raise click.ClickException(
        f"{refused}its create used account {entry.account}{where}, and the key that is set now "
        f"(account {settings.account} at {settings.endpoint}, from {settings.key_source}) does not "
        "see the machine. Run this command again with FAL_ADMIN_API_KEY set to a key of that "
        "account, and FAL_COMPUTE_ENDPOINT to its endpoint. If the program declares a provider for "
        "the resource, that key is its apiKey."
    )


def _origin(context: Context, entry: Entry, urn: str, stack: str, evidence: Evidence) -> Origin:
    """Return the resource that gets the machine, and its stack's id, by which `up` finds it.

    Without `urn`, it is that of the entry in its stack as that is called now, if the stack's id is
    known. Raises ClickException if there is no such stack, or if several have its name.
    """
    origin = Origin(urn or entry.origin.urn, "", context.stacks.backend)
    meant = [held for held in evidence.stacks if stack in ("", held.name)]
    known = [held for held in meant if entry.origin.provider in held.providers]
    if not urn and len(known) == 1:
        origin = entry.origin.moved(known[0].name, origin.backend)
    there = [held for held in meant if origin.is_in(held.name)]
    there = [held for held in there if held in known] or there
    if len(there) > 1:
        names = ", ".join(held.name for held in there)
        raise click.ClickException(f"Several stacks have that name: {names}. Add --stack.")
    if not there and not evidence.unread:
        elsewhere = entry.origin.backend
        where = f" If it is in {elsewhere}, set PULUMI_BACKEND_URL to that." if elsewhere else ""
        raise click.ClickException(
            f"There is no stack {origin.project}/{origin.stack} in the backend that `pulumi` uses "
            f"here.{where if elsewhere != origin.backend else ''} If it was renamed, add --for "
            "with the resource's current URN. If it was removed, import the machine into another "
            f"stack, or delete it:\n  pulumi-fal delete {entry.instance_id or 'ID'} --force"
        )
    if origin.urn != entry.origin.urn and any(
        other.origin.urn == origin.urn and not other.is_late for other in evidence.entries
    ):
        raise click.ClickException(
            f"A create of {origin.urn} is already pending. Resolve that one first: `pulumi-fal "
            "pending ls` shows it."
        )
    if not there:  # it could not be read, and a rename leaves the id as it is
        return replace(origin, provider=entry.origin.provider)
    ids = there[0].providers.items()
    return replace(origin, provider=next((id_ for id_, of in ids if of in PROVIDER_TYPES), ""))


def _objections(
    entry: Entry, origin: Origin, instance: Instance, evidence: Evidence
) -> Iterator[str]:
    """Yield why this create can't have made the machine, or who else has it or may have it."""
    is_known = entry.phase not in (Phase.REQUESTED, Phase.ADOPTED)
    if is_known and entry.instance_id != instance.id:
        yield f"its create made {entry.instance_id}."
    for other in evidence.entries:
        if other != entry and other.instance_id == instance.id:
            yield f"it is pending for {other.origin.urn}."
    if instance.id in entry.before:
        yield "it existed before this create. Import it instead, if it should be in a stack."
    (row,) = evidence.whose([instance])
    for held in row.holders:
        if origin.is_in(held.stack):
            yield (
                "it is already in the state of its stack. If this create left nothing else, remove "
                f"its record:\n  pulumi-fal pending forget {entry.id}"
            )
        yield (
            f"it is in the state of the stack {held.stack}. If both stacks had it, destroying one "
            "would delete the machine of the other."
        )
    if evidence.unread and entry.instance_id != instance.id:
        lines = "".join(f"\n  {line}" for line in in_words(evidence.unread))
        yield (
            f"these could not be read, and may have the machine:{lines}\nCorrect that, and run "
            "the command again."
        )
    for what, requested, actual in (
        ("type", entry.instance_type, instance.instance_type),
        ("sector", entry.requested.sector, instance.sector),
    ):
        if requested and actual and requested != actual:
            yield f"its {what} is {actual}, but {requested} was requested."


def _print(context: Context, case: Case) -> None:
    common.print_record(
        case.entry.origin.name,
        {
            "record": case.entry.id,
            "urn": case.entry.origin.urn,
            "stack": case.stack,
            "since": common.since(case.entry.started, context.clock.wall()),
            "phase": case.phase,
            "machine": case.machines,
            "not read": "; ".join(in_words(case.facts.search.unread)),
            "note": "It was created with another key than the one that is set now."
            if case.facts.account not in ("", case.entry.account) and not case.unknown
            else "",
            "to do": case.what_to_do,
        },
    )


def _name(entry: Entry) -> str:
    """Return what a message calls the resource of the entry."""
    return f"resource {entry.origin.name!r}"


def _refused(entry: Entry, instance_id: str) -> str:
    return f"Machine {instance_id} can't be adopted for {_name(entry)}: "
