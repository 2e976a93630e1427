"""One list call for everybody: all who wait for machines, and all who read them, share it.

There is no polling thread. Of those who wait, the one whose time comes first asks the API and
hands the answer to all; when it leaves, the next one does. So polling starts with the first
waiter, ends with the last, and costs the same for one machine as for hundreds.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.clock import Clock
from pulumi_fal.errors import APIError

Instances = Mapping[str, Instance]

_JITTER = (1.0, 1.1)
"""What a pause is multiplied by, at random: many stacks are not to ask in step."""


@dataclass(frozen=True)
class Answer:
    """What the `number`-th list call of this process brought. Moments and times are in seconds."""

    number: int
    asked_at: float
    instances: Instances = field(default_factory=dict)
    """All machines by id; those of the last usable answer where there is an error."""
    error: BaseException | None = None
    failures: int = 0
    """How many in a row, up to this one, could not be used."""
    pause: float = 0.0
    """How long to wait before the next, after one that could not be used."""
    hurries: bool = False
    """Whether the next is due soon: a machine has become ready since the one before, or is gone."""

    def usable(self) -> Instances:
        """The machines; raises the error that came in their place."""
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
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`interval`: seconds between polls at first, growing to eight times that in long waits."""
        self._client = client
        self._clock = clock
        self.interval = interval
        self._uniform = uniform
        self._condition = threading.Condition()
        self._asked = 0
        self._asked_at = -math.inf
        self._asking = False
        self._jitter = uniform(*_JITTER)
        self._latest = Answer(number=0, asked_at=clock.now())

    def fresh(self, until: float = math.inf) -> Instances:
        """All machines by id, from a list that was asked for after this call began.

        APIError where there is none although it was repeated; with `until`, a moment, it is asked
        for once, and TimeoutError means that there was no answer by then.
        """
        with self._condition:
            seen = self._asked
        return self._usable_after(seen, until)

    def recent(
        self, seconds: float, until: float = math.inf, *, share_errors: bool = True
    ) -> Instances:
        """All machines by id, from a list that was asked for at most so long ago; `until` as above.

        `share_errors`: whether that list may also be one that has failed already.
        """
        with self._condition:
            seen = self._asked
            has_failed = self._latest.number == seen and self._latest.error is not None
            is_recent = self._asked_at >= self._clock.now() - seconds
            if is_recent and (share_errors or not has_failed):
                seen -= 1
        return self._usable_after(seen, until)

    def watch(self, seconds: float) -> Iterator[Answer]:
        """One answer after another, each newer than the last, until `seconds` have passed.

        There is at least one. The last is asked for when the time is up, not before. An answer may
        be one that could not be used: the next then comes after a back-off.
        """
        started = asked_at = self._clock.now()
        with self._condition:
            seen = self._asked
        end = started + seconds
        pause = self._pause(0.0, hurries=False)
        while True:
            answer = self._answer_after(seen, min(asked_at + pause, end))
            if answer.error is not None and not isinstance(answer.error, APIError):
                raise answer.error
            seen, asked_at = answer.number, answer.asked_at
            yield answer
            if asked_at >= end:
                return
            pause = answer.pause or self._pause(asked_at - started, answer.hurries)

    def _pause(self, waited: float, hurries: bool) -> float:
        longest = self.interval / 2 if hurries else 8 * self.interval
        return min(max(self.interval, waited / 20), longest) * self._jitter

    def _usable_after(self, seen: int, until: float = math.inf) -> Instances:
        def attempt() -> Instances:
            nonlocal seen
            answer = self._answer_after(seen, self._clock.now(), until)
            seen = answer.number
            return answer.usable()

        if until < math.inf:
            return attempt()
        return self._client.repeated(attempt, is_idempotent=True)

    def _answer_after(self, seen: int, due: float, until: float = math.inf) -> Answer:
        """The first answer later than number `seen`; asks for it at `due` if nobody did before."""
        with self._condition:
            while self._latest.number <= seen:
                now = self._clock.now()
                if now >= until:
                    raise TimeoutError
                if not self._asking and now >= due:
                    break
                end = until if self._asking else min(due, until)
                self._clock.wait(self._condition, None if end == math.inf else end - now)
            else:
                return self._latest
            self._asking = True
            self._asked += 1
            number, asked_at = self._asked, self._clock.now()
            self._asked_at = asked_at
        error: BaseException | None = None
        instances: Instances = {}
        try:
            # Once: those who wait for machines must hear of a failure, and decide for themselves.
            client = self._client.within(0, until - asked_at if until < math.inf else None)
            instances = {each.id: each for each in client.list_instances()}
        except BaseException as failure:  # noqa: BLE001 - those who wait must hear of any
            error = failure
        with self._condition:
            answer = self._next(number, asked_at, instances, error)
            self._latest = answer
            # For all alike: of as many draws as there are waiters, the smallest alone would count.
            self._jitter = self._uniform(*_JITTER)
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
            # Its machines stay those of the last answer, for the next to be compared with.
            return Answer(number, asked_at, last.instances, error, failures, pause)
        # Machines started together become ready together, so poll again soon. Never twice in a
        # row, though: many that end one by one are not to cost twice the calls.
        hurries = not last.hurries and _any_end(last.instances, instances)
        return Answer(number, asked_at, instances, hurries=hurries)


def _any_end(before: Instances, after: Instances) -> bool:
    """Whether a machine has become ready, or is gone, between two lists."""
    return any(
        id_ not in after or (after[id_].is_ready and not machine.is_ready)
        for id_, machine in before.items()
    )
