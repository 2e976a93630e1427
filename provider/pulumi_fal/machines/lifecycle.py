"""Finds machines, waits until they are ready, and deletes them.

Two rules apply everywhere. A failed call says nothing about a machine, so it does not end a wait.
And a machine counts as gone only after two checks at different times, because a single answer may
come from a stale replica.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.clock import Clock
from pulumi_fal.errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    StillThereError,
    VanishedError,
)
from pulumi_fal.machines.entry import GRACE_SECONDS
from pulumi_fal.machines.fleet import Answer, Fleet, Instances
from pulumi_fal.machines.outage import Outage

STOPPED_SECONDS = 60.0
"""Seconds for which a machine must stay stopped until a wait for it ends as failed."""
RESEND_SECONDS = 120.0
"""The time after which an accepted DELETE is sent again if the machine still exists."""
SILENT_SECONDS = 60.0
"""For how long an API that gave no answer in time is not asked again by calls with a time limit."""
_LOOK_AGAIN_SECONDS = 2.0
"""The longest pause between the two looks of a call with a time limit."""


class Lifecycle:
    """Finds, awaits and deletes machines, with one client and one shared poll."""

    def __init__(
        self,
        client: Client,
        fleet: Fleet,
        clock: Clock,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`notify` is called with a message about a failed call, in the thread that waits."""
        self._client = client
        self._fleet = fleet
        self._clock = clock
        self._notify = notify
        self._failing_for = 0.0
        self._silent_until = -math.inf

    def find(self, instance_id: str, seconds: float = math.inf) -> Instance | None:
        """Return the machine, or None if two checks find that it is gone: not listed, and 404.

        With `seconds`, raises TimeoutError if that takes longer, and retries no call. The seconds
        are for all such calls that fail in a row, because a preview asks for one machine after
        another. If the API gives no answer in that time, the next calls don't ask it.
        """
        began = self._clock.now()
        if seconds == math.inf:
            return self._find(instance_id, math.inf, self._fleet.interval)
        if began < self._silent_until:
            raise TimeoutError
        until = began + seconds - self._failing_for
        try:
            found = self._find(instance_id, until, min(self._fleet.interval, _LOOK_AGAIN_SECONDS))
        except (APIError, TimeoutError):
            now = self._clock.now()
            self._failing_for += now - began
            if self._failing_for >= seconds / 2:  # a request times out after that
                self._silent_until, self._failing_for = now + SILENT_SECONDS, 0.0
            raise
        self._failing_for = 0.0
        return found

    def _find(self, instance_id: str, until: float, pause: float) -> Instance | None:
        # A refresh reads hundreds of machines within a second, so they share a list.
        listed = self._fleet.recent(self._fleet.interval / 4, until, share_errors=False)
        found = self._look(instance_id, listed, until)
        if found is None:
            self._clock.sleep(min(pause, until - self._clock.now()))
            found = self._look(instance_id, self._fleet.fresh(until), until)
        return found

    def wait_until_ready(
        self,
        instance: Instance,
        seconds: float,
        observe: Callable[[Instance], None] = lambda instance: None,
    ) -> Instance:
        """Wait until the machine is ready and has an ip, and return it.

        `observe` is called when the API first shows the machine, and then with every change.
        Raises NotReadyError after `seconds` or if the machine stays stopped for STOPPED_SECONDS,
        VanishedError if the machine is gone, and AuthenticationError if the API has refused the
        key for a minute.
        """
        if instance.is_ready:
            return instance
        started = self._clock.now()
        misses, listed = 0, False
        stopped_since = math.inf
        outage = Outage(self._clock, self._notify)
        for answer in self._fleet.watch(seconds):
            is_due = listed or self._clock.now() - started >= GRACE_SECONDS
            try:
                found = self._seen_in(answer, instance.id, ask=is_due)
            except APIError as error:
                outage.record_failure(error)
                continue
            outage.record_success()
            if found is None:
                misses += is_due
            else:
                if found != instance or not listed:
                    observe(found)
                instance, listed, misses = found, True, 0
                now = self._clock.now()
                stopped_since = min(stopped_since, now) if found.is_stopped else math.inf
                if now - stopped_since >= STOPPED_SECONDS:
                    raise NotReadyError(instance.id, _stopped(instance))
            if misses == 2:
                raise VanishedError(
                    instance.id,
                    f"Machine {instance.id} ({instance.instance_type}) is gone: it was "
                    f"{instance.status} when last seen, and the API no longer knows it.",
                    was_listed=listed,
                )
            if instance.is_ready:
                return instance
        raise NotReadyError(
            instance.id,
            f"Machine {instance.id} ({instance.instance_type}) runs and bills, but was not "
            f"ready after {seconds:.0f} s: its status is {instance.status}, and it has "
            f"{'an ip' if instance.ip else 'no ip yet'}.{outage}\nRun `pulumi up` again to go "
            "on waiting for the same machine, or `pulumi destroy` to delete it.",
        )

    def delete(self, instance_id: str, seconds: float, *, is_new: bool = False) -> None:
        """Delete the machine and wait until the API no longer knows it.

        It is no error if the machine is already gone. `is_new` says that the API may not show the
        machine yet, so that it counts as gone only after GRACE_SECONDS. Raises StillThereError
        after `seconds`, InvalidRequestError if the API rejects the request, and AuthenticationError
        if it has refused the key for a minute.
        """
        request = _Deletion(self._client.within(0), instance_id, self._clock, self._notify)
        request.send()
        started, misses = self._clock.now(), 0
        outage = Outage(self._clock, self._notify)
        for answer in self._fleet.watch(seconds):
            is_due = not is_new or self._clock.now() - started >= GRACE_SECONDS
            try:
                # After an accepted DELETE, two lists in a row are proof enough, and save a GET for
                # every machine.
                found = self._seen_in(answer, instance_id, ask=not request.accepted)
            except APIError as error:
                outage.record_failure(error)
                continue
            outage.record_success()
            if found is not None or not request.accepted:
                request.send()
            if found is not None or request.is_known:
                misses = 0
            else:
                misses += request.accepted or is_due
            if misses == 2:
                return
        raise StillThereError(
            instance_id,
            f"Machine {instance_id} may still exist {seconds:.0f} s after its delete began "
            f"({request.said}).{outage}",
        )

    def _look(self, instance_id: str, instances: Instances, until: float) -> Instance | None:
        listed = instances.get(instance_id)
        if listed is not None:
            return listed
        if until == math.inf:
            return _get(self._client, instance_id)
        left = until - self._clock.now()
        if left <= 0:
            raise TimeoutError
        return _get(self._client.within(0, left), instance_id)

    def _seen_in(self, answer: Answer, instance_id: str, *, ask: bool) -> Instance | None:
        """Return the machine from this answer, or with `ask` from a GET if the answer lacks it.

        Raises the error of the answer, or the APIError of the GET.
        """
        found = answer.usable().get(instance_id)
        return _get(self._client.within(0), instance_id) if found is None and ask else found


class _Deletion:
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


def _stopped(instance: Instance) -> str:
    return (
        f"Machine {instance.id} ({instance.instance_type}) has been stopped for "
        f"{STOPPED_SECONDS:.0f} s, so it does not become ready. It may still bill.\n"
        "Start it on the fal dashboard and run `pulumi up` again, or run `pulumi destroy` to "
        "delete it."
    )


def _get(client: Client, instance_id: str) -> Instance | None:
    try:
        return client.get_instance(instance_id)
    except NotFoundError:
        return None
