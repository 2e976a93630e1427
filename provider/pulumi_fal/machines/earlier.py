"""The creates that earlier processes left unresolved: what is known, and what is said of them.

A create asks the API, the journal and the stacks about its own, and a command reminds of those of
its stack. Of some of them a machine may still appear, or come back: each command looks for those,
and names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import FalError, JournalError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.fleet import Instances
from pulumi_fal.machines.journal import LATE_SECONDS, Entry, Journal, Phase
from pulumi_fal.machines.unresolved import Ask, Decision, Facts, Search, decide
from pulumi_fal.machines.whose import (
    Asking,
    Same,
    at_home,
    candidates,
    everywhere,
    same,
    where,
)
from pulumi_fal.stacks.cache import Origin, Stacks

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account

_LOOK_SECONDS = 5.0
"""How long one look for the machines of late entries may take. Every command waits for it."""


def unclaimed(account: Account, entry: Entry, instances: Iterable[Instance]) -> Search:
    """Return the machines that the entry's POST may have made, of those that nobody else has.

    Others are all stacks of the backend and of the entry's, and the creates that are on record.
    """
    named = {other.instance_id for other in account.journal.readable() if other.instance_id}
    found = candidates(entry, instances, named)
    if not found:  # reading stacks is slow
        return Search()
    read = everywhere(entry, account.stacks)
    held = {instance_id for stack in read.stacks for instance_id in stack.ids}
    return Search(tuple(candidates(entry, found, held)), read.unread)


def offline(entry: Entry, asking: Asking, stacks: Stacks, now: float) -> Facts:
    """Return the facts about an entry that can be had without the API, and without a key."""
    is_same, unread = same(entry, asking, stacks)
    in_state, holder = None, ""
    if entry.instance_id is not None:
        in_state = entry.instance_id in asking.own.ids if asking.own else None
        if not in_state:
            read = everywhere(entry, stacks)
            held = (stack.name for stack in read.stacks if entry.instance_id in stack.ids)
            holder = next(held, "")
    return Facts(asking.origin, None, "", now, is_same, in_state, holder=holder, unread=unread)


# What a create finds.


def decided(
    account: Account,
    entry: Entry,
    asking: Asking,
    new: NewInstance,
    listed: Callable[[], Iterable[Instance]],
    error: FalError | None = None,
) -> tuple[Facts, Decision]:
    """Decide what an entry means for the resource's create, and return what is known of it.

    The API is asked only for what the decision needs, and not after an `error` that it has brought
    before. `listed` returns what `long_list` does.
    """
    facts = _unasked(account, entry, asking, new)
    while isinstance(decision := decide(entry, facts), Ask):
        try:
            if error is not None:
                facts = replace(facts, error=error)
            elif decision is Ask.INSTANCE:
                instance = machine_of(account, entry)
                is_seen = instance is not None or sees_account_of(account, entry)
                facts = replace(facts, instance=instance, is_own=is_seen)
            else:
                facts = replace(facts, search=unclaimed(account, entry, listed()))
        except FalError as failure:
            facts = replace(facts, error=failure)
        # It may have taken a while.
        facts = replace(facts, now=account.clock.wall(), unasked=facts.unasked - {decision})
    return facts, decision


def _unasked(account: Account, entry: Entry, asking: Asking, new: NewInstance) -> Facts:
    """Return what is known of an entry without the API."""
    own = asking.own.machines if asking.own else ()
    urn, id_ = asking.origin.urn, entry.instance_id or ""
    # An `up` before this one has left what it replaced to be deleted. Another resource's was its
    # own before the program gave that its name.
    is_replaced = any(one.id == id_ and (one.is_replaced or one.urn != urn) for one in own)
    is_had = id_ in account.creates.deleted_ids or account.engine_has(urn, id_)
    return replace(
        offline(entry, asking, account.stacks, account.clock.wall()),
        requested=new,
        account=account.id.account,
        is_replacement=is_replaced or is_had,
        has_keys=account.client.has_idempotency_keys,
        unasked=frozenset(Ask),
    )


def machine_of(account: Account, entry: Entry) -> Instance | None:
    """Return the entry's machine; None if it is gone, or if the API has not shown it yet."""
    if entry.instance_id is None:
        return None
    instance = account.lifecycle.look(entry.instance_id)
    may_be_gone = entry.seen and not entry.is_late
    if instance is None and may_be_gone and sees_account_of(account, entry):
        return account.lifecycle.confirm_gone(entry.instance_id)
    return instance


