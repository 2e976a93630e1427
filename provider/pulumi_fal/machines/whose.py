"""Which stack is asking, and whose a machine is.

Both are pure functions of what was read. Whoever gathers the evidence decides how much it may cost:
nothing for an ordinary create, every stack for an audit. What was not read never counts as absent.
At the end stand the functions that read stacks, and so run `pulumi`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.stacks.cache import ONLY_ORGANIZATION, Origin, Stacks, is_cloud
from pulumi_fal.stacks.state import Found, Stack

ABANDONED_SECONDS = 600.0
"""After this time, a machine whose create nobody works on counts as abandoned."""


class Same(Enum):
    """Whether an entry is of the stack that is asking."""

    YES = "the same stack, whatever its name and backend"
    NO = "another stack, which still exists"
    UNKNOWN = "it can't be told"


@dataclass(frozen=True)
class Asking:
    """The resource that is asked about now, as far as its stack is known."""

    origin: Origin
    own: Stack | None = None
    """Its stack; None if that can't be read, or if it is not known which of several it is."""

    @property
    def providers(self) -> frozenset[str]:
        """The ids of the stack's provider resources. All ids in one state are one stack."""
        in_state = self.own.providers if self.own else ()
        return frozenset(filter(None, (self.origin.provider, *in_state)))


def same_stack(entry: Entry, asking: Asking, found: Found) -> Same:
    """Return whether an entry is of the stack that is asking, for whatever resource of it.

    `found` are the stacks with the names of both in both backends, and if the entry has an id that
    the asking stack lacks, all stacks there.
    """
    provider_id, ids = entry.origin.provider, asking.providers
    if provider_id and provider_id in ids:
        return Same.YES
    if holders := [stack for stack in found.stacks if provider_id in stack.providers]:
        may_be_own = not (ids or asking.own) and any(asking.origin.is_in(s.name) for s in holders)
        return Same.UNKNOWN if may_be_own else Same.NO
    if entry.origin.names != asking.origin.names:
        return _renamed(entry, asking, found)
    said = _destroyed(entry, asking, found) if provider_id else _without_id(entry, asking, found)
    is_here = entry.origin.backend == asking.origin.backend
    is_said = entry.phase is Phase.ADOPTED and is_here and not provider_id  # by a person
    return Same.YES if said is Same.UNKNOWN and is_said else said


def _renamed(entry: Entry, asking: Asking, found: Found) -> Same:
    """An entry under another name of the stack, and its id is not in any stack that was read."""
    provider_id, backend = entry.origin.provider, entry.origin.backend
    # One place may have several URLs, so the asking stack may be in the entry's backend as well.
    here = {"", asking.origin.backend} | {
        stack.backend for stack in found.stacks if stack.providers.keys() & asking.providers
    }
    may_be_here = not asking.origin.backend or backend in here
    if not may_be_here or (provider_id and asking.providers):
        return Same.NO
    is_there = any(
        entry.origin.is_in(stack.name) and _in_same_organization(stack, asking)
        for stack in found.stacks
        if backend in ("", stack.backend)
    )
    return Same.NO if not provider_id and is_there else Same.UNKNOWN


def _in_same_organization(stack: Stack, asking: Asking) -> bool:
    """Whether a stack is in the organization of the one that asks."""
    has_one = not is_cloud(stack.backend)
    return has_one or (asking.own is not None and stack.organization == asking.own.organization)


def _destroyed(entry: Entry, asking: Asking, found: Found) -> Same:
    """An entry with an id that no stack has: its stack was destroyed, and may be up again."""
    is_here = entry.origin.backend == asking.origin.backend and _has_unique_name(entry)
    is_read = asking.own is not None and not found.unread
    return Same.YES if is_here and (is_read or not asking.providers) else Same.UNKNOWN


def _without_id(entry: Entry, asking: Asking, found: Found) -> Same:
    if not _has_unique_name(entry):
        return Same.UNKNOWN
    there = _by_name(entry, found)
    is_here = entry.origin.backend == asking.origin.backend
    if is_here or any(stack.providers.keys() & asking.providers for stack in there):
        return Same.YES
    return Same.NO if asking.own and any(stack.providers for stack in there) else Same.UNKNOWN


def _by_name(entry: Entry, found: Found) -> list[Stack]:
    """Return the stacks where the entry says that its stack is."""
    return [
        stack
        for stack in found.stacks
        if stack.backend == entry.origin.backend and entry.origin.is_in(stack.name)
    ]


def stacks_of(entry: Entry, found: Found) -> list[Stack]:
    """Return the stacks with the entry's id, or else those where the entry says that it is."""
    holders = [stack for stack in found.stacks if entry.origin.provider in stack.providers]
    return holders or _by_name(entry, found)


