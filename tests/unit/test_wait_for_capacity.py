"""`wait_for_capacity`: which refusals count, who asks again and when, and what is on record."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from math import inf
from typing import Any

import pytest

from pulumi_fal import clock, errors
from pulumi_fal.api import retry
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import APIError, CapacityError, UnresolvedCreateError
from pulumi_fal.machines.capacity import Patience, Queues, Waited
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import INFO, UNKNOWN, Call

from ..docs import ROOT
from ..fakes import (
    CREATE,
    ECDSA,
    ED25519,
    EIGHT,
    HERE,
    LIST,
    ONE,
    URN,
    refusal,
    settings,
    unanswered,
)
from .threads import Threads, any_order, pauses
from .world import CALL, INPUTS, Log, World

FULL = "no capacity left in sector_2"
HOUR = 3600.0

# What counts as no capacity

ROWS: dict[str, list[str]] = {
    "capacity": [
        "no capacity left in sector_2",
        "OutOfCapacity",
        "insufficient-capacity",
        "gpu_8x_h100_sxm5 is at CAPACITY",
    ],
    "stock|sold out": ["gpu_8x_h100_sxm5 is out of stock", "Sold out."],
    r"unavailable|(?:no|none|not)\b.*\bavailab(?:le|ility)": [
        "No GPUs are currently available",
        "Sector sector_2 is unavailable",
        "no availability for this machine",
    ],
    "insufficient|not enough|no more|exhausted|full|fully": [
        "Insufficient resources",
        "not enough H100s",
        "no more instances",
        "resource_pool_exhausted",
        "sector_3 is full",
        "All nodes are fully booked",
    ],
}
"""For each row's pattern, texts that fit it and no other row."""


def test_wordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no text needs would be documented in vain."""
    table = retry.WORDINGS
    assert list(ROWS) == [row.pattern for row in table]
    for row in table:
        others = tuple(other for other in table if other != row)
        for text in ROWS[row.pattern]:
            monkeypatch.setattr(retry, "WORDINGS", (row,))
            assert retry.speaks_of_capacity(text), text
            monkeypatch.setattr(retry, "WORDINGS", others)
            assert not retry.speaks_of_capacity(text), text


@pytest.mark.parametrize(
    "text",
    [
        "Not Found",
        "Too many requests: the service is at capacity",
        "ssh_key is not available",
        "The key has no capacity scope",
        "quota exceeded: no more instances in this account",
        "You have reached the limit of 8 GPUs: no capacity",
        "GPUs are not available in your plan",
        "insufficient credit for this instance",
        "insufficient balance: no machine available",
        "instance_type: Input should be 'gpu_8x_h100_sxm5' or 'gpu_1x_h100_sxm5'",
        "this endpoint is not available",
        "incapacity",
        "a full name is needed",
    ],
)
def test_other_wordings(text: str) -> None:
    """Waiting does not help against a quota, a wrong key or a wrong input."""
    assert not retry.speaks_of_capacity(text)


@pytest.mark.parametrize(
    "error, is_missing",
    [
        *((refusal(status, FULL, CREATE), True) for status in (400, 409, 410, 412, 422, 429)),
        *((refusal(status, FULL, CREATE), False) for status in (307, 401, 403, 404, 408, 500, 503)),
        (refusal(409, "quota exceeded", CREATE), False),
        (refusal(409, FULL, LIST), False),
        (unanswered(CREATE), False),
        (unanswered(CREATE, sent=False), False),
    ],
    ids=str,
)
def test_missing_capacity(error: APIError, is_missing: bool) -> None:
    """Only a create can lack capacity, and only where its status says that it made nothing."""
    assert retry.lacks_capacity(error) is is_missing


def test_docs() -> None:
    """A person whose create fails at once has to find out why."""
    page = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    section = page.partition("## Which refusals count")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (.+?) \| (needed|not needed) \|$", section)
    assert rows == [
        (row.says, "needed" if row.of_machines else "not needed") for row in retry.WORDINGS
    ]
    for word in retry.MACHINES.split("|"):
        assert word in ("h100", "hardware") or word in section.lower(), word
    for word in retry.OTHER_REASONS.split("|"):
        assert word.removesuffix("ed") in section, word


# Who asks, and when

NEW = NewInstance(EIGHT, ED25519, "sector_2")


class Waiting(Threads):
    """Creates in threads of their own, each of which sends a POST when its queue lets it.

    The API has capacity for the first `capacity` of them, and from `capacity_at` on for all. A POST
    takes `takes` seconds. `sent` has the moment and the number of the create of each POST.
    """

    def __init__(
        self, seed: int = 0, *, capacity: int = 0, capacity_at: float = inf, takes: float = 1.0
    ) -> None:
        super().__init__(seed)
        self.queues = Queues(self.clock, 2.0, random.Random(seed).uniform)
        self.capacity, self.capacity_at, self.takes = capacity, capacity_at, takes
        self.sent: list[tuple[float, int]] = []
        self.in_flight = self.most_in_flight = 0
        self.error: Callable[[int], Exception | None] = lambda number: None
        """Returns another error that the POST of a create gets, if any."""
        self.shown: dict[int, list[Waited]] = {}

    def add(self, moment: float = 0.0, seconds: float = HOUR, new: NewInstance = NEW) -> int:
        """Have a create begin at a moment; return its number."""
        number = len(self._threads)
        patience = Patience("1h", seconds, self.shown.setdefault(number, []).append)

        def wait() -> None:
            for turn in self.queues.turns(f"train-{number}", new, patience):
                with turn:
                    self._send(number)

        return self.at(moment, wait)

    @property
    def posts(self) -> list[float]:
        return [moment for moment, _ in self.sent]

    def _send(self, number: int) -> None:
        self.sent.append((self.time.now, number))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.passes(self.takes)
        self.in_flight -= 1
        error = self.error(number)
        if error is not None:
            raise error
        if self.time.now >= self.capacity_at:
            return
        if self.capacity == 0:
            raise refusal(400, FULL, CREATE)
        self.capacity -= 1


def waiting(count: int, seed: int = 0, **others: Any) -> Waiting:
    """Yield creates that begin together."""
    creates = Waiting(seed, **others)
    for _ in range(count):
        creates.add()
    return creates


def test_asks_again() -> None:
    """Every 15 to 60 seconds, drawn at random, so that many computers don't ask together."""
    creates = waiting(1, capacity_at=1800.0, takes=0.0)
    creates.run()
    assert creates.outcome(0) is None
    assert creates.time.now == pytest.approx(creates.posts[-1], abs=0.01)
    assert all(15.0 <= pause <= 60.01 for pause in pauses(creates.posts))
    assert len({round(pause) for pause in pauses(creates.posts)}) > 10


