"""Create a machine exactly once, despite crashes and lost responses. No Pulumi in it.

The API has no idempotency key, no name and no tag, so nothing on the server tells which create a
machine came from. What is known is on disk before, during and after the POST; and where it isn't
known, nothing is guessed: the machines that it may be are named, and nothing more is made.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from pulumi_fal.api import retry, ssh_keys
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Home
from pulumi_fal.clock import Clock
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    FalError,
    Interrupted,
    JournalError,
    UnresolvedCreateError,
)
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.accounts import Accounts
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import ADOPTED, RETURNED, WAITING, Entry, Journal, with_machine
from pulumi_fal.machines.lifecycle import GRACE_SECONDS, Lifecycle
from pulumi_fal.stack import Elsewhere, Origin, StackMachine

_LOOK_AGAIN = 0.5
"""Seconds between two looks at a create of another process."""

_BEFORE_SECONDS = 2.0
"""How old the list may be that says what there was before a POST, so that creates share it. What
others make in that time may then be named as what an unanswered POST made: one too many, and never
one too few."""

LATE_SECONDS = 600.0
"""A machine that is first seen so long after a POST was not made by it, if an earlier look found
none: it is named, and stops nothing."""


@dataclass(frozen=True)
class Spec:
    """What is asked of the API: a type, a public key, and a sector for 8x machines or None."""

    instance_type: str
    ssh_key: str
    sector: str | None = None

    @property
    def fingerprint(self) -> str:
        """The public key's, so that the journal need not hold it."""
        return hashlib.sha256(ssh_keys.canonical(self.ssh_key).encode()).hexdigest()[:32]

    def is_of(self, entry: Entry) -> bool:
        """Whether an earlier create asked for the same."""
        asked = (entry.instance_type, entry.ssh_key, entry.sector)
        return asked == (self.instance_type, self.fingerprint, self.sector)


class Stacks(Protocol):
    """What stacks hold, as far as they can be asked; stack.Stacks asks the `pulumi` command."""

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None: ...
    def ids(self, origin: Origin) -> frozenset[str] | None: ...
    def is_gone(self, origin: Origin) -> bool | None: ...
    def elsewhere(self, origin: Origin) -> Elsewhere: ...


