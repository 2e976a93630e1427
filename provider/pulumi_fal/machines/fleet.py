"""The one list of machines for all threads, and the one rule for when a machine is gone.

There is no polling thread. Of the waiting threads, the one that is due first calls the API and
passes the answer to the others. Polling therefore starts with the first waiting thread, ends with
the last, and needs as many calls for one machine as for hundreds.

A list, and a GET, may come from a stale replica, and many machines may be missing for a while. So:

- A machine that the API has never shown is not gone: it may still appear.
- One that it has shown, and that we did not delete, is gone when it is missing in every look of a
  minute. Several that go missing at once are more suspicious, and need twice that. Time in which
  nobody could look, as in an outage of the API, does not count.
- One whose DELETE the API has accepted is gone when two lists in a row lack it, and a GET after
  that says 404.

What leaves state or a create by the second rule stays on record for an hour, and every command
names it if it comes back. Only the account that made a machine can show that it is gone.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.api.client import Client

Instances = Mapping[str, Instance]

_AFTER_READY = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""The parts of the interval after which polls follow one that shows a machine that has just become
ready. Machines that were started together become ready together, and most of them a moment after
the first."""
_AFTER_DELETE = (1 / 8, 1 / 4)
"""The parts of the interval after which polls follow a DELETE: the first poll, which is also the
pause until a poll confirms that no machine is left, and the least pause between others."""
_SEVERAL = 2.0
"""By how much longer machines must be missing of which several have gone at once."""
_LEAST_LOOKS = 3
"""How many looks that time must have at least, after the first."""


@dataclass(frozen=True)
class Answer:
    """The result of the `number`-th list call of this process. Times are in seconds."""

    number: int
    asked_at: float
    """When the call was started."""
    instances: Instances = field(default_factory=dict)
    """All machines by id. If the call failed, the machines from the last call that succeeded."""
    error: BaseException | None = None
    """The exception of a call that failed."""
    failures: int = 0
    """The number of calls in a row, up to this one, that failed."""
    pause: float = 0.0
    """After a call that failed, the delay until the next one."""
    soon: float = 0.0
    """The part of the interval after which to poll again, because a machine has become ready a
    moment ago, or because no deleted one is left; 0 if the next poll is not hurried."""
    hurried: int = 0
    """The number of hurried polls in a row, up to and with the next one."""

    def usable(self) -> Instances:
        """Return the machines. Raises the exception of the call if it failed."""
        if self.error is not None:
            raise self.error
        return self.instances


