"""Create a machine exactly once, despite crashes and lost responses.

fal's APIs have no names or tags, so they can't show which create made a machine. The journal
therefore records the create before and after the POST. If the API supports idempotency keys, a
create without an answer is sent again with its key. Otherwise, if a create may have made a machine,
but it is not certain which, no other machine is created, and an error names the candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from pulumi_fal.api import retry
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
from pulumi_fal.machines.decision import (
    Resume,
    SendAgain,
    StartFresh,
    Stop,
    decide,
    decide_renamed,
)
from pulumi_fal.machines.entry import Entry, Phase, Spec
from pulumi_fal.machines.facts import FactFinder
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stack import Origin

_LOOK_AGAIN_SECONDS = 0.5
"""The time between two checks whether another process still works on a create."""
_BEFORE_SECONDS = 2.0
"""The maximum age of the list of machines that existed before a POST, so that creates can share it.
A machine that somebody else creates in that time may wrongly become a candidate, which is
harmless."""


class Launcher:
    """Creates machines, and resumes those that earlier creates left behind."""

    def __init__(
        self,
        client: Client,
        fleet: Fleet,
        facts: FactFinder,
        journal: Journal,
        stacks: Stacks,
        clock: Clock,
        home: Home,
        new_key: Callable[[], str],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`home` is that of the API key that is set. `new_key` returns a new idempotency key, or ""
        if the API does not support them. `warn` gets warnings that stop nothing."""
        self._client = client
        self._fleet = fleet
        self._facts = facts
        self._journal = journal
        self._stacks = stacks
        self._clock = clock
        self._home = home
        self._new_key = new_key
        self._warn = warn
        self._posting = 0
        self._quiet = threading.Condition()
        self.resumed_ids: set[str] = set()
        """The ids of the machines of earlier creates that this process has resumed."""

    @contextmanager
    def launch(self, spec: Spec, origin: Origin) -> Iterator[Instance]:
        """Yield the resource's machine: that of an earlier create, or else a new one.

        The create is locked for other processes until the block ends. Raises UnresolvedCreateError
        if an earlier create or this one may have made a machine, but it is not certain which.
        """
        with self._locked(origin):
            entry = self._journal.find(origin)
            instance = self._resume(entry, spec, origin) if entry else None
            yield instance or self._start(spec, origin)

    def mark_reported(self, origin: Origin, *, seen: bool) -> None:
        """Record that the machine is about to be reported to Pulumi.

        `seen` says whether the API has shown the machine since the POST.
        """
        self._mark(origin, Phase.REPORTED, seen=seen)

    def mark_unreported(self, origin: Origin) -> None:
        """Record that the report of the machine did not reach Pulumi."""
        self._mark(origin, Phase.CREATED, seen=False)

    def discard(self, origin: Origin) -> None:
        """Drop the entry of a resource whose machine is gone."""
        with self._warning(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def may_still_appear(self, urn: str, instance_id: str) -> bool:
        """Whether a machine in state is so new that the API may not show it yet.

        That is so if the create of this URN made it in the last GRACE_SECONDS, and the API has not
        shown it since.
        """
        return any(
            entry.instance_id == instance_id and entry.is_new(self._clock.wall())
            for entry in self._journal.readable(urn)
            if entry.origin.urn == urn
        )

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is in flight and every answer is recorded, or after `seconds`."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._posting, seconds)

    def _resume(self, entry: Entry, spec: Spec, origin: Origin) -> Instance | None:
        """Return the machine of an earlier create, or drop its entry and return None."""
        facts = self._facts.about(entry, origin, spec)
        if facts.machine is not None and not entry.seen:  # from now on it can count as gone
            entry = replace(entry, seen=True)
            self._record(entry)
        match decide(entry, facts):
            case Resume(instance):
                self.resumed_ids.add(instance.id)
                self._record(
                    replace(  # an adopted machine may come from a create with other arguments
                        entry,
                        phase=Phase.CREATED,
                        instance_type=spec.instance_type,
                        ssh_key=spec.fingerprint,
                        sector=spec.sector,
                    )
                )
                return instance
            case SendAgain():
                # The machine may already be in state, if only the record could not be written.
                made, _ = self._post(entry, spec, may_be_sent=True)
                return self._resume(made, spec, origin)
            case StartFresh(warning):
                if warning:
                    self._warn(warning)
                self._forget(entry)
                return None
            case Stop(error):
                if facts.search:  # the candidates of this search must not count as late next time
                    self._record(replace(entry, searched=False))
                raise error

    def _start(self, spec: Spec, origin: Origin) -> Instance:
        self._refuse_if_renamed(spec, origin)
        entry = Entry(
            origin=origin,
            account=self._home.account,
            endpoint=self._home.endpoint,
            instance_type=spec.instance_type,
            ssh_key=spec.fingerprint,
            sector=spec.sector,
            before=tuple(sorted(self._fleet.recent(_BEFORE_SECONDS))),
            started=self._clock.wall(),
            idempotency_key=self._new_key(),
            first_sent=self._clock.wall(),
        )
        _, instance = self._post(entry, spec)
        return instance

    def _post(
        self, entry: Entry, spec: Spec, *, may_be_sent: bool = False
    ) -> tuple[Entry, Instance]:
        """Send the create, and record its result in the entry.

        `may_be_sent` says whether an earlier process may have sent the same create.
        """
        unanswered: list[APIError] = []

        def note(error: APIError) -> None:
            if retry.may_have_made_a_machine(error):
                unanswered.append(error)

        client = self._client
        if entry.idempotency_key:
            client = client.within(entry.key_seconds_left(self._clock.wall()))
        if not may_be_sent:
            self._journal.write(entry)
        with self._post_in_flight():
            try:
                instance = client.create_instance(
                    spec.instance_type, spec.ssh_key, spec.sector, entry.idempotency_key, note
                )
            except (APIError, ConfigurationError, Interrupted):
                if not (unanswered or may_be_sent):  # the API did not accept any request
                    self._forget(entry)
                    raise
                if unanswered:
                    problem = str(unanswered[-1])
                    entry = replace(entry, problem=problem, started=self._clock.wall())
                    self._record(entry)
            else:
                if instance.id not in entry.before:
                    # The POST may have been retried, so the entry gets the current time.
                    made = replace(entry, started=self._clock.wall()).as_created(instance.id)
                    self._record(made)
                    return made, instance
                problem = f"the API answered with {instance.id}, which existed before it."
                entry = replace(entry, problem=problem, started=self._clock.wall())
                self._record(entry)
        raise self._without_an_answer(entry)

    def _without_an_answer(self, entry: Entry) -> UnresolvedCreateError:
        try:
            search = self._facts.search(entry)
        except FalError as error:
            return unresolved.unseen(entry, error)
        if not search:
            self._record(replace(entry, searched=True))
        return unresolved.unanswered(entry, search.candidates, search.unread)

    def _refuse_if_renamed(self, spec: Spec, origin: Origin) -> None:
        """Raise if this stack may be a renamed one that has an unresolved create for this resource.

        The journal still has the creates of a renamed stack or project under its old name.
        """
        if not origin.is_certain:
            return  # without the backend, an entry could belong to any stack of that name
        problems = []
        for entry in self._earlier_entries:
            if not _may_be_renamed(entry.origin, origin) or self._journal.is_locked(entry.origin):
                continue
            is_gone = self._stacks.is_gone(entry.origin)
            if is_gone is False:
                continue
            facts = self._facts.about(entry, origin, spec)
            match decide_renamed(entry, facts, is_gone=bool(is_gone)):
                case StartFresh():
                    self._forget(entry)
                case Stop(error):
                    problems.append(error)
        if problems:
            raise unresolved.combined(problems)

    @cached_property
    def _earlier_entries(self) -> list[Entry]:
        """All entries, read only once: a stack that no longer exists makes no new ones."""
        return self._journal.readable()

    def _mark(self, origin: Origin, phase: Phase, *, seen: bool) -> None:
        with self._warning(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None and (entry.phase, entry.seen) != (phase, seen or entry.seen):
                self._journal.write(replace(entry, phase=phase, seen=seen or entry.seen))

    def _record(self, entry: Entry) -> None:
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._journal.write(entry)

    def _forget(self, entry: Entry) -> None:
        with self._warning(entry.origin.urn):
            self._journal.drop(entry)

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        """Turn a JournalError into a warning.

        After the POST, an error of the journal must not hide the machine or the error of the POST.
        """
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")

    @contextmanager
    def _locked(self, origin: Origin) -> Iterator[None]:
        """Lock the create of this resource; wait while another process works on it.

        Another process may be the plugin of a killed engine, which runs until the API has answered
        its POST.
        """
        has_warned = False
        while (lock := self._journal.try_lock(origin)) is None:
            if not has_warned:
                self._warn(unresolved.in_progress(origin))
                has_warned = True
            self._clock.sleep(_LOOK_AGAIN_SECONDS)
        with lock:
            yield

    @contextmanager
    def _post_in_flight(self) -> Iterator[None]:
        with self._quiet:
            self._posting += 1
        try:
            yield
        finally:
            with self._quiet:
                self._posting -= 1
                self._quiet.notify_all()


def _may_be_renamed(earlier: Origin, origin: Origin) -> bool:
    """Whether the stack of `earlier` may be that of `origin` under an earlier name."""
    same = (origin.name, origin.organization, origin.backend)
    return earlier.urn != origin.urn and same == (
        earlier.name,
        earlier.organization,
        earlier.backend,
    )
