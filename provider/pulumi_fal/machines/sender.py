"""Sends a create to the API, with a record on disk before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    FalError,
    Interrupted,
    UnresolvedCreateError,
)
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.facts import FactFinder
from pulumi_fal.machines.records import Records


class Sender:
    """Sends the creates of one process, and says what became of each."""

    def __init__(self, client: Client, facts: FactFinder, records: Records) -> None:
        self._client = client
        self._facts = facts
        self._records = records
        self._clock = facts.clock

    def send(
        self,
        entry: Entry,
        new: NewInstance,
        *,
        may_be_sent: bool = False,
        gives_up: Callable[[APIError], bool] = lambda error: False,
    ) -> tuple[Entry, Instance]:
        """Send the create, record its result, and return the entry with the machine.

        `may_be_sent` says whether an earlier process may have sent the same create. `gives_up` is
        that of the client. Raises an APIError if the API certainly made no machine, and
        UnresolvedCreateError if it may have.
        """
        failures: list[APIError] = []
        client = self._client
        if entry.idempotency_key:
            # The client counts these seconds with a clock that stands still while a laptop sleeps,
            # but can't be set. `may_repeat` asks the wall clock, of which the opposite is true.
            client = client.within(entry.key_seconds_left(self._clock.wall()))
        if not may_be_sent:
            self._records.begin_post(entry)
        elif not self.may_repeat(entry):  # a wait for a lock may have taken long
            raise self._without_an_answer(entry)
        else:
            # A command that has read the entry must not drop it once this has been sent.
            entry = replace(entry, started=self._clock.wall())
            self._records.write(entry)
        try:
            instance = client.create_instance(
                new,
                entry.idempotency_key,
                failures.append,
                may_repeat=lambda: self._repeats(entry),
                gives_up=gives_up,
            )
        except (APIError, ConfigurationError, Interrupted) as error:
            unanswered = list(filter(retry.may_have_made_a_machine, failures))
            if not (unanswered or may_be_sent):  # the API did not accept any request
                self._records.drop(entry)
                raise
            last = next(reversed(failures), None) if isinstance(error, Interrupted) else error
            if last is not None:
                problem = unresolved.problem(entry, next(reversed(unanswered), None), last)
                entry = self._with_problem(entry, problem)
        else:
            is_new = instance.id not in entry.before
            if is_new and self._records.claim(entry.origin.urn, instance.id):
                # The POST may have been retried, so the entry gets the current time.
                made = replace(entry, started=self._clock.wall()).as_created(instance.id)
                self._records.write(made)
                kind = instance.instance_type or new.instance_type  # the answer needs only an id
                return made, replace(instance, instance_type=kind)
            had = "which another resource has" if is_new else "which existed before it"
            problem = f"the API answered with {instance.id}, {had}."
            entry = self._with_problem(entry, problem)
        raise self._without_an_answer(entry)

    def _repeats(self, entry: Entry) -> bool:
        """Whether the create may be sent again, which then is on record."""
        if not self.may_repeat(entry):
            return False
        self._records.write(replace(entry, started=self._clock.wall()))
        return True

    def may_repeat(self, entry: Entry) -> bool:
        """Whether the create may still be sent again with its key, by the wall clock."""
        return not entry.idempotency_key or entry.key_seconds_left(self._clock.wall()) > 0

    def _with_problem(self, entry: Entry, problem: str) -> Entry:
        """Record why it is not known whether the POST, which has just ended, made a machine."""
        entry = replace(entry, problem=problem, started=self._clock.wall())
        self._records.write(entry)
        return entry

    def _without_an_answer(self, entry: Entry) -> UnresolvedCreateError:
        try:
            (search,) = self._facts.search([entry])
        except FalError as error:
            return unresolved.unseen(entry, error)
        if not search:
            self._records.write(replace(entry, searched=True))
        return unresolved.unanswered(entry, search.candidates, search.unread)