@any_order
def test_posts_of_one(seed: int) -> None:
    """Many send the POSTs of one: if the API refuses one, it would refuse the others too.

    As soon as a create is accepted, the next is sent: capacity may be gone a minute later.
    """
    alone, many = (waiting(count, seed, capacity_at=900.0) for count in (1, 16))
    alone.run()
    many.run()
    refused = [moment for moment in many.posts if moment < 899.0]
    assert refused == pytest.approx([moment for moment in alone.posts if moment < 899.0], abs=0.1)
    assert pauses(many.posts[len(refused) :]) == pytest.approx([1.0] * 15, abs=0.01)
    assert many.most_in_flight == 1
    assert {number for _, number in many.sent} == set(range(16))
    assert all(many.outcome(number) is None for number in range(16))


@any_order
@pytest.mark.parametrize("error", [None, refusal(500)], ids=["capacity", "another failure"])
def test_first_goes_ahead(seed: int, error: APIError | None) -> None:
    """Unless it finds no capacity, the others are sent together: many take about as long as one."""
    creates = waiting(16, seed, capacity_at=0.0)
    creates.error = lambda number: error
    creates.run()
    assert creates.time.now == pytest.approx(2.0, abs=0.1)
    assert creates.most_in_flight == 15


@any_order
def test_capacity_ends(seed: int) -> None:
    """Creates that were sent together are refused once each, and go on one at a time."""
    creates = waiting(16, seed, capacity=4, capacity_at=1000.0)
    creates.run()
    late = [moment for moment in creates.posts if 2.5 < moment < 999.0]
    assert len(creates.posts) == 4 + 12 + len(late) + 12
    assert all(gap >= 15.0 for gap in pauses(late))
    assert all(creates.outcome(number) is None for number in range(16))


@any_order
def test_order(seed: int) -> None:
    """None waits for ever behind those that came later."""
    creates = Waiting(seed, capacity_at=600.0)
    for second in range(10):
        creates.add(second * 5.0)
    creates.run()
    served = sorted(range(10), key=lambda number: creates.outcomes[number][0])
    assert served == list(range(10))


