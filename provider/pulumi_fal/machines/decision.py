"""Decides what to do about a create that an earlier process left unresolved.

These are pure functions; facts.py asks the API, the journal and the `pulumi` command. A machine
that may exist is either resumed or named in an error. Machines are never assigned by guessing.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.stacks.origin import Origin

LATE_SECONDS = 600.0
"""If a search found no machine, one that first appears this many seconds after the POST was most
likely not made by it. A warning names it, and the new create goes ahead."""


@dataclass(frozen=True)
class Resume:
    """Continue with the machine that the earlier create made."""

    instance: Instance


@dataclass(frozen=True)
class SendAgain:
    """Send the same create again with its idempotency key, which creates no second machine."""


@dataclass(frozen=True)
class StartFresh:
    """Create a machine: it is in state, or the earlier create most likely left none.

    If the earlier create got no answer, its entry is kept as a late one.
    """

    warning: str = ""


@dataclass(frozen=True)
class Stop:
    """Create nothing until a person has decided. The error says what may exist and what to do."""

    error: UnresolvedCreateError


Decision = Resume | SendAgain | StartFresh | Stop


@dataclass(frozen=True)
class Search:
    """The machines that a POST without an answer may have made, after they had time to appear."""

    candidates: tuple[Instance, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    """The stacks that could not be read and may have one of them, with the reason."""

    def __bool__(self) -> bool:
        return bool(self.candidates)


@dataclass(frozen=True)
class Facts:
    """What is known about an entry. Facts that `decide` does not need may have their defaults."""

    origin: Origin
    """The resource that a machine is requested for now."""
    requested: NewInstance | None
    """What is requested for it, or None if that is not known. None counts as unchanged."""
    account: str
    """The account of the key that is set."""
    now: float
    """The time in seconds since the epoch."""
    in_state: bool | None = None
    """Whether the state of the resource's stack has the entry's machine; None if not known."""
    is_own: bool = True
    """Whether the key sees the machines of the account that the entry was written with."""
    machine: Instance | None = None
    """The entry's machine as the API shows it, or None if it does not show it."""
    search: Search = field(default_factory=Search)
    """The result of the search, if the entry has no machine id."""
    error: FalError | None = None
    """The error of the API, if it could not be asked."""


def decide(entry: Entry, facts: Facts) -> Decision:
    """Decide whether a create resumes the entry's machine, creates another, or stops."""
    if entry.origin != facts.origin or not facts.origin.is_certain:
        # The entry may belong to another stack. Only this stack's state can show that it does not.
        if entry.instance_id and facts.in_state and facts.error is None:
            return StartFresh()
        return Stop(unresolved.uncertain(entry, facts.origin))
    if facts.error is not None:
        return Stop(unresolved.unseen(entry, facts.error))
    if facts.in_state:
        # This create is for another machine, probably the replacement of this one.
        return StartFresh()
    if entry.instance_id is None:
        return _without_a_machine(entry, facts)
    machine = facts.machine
    if machine is None:
        if not facts.is_own:
            return Stop(unresolved.of_another_account(entry, facts.account))
        if not entry.is_new(facts.now):
            return StartFresh()
        machine = Instance(entry.instance_id, entry.instance_type)  # it has yet to appear
    if entry.phase is Phase.REPORTED:
        why = "the stack can't be read" if facts.in_state is None else "it is not in state"
        return Stop(unresolved.stopped(entry, f"it was reported to Pulumi, but {why}"))
    if not _is_requested(entry, machine, facts.requested):
        return Stop(unresolved.stopped(entry, "the resource's inputs have changed since"))
    return Resume(machine)


