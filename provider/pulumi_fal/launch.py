"""Making a machine once, come what may: no Pulumi in it.

The API has no idempotency key, no name and no tag, so nothing on the server tells which create a
machine came from. What is known is on disk before, during and after the POST; and where it isn't
known, nothing is guessed: the machines that it may be are named, and nothing more is made.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pulumi_fal import retry, ssh_keys
from pulumi_fal.client import Client
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, FalError, Interrupted, JournalError, UnresolvedCreateError
from pulumi_fal.fleet import Fleet
from pulumi_fal.journal import (
    ADOPTED,
    RETURNED,
    WAITING,
    Entry,
    Journal,
    Origin,
    with_machine,
)
from pulumi_fal.lifecycle import Lifecycle
from pulumi_fal.models import Instance
from pulumi_fal.unresolved import (
    candidates,
    still_asking,
    stopped,
    unanswered,
    uncertain,
    unlisted,
    unseen,
)

_LOOK_AGAIN = 0.5
"""Seconds between two looks at a create of another process."""

_BEFORE_SECONDS = 2.0
"""How old the list may be that says what there was before a POST, so that creates share it. What
others make in that time may then be named as what an unanswered POST made: one too many, and never
one too few."""

_ELSEWHERE = "it was made with another key or at another endpoint"


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
        account: str,
        settle_seconds: float,
        ids_in_state: Callable[[Origin], frozenset[str] | None],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`ids_in_state` asks a resource's stack what it holds; None where there is no answer.

        `settle_seconds`: how long after a POST without an answer its machine may still appear.
        """
        self._client = client
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._journal = journal
        self._clock = clock
        self._account = account
        self._settle_seconds = settle_seconds
        self._ids_in_state = ids_in_state
        self._warn = warn
        self._posting = 0
        self._quiet = threading.Condition()
        self.taken_over: set[str] = set()
        """Machines of earlier creates that this process went on with."""

    def launch(self, spec: Spec, origin: Origin) -> Instance:
        """The resource's machine: the one that an earlier create made, else a new one.

        UnresolvedCreateError where a machine may exist that nobody can assign.
        """
        entry = self._find_once_answered(origin)
        instance = self._take_up(entry, spec, origin) if entry else None
        return instance or self._start(spec, origin)

    def hand_over(self, origin: Origin) -> None:
        """The engine is about to be told of the machine."""
        self._note(origin, RETURNED)

    def take_back(self, origin: Origin) -> None:
        """The engine did not hear of it after all."""
        self._note(origin, WAITING)

    def give_up(self, origin: Origin) -> None:
        """The machine is gone."""
        with self._reported(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is under way and every answer is on disk, or after `seconds`."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._posting, seconds)

    def _start(self, spec: Spec, origin: Origin) -> Instance:
        entry = Entry(
            origin=origin,
            account=self._account,
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
            except Interrupted:  # before the request, or between two that were refused
                self._forget(entry)
                raise
            except APIError as error:
                if not retry.may_have_made_a_machine(error):
                    self._forget(entry)
                    raise
                entry = replace(entry, problem=str(error), started=self._clock.wall())
                self._record(entry)
            else:
                self._record(with_machine(entry, instance.id))
                return instance
        raise self._unanswered(entry)

    def _find_once_answered(self, origin: Origin) -> Entry | None:
        """The resource's entry, once no process waits for the answer to its POST any more.

        The plugin of an engine that was killed lives on until then.
        """
        told = False
        while (entry := self._journal.find(origin)) and self._journal.is_held(entry):
            if not told:
                self._warn(still_asking(entry))
                told = True
            self._clock.sleep(_LOOK_AGAIN)
        return entry

    def _take_up(self, entry: Entry, spec: Spec, origin: Origin) -> Instance | None:
        """The machine of an earlier create; None, and no entry, where it surely left none."""
        if not (entry.origin == origin and origin.is_certain):
            raise uncertain(entry)
        elsewhere = entry.account != self._account
        if entry.instance_id is None and elsewhere:
            raise stopped(entry, _ELSEWHERE)
        if entry.instance_id is None:
            error = self._unanswered(entry)
            if not error.is_settled:
                raise error
            self._forget(entry)
            return None
        try:
            instance = self._lifecycle.find(entry.instance_id)
        except FalError as error:
            raise unseen(entry, entry.instance_id, error) from error
        if instance is None:
            if elsewhere:
                raise stopped(entry, _ELSEWHERE)
            self._forget(entry)
            return None
        ids = self._ids_in_state(origin)
        if ids is not None and entry.instance_id in ids:
            # So this create is for another one: to replace just this machine, for all we know.
            self._forget(entry)
            return None
        if entry.phase == RETURNED:
            why = "the stack could not be asked" if ids is None else "it is not in state"
            raise stopped(entry, f"{why}, although Pulumi was told of it")
        asked = (entry.instance_type, entry.ssh_key, entry.sector)
        wanted = (spec.instance_type, spec.fingerprint, spec.sector)
        if instance.instance_type != spec.instance_type or (
            entry.phase != ADOPTED and asked != wanted
        ):
            raise stopped(entry, "the resource's inputs have changed since")
        self.taken_over.add(instance.id)
        kind, key, sector = wanted  # of an adopted one, the record said what the lost create asked
        self._record(replace(entry, phase=WAITING, instance_type=kind, ssh_key=key, sector=sector))
        return instance

    def _unanswered(self, entry: Entry) -> UnresolvedCreateError:
        try:
            return unanswered(entry, self._candidates(entry))
        except FalError as error:
            return unlisted(entry, error)

    def _candidates(self, entry: Entry) -> list[Instance]:
        """The machines that an unanswered POST may have made, once there was time to appear."""
        # A process that ended before the answer may have sent its POST, or the last of several, a
        # moment ago: it says when only where it has seen the end.
        since = max(0.0, self._clock.wall() - entry.started) if entry.problem else 0.0
        # At its end the watch asks once more, so the last answer is what counts.
        *_, instances = self._fleet.watch(self._settle_seconds - since)
        entries = [each for each in self._journal.entries() if isinstance(each, Entry)]
        pending = {each.instance_id for each in entries if each.instance_id}
        found = candidates(entry, instances.values(), pending)
        if found:  # to ask the stack is slow
            in_state = self._ids_in_state(entry.origin) or frozenset()
            found = candidates(entry, found, in_state)
        return found

    def _note(self, origin: Origin, phase: str) -> None:
        with self._reported(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None and entry.phase != phase:
                self._journal.write(replace(entry, phase=phase))

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
    def _post_under_way(self, entry: Entry) -> Iterator[None]:
        with self._quiet:
            self._posting += 1
        try:
            self._journal.write(entry)
            with self._journal.held(entry):
                yield
        finally:
            with self._quiet:
                self._posting -= 1
                self._quiet.notify_all()