@any_order
def test_other_requests(seed: int) -> None:
    """Another type or sector may have capacity. Another key makes no difference."""
    creates = Waiting(seed)
    creates.add()
    same = creates.add(1.5, new=replace(NEW, ssh_key=ECDSA))
    others = [creates.add(1.5, new=replace(NEW, sector=None))]
    others.append(creates.add(1.5, new=replace(NEW, instance_type=ONE)))
    creates.error = lambda number: refusal(403) if number in others else None
    creates.run()
    first = {number: moment for moment, number in reversed(creates.sent)}
    assert [first[number] for number in others] == pytest.approx([1.5, 1.5], abs=0.01)
    assert same not in first


@any_order
def test_limits(seed: int) -> None:
    """A shorter limit ends one create. If that one was to ask, another takes over."""
    creates = Waiting(seed, capacity_at=1200.0)
    limits = {creates.add(0.0, 100.0): 100.0, creates.add(0.1, 200.0): 200.0}
    last = creates.add(0.2, HOUR)
    creates.run()
    for number, seconds in limits.items():
        ended, error = creates.outcomes[number]
        assert isinstance(error, CapacityError)
        assert 1.0 + seconds <= ended <= 1.0 + seconds + 1.1  # a POST that is in flight may end
    assert creates.outcome(last) is None
    assert all(pause <= 61.1 for pause in pauses(creates.posts))


def test_time_is_up() -> None:
    """The error says since when it waited, which began with the first refusal, and why."""
    creates = Waiting(takes=0.0)
    creates.add(60.0, 1800.0)
    began = datetime.fromtimestamp(creates.clock.wall() + 60, timezone.utc).astimezone()
    creates.run()
    error = str(creates.outcome(0))
    assert error.startswith(f"Machine train-0 ({EIGHT} in sector_2) was not created, because ")
    assert f"no capacity for it in 1h. It has waited since {began:%Y-%m-%d %H:%M}. " in error
    assert f"The API's last answer: POST /compute/instance answered 400: {FULL}.\n" in error


@any_order
def test_other_failure(seed: int) -> None:
    """It ends only its own create, as without a wait, and another create takes over."""
    creates = waiting(4, seed, capacity_at=1200.0)
    failing = UnresolvedCreateError("it may have made a machine.", "Look.")
    left = iter([failing])
    creates.error = lambda number: next(left, None) if creates.time.now > 500.0 else None
    creates.run()
    outcomes = [creates.outcome(number) for number in range(4)]
    assert (outcomes.count(failing), outcomes.count(None)) == (1, 3)
    assert all(gap >= 15.0 for gap in pauses(creates.posts[:-3]))


@any_order
@pytest.mark.parametrize(
    "error, may_pass",
    [
        (refusal(401, "revoked", CREATE), False),
        (errors.ConfigurationError("no CA bundle"), False),
        (unanswered(CREATE, sent=False), True),
        (refusal(429, "Too many requests", CREATE), True),
    ],
    ids=str,
)
def test_shared_failure(error: Exception, may_pass: bool, seed: int) -> None:
    """A revoked key is no reason to wait; an outage may be over a minute later."""
    creates = waiting(10, seed, takes=0.0)
    creates.error = lambda number: error if creates.time.now > 100.0 else None
    creates.run()
    failed = [moment for moment in creates.posts if moment > 100.0]
    assert len(failed) == 10
    lasted = failed[-1] - failed[0]
    assert lasted >= 9 * 15.0 if may_pass else lasted < 1.0


def test_retry_after() -> None:
    """It prolongs a pause to a minute at most."""
    creates = Waiting(takes=0.0)
    creates.add(0.0, 300.0)
    creates.error = lambda number: refusal(429, FULL, CREATE, retry_after=500.0)
    creates.run()
    assert pauses(creates.posts) == pytest.approx([60.0] * 4, abs=0.01)


def test_left_queue() -> None:
    """A queue that all have left knows of no refusal: capacity may have come since."""
    creates = Waiting(capacity_at=500.0)
    creates.add(0.0, 20.0)
    late = creates.add(600.0)
    creates.run()
    assert creates.outcome(late) is None
    assert creates.time.now == pytest.approx(601.0, abs=0.01)
    assert creates.shown[late] == []


# As hosts call the provider


def create(world: World, call: Call = CALL, **others: Any) -> operations.Created:
    return world.create(call, **{"wait_for_capacity": "6h", **others})


def capacity_after(world: World, seconds: float) -> list[tuple[Entry | None, bool]]:
    """Have capacity from a moment on. Returns what is on record in a wait, and its lock."""
    found: list[tuple[Entry | None, bool]] = []
    world.state.capacity = 0

    def look() -> None:
        if world.passed >= seconds:
            world.state.capacity = None
        if world.api.calls[-1:] == ["create"] and world.state.creations == 0:
            found.append((world.entry(), world.journal.try_lock(HERE) is None))

    world.before_sleep(look)
    return found


