"""Creates that wait for room: one asks for all that request the same.

One thread runs at a time, and a schedule says which. Time passes only when all wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import pairwise
from math import inf

import pytest

from pulumi_fal import errors
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.state import TurnedClock
from pulumi_fal.errors import Interrupted, NoRoomError
from pulumi_fal.machines.sender import Patience, Queues, Waited

from ..fakes import CREATE, ECDSA, ED25519, EIGHT, ONE, refusal, unanswered
from ..simulation.turns import SimulatedClock, Turn, Turns

NEW = NewInstance(EIGHT, ED25519, "sector_2")
HOUR = 3600.0
FULL = "no capacity left in sector_2"
any_order = pytest.mark.parametrize("seed", range(10))


class Creates:
    """Creates in threads of their own, each of which sends a POST when its queue lets it.

    The API has room for the first `room` of them, and from `room_at` on for all. A POST takes
    `takes` seconds. `sent` has the moment and the number of the create of each POST.
    """

    def __init__(
        self, seed: int = 0, *, room: int = 0, room_at: float = inf, takes: float = 1.0
    ) -> None:
        self.random = random.Random(seed)
        self.time = TurnedClock()
        self.turns = Turns(self.time, self._deadlock)
        self.clock = SimulatedClock(self.turns, lambda _: self.turns.pause())
        self.queues = Queues(self.clock, 2.0, random.Random(seed).uniform)
        self.room, self.room_at, self.takes = room, room_at, takes
        self.sent: list[tuple[float, int]] = []
        self.in_flight = self.most_in_flight = 0
        self.error: Callable[[int], Exception | None] = lambda number: None
        """Returns another error that the POST of a create gets, if any."""
        self.outcomes: dict[int, tuple[float, BaseException | None]] = {}
        """When each create was over, and its error, if any."""
        self.shown: dict[int, list[Waited]] = {}
        self._threads: list[Turn] = []
        self._is_stuck = False

    def add(self, moment: float = 0.0, seconds: float = HOUR, new: NewInstance = NEW) -> int:
        """Have a create begin at a moment; return its number."""
        number = len(self._threads)
        shown = self.shown.setdefault(number, [])
        patience = Patience("1h", seconds, shown.append)

        def run() -> None:
            self.turns.block(lambda: False, moment)
            error: BaseException | None = None
            try:
                self.queues.ask(f"train-{number}", new, patience, lambda: self._send(number))
            except Exception as failure:  # noqa: BLE001 - the test looks at it
                error = failure
            self.outcomes[number] = self.time.now, error

        self._threads.append(Turn(run))
        return number

    def at(self, moment: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self.turns.block(lambda: False, moment)
            act()

        self._threads.append(Turn(run))

    def run(self) -> None:
        self.at(0, lambda: None)  # with one thread alone, turns would not be taken
        self.turns.run(self._threads, iter(lambda: self.random.randrange(1000), None))
        assert not self._is_stuck, "all waited for one another"

    def posts(self) -> list[float]:
        return [moment for moment, _ in self.sent]

    def error_of(self, number: int) -> BaseException | None:
        return self.outcomes[number][1]

    def _send(self, number: int) -> None:
        self.sent.append((self.time.now, number))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.turns.block(lambda: False, self.takes)
        self.in_flight -= 1
        error = self.error(number)
        if error is not None:
            raise error
        if self.time.now >= self.room_at:
            return
        if self.room == 0:
            raise refusal(400, FULL, CREATE)
        self.room -= 1

    def _deadlock(self) -> None:
        self._is_stuck = True
        self.clock.interrupt()


def test_a_create_asks_again_every_15_to_60_seconds_until_there_is_room() -> None:
    """The pauses are drawn, so that many computers don't ask together."""
    creates = Creates(room_at=1800.0, takes=0.0)
    creates.add()
    creates.run()
    assert creates.error_of(0) is None
    assert creates.time.now == pytest.approx(creates.posts()[-1], abs=0.01)
    pauses = [later - earlier for earlier, later in pairwise(creates.posts())]
    assert all(15.0 <= pause <= 60.01 for pause in pauses)
    assert len({round(pause) for pause in pauses}) > 10


@any_order
def test_many_that_wait_send_the_posts_of_one(seed: int) -> None:
    """As long as the API refuses one, it would refuse the others too."""
    alone, many = Creates(seed, room_at=900.0), Creates(seed, room_at=900.0)
    alone.add()
    for _ in range(64):
        many.add()
    alone.run()
    many.run()
    refused = [moment for moment in many.posts() if moment < 899.0]
    assert refused == pytest.approx([moment for moment in alone.posts() if moment < 899.0], abs=0.1)
    assert many.most_in_flight == 1
    assert {number for _, number in many.sent} == set(range(64))
    assert all(many.error_of(number) is None for number in range(64))


