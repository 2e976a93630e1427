"""Sends a create, and records the result before anything else happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.clock import Clock
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
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.records import Records


class Sender:
    """The POSTs of one process."""

    def __init__(
        self,
        client: Client,
        facts: FactFinder,
        journal: Journal,
        records: Records,
        clock: Clock,
    ) -> None:
        self._client = client
        self._facts = facts
        self._journal = journal
        self._records = records
        self._clock = clock
        self._in_flight = 0
        self._quiet = threading.Condition()

    def wait_until_quiet(self, seconds: float) -> None:
        """Return when no POST is in flight and every answer is recorded, or after `seconds`."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._in_flight, seconds)

    def send(
        self, entry: Entry, new: NewInstance, *, may_be_sent: bool = False
    ) -> tuple[Entry, Instance]:
        """Send the create, record its result, and return the entry with the machine.

        `may_be_sent` says whether an earlier process may have sent the same create. Raises an
        APIError if the API certainly made no machine, and UnresolvedCreateError if it may have.
        """
        failures: list[APIError] = []
        client = self._client
        if entry.idempotency_key:
            client = client.within(self._seconds_left(entry))
        if not may_be_sent:
            self._journal.write(entry)
        elif not self._may_repeat(entry):  # a wait for a lock may have taken long
            raise self._without_an_answer(entry)
        with self._counted():
            try:
                instance = client.create_instance(
                    new,
                    entry.idempotency_key,
                    failures.append,
                    may_be_sent=may_be_sent,
                    may_repeat=lambda: self._may_repeat(entry),
                )
            except (APIError, ConfigurationError, Interrupted) as error:
                unanswered = list(filter(retry.may_have_made_a_machine, failures))
                if not (unanswered or may_be_sent):  # the API did not accept any request
                    self._records.drop(entry)
                    raise
                is_answer = not isinstance(error, Interrupted)
                last = error if is_answer else next(reversed(failures), None)
                if last is not None:
                    problem = unresolved.problem(entry, next(reversed(unanswered), None), last)
                    entry = replace(entry, problem=problem, started=self._clock.wall())
                    self._records.write(entry)
            else:
                if instance.id not in entry.before:
                    # The POST may have been retried, so the entry gets the current time.
                    made = replace(entry, started=self._clock.wall()).as_created(instance.id)
                    self._records.write(made)
                    return made, instance
                problem = f"the API answered with {instance.id}, which existed before it."
                entry = replace(entry, problem=problem, started=self._clock.wall())
                self._records.write(entry)
        raise self._without_an_answer(entry)

    def _seconds_left(self, entry: Entry) -> float:
        """Return for how long the create may still be sent again with its key.

        The client counts these with a clock that stands still while a laptop sleeps, but can't be
        set. `_may_repeat` asks the wall clock, of which the opposite is true. The earlier end
        counts.
        """
        return entry.key_seconds_left(self._clock.wall())

    def _may_repeat(self, entry: Entry) -> bool:
        return not entry.idempotency_key or self._seconds_left(entry) > 0

    def _without_an_answer(self, entry: Entry) -> UnresolvedCreateError:
        try:
            search = self._facts.search(entry)
        except FalError as error:
            return unresolved.unseen(entry, error)
        if not search:
            self._records.write(replace(entry, searched=True))
        return unresolved.unanswered(entry, search.candidates, search.unread)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._quiet:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._quiet:
                self._in_flight -= 1
                self._quiet.notify_all()
