"""Decides what to do about a create that an earlier process left unresolved.

These are pure functions. Whoever wants a decision asks the API, the journal and the `pulumi`
command for what `decide` has to know. A machine that may exist is either resumed or named in an
error. Machines are never assigned by guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.machines.whose import LATE_SECONDS, Same
from pulumi_fal.stacks.origin import Origin


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


class Ask(Enum):
    """What has to be asked before there is a decision. It may take long."""

    MACHINE = "whether the API shows the entry's machine, and whether it is this account's"
    SEARCH = "which machines a POST without an answer may have made"


BACK_SECONDS = 3600.0
"""For how long a machine stays on record that left state, or a create's hands, as it was gone."""


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
    same: Same = Same.YES
    """Whether the entry is of the resource's stack."""
    in_state: bool | None = None
    """Whether the state of the resource's stack has the entry's machine; None if not known."""
    is_known: bool = True
    """Whether the engine knows of the machine in state, or of an earlier one of the resource."""
    holder: str = ""
    """The name of another stack that has the entry's machine in state."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """The stacks that could not be read and may be the entry's, with the reason."""
    is_own: bool = True
    """Whether the key sees the machines of the account that the entry was written with."""
    machine: Instance | None = None
    """The entry's machine as the API shows it, or None if it does not show it."""
    search: Search = field(default_factory=Search)
    """The result of the search, if the entry has no machine id."""
    error: FalError | None = None
    """The error of the API, if it could not be asked."""
    unasked: frozenset[Ask] = frozenset()
    """What is not known, because nobody has asked yet."""


def decide(entry: Entry, facts: Facts) -> Decision | Ask:
    """Decide whether a create resumes the entry's machine, creates another, or stops."""
    if facts.error is not None:
        return Stop(unresolved.unseen(entry, facts.error))
    if facts.in_state:
        # This create replaces the machine, unless the engine did not know of it.
        return StartFresh() if facts.is_known else Stop(unresolved.made_meanwhile(entry))
    if can_be_sent_again(entry, facts):
        return SendAgain()
    if Ask.MACHINE in facts.unasked:
        return Ask.MACHINE
    if Ask.SEARCH in facts.unasked and entry.instance_id is None and facts.is_own:
        return Ask.SEARCH
    if facts.same is Same.UNKNOWN:
        return _uncertain(entry, facts)
    if entry.instance_id is None:
        return _without_a_machine(entry, facts)
    if facts.machine is None and entry.is_late:  # its own account has found that it is gone
        return StartFresh()
    if facts.machine is None and not facts.is_own:
        return _of_another_account(entry, facts)
    if facts.machine is None and entry.seen:
        return StartFresh()
    # One that the API has never shown may still appear.
    machine = facts.machine or Instance(entry.instance_id, entry.instance_type)
    if facts.holder:
        return Stop(unresolved.held(entry, facts.holder))
    if entry.phase is Phase.REPORTED:
        why = "the stack can't be read" if facts.in_state is None else "it is not in state"
        return Stop(unresolved.stopped(entry, f"it was reported to Pulumi, but {why}"))
    if not _is_requested(entry, machine, facts.requested):
        return Stop(unresolved.stopped(entry, "the resource's inputs have changed since"))
    return Resume(machine)


def _of_another_account(entry: Entry, facts: Facts) -> Stop:
    return Stop(unresolved.of_another_account(entry, facts.account))


def _uncertain(entry: Entry, facts: Facts) -> Decision:
    """Decide about an entry that may be another stack's, which must not lose its machine."""
    if facts.holder or (entry.is_late and facts.machine is None):
        return StartFresh()
    if not facts.is_own:
        return Stop(unresolved.of_another_account(entry, facts.account))
    is_left = facts.machine is not None or bool(facts.search)
    # A machine that the API has not shown yet may still appear.
    if is_left or (entry.instance_id is not None and not entry.seen):
        found = facts.search.candidates
        return Stop(unresolved.uncertain(entry, facts.origin, found, facts.unread))
    return StartFresh()


def can_be_sent_again(entry: Entry, facts: Facts) -> bool:
    """Whether the API still keeps the answer to this create, and the same machine is requested."""
    is_unchanged = facts.requested is None or entry.is_for(facts.requested)
    is_same = facts.same is Same.YES and is_unchanged and entry.instance_id is None
    is_kept = entry.key_seconds_left(facts.now) > 0 and entry.account == facts.account
    return is_same and is_kept and entry.phase is Phase.REQUESTED


def as_late(entry: Entry, found: Iterable[Instance], now: float) -> Entry | None:
    """Return the entry as it is kept beside the resource's new create; None if it is over.

    `found` are the machines that a create without an answer may have made, or the machine of the
    entry if it is back. The first must appear in time, and the second for as long as a machine that
    is gone stays on record.
    """
    ids = tuple(instance.id for instance in found)
    seconds = LATE_SECONDS if entry.instance_id is None else BACK_SECONDS
    if not ids and now - entry.started > seconds:
        return None
    return replace(entry, phase=Phase.LATE, found=() if entry.instance_id else ids)


def as_gone(entry: Entry, now: float) -> Entry:
    """Return the entry of a machine that is gone, and may come back within an hour."""
    return replace(entry, phase=Phase.LATE, started=now, seen=True)


def as_forgotten(entry: Entry, shown: Iterable[str], now: float) -> Entry | None:
    """Return the entry as it is kept when a person forgets the create; None if it is removed.

    `shown` are the ids of the machines that do not belong to it, as the person says. But if the
    create got no answer a short time ago, the API may still make its machine, which nobody could
    know of.
    """
    if entry.is_late or entry.instance_id is not None:
        return None
    before = tuple(sorted({*entry.before, *shown}))
    return as_late(replace(entry, before=before), (), now)


def _without_a_machine(entry: Entry, facts: Facts) -> Decision:
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
    if entry.is_late:  # state has the sector that it was in, whichever was requested
        has_key = entry.requested.ssh_key == new.hashed().ssh_key
        matches = has_key and new.sector in (None, machine.sector)
    return matches and machine.may_be_of(new.instance_type)