@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_record(world: World, api: str) -> None:
    """While a create waits, nothing is on record, but no other process can create."""
    world.settings = settings(api=api)
    found = capacity_after(world, 1200.0)
    created = create(world)
    assert len(found) > 10
    assert set(found) == {(None, True)}
    assert world.state.alive() == {created.id}
    posts = world.api.asked("create")
    assert all(15.0 <= gap <= 60.0 for gap in pauses(posts))
    # A key that has had its answer would get the same one again.
    assert len(set(world.api.keys)) == (len(posts) if api == "v1" else 1)


@pytest.mark.parametrize("wait", [True, False])
def test_timeout(world: World, wait: bool) -> None:
    """The timeout of create counts from the accepted POST, however long the wait before was."""
    capacity_after(world, 2000.0)
    world.state.provisioning = 1000.0
    created = create(world, replace(CALL, timeout=1500.0), wait=wait)
    assert created.outputs["wait_for_capacity"] == "6h"
    assert (created.outputs["status"] == "ready") is wait


@pytest.mark.parametrize("hours, form", [(6, "%H:%M"), (48, "%Y-%m-%d %H:%M")])
def test_row(world: World, hours: int, form: str) -> None:
    """Each text on the row has a line in a log, so the longer the wait, the coarser it is.

    A time of day alone would be taken for that of today.
    """
    until = time.strftime(form, time.localtime(world.clock.wall() + hours * HOUR))
    capacity_after(world, 2400.0)
    log = Log()
    create(world, replace(CALL, log=log), wait_for_capacity=f"{hours}h")
    assert set(zip(log.severities, log.ephemeral, strict=True)) == {(INFO, True)}
    lines = [line for line in log.texts if line.startswith("no capacity")]
    words = "POST /compute/instance answered 400: no capacity left for gpu_8x_h100_sxm5."
    assert lines[0].startswith("no capacity yet, asking until ")
    assert lines[0].endswith(f"{until}: {words}")
    assert any(" for 5m, asking until " in line for line in lines)
    assert any(" for 35m, asking until " in line for line in lines)
    assert len(lines) == len(set(lines)) < 20


def test_request_id(world: World) -> None:
    """Each answer has its own request id, which makes no new line. The error has the last one."""
    ids = iter(range(1000))

    def refuse() -> None:
        raise refusal(400, f"{FULL} (request id r{next(ids)})", CREATE)

    world.at_post(refuse)
    log, says = Log(), r"no capacity left in sector_2 \(request id r\d+\)\.\n"
    with pytest.raises(CapacityError, match=says):
        create(world, replace(CALL, log=log), wait_for_capacity="40m")
    assert "request id" not in "".join(log.texts)
    assert len(log.texts) == len(set(log.texts)) < 20


OTHERS = " Other machines of this `up` exist, and are billed: {} so far."


@pytest.mark.parametrize("count", [0, 2])
def test_opt_in(world: World, count: int) -> None:
    """Without the input, a refusal fails at once, and says what is billed."""
    for number in range(count + 1):
        create(world, Call(f"{URN}-{number}"))
    operations.delete(world.account, Call(f"{URN}-0"), world.state.list()[0].id, {})
    world.state.capacity = 0
    before = world.api.calls.count("create")
    with pytest.raises(CapacityError) as caught:
        create(world, wait_for_capacity=None)
    assert world.api.calls.count("create") == before + 1
    said = (
        f"nothing is billed for it.{OTHERS.format(count) if count else ''}\nWith wait_for_capacity="
    )
    assert said in str(caught.value)


def test_no_client_retries(world: World) -> None:
    """A 429 for want of capacity is not retried by the client, whose retries come too soon."""
    world.fail("create", refusal(429, "no machines available", CREATE), end=600.0)
    create(world)
    assert all(gap >= 15.0 for gap in pauses(world.api.asked("create")))
    world.api.faults.add("create", "429")
    before = world.passed
    create(world, replace(CALL, urn=f"{URN}-2"))
    assert world.passed - before < 15.0  # too many requests: that is retried as ever


def lie(world: World, status: int = 400, lies: Sequence[int] = (1, 2, 3)) -> None:
    """Refuse the first three asks. Those with these numbers make machines all the same."""

    def say_no(request: Request[Any]) -> None:
        if request.creates and len(world.api.asked("create")) <= 3:
            raise refusal(status, "no capacity left", request)

    def before(request: Request[Any]) -> None:
        if len(world.api.asked("create")) not in lies:
            say_no(request)

    world.api.before, world.api.after = before, say_no


