"""One list call for everybody: all who wait for machines, and all who read them, share it.

There is no polling thread. Of those who wait, the one whose time comes first asks the API and
hands the answer to all; when it leaves, the next one does. So polling starts with the first
waiter, ends with the last, and costs the same for one machine as for hundreds.
"""

from __future__ import annotations

import math
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pulumi_fal.client import Client
from pulumi_fal.clock import Clock
from pulumi_fal.models import Instance

Instances = Mapping[str, Instance]

_JITTER = (1.0, 1.1)
"""What a pause is multiplied by, at random: many stacks are not to ask in step."""


@dataclass(frozen=True)
class _Answer:
    """What the `number`-th list call of this process brought."""

    number: int
    asked_at: float
    instances: Instances = field(default_factory=dict)
    error: BaseException | None = None
    hurries: bool = False
    """Whether the next is due soon: a machine has become ready since the one before, or is gone."""


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
        self._interval = interval
        self._uniform = uniform
        self._begin()
        _fleets.add(self)

    def fresh(self) -> Instances:
        """All machines by id, from a list that was asked for after this call began."""
        with self._condition:
            seen = self._asked
        return self._answer_after(seen, due=self._clock.now()).instances

    def recent(self, seconds: float) -> Instances:
        """All machines by id, from a list that was asked for at most so long ago."""
        now = self._clock.now()
        with self._condition:
            seen = self._asked - 1 if self._asked_at >= now - seconds else self._asked
        return self._answer_after(seen, due=now).instances

    def watch(self, seconds: float) -> Iterator[Instances]:
        """One answer after another, each newer than the last, until `seconds` have passed.

        There is at least one. The last is asked for when the time is up, not before.
        """
        started = asked_at = self._clock.now()
        with self._condition:
            seen = self._asked
        end = started + seconds
        hurries = False
        while True:
            due = min(asked_at + self._pause(asked_at - started, hurries), end)
            answer = self._answer_after(seen, due)
            seen, asked_at, hurries = answer.number, answer.asked_at, answer.hurries
            yield answer.instances
            if asked_at >= end:
                return

    def _begin(self) -> None:
        self._condition = threading.Condition()
        self._asked = 0
        self._asked_at = -math.inf
        self._asking = False
        self._jitter = self._uniform(*_JITTER)
        self._latest = _Answer(number=0, asked_at=self._clock.now())

    def _pause(self, waited: float, hurries: bool) -> float:
        longest = self._interval / 2 if hurries else 8 * self._interval
        return min(max(self._interval, waited / 20), longest) * self._jitter

    def _answer_after(self, seen: int, due: float) -> _Answer:
        """The first answer later than number `seen`; asks for it at `due` if nobody did before."""
        with self._condition:
            while self._latest.number <= seen:
                pause = due - self._clock.now()
                if not self._asking and pause <= 0:
                    break
                self._clock.wait(self._condition, None if self._asking else pause)
            else:
                return _usable(self._latest)
            self._asking = True
            self._asked += 1
            number, asked_at = self._asked, self._clock.now()
            self._asked_at = asked_at
        error: BaseException | None = None
        instances: Instances = {}
        try:
            instances = {each.id: each for each in self._client.list_instances()}
        except BaseException as failure:  # noqa: BLE001 - those who wait must hear of any
            error = failure
        with self._condition:
            last = self._latest
            # Those that began together end together. Never twice in a row, though: many that end
            # one by one are not to cost twice the calls.
            hurries = not last.hurries and _any_end(last.instances, instances)
            self._latest = _Answer(number, asked_at, instances, error, hurries)
            # For all alike: of as many draws as there are waiters, the smallest alone would count.
            self._jitter = self._uniform(*_JITTER)
            self._asking = False
            self._condition.notify_all()
        return _usable(self._latest)


_fleets: weakref.WeakSet[Fleet] = weakref.WeakSet()


def _begin_in_child() -> None:
    """The thread that asks stays in the parent: in a forked child nobody would ever answer."""
    for fleet in _fleets:
        fleet._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def _any_end(before: Instances, after: Instances) -> bool:
    """Whether a machine has become ready, or is gone, between two lists."""
    return any(
        id_ not in after or (after[id_].is_ready and not machine.is_ready)
        for id_, machine in before.items()
    )


def _usable(answer: _Answer) -> _Answer:
    if answer.error is not None:
        raise answer.error
    return answer