def is_gone(entry: Entry, found: Found) -> bool:
    """Whether the entry's stack certainly no longer exists."""
    return bool(entry.origin.backend) and not (found.unread or stacks_of(entry, found))


def _has_unique_name(entry: Entry) -> bool:
    """Whether only one stack can ever have the entry's names: Pulumi Cloud has organizations."""
    return bool(entry.origin.backend) and not is_cloud(entry.origin.backend)


class Whose(Enum):
    """To whom a machine belongs, in the words that reports use."""

    STACK = "in stack"
    PENDING = "pending"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Claim:
    """A resource that has a machine in state, or a create that made the machine, or may have."""

    id: str
    urn: str
    stack: str
    account_id: AccountId = field(default_factory=AccountId)
    """Where a machine in state was last seen, and with which account."""
    created: float | None = None
    """When Pulumi recorded a machine in state, in seconds since the epoch; None if unknown."""
    max_age: float = math.inf
    """For how many seconds a machine in state is meant to run."""
    entry: Entry | None = None
    """The entry of the create."""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return Origin(self.urn).name

    @property
    def is_certain(self) -> bool:
        """Whether this resource has the machine, or its create is known to have made it."""
        return self.entry is None or self.entry.instance_id is not None


@dataclass(frozen=True)
class Row:
    """A machine, whose it is, and which resources have it in state."""

    instance: Instance
    whose: Whose
    claim: Claim | None
    """What shows whose it is."""
    holders: Sequence[Claim]
    """The resources that have it in state."""
    now: float

    @property
    def created(self) -> float | None:
        """The earliest time at which a stack recorded the machine; None if that is not known."""
        return min((one.created for one in self.holders if one.created is not None), default=None)

    @property
    def age(self) -> int | None:
        """The age in seconds; 0 if the clock of who recorded the machine is ahead."""
        return None if self.created is None else max(0, int(self.now - self.created))

    @property
    def max_age(self) -> float:
        """For how many seconds the machine may run: of several stacks' limits, the longest."""
        return max((one.max_age for one in self.holders), default=math.inf)

    def exceeds(self, seconds: float) -> bool:
        """Whether the machine is known to be older."""
        return self.age is not None and self.age > seconds


@dataclass(frozen=True)
class Evidence:
    """What is known: the entries of this computer, the stacks, and what could not be read."""

    entries: Sequence[Entry] = ()
    stacks: Sequence[Stack] = ()
    """All stacks of the backend, or those that a command names."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """A stack or an entry, and why it can't be read. It may have any machine."""
    elsewhere: Sequence[Stack] = ()
    """The stacks of entries that are not among `stacks`, such as those of other backends."""
    unread_elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By an entry's file, what could not be read to find its stack elsewhere, and why."""
    in_progress: Container[str] = frozenset()
    """The files of the entries that a process is working on."""
    gone: Container[str] = frozenset()
    """The files of the entries whose stack is known to no longer exist."""
    now: float = 0.0
    """The time in seconds since the epoch."""

    @property
    def held(self) -> list[Claim]:
        """The resources of all stacks that were read, but for those elsewhere."""
        return [claim for stack in self.stacks for claim in _held(stack, stack.name)]

    @property
    def reasons(self) -> Mapping[str, str]:
        """All that could not be read, and why."""
        every = (*self.unread_elsewhere.values(), self.unread)
        return {what: why for reasons in every for what, why in reasons.items()}

    def whose(
        self, instances: Collection[Instance], max_age: float = ABANDONED_SECONDS
    ) -> list[Row]:
        """Return each machine with its owner, and with what the stacks say of it.

        A machine that an entry names is never forgotten: its stack may be just about to record it.
        It is abandoned if no stack will ever have it: the stack is gone, or nobody has worked on
        the create for `max_age` seconds. A machine is unknown if a create without an answer may
        have made it, or if a stack that may have it can't be read.
        """
        held = self.held
        # Only the stacks that were asked for say how old a machine is.
        elsewhere = [
            replace(claim, created=None)
            for stack in self.elsewhere
            for claim in _held(stack, _label(stack))
        ]
        holders = defaultdict(list)
        for claim in (*held, *elsewhere):
            holders[claim.id].append(claim)
        made = [
            (self._of(entry, max_age), self._claim(entry, entry.instance_id))
            for entry in self.entries
            if entry.instance_id
        ]
        # Of several entries of one machine, the last one counts: one that `up` continues with.
        made.sort(key=lambda one: [Whose.ABANDONED, Whose.UNKNOWN, Whose.PENDING].index(one[0]))
        owners: dict[str, tuple[Whose, Claim | None]] = {
            claim.id: (whose, claim) for whose, claim in made
        }
        owners |= {claim.id: (Whose.STACK, claim) for claim in (*elsewhere, *held)}
        owners |= {
            instance.id: (Whose.UNKNOWN, self._claim(entry, instance.id))
            for entry in self.entries
            if entry.instance_id is None
            for instance in candidates(entry, instances, owners)
        }
        nobodys = (Whose.UNKNOWN if self.unread else Whose.FORGOTTEN, None)
        return [
            Row(instance, *owners.get(instance.id, nobodys), holders[instance.id], self.now)
            for instance in instances
        ]

    def _of(self, entry: Entry, max_age: float) -> Whose:
        """Return whose the machine of an entry is that no stack has which was read."""
        if entry.file in self.in_progress:
            return Whose.PENDING
        if entry.file in self.gone:
            return Whose.ABANDONED
        if self.now - entry.started <= max_age:
            return Whose.PENDING
        is_unread = self.unread or entry.file in self.unread_elsewhere
        return Whose.UNKNOWN if is_unread else Whose.ABANDONED

    def _claim(self, entry: Entry, instance_id: str) -> Claim:
        """Return the claim of an entry, with the present name of its stack if that is known."""
        here = stacks_of(entry, Found(tuple(self.stacks)))
        names = {stack.name for stack in here} or {
            _label(stack) for stack in stacks_of(entry, Found(tuple(self.elsewhere)))
        }
        name = names.pop() if len(names) == 1 else stack_name(entry.origin)
        return Claim(instance_id, entry.origin.urn, name, entry=entry)