def decide_renamed(entry: Entry, facts: Facts, *, is_gone: bool) -> StartFresh | Stop | None:
    """Decide about the entry of a stack that may be this one under an earlier name.

    Returns None to ignore the entry, because nothing is left of its create. `is_gone` says whether
    the stack of that name is known to no longer exist.
    """
    if facts.in_state:
        return StartFresh()  # the machine is in the state of the renamed stack
    if facts.error is not None:
        return Stop(unresolved.unseen(entry, facts.error))
    left = facts.search.candidates
    if entry.instance_id is None and not facts.is_own:
        return Stop(unresolved.of_another_account(entry, facts.account))
    if entry.instance_id is not None:
        may_exist = facts.machine is None and (entry.is_new(facts.now) or not facts.is_own)
        unseen = Instance(entry.instance_id, entry.instance_type) if may_exist else None
        left = tuple(machine for machine in (facts.machine, unseen) if machine is not None)
    if not left:
        return None
    return Stop(unresolved.renamed(entry, facts.origin, left, is_gone=is_gone))


def can_be_sent_again(entry: Entry, facts: Facts) -> bool:
    """Whether the API still keeps the answer to this create, and the same machine is requested."""
    is_unchanged = facts.requested is None or entry.is_for(facts.requested)
    is_same = entry.origin == facts.origin and is_unchanged
    is_kept = entry.key_seconds_left(facts.now) > 0 and entry.account == facts.account
    return is_same and is_kept and entry.phase is Phase.REQUESTED


def candidates(
    entry: Entry,
    instances: Iterable[Instance],
    known: Container[str],
    entries: Iterable[Entry] = (),
) -> list[Instance]:
    """Return the machines that the entry's POST may have made.

    `known` are the ids of machines that are known to belong to other resources. `entries` are all
    that the journal has, because their lists of machines may show when a machine was made.
    """
    entries = list(entries)
    return [
        instance
        for instance in instances
        if instance.id not in known
        and instance.id not in entry.before
        and instance.may_be_of(entry.instance_type)
        and entry.requested.sector in (None, instance.sector or entry.requested.sector)
        and not made_at_another_time(entry, instance.id, entries)
    ]


def made_at_another_time(entry: Entry, instance_id: str, entries: Iterable[Entry]) -> bool:
    """Whether the lists of other creates show that the entry's POST did not make a machine.

    Each entry has the account's machines at the time of its own POST. A machine existed before this
    POST if it is in the list of a create whose own machine did. It was made later if it is in none
    of two lists that were taken long after this POST had ended. There must be two, and as long
    apart, because a list may come from a stale replica, and a clock may have been set.
    """
    same_account = (entry.account, entry.endpoint)
    others = [other for other in entries if (other.account, other.endpoint) == same_account]
    if any(other.instance_id in entry.before and instance_id in other.before for other in others):
        return True
    ended = entry.started if entry.problem else math.inf  # a killed process may have sent it later
    without = [
        other.first_sent
        for other in others
        if instance_id not in other.before and other.first_sent - ended > LATE_SECONDS
    ]
    return bool(without) and max(without) - min(without) > LATE_SECONDS


def as_late(entry: Entry, found: Iterable[Instance], now: float) -> Entry | None:
    """Return the entry of a create without an answer as it is kept beside the resource's new one.

    `found` are the machines that it may have made. Returns None if none has appeared in time.
    """
    ids = tuple(instance.id for instance in found)
    if not ids and now - entry.started > LATE_SECONDS:
        return None
    return replace(entry, phase=Phase.LATE, found=ids)


def as_forgotten(entry: Entry, shown: Iterable[str], now: float) -> Entry | None:
    """Return the entry as it is kept when a person forgets the create; None if it is removed.

    `shown` are the ids of the machines that do not belong to it, as the person says. But if the
    create got no answer a short time ago, the API may still make its machine, which nobody could
    know of.
    """
    if entry.is_late or entry.instance_id is not None or entry.origin.is_stateless:
        return None
    before = tuple(sorted({*entry.before, *shown}))
    return as_late(replace(entry, before=before), (), now)


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


def _is_requested(entry: Entry, machine: Instance, new: NewInstance | None) -> bool:
    if new is None:
        return True
    # An adopted machine may have another SSH key, which the API does not show.
    matches = entry.phase is Phase.ADOPTED or entry.is_for(new)
    return matches and machine.may_be_of(new.instance_type)
