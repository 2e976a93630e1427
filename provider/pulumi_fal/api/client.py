"""fal Compute's legacy REST API: one method per call. Usable without Pulumi.

settings = resolve(os.environ, lambda key: None)
for instance in Client(settings).list_instances():
    print(instance.id, instance.status)
"""

from __future__ import annotations

import copy
import functools
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Settings
from pulumi_fal.api.transport import Transport
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, UnusableAnswerError

T = TypeVar("T")

_TOLD_FROM = 3
"""The first retry that is reported; one or two are common."""


class Client:
    """Each method repeats what retry.py allows, within the settings' budget; then APIError."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        send: Callable[..., Any] | None = None,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`send` replaces the wire in tests; `notify` is told when a call keeps failing."""
        self._budget = settings.retry_budget
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
            other._send = functools.partial(self._send, timeout=timeout)
        return other

    def list_instances(self) -> list[Instance]:
        """All machines of the account: GET /compute/instances."""
        return self._call(
            "GET",
            "/compute/instances",
            lambda body: [Instance.from_list(each) for each in _array(body)],
        )

    def get_instance(self, instance_id: str) -> Instance:
        """One machine: GET /compute/instance/{id}. NotFoundError where there is none."""
        return self._call(
            "GET",
            f"/compute/instance/{quote(instance_id, safe='')}",
            lambda body: _same(instance_id, Instance.from_api(body)),
            instance_id=instance_id,
        )

    def create_instance(
        self, instance_type: str, ssh_key: str, sector: str | None = None
    ) -> Instance:
        """Rent a machine: POST /compute/instance. It bills from here on, ready or not.

        Where the error is one that `retry.may_have_made_a_machine`, one may run all the same.
        """
        body = {"instance_type": instance_type, "ssh_key": ssh_key}
        if sector:
            body["sector"] = sector
        return self._call("POST", "/compute/instance", Instance.from_api, body=body)

    def delete_instance(self, instance_id: str) -> None:
        """Ask for a machine's end: DELETE /compute/instance/{id}. It may take a while to go."""
        self._call(
            "DELETE",
            f"/compute/instance/{quote(instance_id, safe='')}",
            lambda body: None,
            instance_id=instance_id,
            json_expected=False,
        )

    def repeated(self, attempt: Callable[[], T]) -> T:
        """What the attempt brings, repeated while it fails as retry.py allows."""
        budget = retry.Budget(self._budget, self._clock.now())
        for count in itertools.count(1):
            self._clock.check()
            try:
                return attempt()
            except APIError as error:
                pause = retry.delay(error, count, random.uniform)
                if not budget.allows(error, self._clock.now(), pause):
                    raise
                if count >= _TOLD_FROM:
                    self._notify(f"{error} Trying again in {pause:.0f} s.")
            self._clock.sleep(pause)
        raise AssertionError("unreachable")

    def _call(self, method: str, path: str, parse: Callable[[Any], T], **request: Any) -> T:
        def attempt() -> T:
            body = self._send(method, path, **request)
            return _parsed(method, path, parse, body, request.get("instance_id"))

        return self.repeated(attempt)


def _parsed(
    method: str, path: str, parse: Callable[[Any], T], body: Any, instance_id: str | None
) -> T:
    try:
        return parse(body)
    except ValueError as error:
        detail = f"JSON of an unexpected shape: {error}"
        raise UnusableAnswerError(
            method, path, detail, status=200, instance_id=instance_id
        ) from None


def _array(body: Any) -> list[Any]:
    if not isinstance(body, list):
        raise ValueError(f"expected an array, not {type(body).__name__}")
    return body


def _same(instance_id: str, instance: Instance) -> Instance:
    if instance.id != instance_id:
        raise ValueError("the answer is about another machine")
    return instance
