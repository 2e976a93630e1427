"""The goals: what the figures of a run have to be, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.programs import (
    CLUSTER,
    DIRECT,
    FOLLOWING,
    NAIVE,
    NATIVE,
    NATIVE_CLUSTER,
    NATIVE_FOLLOWING,
    OURS,
    V1,
    WAITING,
)
from benchmarks.results import (
    DESTROY,
    DESTROY_CALLS,
    MEMORY,
    REFRESH_CALLS,
    REFUSED,
    UP,
    UP_POLLS,
    Measure,
    Results,
)


@dataclass(frozen=True)
class Goal:
    """The most, or the least, that a figure may be."""

    text: str
    machines: int
    limit: float
    value: Callable[[Results, int], float | None]
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A goal, and the value that was measured."""

    goal: Goal
    value: float

    @property
    def is_reached(self) -> bool:
        if self.goal.at_least:
            return self.value >= self.goal.limit
        return self.value <= self.goal.limit

    def __str__(self) -> str:
        goal = self.goal
        return (
            f"{goal.text}, {goal.machines} machine{'s' if goal.machines > 1 else ''}:"
            f" {self.value:.2f} ({'at least' if goal.at_least else 'at most'} {goal.limit:g})"
        )


def verdicts(results: Results) -> Iterator[Verdict]:
    """The verdict for each goal that has the runs it needs."""
    for goal in GOALS:
        value = goal.value(results, goal.machines)
        if value is not None:
            yield Verdict(goal, value)


def _over(
    measure: Measure, who: str, other: str, machines: int | None = None
) -> Callable[[Results, int], float | None]:
    """The figure over that of another with as many machines, or with another number of them."""
    return lambda results, n: results.ratio(measure, (who, n), (other, machines or n))


def _ours(measure: Measure) -> Callable[[Results, int], float | None]:
    return lambda results, n: results.value(OURS, n, measure)


def _goals() -> Iterator[Goal]:
    def goals(
        text: str,
        limits: dict[int, float],
        value: Callable[[Results, int], float | None],
        *,
        at_least: bool = False,
    ) -> Iterator[Goal]:
        for machines, limit in limits.items():
            yield Goal(text, machines, limit, value, at_least)

    yield from goals(
        "up: time over that of one machine",
        {16: 1.05, 64: 1.05, 256: 1.3},
        _over(UP, OURS, OURS, 1),
    )
    yield from goals(
        "up: polls over those of one machine", {16: 1.5, 64: 1.5}, _over(UP_POLLS, OURS, OURS, 1)
    )
    yield from goals(
        "up: time over the direct client's",
        {1: 1.15, 16: 1.25, 64: 1.25},
        _over(UP, OURS, DIRECT),
    )
    yield from goals("refresh: calls in all", {16: 3, 64: 4}, _ours(REFRESH_CALLS))
    yield from goals("destroy: calls beyond one DELETE each", {16: 2, 64: 3}, _ours(DESTROY_CALLS))
    yield from goals(
        "destroy: time over that of one machine",
        {16: 1.25, 64: 1.25},
        _over(DESTROY, OURS, OURS, 1),
    )
    yield from goals(
        "memory of the plugin over that with one machine", {256: 2}, _over(MEMORY, OURS, OURS, 1)
    )
    yield from goals(
        "up with the v1 API: time over that with the legacy API", {64: 1.1}, _over(UP, V1, OURS)
    )
    yield from goals(
        "up of the native plugin: time over the dynamic provider's",
        {1: 1.1, 64: 1.1},
        _over(UP, NATIVE, OURS),
    )
    yield from goals(
        "up of the native plugin's cluster: time over that of machines one by one",
        {64: 1.15},
        _over(UP, NATIVE_CLUSTER, NATIVE),
    )
    for who, limit in ((CLUSTER, 1.15), (FOLLOWING, 2.2), (NATIVE_FOLLOWING, 2.2)):
        yield from goals(
            f"up of a {who}: time over that of one machine", {8: limit}, _over(UP, who, OURS, 1)
        )
    yield from goals(
        "up of those that wait for capacity: POSTs without room over those of one machine",
        {64: 1.3},
        _over(REFUSED, WAITING, WAITING, 1),
    )
    yield from goals(
        "up of the naive provider: time over ours", {16: 3}, _over(UP, NAIVE, OURS), at_least=True
    )


GOALS = tuple(_goals())