@any_order
def test_as_soon_as_one_is_accepted_the_next_is_asked_at_once(seed: int) -> None:
    """Room may come for several machines together, and be gone a minute later."""
    creates = Creates(seed, room_at=600.0)
    for _ in range(8):
        creates.add()
    creates.run()
    accepted = [moment for moment in creates.posts() if moment >= 599.0]
    assert [round(later - earlier, 2) for earlier, later in pairwise(accepted)] == [1.0] * 7
    assert creates.most_in_flight == 1


@any_order
def test_where_there_is_room_only_the_first_goes_ahead(seed: int) -> None:
    """Many machines take about as long as one: the others are sent together."""
    creates = Creates(seed, room_at=0.0)
    for _ in range(64):
        creates.add()
    creates.run()
    assert creates.time.now == pytest.approx(2.0, abs=0.1)
    assert creates.most_in_flight == 63


@any_order
def test_those_that_find_no_room_later_go_on_one_at_a_time(seed: int) -> None:
    """Those that were sent together are refused once each."""
    creates = Creates(seed, room=10, room_at=1000.0)
    for _ in range(64):
        creates.add()
    creates.run()
    waiting = [moment for moment in creates.posts() if 2.5 < moment < 999.0]
    assert len(creates.posts()) == 10 + 54 + len(waiting) + 54
    assert all(later - earlier >= 15.0 for earlier, later in pairwise(waiting))
    assert all(creates.error_of(number) is None for number in range(64))


@any_order
def test_the_order_is_that_in_which_the_creates_came(seed: int) -> None:
    """None waits for ever behind those that came later."""
    creates = Creates(seed, room_at=600.0)
    for second in range(10):
        creates.add(second * 5.0)
    creates.run()
    served = sorted(range(10), key=lambda number: creates.outcomes[number][0])
    assert served == list(range(10))


@any_order
def test_requests_for_something_else_wait_for_nobody(seed: int) -> None:
    """Another type or sector may have room. Another key makes no difference."""
    creates = Creates(seed)
    creates.add(new=NEW)
    same = creates.add(1.5, new=NewInstance(EIGHT, ECDSA, "sector_2"))
    others = [creates.add(1.5, new=NewInstance(EIGHT, ED25519, None))]
    others.append(creates.add(1.5, new=NewInstance(ONE, ED25519)))
    creates.error = lambda number: refusal(403) if number in others else None
    creates.run()
    first = {number: moment for moment, number in reversed(creates.sent)}
    assert [first[number] for number in others] == pytest.approx([1.5, 1.5], abs=0.01)
    assert same not in first


@any_order
def test_each_waits_no_longer_than_it_may(seed: int) -> None:
    """A shorter limit ends one create. If that one was to ask, another takes over."""
    creates = Creates(seed, room_at=1200.0)
    first, second = creates.add(0.0, 100.0), creates.add(0.1, 200.0)
    last = creates.add(0.2, HOUR)
    creates.run()
    for number, seconds in ((first, 100.0), (second, 200.0)):
        ended, error = creates.outcomes[number]
        assert isinstance(error, NoRoomError)
        assert 1.0 + seconds <= ended <= 1.0 + seconds + 1.1  # a POST that is in flight may end
    assert creates.error_of(last) is None
    pauses = [later - earlier for earlier, later in pairwise(creates.posts())]
    assert all(pause <= 61.1 for pause in pauses)


def test_when_the_time_is_up_the_error_says_since_when_and_has_the_apis_words() -> None:
    """The wait began with the first refusal."""
    creates = Creates(takes=0.0)
    creates.add(60.0, 1800.0)
    began = datetime.fromtimestamp(creates.clock.wall() + 60, timezone.utc).astimezone()
    creates.run()
    error = str(creates.error_of(0))
    assert error == (
        f"Machine train-0 ({EIGHT} in sector_2) was not created, because the API had no room for "
        f"it in 1h. It has waited since {began:%Y-%m-%d %H:%M}. The API's last answer: POST "
        f"/compute/instance answered 400: {FULL}.\nRun the command again to wait once more, or "
        "request another sector or instance type."
    )


