"""The DELETE of a machine."""

from __future__ import annotations

import random
from collections.abc import Callable

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError, AuthenticationError, ConflictError, NotFoundError
from pulumi_fal.machines.outage import Outage

RESEND_SECONDS = 120.0
"""The time after which an accepted DELETE is sent again if the machine still exists."""

_AGAIN_SECONDS = 5.0
"""The same for one that the API answered with 404: the machine may appear or come back."""


class Deletion:
    """The DELETE of one machine. It is retried, with the delays of retry.py, until it is accepted.

    After that it is sent again every RESEND_SECONDS, because the 200 may have come from a gateway.
    """

    def __init__(
        self, client: Client, instance_id: str, clock: Clock, notify: Callable[[str], None]
    ) -> None:
        self.accepted = False
        self.is_known = False
        """Whether the last answer was a 409, which shows that the machine exists."""
        self.said = ""
        """The last answer of the API, in words."""
        self._client = client
        self._id = instance_id
        self._clock = clock
        self._outage = Outage(clock, notify)
        self._tries = 0
        self._due = 0.0

    def send(self) -> None:
        """Send the DELETE if it is due. After 404 or 409 the list decides."""
        if self._clock.now() < self._due:
            return
        self._tries += 1
        self.is_known = False
        try:
            self._client.delete_instance(self._id)
        except (ConflictError, NotFoundError) as error:
            self.is_known = isinstance(error, ConflictError) and not self.accepted
            self.said = f"the API answered {error.status}: {error.detail}"
            if not self.is_known:
                self._due = self._clock.now() + _AGAIN_SECONDS
            return
        except APIError as error:
            if retry.rule(error) is retry.REFUSED and not isinstance(error, AuthenticationError):
                raise
            self.said = f"{error}".rstrip(".")
            self._outage.record_failure(error)
            self._due = self._clock.now() + retry.delay(error, self._tries, random.uniform)
            return
        self.accepted, self.said = True, "the API had accepted it"
        self._due = self._clock.now() + RESEND_SECONDS