class Launcher:
    """Creates machines, and goes on with those that earlier creates left behind."""

    def __init__(
        self,
        client: Client,
        fleet: Fleet,
        lifecycle: Lifecycle,
        journal: Journal,
        clock: Clock,
        *,
        accounts: Accounts,
        settle_seconds: float,
        stacks: Stacks,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`settle_seconds`: how long after a POST without an answer its machine may appear."""
        self._client = client
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._journal = journal
        self._clock = clock
        self._accounts = accounts
        self._settle_seconds = settle_seconds
        self._stacks = stacks
        self._warn = warn
        self._posting = 0
        self._quiet = threading.Condition()
        self.taken_over: set[str] = set()
        """Machines of earlier creates that this process went on with."""

    @contextmanager
    def launch(self, spec: Spec, origin: Origin) -> Iterator[Instance]:
        """The resource's machine: the one that an earlier create made, else a new one.

        While the block runs, other processes see that the create is under way.
        UnresolvedCreateError where a machine may exist that nobody can assign.
        """
        with self._locked(origin):
            entry = self._journal.find(origin)
            instance = self._take_up(entry, spec, origin) if entry else None
            yield instance or self._start(spec, origin)

    def hand_over(self, origin: Origin, *, seen: bool) -> None:
        """The engine is about to be told of the machine; `seen`: the API has shown it since."""
        self._note(origin, RETURNED, seen=seen)

    def take_back(self, origin: Origin) -> None:
        """The engine did not hear of it after all."""
        self._note(origin, WAITING, seen=False)

    def give_up(self, origin: Origin) -> None:
        """The machine is gone."""
        with self._reported(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def may_still_appear(self, urn: str, instance_id: str) -> bool:
        """Whether a machine that state has is too new for its absence to mean anything.

        It was made a moment ago by the create of this URN, and the API has not shown it since.
        """
        return any(
            isinstance(entry, Entry)
            and (entry.origin.urn, entry.instance_id) == (urn, instance_id)
            and self._is_new(entry)
            for entry in self._journal.entries(urn)
        )

    def _is_new(self, entry: Entry) -> bool:
        """Whether its machine is too new for its absence to mean anything."""
        return not entry.seen and self._clock.wall() - entry.started < GRACE_SECONDS

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is under way and every answer is on disk, or after `seconds`."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._posting, seconds)

    def _start(self, spec: Spec, origin: Origin) -> Instance:
        self._refuse_if_renamed(origin)
        entry = Entry(
            origin=origin,
            account=self._accounts.home.account,
            instance_type=spec.instance_type,
            ssh_key=spec.fingerprint,
            sector=spec.sector,
            before=tuple(sorted(self._fleet.recent(_BEFORE_SECONDS))),
            started=self._clock.wall(),
        )
        with self._post_under_way(entry):
            try:
                instance = self._client.create_instance(
                    spec.instance_type, spec.ssh_key, spec.sector
                )
            except (Interrupted, ConfigurationError):  # nothing was sent that the API took
                self._forget(entry)
                raise
            except APIError as error:
                if not retry.may_have_made_a_machine(error):
                    self._forget(entry)
                    raise
                entry = replace(entry, problem=str(error), started=self._clock.wall())
                self._record(entry)
            else:
                # A POST that was refused for a while may have been sent long ago.
                entry = replace(entry, started=self._clock.wall())
                self._record(with_machine(entry, instance.id))
                return instance
        problem = self._unanswered(entry)
        if problem.is_settled:
            self._record(replace(entry, searched=True))
        raise problem

    def _take_up(self, entry: Entry, spec: Spec, origin: Origin) -> Instance | None:
        """The machine of an earlier create; None, and no entry, where it surely left none."""
        ids = self._stacks.ids(origin) if entry.origin != origin else None
        if entry.origin != origin or not origin.is_certain:
            if entry.instance_id is None or entry.instance_id not in (ids or ()):
                raise unresolved.uncertain(entry, origin)
            self._forget(entry)  # the stack's own word: it has this machine
            return None
        if entry.instance_id is None:
            self._settle_unanswered(entry)
            return None
        with _named(entry):
            instance = self._lifecycle.find(entry.instance_id)
        if instance is None:
            self._refuse_another_accounts(entry)
            if not self._is_new(entry):
                self._forget(entry)
                return None
            instance = Instance(entry.instance_id, entry.instance_type)  # to be waited for
        elif not entry.seen:  # from now on its absence means something
            entry = replace(entry, seen=True)
            self._record(entry)
        ids = self._stacks.ids(origin)
        if ids is not None and entry.instance_id in ids:
            # So this create is for another one: to replace just this machine, for all we know.
            self._forget(entry)
            return None
        if entry.phase == RETURNED:
            why = "the stack could not be asked" if ids is None else "it is not in state"
            raise unresolved.stopped(entry, f"{why}, although Pulumi was told of it")
        is_asked_for = entry.phase == ADOPTED or spec.is_of(entry)
        if not (instance.may_be_of(spec.instance_type) and is_asked_for):
            raise unresolved.stopped(entry, "the resource's inputs have changed since")
        self.taken_over.add(instance.id)
        self._record(
            replace(  # of an adopted one, the record said what the lost create asked for
                entry,
                phase=WAITING,
                instance_type=spec.instance_type,
                ssh_key=spec.fingerprint,
                sector=spec.sector,
            )
        )
        return instance

    def _settle_unanswered(self, entry: Entry) -> None:
        """Drop the entry of a POST without an answer, if it made no machine for all we can see."""
        self._refuse_another_accounts(entry)
        problem = self._unanswered(entry)
        is_late = entry.searched and self._clock.wall() - entry.started > LATE_SECONDS
        if problem.candidates and is_late:
            self._warn(unresolved.late(entry, problem.candidates))
        elif problem.candidates:
            # What has appeared by now is not late, however late the next look is.
            self._record(replace(entry, searched=False))
            raise problem
        elif not problem.is_settled:
            raise problem
        self._forget(entry)

    def _refuse_another_accounts(self, entry: Entry) -> None:
        """Nothing that this key does not see is gone, if it is another account's."""

        def machines() -> Iterator[StackMachine]:
            yield from (StackMachine(each, "", entry.account) for each in entry.before)
            yield from self._stacks.machines(entry.origin) or ()

        with _named(entry):
            sees = self._accounts.sees(Home(account=entry.account), machines)
        if not sees:
            raise unresolved.of_another_account(entry, self._accounts.home.account)

    def _refuse_if_renamed(self, origin: Origin) -> None:
        """Where a stack or a project was renamed, its creates are on record under the old name."""
        if not origin.is_certain:
            return  # a record of an unknown backend may be any stack's
        problems = []
        for entry in self._earlier_entries:
            if (
                entry.origin.name == origin.name
                and entry.origin.urn != origin.urn
                and (entry.origin.organization, entry.origin.backend)
                == (origin.organization, origin.backend)
            ):
                try:
                    left = self._left_behind(entry, origin)
                except UnresolvedCreateError as problem:
                    problems.append(problem)
                    continue
                if left:
                    is_gone = bool(self._stacks.is_gone(entry.origin))
                    problems.append(unresolved.renamed(entry, origin, left, is_gone=is_gone))
        if problems:
            raise UnresolvedCreateError(
                "\n".join(map(str, problems)),
                tuple(each for problem in problems for each in problem.candidates),
            )

    def _left_behind(self, entry: Entry, origin: Origin) -> list[Instance]:
        """What a stack that may be gone may have left, and `origin`'s does not have."""
        is_there = self._stacks.is_gone(entry.origin) is False
        if is_there or self._journal.is_locked(entry.origin):
            return []
        if entry.instance_id is None:
            self._refuse_another_accounts(entry)
            with _named(entry):
                return self._candidates(entry)[0]
        if entry.instance_id in (self._stacks.ids(origin) or ()):
            self._forget(entry)  # it has moved on with the stack
            return []
        with _named(entry):
            found = self._lifecycle.find(entry.instance_id)
        may_be_there = self._is_new(entry) or not self._accounts.is_own(Home("", entry.account))
        if found is None and may_be_there:
            found = Instance(entry.instance_id, entry.instance_type)
        return [found] if found else []

    @cached_property
    def _earlier_entries(self) -> list[Entry]:
        """The whole journal, read once: a stack that is gone makes nothing more."""
        return [each for each in self._journal.entries() if isinstance(each, Entry)]

    def _unanswered(self, entry: Entry) -> UnresolvedCreateError:
        try:
            found, unread = self._candidates(entry)
        except FalError as error:
            return unresolved.unseen(entry, error)
        return unresolved.unanswered(entry, found, unread)

    def _candidates(self, entry: Entry) -> tuple[list[Instance], Mapping[str, str]]:
        """The machines that an unanswered POST may have made, once there was time to appear.

        And those stacks that may have them, but could not be read, with the reason.
        """
        # A process that ended before the answer may have sent its POST, or the last of several, a
        # moment ago: it says when only where it has seen the end.
        since = max(0.0, self._clock.wall() - entry.started) if entry.problem else 0.0
        # One list alone may be a lapse, so there are two at least, and whatever any of them has
        # counts. A failing last one is repeated: it is the one that has everything.
        instances = dict(self._fleet.fresh())
        for answer in self._fleet.watch(max(self._settle_seconds - since, self._fleet.interval)):
            instances |= self._fleet.fresh() if answer.error else answer.instances
        entries = [each for each in self._journal.entries() if isinstance(each, Entry)]
        pending = {each.instance_id for each in entries if each.instance_id}
        found = unresolved.candidates(entry, instances.values(), pending)
        if not found:  # to ask stacks is slow
            return [], {}
        found = unresolved.candidates(entry, found, self._stacks.ids(entry.origin) or ())
        if not found:
            return [], {}
        others = self._stacks.elsewhere(entry.origin)
        return unresolved.candidates(entry, found, others.ids), others.unread

    def _note(self, origin: Origin, phase: str, *, seen: bool) -> None:
        with self._reported(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None and (entry.phase, entry.seen) != (phase, seen or entry.seen):
                self._journal.write(replace(entry, phase=phase, seen=seen or entry.seen))

    def _record(self, entry: Entry) -> None:
        with self._reported(entry.instance_id or "a machine whose id is not known"):
            self._journal.write(entry)

    def _forget(self, entry: Entry) -> None:
        with self._reported(entry.origin.urn):
            self._journal.drop(entry)

    @contextmanager
    def _reported(self, about: str) -> Iterator[None]:
        """Once there is a machine, or an answer, a journal that fails must not take that away."""
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")

    @contextmanager
    def _locked(self, origin: Origin) -> Iterator[None]:
        """Keep others from this create, once no process works on it any more.

        The plugin of an engine that was killed lives on until the API has answered its POST.
        """
        told = False
        while (lock := self._journal.try_lock(origin)) is None:
            if not told:
                self._warn(unresolved.under_way(origin))
                told = True
            self._clock.sleep(_LOOK_AGAIN)
        with lock:
            yield

    @contextmanager
    def _post_under_way(self, entry: Entry) -> Iterator[None]:
        with self._quiet:
            self._posting += 1
        try:
            self._journal.write(entry)
            yield
        finally:
            with self._quiet:
                self._posting -= 1
                self._quiet.notify_all()


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """What keeps us from looking at an earlier create's machine is an error that names it."""
    try:
        yield
    except UnresolvedCreateError:
        raise
    except FalError as error:
        raise unresolved.unseen(entry, error) from error