def _held(stack: Stack, name: str) -> Iterator[Claim]:
    for machine in stack.machines:
        yield Claim(
            machine.id, machine.urn, name, machine.account_id, machine.created, machine.max_age
        )


def _label(stack: Stack) -> str:
    return f"{stack.name} in {stack.backend}"


def stack_name(origin: Origin) -> str:
    """Return the name of an entry's stack, as far as it is known, for people."""
    may_be_cloud = is_cloud(origin.backend) or not origin.backend
    return f"{'?' if may_be_cloud else ONLY_ORGANIZATION}/{origin.project}/{origin.stack}"


def candidates(
    entry: Entry, instances: Iterable[Instance], taken: Container[str]
) -> list[Instance]:
    """Return the machines that the entry's POST may have made.

    `taken` are the ids of machines that are known to belong to other resources.
    """
    return [
        instance
        for instance in instances
        if instance.id not in taken
        and instance.id not in entry.before
        and instance.may_be_of(entry.instance_type)
        and entry.requested.sector in (None, instance.sector or entry.requested.sector)
    ]


# These read stacks.


def same(entry: Entry, asking: Asking, stacks: Stacks) -> tuple[Same, Mapping[str, str]]:
    """Return whether the entry is of the stack that is asking, and what could not be read for it.

    It reads only what it needs: nothing if both have the same id.
    """
    provider_id = entry.origin.provider
    if provider_id and provider_id == asking.origin.provider:
        return Same.YES, {}
    found = stacks.named(asking.origin) | stacks.named(entry.origin)
    if not provider_id:
        found |= stacks.named(replace(asking.origin, backend=entry.origin.backend))
    elif provider_id not in asking.providers:
        found |= everywhere(entry, stacks)
    return same_stack(entry, asking, found), found.unread


def where(entry: Entry, stacks: Stacks) -> Found:
    """Return the stacks among which the entry's is, as far as they can be read."""
    found = stacks.named(entry.origin)
    by_name = stacks_of(entry, found)
    is_certain = len(by_name) == 1 and entry.origin.provider in ("", *by_name[0].providers)
    return found if is_certain else everywhere(entry, stacks)


def everywhere(entry: Entry, stacks: Stacks) -> Found:
    """Return all stacks of the own backend and of the entry's, as far as they can be read.

    Those of the entry's names are read by name, also where no list can be had.
    """
    return stacks.named(entry.origin) | stacks.all() | stacks.all(backend=entry.origin.backend)


def at_home(entry: Entry, stacks: Stacks) -> Asking:
    """Return an entry's own stack as the one that asks, as the next `up` there will.

    Of several that it may be, it is one that has the entry's machine if there is one.
    """
    homes = stacks_of(entry, where(entry, stacks))
    homes.sort(key=lambda stack: entry.instance_id not in stack.ids)
    if not homes:
        return Asking(replace(entry.origin, provider=""))
    own = homes[0]
    return Asking(entry.origin.moved(own.name, own.backend), own)
