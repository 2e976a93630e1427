"""The client for fal Compute's REST API, with one method per call.

Example:
    settings = resolve(os.environ, lambda key: None)
    for instance in Client(settings).list_instances():
        print(instance.id, instance.status)
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

from pulumi_fal.api import legacy, retry
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import Settings
from pulumi_fal.api.transport import Transport
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, UnusableAnswerError

T = TypeVar("T")
Send = Callable[[Request[Any], float | None], Any]
"""Sends a request with a timeout in seconds, and returns the decoded body of the answer."""

_FIRST_REPORTED_RETRY = 3
"""The number of the first retry that is reported. One or two retries are common."""


class Client:
    """A client with retries. Methods raise APIError if a call fails.

    A call is retried if retry.py allows it, for up to `retry_budget` seconds from the settings.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        send: Send | None = None,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`send` replaces HTTP in tests. `notify` gets a message when a call keeps failing."""
        self._budget = settings.retry_budget
        self._timeout: float | None = None
        self._clock = clock or Clock()
        self._send = send or Transport(settings).send
        self._notify = notify

    def within(self, budget: float, timeout: float | None = None) -> Client:
        """Return a client with another retry budget in seconds. With 0 it makes no retries.

        `timeout` limits the time in seconds for which a single request waits for its answer.
        """
        other = copy.copy(self)
        other._budget = budget
        if timeout is not None:
            other._timeout = timeout
        return other

    def list_instances(self) -> list[Instance]:
        """Return all machines of the account."""
        return self._call(legacy.list_instances())

    def get_instance(self, instance_id: str) -> Instance:
        """Return one machine. Raises NotFoundError if the API does not know the id."""
        return self._call(legacy.get_instance(instance_id))

    def create_instance(
        self, instance_type: str, ssh_key: str, sector: str | None = None
    ) -> Instance:
        """Create a machine. It is billed from now on, even before it is ready.

        If this raises an error for which `retry.may_have_made_a_machine` is true, a machine may
        have been created nevertheless.
        """
        return self._call(legacy.create_instance(instance_type, ssh_key, sector))

    def delete_instance(self, instance_id: str) -> None:
        """Request the deletion of a machine, which may take a while to disappear."""
        self._call(legacy.delete_instance(instance_id))

    def repeated(self, attempt: Callable[[], T], *, is_idempotent: bool) -> T:
        """Return the result of `attempt`, which is retried as retry.py allows.

        `is_idempotent` says whether the API may carry out the request twice without harm.
        """
        budget = retry.Budget(self._budget, self._clock.now(), is_idempotent=is_idempotent)
        for count in itertools.count(1):
            self._clock.check()
            try:
                return attempt()
            except APIError as error:
                pause = retry.delay(error, count, random.uniform)
                if not budget.allows(error, self._clock.now(), pause):
                    raise
                if count >= _FIRST_REPORTED_RETRY:
                    self._notify(f"{error} Trying again in {pause:.0f} s.")
            self._clock.sleep(pause)
        raise AssertionError("unreachable")

    def _call(self, request: Request[T]) -> T:
        def attempt() -> T:
            body = self._send(request, self._timeout)
            try:
                return request.parse(body)
            except ValueError as error:
                detail = f"JSON of an unexpected shape: {error}"
                raise request.error(UnusableAnswerError, detail, status=200) from None

        return self.repeated(attempt, is_idempotent=request.is_idempotent)