def search(account: Account, entry: Entry) -> Search:
    """Find the machines that a POST without an answer may have made. Raises FalError."""
    return unclaimed(account, entry, long_list(account, [entry]))


def long_list(account: Account, entries: Iterable[Entry]) -> Iterable[Instance]:
    """List machines until any that POSTs without an answer made has had time to appear.

    Raises FalError if the machines can't be listed.
    """
    now, fleet = account.clock.wall(), account.fleet
    since = min(max(0.0, now - _ended(entry)) for entry in entries)
    # A single list may come from a stale replica, so at least two are read, and a machine in
    # any of them counts. If the last one fails it is retried, because it is the most complete.
    instances = dict(fleet.fresh())
    for answer in fleet.watch(max(account.settings.settle_seconds - since, fleet.interval)):
        instances |= fleet.fresh() if answer.error else answer.instances
    return instances.values()


def _ended(entry: Entry) -> float:
    """Return the time by which the entry's last POST had certainly been sent.

    If the process ended before the answer, it may have sent it just before, or its last retry. Each
    retry is recorded, so that is not long after the time in the entry.
    """
    return entry.started if entry.problem else entry.started + LATE_SECONDS


def sees_account_of(account: Account, entry: Entry) -> bool:
    """Whether the key sees the machines of the account that the entry was written with."""
    return account.sees(AccountId(entry.endpoint, entry.account), entry.origin, entry.before)


# What a command finds.


def at_a_glance(account: Account, entries: Sequence[Entry]) -> list[Facts]:
    """Return what the next `up` of each entry's own stack will find, almost without waiting.

    The same list of machines serves all. If it lacks a machine, a second one is read, and then the
    machine by its id, because a person may forget the create, and lists may come from a stale
    replica.
    """
    stacks, now = account.stacks, account.clock.wall()
    pairs = [(entry, offline(entry, at_home(entry, stacks), stacks, now)) for entry in entries]
    try:
        instances = dict(account.fleet.fresh())
        found = [_with_list(account, entry, facts, instances) for entry, facts in pairs]
        if any(facts.instance is None and not facts.search for facts in found):
            account.clock.sleep(account.fleet.interval)
            instances |= account.fleet.fresh()
            missing = {entry.instance_id for entry in entries if entry.instance_id} - {*instances}
            shown = filter(None, map(account.lifecycle.find, sorted(missing)))
            instances |= {instance.id: instance for instance in shown}
            found = [_with_list(account, entry, facts, instances) for entry, facts in pairs]
    except FalError as error:
        return [replace(facts, error=error) for _, facts in pairs]
    return found


def _with_list(account: Account, entry: Entry, facts: Facts, instances: Instances) -> Facts:
    instance = instances.get(entry.instance_id or "")
    is_seen = instance is not None or sees_account_of(account, entry)
    made = Search()
    if entry.instance_id is None and is_seen:
        made = unclaimed(account, entry, instances.values())
    own = account.id.account
    return replace(facts, account=own, instance=instance, is_own=is_seen, search=made)


def reminders(account: Account, origin: Origin) -> Iterator[str]:
    """Yield a warning for each unresolved create of the origin's stack, or of what may be it.

    Drops the entries whose machines are in state. The API is asked only about creates without an
    answer that others have followed.
    """
    journal, stacks = account.journal, account.stacks
    late: list[Entry] = []
    # Asking the stack is slow. A create that another process finishes meanwhile would be missing in
    # the answer, so find out before which creates are in progress.
    for entry in list(_entries_of_ended_creates(journal, origin)):
        if isinstance(entry, JournalError):
            yield str(entry)
        elif not _is_of(entry, replace(origin, backend=stacks.backend), stacks):
            continue
        elif entry.is_late:
            late.append(entry)
        elif _settle(journal, stacks, entry, origin):
            yield unresolved.reminder(entry)
    if late:
        yield from look_for_late(account, late)


def _entries_of_ended_creates(journal: Journal, origin: Origin) -> Iterator[Entry | JournalError]:
    """Yield the entries that may be of this stack, and errors for those that can't be read."""
    for entry in journal.entries():
        if isinstance(entry, JournalError):
            yield entry
        elif _may_be(entry, origin):
            if journal.is_locked(entry) and not entry.is_late:
                continue  # it is in progress
            # The create may have ended after its entry was read.
            current = journal.current(entry)
            if current is not None:
                yield current