@pytest.mark.parametrize("api", ["legacy", "v1"])
@pytest.mark.parametrize("status", [400, 429])
def test_untrue_refusal(world: World, api: str, status: int) -> None:
    """The list before the next ask shows the machine that it made, so the create stops."""
    world.settings = settings(api=api)
    lie(world, status)
    with pytest.raises(UnresolvedCreateError, match="no capacity left") as caught:
        create(world)
    assert set(caught.value.candidates) == world.state.alive()
    world.api.before = world.api.after = lambda request: None
    world.restart()
    if api == "v1":  # the key shows whose it is
        assert {create(world).id} == world.state.alive()
    else:
        with pytest.raises(UnresolvedCreateError):
            create(world)
    assert world.state.creations == 1


@pytest.mark.parametrize("whose", ["another type", "stack", "create", "deleted"])
def test_machine_of_others(world: World, whose: str) -> None:
    """Others rent machines while a create waits for hours, which does not end the wait."""
    lie(world, lies=())
    others = list[str]()
    records, other = world.account.records, replace(HERE, urn=f"{URN}-2")

    def rent() -> None:
        if others:
            return
        others.append(world.machine(ONE if whose == "another type" else EIGHT))
        if whose == "stack":
            world.stacks.others = {"organization/shop/prod": set(others)}
        if whose == "create":
            records.begin(other, NewInstance.of(INPUTS))
            records.remember(other, world.earlier(Phase.LATE), world.state.get(others[0]))
        if whose == "deleted":
            world.creates.deleted_ids.update(others)

    world.before_sleep(rent)
    assert create(world).id not in others
    assert len(others) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_untrue_refusal_beside_a_create(world: World, number: int) -> None:
    """Its machine would look like one without an answer, so only the next ask looks for it."""
    lie(world, lies=(number,))
    flight = ExitStack()
    flight.enter_context(world.creates.sending())
    world.before_sleep(lambda: flight.close() if len(world.api.asked("create")) == 2 else None)
    with pytest.raises(UnresolvedCreateError):
        create(world)
    assert len(world.api.asked("create")) == 2
    assert world.state.creations == 1


def test_earlier_record(world: World) -> None:
    """It is there again after each refusal, since its machine may still appear."""
    entry = world.earlier(Phase.REQUESTED, searched=True, problem="it was reset")
    found = capacity_after(world, 600.0)
    created = create(world)
    assert {(kept.started, kept.phase) for kept, _ in found if kept} == {
        (entry.started, Phase.REQUESTED)
    }
    phases = [kept.phase for kept in world.journal.readable()]
    assert sorted(phases) == sorted([Phase.LATE, Phase.REPORTED])
    assert world.state.alive() == {created.id}
    assert len([warning for warning in world.warnings if "earlier create" in warning]) <= 1


DURATIONS = ["6h", "30m", "1h30m", "90s", "1.5h", "1d12h", UNKNOWN, None]
TYPOS = ["6", "6 h", "6 hours", "-1h", "0s", "0", "31d", "1:30h"]
ODDITIES = [3600.0, True, ED25519, "forever", "1a2b3c4d5e6f7a8b"]


@pytest.mark.parametrize("value", [*DURATIONS, *TYPOS, *ODDITIES])
def test_duration(value: Any) -> None:
    """A typo is quoted, and anything else is not: it may be another input's value, and a secret."""
    result = operations.check(CALL, {}, {**INPUTS, "wait_for_capacity": value})
    assert result.inputs.get("wait_for_capacity") is value
    assert bool(result.failures) is (value not in DURATIONS)
    expected = "wait_for_capacity must be a duration of at most 30 days such as 6h, 30m or 1h30m"
    for failure in result.failures:
        assert failure.property == "wait_for_capacity"
        assert (str(value) in failure.reason) is (value in TYPOS)
        assert failure.reason.startswith(expected) or not isinstance(value, str)


ROUNDED = {59: "0m", 60: "1m", 599: "9m", 899: "10m", 3600: "1h", 21599: "5h 30m", 90000: "1d 1h"}


@pytest.mark.parametrize("seconds, words", ROUNDED.items())
def test_rounded(seconds: float, words: str) -> None:
    """A wait is never said to have been longer than it was."""
    assert clock.shown_duration(clock.rounded_duration(seconds)) == words
