"""What to do about a create that an earlier process left unresolved: decided from facts alone.

Nothing here asks the API, the disk or the `pulumi` command; facts.py does, and gathers what
`decide` needs. The law behind it: a machine that may exist is resumed or named, never guessed at
and never passed over.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase, Spec
from pulumi_fal.stack import Origin

LATE_SECONDS = 600.0
"""A machine first seen this long after a POST was not made by it, if an earlier search found none:
it is named in a warning, and stops nothing."""


@dataclass(frozen=True)
class Resume:
    """Go on with the machine that the earlier create made."""

    instance: Instance


@dataclass(frozen=True)
class SendAgain:
    """Send the same create with the same idempotency key, which makes no second machine."""


@dataclass(frozen=True)
class StartFresh:
    """Drop the entry and make a machine: the earlier create left none, or state has it."""

    warning: str = ""


@dataclass(frozen=True)
class Stop:
    """Make nothing until a person has decided; the error says what may exist and what to do."""

    error: UnresolvedCreateError


Decision = Resume | SendAgain | StartFresh | Stop


@dataclass(frozen=True)
class Search:
    """The machines that an unanswered POST may have made, once they had time to appear."""

    candidates: tuple[Instance, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    """Stacks that may have one of them, but could not be read, with the reason."""

    def __bool__(self) -> bool:
        return bool(self.candidates)


@dataclass(frozen=True)
class Facts:
    """What could be found out about an entry. Each fact is needed only where `decide` uses it."""

    origin: Origin
    """The resource that a machine is requested for now."""
    spec: Spec | None
    """What is requested for it; None where that isn't known, and then it counts as the same."""
    account: str
    """Of the key that is set."""
    now: float
    """Seconds since the epoch."""
    in_state: bool | None = None
    """Whether the resource's stack has the entry's machine; None where it can't be asked."""
    is_own: bool = True
    """Whether the key sees the machines of the account that the entry was written with."""
    machine: Instance | None = None
    """The entry's machine as the API shows it."""
    search: Search = field(default_factory=Search)
    """Where the entry knows no machine."""
    error: FalError | None = None
    """Why the API could not be asked."""


def decide(entry: Entry, facts: Facts) -> Decision:
    """Whether a create resumes the entry's machine, makes another, or stops."""
    if entry.origin != facts.origin or not facts.origin.is_certain:
        # The stack's own word settles whose machine it is; without it, the entry may be another's.
        if entry.instance_id and facts.in_state and facts.error is None:
            return StartFresh()
        return Stop(unresolved.uncertain(entry, facts.origin))
    if facts.error is not None:
        return Stop(unresolved.unseen(entry, facts.error))
    if facts.in_state:
        # So this create is for another machine: to replace this one, for all that is known.
        return StartFresh()
    if entry.instance_id is None:
        return _without_a_machine(entry, facts)
    machine = facts.machine
    if machine is None:
        if not facts.is_own:
            return Stop(unresolved.of_another_account(entry, facts.account))
        if not entry.is_new(facts.now):
            return StartFresh()
        machine = Instance(entry.instance_id, entry.instance_type)  # to be waited for
    if entry.phase is Phase.REPORTED:
        why = "the stack could not be asked" if facts.in_state is None else "it is not in state"
        return Stop(unresolved.stopped(entry, f"{why}, although Pulumi was told of it"))
    if not _is_requested(entry, machine, facts.spec):
        return Stop(unresolved.stopped(entry, "the resource's inputs have changed since"))
    return Resume(machine)


def decide_renamed(entry: Entry, facts: Facts, *, is_gone: bool) -> StartFresh | Stop | None:
    """The same for the entry of a stack that may be this one under an earlier name.

    None leaves the entry alone: nothing is left of its create. `is_gone`: whether that stack is
    known to exist no longer.
    """
    if facts.in_state:
        return StartFresh()  # the machine has moved on with the stack
    if facts.error is not None:
        return Stop(unresolved.unseen(entry, facts.error))
    left = facts.search.candidates
    if entry.instance_id is None and not facts.is_own:
        return Stop(unresolved.of_another_account(entry, facts.account))
    if entry.instance_id is not None:
        may_exist = facts.machine is None and (entry.is_new(facts.now) or not facts.is_own)
        unseen = Instance(entry.instance_id, entry.instance_type) if may_exist else None
        left = tuple(each for each in (facts.machine, unseen) if each is not None)
    if not left:
        return None
    return Stop(unresolved.renamed(entry, facts.origin, left, is_gone=is_gone))


def can_be_sent_again(entry: Entry, facts: Facts) -> bool:
    """Whether the API still keeps the answer to this very create, and it is what is requested."""
    is_same = entry.origin == facts.origin and (facts.spec is None or entry.is_for(facts.spec))
    is_kept = entry.key_seconds_left(facts.now) > 0 and entry.account == facts.account
    return is_same and is_kept and entry.phase is Phase.REQUESTED


def candidates(
    entry: Entry, instances: Iterable[Instance], known: Container[str]
) -> list[Instance]:
    """The machines that an unanswered POST may have made; `known` are those known to be others'."""
    return [
        each
        for each in instances
        if each.id not in known
        and each.id not in entry.before
        and each.may_be_of(entry.instance_type)
        and entry.sector in (None, each.sector or entry.sector)
    ]


def _without_a_machine(entry: Entry, facts: Facts) -> Decision:
    if can_be_sent_again(entry, facts):
        return SendAgain()
    if not facts.is_own:
        return Stop(unresolved.of_another_account(entry, facts.account))
    if not facts.search:
        return StartFresh()
    found = facts.search.candidates
    if entry.searched and facts.now - entry.started > LATE_SECONDS:
        return StartFresh(unresolved.late(entry, found))
    return Stop(unresolved.unanswered(entry, found, facts.search.unread))


def _is_requested(entry: Entry, machine: Instance, spec: Spec | None) -> bool:
    if spec is None:
        return True
    # What a person has adopted may have another key, which the API doesn't show.
    matches = entry.phase is Phase.ADOPTED or entry.is_for(spec)
    return matches and machine.may_be_of(spec.instance_type)
