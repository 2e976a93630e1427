"""Create a machine exactly once, despite crashes and lost responses.

No API of fal's has names or tags, so nothing on the server tells which create a machine came from.
What is known is on disk before, during and after the POST. Where the API takes an idempotency key,
a create without an answer is sent again with its key. Otherwise, where a machine may exist that
nobody can assign, none is made: the machines that it may be are named.
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
"""Between two looks at a create that another process works on."""
_BEFORE_SECONDS = 2.0
"""How old the list may be that says which machines existed before a POST, so that creates share it.
A machine that others make in that time may be named as a candidate: one too many is harmless."""


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
        """`home`: of the API key that is set, for the record. `new_key`: makes an idempotency
        key, "" where the API takes none. `warn` is told what stops nothing."""
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
        """Machines of earlier creates that this process resumed."""

    @contextmanager
    def launch(self, spec: Spec, origin: Origin) -> Iterator[Instance]:
        """The resource's machine: the one that an earlier create made, else a new one.

        While the block runs, other processes see that the create is under way.
        UnresolvedCreateError where a machine may exist that nobody can assign.
        """
        with self._locked(origin):
            entry = self._journal.find(origin)
            instance = self._resume(entry, spec, origin) if entry else None
            yield instance or self._start(spec, origin)

    def mark_reported(self, origin: Origin, *, seen: bool) -> None:
        """Pulumi is about to be told of the machine; `seen`: the API has shown it since."""
        self._mark(origin, Phase.REPORTED, seen=seen)

    def mark_unreported(self, origin: Origin) -> None:
        """Pulumi did not hear of the machine after all."""
        self._mark(origin, Phase.CREATED, seen=False)

    def discard(self, origin: Origin) -> None:
        """The machine is gone."""
        with self._warning(origin.urn):
            entry = self._journal.find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def may_still_appear(self, urn: str, instance_id: str) -> bool:
        """Whether a machine in state is too new for its absence from the API to mean anything.

        It is, where the create of this URN made it a moment ago and the API hasn't shown it since.
        """
        return any(
            entry.instance_id == instance_id and entry.is_new(self._clock.wall())
            for entry in self._journal.readable(urn)
            if entry.origin.urn == urn
        )

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is in flight and every answer is on disk, or after `seconds`."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._posting, seconds)

    def _resume(self, entry: Entry, spec: Spec, origin: Origin) -> Instance | None:
        """The machine of an earlier create; None, and no entry, where a new one is to be made."""
        facts = self._facts.about(entry, origin, spec)
        if facts.machine is not None and not entry.seen:  # from now on its absence counts
            entry = replace(entry, seen=True)
            self._record(entry)
        match decide(entry, facts):
            case Resume(instance):
                self.resumed_ids.add(instance.id)
                self._record(
                    replace(  # what a person has adopted may be of another create
                        entry,
                        phase=Phase.CREATED,
                        instance_type=spec.instance_type,
                        ssh_key=spec.fingerprint,
                        sector=spec.sector,
                    )
                )
                return instance
            case SendAgain():
                # Its machine may be in state already, where only the record could not be written.
                made, _ = self._post(entry, spec, may_be_sent=True)
                return self._resume(made, spec, origin)
            case StartFresh(warning):
                if warning:
                    self._warn(warning)
                self._forget(entry)
                return None
            case Stop(error):
                if facts.search:  # what has appeared by now is not late, whenever the next look is
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
        """`may_be_sent`: whether an earlier process may have sent the same create."""
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
                if not (unanswered or may_be_sent):  # nothing was sent that the API took
                    self._forget(entry)
                    raise
                if unanswered:
                    problem = str(unanswered[-1])
                    entry = replace(entry, problem=problem, started=self._clock.wall())
                    self._record(entry)
            else:
                if instance.id not in entry.before:
                    # A POST that was refused for a while may have been sent long ago.
                    made = replace(entry, started=self._clock.wall()).as_created(instance.id)
                    self._record(made)
                    return made, instance
                problem = f"the API answered with {instance.id}, which was there before it."
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
        """Where a stack or project was renamed, its creates are on record under the old name."""
        if not origin.is_certain:
            return  # an entry of an unknown backend may be any stack's
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
            raise unresolved.together(problems)

    @cached_property
    def _earlier_entries(self) -> list[Entry]:
        """The whole journal, read once: a stack that is gone makes nothing more."""
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
        """Once there is a machine, or an answer, a journal that fails must not take that away."""
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")

    @contextmanager
    def _locked(self, origin: Origin) -> Iterator[None]:
        """Keep other processes from this create, once none works on it any more.

        The plugin of an engine that was killed lives on until the API has answered its POST.
        """
        told = False
        while (lock := self._journal.try_lock(origin)) is None:
            if not told:
                self._warn(unresolved.under_way(origin))
                told = True
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
    """Whether the stack of the one may be that of the other under an earlier name."""
    same = (origin.name, origin.organization, origin.backend)
    return earlier.urn != origin.urn and same == (
        earlier.name,
        earlier.organization,
        earlier.backend,
    )