def test_a_create_that_never_asked_has_the_refusal_that_it_found() -> None:
    """Its own limit may be shorter than the pause after that refusal."""
    creates = Creates(takes=0.0)
    creates.add(0.0)
    quick = creates.add(300.0, 0.5)
    creates.run()
    assert creates.outcomes[quick][0] == pytest.approx(300.5, abs=0.01)
    assert f"The API's last answer: POST /compute/instance answered 400: {FULL}." in str(
        creates.error_of(quick)
    )


@any_order
def test_what_is_shown_is_the_last_answer_for_how_long_and_until_when(seed: int) -> None:
    """Each create shows every refusal, its own or another's."""
    creates = Creates(seed, takes=0.0)
    creates.add(0.0, 300.0)
    creates.add(0.0, 300.0)
    creates.run()
    for shown in creates.shown.values():
        assert len(shown) == len(creates.sent)
        for waited, moment in zip(shown, creates.posts(), strict=True):
            assert waited.error.detail == FULL
            assert waited.seconds == pytest.approx(moment, abs=0.01)
            assert waited.until - waited.now == pytest.approx(300.0 - moment, abs=0.01)


@any_order
def test_an_interrupt_ends_all_waits_at_once(seed: int) -> None:
    """Nothing was made, so nothing is left to find."""
    creates = Creates(seed)
    for _ in range(5):
        creates.add()
    creates.at(400.5, creates.clock.interrupt)
    creates.run()
    for number in range(5):
        ended, error = creates.outcomes[number]
        assert ended <= 401.6  # a POST that is in flight gets its answer
        assert isinstance(error, Interrupted)


@any_order
def test_any_other_failure_ends_only_its_own_create(seed: int) -> None:
    """It fails as without a wait, and another create takes over."""
    creates = Creates(seed, room_at=1200.0)
    for _ in range(4):
        creates.add()
    failing = errors.UnresolvedCreateError("it may have made a machine.", "Look.")
    gone: list[int] = []

    def fail_once(number: int) -> Exception | None:
        if creates.time.now > 500.0 and not gone:
            gone.append(number)
            return failing
        return None

    creates.error = fail_once
    creates.run()
    assert [creates.error_of(number) for number in range(4)].count(failing) == 1
    assert [creates.error_of(number) for number in range(4)].count(None) == 3
    assert all(later - earlier >= 15.0 for earlier, later in pairwise(creates.posts()[:-3]))


@any_order
@pytest.mark.parametrize(
    "error, are_spaced",
    [
        (refusal(401, "revoked", CREATE), False),
        (errors.ConfigurationError("no CA bundle"), False),
        (unanswered(CREATE, sent=False), True),
        (refusal(429, "Too many requests", CREATE), True),
    ],
)
def test_a_failure_that_all_share_ends_them_soon_unless_it_may_pass(
    error: Exception, are_spaced: bool, seed: int
) -> None:
    """A revoked key is no reason to wait; an outage may be over a minute later."""
    creates = Creates(seed, takes=0.0)
    for _ in range(10):
        creates.add()
    creates.error = lambda number: error if creates.time.now > 100.0 else None
    creates.run()
    failed = [moment for moment in creates.posts() if moment > 100.0]
    assert len(failed) == 10
    assert (failed[-1] - failed[0] >= 9 * 15.0) is are_spaced
    assert (failed[-1] - failed[0] < 1.0) is not are_spaced


def test_a_first_failure_of_another_kind_lets_the_others_go() -> None:
    """As long as nothing was refused for want of room, all is as without a wait."""
    creates = Creates()
    for _ in range(10):
        creates.add()
    creates.error = lambda number: refusal(500) if number == 0 else refusal(403)
    creates.run()
    assert creates.time.now == pytest.approx(2.0, abs=0.1)
    assert creates.most_in_flight == 9


def test_retry_after_prolongs_a_pause_to_a_minute_at_most() -> None:
    """The API knows best when it is worth asking."""
    creates = Creates(takes=0.0)
    creates.add(0.0, 300.0)
    creates.error = lambda number: refusal(429, FULL, CREATE, retry_after=500.0)
    creates.run()
    pauses = [later - earlier for earlier, later in pairwise(creates.posts())]
    assert pauses == pytest.approx([60.0] * 4, abs=0.01)


def test_a_queue_that_all_have_left_knows_of_no_refusal() -> None:
    """Room may have come since."""
    creates = Creates(room_at=500.0)
    creates.add(0.0, 20.0)
    late = creates.add(600.0)
    creates.run()
    assert creates.error_of(late) is None
    assert creates.time.now == pytest.approx(601.0, abs=0.01)
    assert creates.shown[late] == []