class Fleet:
    """The account's machines, as shared list calls show them."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        interval: float = 2.0,
        absence: float = 60.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`interval` is the time between polls in seconds. In long waits it grows eightfold.

        `absence` is for how many seconds a machine must be missing.
        """
        self._client = client
        self.clock = clock
        self.interval = interval
        self._uniform = uniform
        self._condition = threading.Condition()
        self._asked = 0
        self._asked_at = -math.inf
        self._asking = False
        self._latest = Answer(number=0, asked_at=clock.now())
        self.ending: set[str] = set()
        """The machines whose DELETE the API has accepted, until they are known to be gone."""
        self.least_absence, self.longest_absence = absence, absence * _SEVERAL
        self.missing: list[str] = []
        """The ids of the machines that calls miss now, once for each call."""

    def fresh(self, until: float = math.inf) -> Instances:
        """Return all machines by id, from a list call that was started after this one.

        Raises APIError if it fails despite retries. With `until`, a time of the clock, there are no
        retries, and TimeoutError is raised if there is no answer by then.
        """
        with self._condition:
            seen = self._asked
        return self._usable_after(seen, until)

    def recent(
        self, seconds: float, until: float = math.inf, *, share_errors: bool = True
    ) -> Instances:
        """Return all machines by id, from a list call that was started at most `seconds` ago.

        `until` and the exceptions are those of `fresh`. With `share_errors`, the exception of such
        a call is raised as well; otherwise a call that has failed is repeated.
        """
        with self._condition:
            seen = self._asked
            has_failed = self._latest.number == seen and self._latest.error is not None
            is_recent = self._asked_at >= self.clock.now() - seconds
            if is_recent and (share_errors or not has_failed):
                seen -= 1
        return self._usable_after(seen, until)

    def latest(self) -> Instances:
        """Return all machines by id, as the last list call showed them, without another one."""
        with self._condition:
            return self._latest.instances

    @property
    def absence_seconds(self) -> float:
        """For how many seconds a machine that is missing now must be."""
        return self.longest_absence if len(set(self.missing)) > 1 else self.least_absence

    def watch(self, seconds: float, *, for_end: bool = False) -> Iterator[Answer]:
        """Yield the answers of list calls, each newer than the last, for `seconds`.

        There is at least one answer. The last call is started when the time is up. Answers include
        those of failed calls, which are followed by a longer pause. With `for_end`, a machine is
        being deleted, and the first calls are hurried.
        """
        started = asked_at = self.clock.now()
        with self._condition:
            seen, last = self._asked, self._asked_at
        end = started + seconds
        pause = self._pause(0.0)
        if for_end:
            first, later = (self._pause(0.0, soon) for soon in _AFTER_DELETE)
            pause = max(first, last + later - started)  # or each of many would bring its own poll
        while True:
            answer = self._answer_after(seen, min(asked_at + pause, end))
            if answer.error is not None and not isinstance(answer.error, APIError):
                raise answer.error
            seen, asked_at = answer.number, answer.asked_at
            yield answer
            if asked_at >= end:
                return
            waited = asked_at - started
            soon = answer.soon
            if for_end and waited < self.interval:
                soon = soon or max(_AFTER_DELETE[1], waited / self.interval)
            pause = answer.pause or self._pause(waited, soon)

    def _pause(self, waited: float, soon: float = 0.0) -> float:
        longest = soon * self.interval or 8 * self.interval
        return min(max(self.interval, waited / 20), longest)

    def _usable_after(self, seen: int, until: float = math.inf) -> Instances:
        if until < math.inf:
            return self._answer_after(seen, self.clock.now(), until).usable()
        for attempt in self._client.attempts(is_idempotent=True):
            with attempt:
                answer = self._answer_after(seen, self.clock.now())
                seen = answer.number
                answer.usable()
        return answer.instances

    def _answer_after(self, seen: int, due: float, until: float = math.inf) -> Answer:
        """Return the first answer after number `seen`.

        If no other thread has called the API by `due`, this one does. Raises TimeoutError at
        `until`.
        """
        with self._condition:
            while self._latest.number <= seen:
                now = self.clock.now()
                if now >= until:
                    raise TimeoutError
                if not self._asking and now >= due:
                    break
                end = until if self._asking else min(due, until)
                self.clock.wait(self._condition, None if end == math.inf else end - now)
            else:
                return self._latest
            self._asking = True
            self._asked += 1
            number, asked_at = self._asked, self.clock.now()
            self._asked_at = asked_at
        error: BaseException | None = None
        instances: Instances = {}
        try:
            # Without retries, because the waiting threads handle failures themselves.
            client = self._client.within(0, until - asked_at if until < math.inf else None)
            instances = {instance.id: instance for instance in client.list_instances()}
        except BaseException as failure:  # noqa: BLE001 - the waiting threads must get every error
            error = failure
        with self._condition:
            answer = self._next(number, asked_at, instances, error)
            self._latest = answer
            self._asking = False
            self._condition.notify_all()
        return answer

    def _next(
        self, number: int, asked_at: float, instances: Instances, error: BaseException | None
    ) -> Answer:
        last = self._latest
        if error is not None:
            failures = last.failures + 1
            pause = 0.0
            if isinstance(error, APIError):
                pause = retry.delay(error, failures, self._uniform)
            # Keep the machines of the last usable answer, to compare the next one with them.
            return Answer(number, asked_at, last.instances, error, failures, pause)
        is_end = bool(self.ending) and self.ending.isdisjoint(instances)
        soon = _soon(last, instances, is_end=is_end)
        return Answer(
            number, asked_at, instances, soon=soon, hurried=last.hurried + 1 if soon else 0
        )


def _soon(last: Answer, instances: Instances, *, is_end: bool) -> float:
    """Return the part of the interval after which to poll again, or 0 if there is no hurry.

    `is_end` says that no machine is left that is being deleted, which the next poll has to confirm.
    There are only so many hurried polls in a row, or many machines that become ready one by one
    would take many more calls.
    """
    if last.hurried >= len(_AFTER_READY):
        return 0.0
    if is_end:
        return _AFTER_DELETE[0]
    before = last.instances
    is_new = any(
        instance.is_ready and id_ in before and not before[id_].is_ready
        for id_, instance in instances.items()
    )
    return _AFTER_READY[last.hurried] if is_new or last.hurried else 0.0


class Absence:
    """For how long one call has missed one machine. The block is that call."""

    def __init__(self, fleet: Fleet, instance_id: str) -> None:
        self._fleet = fleet
        self._id = instance_id
        self._looked_at: float | None = None
        self.seconds = 0.0
        """For how long the machine has been missing, as far as somebody looked."""

    def __enter__(self) -> Absence:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def is_missing(self) -> bool:
        """Whether the last look has missed the machine."""
        return self._looked_at is not None

    @property
    def is_over(self) -> bool:
        """Whether the machine has been missing for long enough to be gone."""
        return self.seconds >= self._fleet.absence_seconds

    def missed(self) -> None:
        """Note that a look has missed the machine."""
        now = self._fleet.clock.now()
        if self._looked_at is None:
            self._fleet.missing.append(self._id)
        else:
            longest = self._fleet.least_absence / _LEAST_LOOKS
            self.seconds += min(now - self._looked_at, longest)
        self._looked_at = now

    def end(self) -> None:
        """Note that the API shows the machine, or that nobody looks for it any more."""
        if self._looked_at is not None:
            self._looked_at, self.seconds = None, 0.0
            self._fleet.missing.remove(self._id)