def _may_be(entry: Entry, origin: Origin) -> bool:
    """Whether the entry may be of the origin's stack, as far as that can be told for nothing.

    After a rename, only the id of the provider shows it. The last `up` of every other stack has
    left entries, until the next command of that stack, so those are not looked into.
    """
    one = entry.origin
    if one.names == origin.names:
        return True
    if origin.provider:
        return one.provider == origin.provider
    return bool(one.provider) and entry.phase is not Phase.REPORTED


def _is_of(entry: Entry, origin: Origin, stacks: Stacks) -> bool:
    """Whether the entry is of the origin's stack, or can't be told to be another stack's."""
    if entry.phase is Phase.REPORTED and entry.origin.backend not in ("", origin.backend):
        return entry.origin.provider == origin.provider != ""
    asking = Asking(origin, stacks.own(origin))
    return same(entry, asking, stacks)[0] is not Same.NO


def _settle(journal: Journal, stacks: Stacks, entry: Entry, origin: Origin) -> bool:
    """Drop the entry if its machine is in state and was seen, without asking the API.

    Returns whether the machine may be running but not be in state.
    """
    if entry.instance_id is None:
        return True
    is_in_state = stacks.has(origin, entry.instance_id)
    if is_in_state is None:
        # A machine that was reported is most likely in state; a create checks more closely.
        return entry.phase is not Phase.REPORTED
    if is_in_state and entry.seen:
        # A create may have overwritten it while the stack was asked.
        journal.exchange(entry, None)
    return not (is_in_state or stacks.has(entry.origin, entry.instance_id))


def look_for_late(account: Account, entries: Sequence[Entry]) -> Iterator[str]:
    """Look for the machines of late entries, record the result, and yield the warnings."""
    try:
        instances = _look(account, entries)
    except (FalError, TimeoutError) as failure:
        silent = f"The API gave no answer within {_LOOK_SECONDS:.0f} s"
        error = failure if isinstance(failure, FalError) else FalError(silent)
        yield from (unresolved.may_appear_warning(entry, error) for entry in entries)
        return
    for entry in entries:
        try:
            found = _late(account, entry, instances)
        except FalError as error:
            yield unresolved.may_appear_warning(entry, error)
            continue
        if found is None:  # if its machine was gone, the process of its own account looks for it
            if entry.instance_id is None:
                yield unresolved.may_appear_warning(entry, None)
            continue
        if found:
            yield unresolved.appeared_warning(entry, found)
        kept = entry.as_late(found.candidates, account.clock.wall())
        if kept != entry:
            account.journal.exchange(entry, kept)


def _look(account: Account, entries: Sequence[Entry]) -> dict[str, Instance]:
    """Return the machines by id, with a second look if one that is on record is missing.

    Raises TimeoutError if one look takes too long.
    """
    fleet, clock = account.fleet, account.clock
    instances = dict(fleet.recent(fleet.interval, clock.now() + _LOOK_SECONDS))
    now = clock.wall()
    found = {instance_id for entry in entries for instance_id in entry.found}

    def is_over(entry: Entry) -> bool:
        shown = [instances[id_] for id_ in (*entry.found, entry.instance_id) if id_ in instances]
        return entry.as_late(shown, now) is None

    if found - instances.keys() or any(map(is_over, entries)):
        # An entry may be about to lose a machine, and the list may come from a stale replica.
        clock.sleep(fleet.interval)
        until = clock.now() + _LOOK_SECONDS
        instances |= fleet.fresh(until)
        for instance_id in found - instances.keys():
            instance = account.lifecycle.find(instance_id, until)
            if instance is not None:
                instances[instance_id] = instance
    return instances


def _late(account: Account, entry: Entry, instances: Instances) -> Search | None:
    """Return which of the machines may be of a late entry; None if it is another account's.

    Raises FalError if that can't be told.
    """
    if not sees_account_of(account, entry):
        return None
    if entry.instance_id is None:
        made = unclaimed(account, entry, instances.values())
        if made and where(entry, account.stacks).unread:
            raise FalError("The stack of the resource can't be read")
        return made
    instance = instances.get(entry.instance_id)
    if instance is None or any(
        other.instance_id == instance.id and not other.is_late
        for other in account.journal.readable()
    ):
        return Search()
    read = everywhere(entry, account.stacks)
    is_had = any(instance.id in stack.ids for stack in read.stacks)
    return Search() if is_had else Search((instance,), read.unread)
