"""Has creates wait for capacity: who of them asks the API, and when.

Of the creates of this process that request the same, apart from the key, one asks for capacity at a
time: the first in their queue. As long as the API refuses it, it would refuse the others as well.
While they wait, nothing is sent and nothing is on record, so a wait can end at any moment.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from pulumi_fal.api import retry
from pulumi_fal.api.models import NewInstance
from pulumi_fal.clock import Clock, local
from pulumi_fal.errors import APIError, CapacityError, UnresolvedCreateError

_PAUSE = (7.5, 30.0)
"""The shortest and the longest pause until the API is asked again, in poll intervals."""


@dataclass(frozen=True)
class Waited:
    """What a create that waits for capacity has to show."""

    error: APIError
    """The API's last answer, to this create or to another in the queue."""
    seconds: float
    """For how long the create has waited."""
    now: float
    """The time of this, in seconds since the epoch."""
    until: float
    """Until when it waits, in seconds since the epoch."""


@dataclass(frozen=True)
class Patience:
    """For how long a create waits for capacity, from the first refusal on."""

    text: str
    """The duration as the program has it."""
    seconds: float
    show: Callable[[Waited], None]
    """Called in the thread of the create after each refusal, its own or another's in the queue."""


@dataclass(eq=False)
class _Place:
    """The place of one create in its queue."""

    name: str
    new: NewInstance
    patience: Patience
    seen: APIError | None = None
    """The last refusal that the create knows."""
    since: float = math.inf
    """When the create learned that there is no capacity, in seconds of the clock."""
    is_over: bool = False
    """Whether it has sent its last POST."""


@dataclass(eq=False)
class _Queue:
    """The creates that request the same, in the order in which they came."""

    places: list[_Place] = field(default_factory=list)
    asking: int = 0
    """How many of them are being sent."""
    due: float = -math.inf
    """When the first may ask; infinitely long ago if none has asked yet."""
    refusal: APIError | None = None
    """What the API said last when it had no capacity."""

    def lets_ask(self, place: _Place, now: float) -> bool:
        """Whether it is the create's turn. All may ask at once if there was capacity for one."""
        is_open = self.refusal is None and self.due > -math.inf
        return is_open or (self._is_next(place) and now >= self.due)

    def pause(self, place: _Place, now: float, until: float) -> float | None:
        """Return for how long the create waits if nothing happens; None for as long as it takes."""
        end = min(until, self.due) if self._is_next(place) else until
        return None if end == math.inf else end - now

    def _is_next(self, place: _Place) -> bool:
        return not self.asking and self.places[0] is place


class Queues:
    """The queues of one account. Can be used from any thread."""

    def __init__(
        self,
        clock: Clock,
        interval: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`interval` is the time between polls in seconds. The pauses are in proportion to it."""
        self._clock = clock
        self._interval = interval
        self._uniform = uniform
        self._condition = threading.Condition()
        self._queues: dict[tuple[str, str | None], _Queue] = {}

    def turns(
        self, name: str, new: NewInstance, patience: Patience
    ) -> Iterator[AbstractContextManager[None]]:
        """Yield turns to send the create, until it ends otherwise than for want of capacity.

            for turn in queues.turns(...):
                with turn:
                    machine = send()

        Raises CapacityError if there is no capacity in time, and Interrupted.
        """
        place = _Place(name, new, patience)
        kind = (new.instance_type, new.sector)
        with self._condition:
            queue = self._queues.setdefault(kind, _Queue())
            queue.places.append(place)
        try:
            while not place.is_over:
                while (waited := self._await_turn(queue, place)) is not None:
                    patience.show(waited)
                yield self._turn(queue, place)
        finally:
            with self._condition:
                self._leave(queue, place)

    def _leave(self, queue: _Queue, place: _Place) -> None:
        """Take a create out of its queue if it is still there. The caller holds the condition."""
        if place not in queue.places:
            return
        queue.places.remove(place)
        if not queue.places:
            del self._queues[place.new.instance_type, place.new.sector]
        self._condition.notify_all()

    def _await_turn(self, queue: _Queue, place: _Place) -> Waited | None:
        """Return None when it is the create's turn, or else what is new.

        Raises CapacityError when its time is up.
        """
        seconds = place.patience.seconds
        with self._condition:
            while True:
                now, wall = self._clock.now(), self._clock.wall()
                if queue.refusal is not None and queue.refusal is not place.seen:
                    place.seen, place.since = queue.refusal, min(place.since, now)
                    passed = now - place.since
                    return Waited(queue.refusal, passed, wall, wall + seconds - passed)
                until = place.since + seconds
                if now >= until:
                    raise _no_capacity_in_time(place, wall - (now - place.since))
                if queue.lets_ask(place, now):
                    queue.asking += 1
                    return None
                self._clock.wait(self._condition, queue.pause(place, now, until))

    @contextmanager
    def _turn(self, queue: _Queue, place: _Place) -> Iterator[None]:
        """Keep an error for want of capacity, and decide at the end who may ask next, and when."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as failure:
            error = failure
            if not _lacks_capacity(error):
                raise
        finally:
            place.is_over = not _lacks_capacity(error)
            with self._condition:
                queue.asking -= 1
                queue.due = self._clock.now()
                if isinstance(error, APIError) and not place.is_over:
                    queue.refusal = error
                    queue.due += self._pause(error.retry_after)
                elif queue.refusal is not None and _may_pass(error):
                    queue.due += self._pause()
                if place.is_over:  # not in `turns` alone: a kept error keeps that from ending
                    self._leave(queue, place)
                self._condition.notify_all()

    def _pause(self, retry_after: float | None = None) -> float:
        drawn = self._uniform(*_PAUSE) * self._interval
        return max(drawn, min(retry_after or 0.0, retry.RETRY_AFTER_CAP))


def _lacks_capacity(error: BaseException | None) -> bool:
    return isinstance(error, APIError) and retry.lacks_capacity(error)


def _may_pass(error: BaseException | None) -> bool:
    """Whether the next create would do better than this one if it is sent later."""
    is_temporary = isinstance(error, APIError) and retry.rule(error).is_temporary
    return is_temporary or isinstance(error, UnresolvedCreateError)


def no_capacity(name: str, new: NewInstance, refusal: APIError) -> CapacityError:
    """The error of a create that was refused for want of capacity, and is not to wait for it."""
    return CapacityError(
        f"{_not_created(name, new)} has no capacity for it: {refusal.happened}.",
        "With wait_for_capacity='6h', the create asks again for 6 hours.",
    )


def _no_capacity_in_time(place: _Place, since: float) -> CapacityError:
    """The error of a create that has waited since then, in seconds since the epoch."""
    said = f" The API's last answer: {place.seen.happened}." if place.seen else ""
    return CapacityError(
        f"{_not_created(place.name, place.new)} had no capacity for it in {place.patience.text}. "
        f"It has waited since {local(since):%Y-%m-%d %H:%M}.{said}",
        "Run the command again to wait once more, or request another sector or instance type.",
        is_awaited=True,
    )


def _not_created(name: str, new: NewInstance) -> str:
    where = f" in {new.sector}" if new.sector else ""
    return f"Machine {name} ({new.instance_type}{where}) was not created, because the API"
