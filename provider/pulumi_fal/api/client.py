"""The client for fal Compute's REST API, with one method per call.

Example:
    settings = resolve(os.environ, lambda key: None)
    for instance in Client(settings).list_instances():
        print(instance.id, instance.status)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pulumi_fal.api import retry
from pulumi_fal.api.dialects import DIALECTS, Page, Request, mismatch
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.api.transport import Transport
from pulumi_fal.clock import Clock
from pulumi_fal.errors import NotFoundError, UnusableAnswerError

T = TypeVar("T")
Send = Callable[[Request[Any], float | None], Any]
"""Sends a request with a timeout in seconds, and returns the decoded body of the answer."""

_PAGE_SECONDS = 15.0
"""Seconds for which each page after the first is retried if the list itself is not retried."""


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
        self._api = settings.api
        self._dialect = DIALECTS[settings.api]
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
        """Return all machines of the account, from all pages of the list."""
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
        """Return one machine. Raises NotFoundError if the API does not know the id."""
        return self._call(self._dialect.get_instance(instance_id))

    def find_instance(self, instance_id: str) -> Instance | None:
        """Return one machine, or None if the API does not know the id."""
        try:
            return self.get_instance(instance_id)
        except NotFoundError:
            return None

    def create_instance(self, new: NewInstance, idempotency_key: str = "") -> Instance:
        """Create a machine. It is billed from now on, even before it is ready.

        With an `idempotency_key`, a create that the API may have accepted is retried as well. The
        legacy API does not support keys.
        """
        return self._call(self._dialect.create_instance(new, idempotency_key))

    @property
    def has_idempotency_keys(self) -> bool:
        """Whether the API supports idempotency keys."""
        return self._dialect.has_idempotency_keys

    def new_idempotency_key(self) -> str:
        """Return a key for a new create, or "" if the API does not support keys."""
        return self._dialect.new_idempotency_key()

    def delete_instance(self, instance_id: str) -> None:
        """Request the deletion of a machine, which may take a while to disappear."""
        self._call(self._dialect.delete_instance(instance_id))

    def attempts(self, *, is_idempotent: bool) -> Iterator[retry.Attempt]:
        """Yield attempts as retry.py allows, for the client's budget.

        `is_idempotent` says whether the API may carry out the request twice without harm.
        """
        budget = retry.Budget(self._budget, self._clock.now(), is_idempotent=is_idempotent)
        return retry.attempts(budget, self._clock, self._notify)

    def _next_page(self, cursor: str) -> Page:
        # One failing page fails the whole list, and the more pages there are, the likelier that is.
        patient = self.within(_PAGE_SECONDS) if self._budget == 0 and not self._timeout else self
        return patient._call(patient._dialect.list_instances(cursor))

    def _call(self, request: Request[T]) -> T:
        for attempt in self.attempts(is_idempotent=request.is_idempotent):
            with attempt:
                answer = self._sent(request)
        return answer

    def _sent(self, request: Request[T]) -> T:
        """Send the request once, and return the parsed answer."""
        body = self._send(request, self._timeout)
        try:
            return request.parse(body)
        except ValueError as error:
            other = mismatch(self._api, body)
            detail = f"JSON {other}" if other else f"JSON of an unexpected shape: {error}"
            raise request.error(UnusableAnswerError, detail, status=200) from None
