"""fal Compute's REST API: one method per call. Usable without Pulumi.

settings = resolve(os.environ, lambda key: None)
for instance in Client(settings).list_instances():
    print(instance.id, instance.status)
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pulumi_fal.api import legacy, retry, v1
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Dialect, Page, Request
from pulumi_fal.api.settings import Settings
from pulumi_fal.api.transport import Transport
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, UnusableAnswerError

T = TypeVar("T")
Send = Callable[[Request[Any], float | None], Any]
"""Sends a request within so many seconds, and returns the decoded body of the answer."""

DIALECTS: Mapping[str, Dialect] = {"legacy": legacy, "v1": v1}

_PAGE_SECONDS = 15.0
"""For how long each page after the first is repeated, where the list itself is not."""
_TOLD_FROM = 3
"""The first retry that is reported; one or two are common."""


class Client:
    """Each method repeats what retry.py allows, within the settings' budget; then APIError."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        send: Send | None = None,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`send` replaces the wire in tests; `notify` is told when a call keeps failing."""
        self._dialect = DIALECTS[settings.api]
        self._budget = settings.retry_budget
        self._timeout: float | None = None
        self._clock = clock or Clock()
        self._send = send or Transport(settings).send
        self._notify = notify

    def within(self, budget: float, timeout: float | None = None) -> Client:
        """The same client with another budget: 0 makes one attempt of each call.

        `timeout`: seconds for which one request may stay without an answer, at most.
        """
        other = copy.copy(self)
        other._budget = budget
        if timeout is not None:
            other._timeout = timeout
        return other

    def list_instances(self) -> list[Instance]:
        """All machines of the account, from as many pages as there are."""
        page = self._call(self._dialect.list_instances())
        found = {instance.id: instance for instance in page.instances}
        seen: set[str] = set()
        while page.next_cursor is not None:
            if page.next_cursor in seen:
                request = self._dialect.list_instances()
                raise request.error(UnusableAnswerError, "the pages of the list have no end")
            seen.add(page.next_cursor)
            page = self._next_page(page.next_cursor)
            found |= {instance.id: instance for instance in page.instances}
        return list(found.values())

    def get_instance(self, instance_id: str) -> Instance:
        """One machine. NotFoundError where there is none."""
        return self._call(self._dialect.get_instance(instance_id))

    def create_instance(
        self,
        instance_type: str,
        ssh_key: str,
        sector: str | None = None,
        idempotency_key: str = "",
        failed: Callable[[APIError], None] = lambda error: None,
    ) -> Instance:
        """Rent a machine. It bills from here on, ready or not.

        With an `idempotency_key` a create that may have been taken is repeated as well, within
        the budget; the legacy API takes none. `failed` is told of every attempt that fails: where
        one is an error that `retry.may_have_made_a_machine`, a machine may run, however the last
        attempt ends.
        """
        request = self._dialect.create_instance(instance_type, ssh_key, sector, idempotency_key)
        return self._call(request, failed)

    def delete_instance(self, instance_id: str) -> None:
        """Ask for a machine's end. It may take a while to go."""
        self._call(self._dialect.delete_instance(instance_id))

    def repeated(
        self,
        attempt: Callable[[], T],
        *,
        is_idempotent: bool,
        failed: Callable[[APIError], None] = lambda error: None,
    ) -> T:
        """What the attempt brings, repeated while it fails as retry.py allows.

        `is_idempotent`: whether two attempts that the API takes do no more than one. `failed` is
        told of every attempt that fails.
        """
        budget = retry.Budget(self._budget, self._clock.now(), is_idempotent=is_idempotent)
        for count in itertools.count(1):
            self._clock.check()
            try:
                return attempt()
            except APIError as error:
                failed(error)
                pause = retry.delay(error, count, random.uniform)
                if not budget.allows(error, self._clock.now(), pause):
                    raise
                if count >= _TOLD_FROM:
                    self._notify(f"{error} Trying again in {pause:.0f} s.")
            self._clock.sleep(pause)
        raise AssertionError("unreachable")

    def _next_page(self, cursor: str) -> Page:
        # A failing page would fail the whole list, the more often the more pages there are.
        patient = self.within(_PAGE_SECONDS) if self._budget == 0 and not self._timeout else self
        return patient._call(patient._dialect.list_instances(cursor))

    def _call(
        self, request: Request[T], failed: Callable[[APIError], None] = lambda error: None
    ) -> T:
        def attempt() -> T:
            body = self._send(request, self._timeout)
            try:
                return request.parse(body)
            except ValueError as error:
                detail = f"JSON of an unexpected shape: {error}"
                raise request.error(UnusableAnswerError, detail, status=200) from None

        return self.repeated(attempt, is_idempotent=request.is_idempotent, failed=failed)
