"""The results of all runs: each measure, its ratios, and whether they meet their targets."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.measure import (
    CLUSTER,
    COMMANDS,
    DIRECT,
    FOLLOWING,
    KINDS,
    NAIVE,
    NATIVE,
    NATIVE_CLUSTER,
    OURS,
    V1,
    WAITING,
    Run,
)


@dataclass(frozen=True)
class Measure:
    """A figure that is taken from every run."""

    name: str
    unit: str
    of: Callable[[Run], float | None]


def _calls(command: str, kind: str, run: Run) -> float:
    return run.commands[command].calls[kind]


UP = Measure("up", "s", lambda run: run.commands["up"].seconds)
REFRESH = Measure("refresh", "s", lambda run: run.commands["refresh"].seconds)
DESTROY = Measure("destroy", "s", lambda run: run.commands["destroy"].seconds)
UP_POLLS = Measure("up: polls", "calls", lambda run: run.commands["up"].polls)
REFRESH_CALLS = Measure(
    "refresh: calls", "calls", lambda run: sum(run.commands["refresh"].calls.values())
)
DESTROY_CALLS = Measure(
    "destroy: beyond DELETE",
    "calls",
    lambda run: sum(run.commands["destroy"].calls.values()) - run.machines,
)
REFUSED = Measure(
    "up: POSTs without room",
    "calls",
    lambda run: run.commands["up"].calls["create"] - run.machines,
)
IN_FLIGHT = Measure("in flight at most", "calls", lambda run: run.in_flight)
MEMORY = Measure("plugin's memory", "MB", lambda run: run.memory)
TIMES = (UP, REFRESH, DESTROY, MEMORY)
CALLS = (UP_POLLS, REFUSED, REFRESH_CALLS, DESTROY_CALLS, IN_FLIGHT)
BY_KIND = tuple(
    Measure(f"{command}: {kind}", "calls", partial(_calls, command, kind))
    for command in COMMANDS
    for kind in KINDS
)
HEADER = (
    "who",
    "machines",
    "measure",
    "unit",
    "value",
    "over_pulumi_fal",
    "over_one_machine",
    "runs",
)


class Results:
    """The results of all runs. A figure is the median of the repeated runs."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int], list[Run]] = defaultdict(list)

    def add(self, run: Run) -> None:
        self._runs[run.who, run.machines].append(run)

    def rows(self) -> list[tuple[str, int]]:
        """The program and the number of machines of each row."""
        order = (OURS, V1, NATIVE, NATIVE_CLUSTER, CLUSTER, FOLLOWING, WAITING, NAIVE, DIRECT)
        return sorted(self._runs, key=lambda row: (row[1], order.index(row[0])))

    def count(self, who: str, machines: int) -> int:
        return len(self._runs.get((who, machines), ()))

    def value(self, who: str, machines: int, measure: Measure) -> float | None:
        values = [measure.of(run) for run in self._runs.get((who, machines), ())]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    def ratio(
        self, measure: Measure, over: tuple[str, int], under: tuple[str, int]
    ) -> float | None:
        """The figure of `over` divided by that of `under`; None if either is missing."""
        above, below = self.value(*over, measure), self.value(*under, measure)
        return above / below if above is not None and below else None

    def write_csv(self, path: Path) -> None:
        """Write a line for each figure that is neither missing nor zero."""
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(HEADER)
            for who, machines in self.rows():
                for measure in (*TIMES, *CALLS, *BY_KIND):
                    figures = (
                        self.value(who, machines, measure),
                        self.ratio(measure, (who, machines), (OURS, machines)),
                        self.ratio(measure, (who, machines), (who, 1)),
                    )
                    if figures[0]:
                        cells = map(_rounded, (*figures, self.count(who, machines)))
                        lines.writerow([who, machines, measure.name, measure.unit, *cells])


@dataclass(frozen=True)
class Bound:
    """The most, or the least, that a figure may be."""

    text: str
    machines: int
    limit: float
    value: Callable[[Results, int], float | None]
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A bound, and the value that was measured."""

    bound: Bound
    value: float

    @property
    def is_reached(self) -> bool:
        if self.bound.at_least:
            return self.value >= self.bound.limit
        return self.value <= self.bound.limit

    def __str__(self) -> str:
        bound = self.bound
        return (
            f"{bound.text}, {bound.machines} machines: {self.value:.2f}"
            f" ({'at least' if bound.at_least else 'at most'} {bound.limit:g})"
        )


def verdicts(results: Results) -> Iterator[Verdict]:
    """The verdict for each bound that has the runs it needs."""
    for bound in BOUNDS:
        value = bound.value(results, bound.machines)
        if value is not None:
            yield Verdict(bound, value)


def _over_one(measure: Measure) -> Callable[[Results, int], float | None]:
    return lambda results, n: results.ratio(measure, (OURS, n), (OURS, 1))


def _ours(measure: Measure) -> Callable[[Results, int], float | None]:
    return lambda results, n: results.value(OURS, n, measure)


def _over_a_cluster_of_one(who: str) -> Callable[[Results, int], float | None]:
    return lambda results, n: results.ratio(UP, (who, n), (CLUSTER, 1))


def _bounds() -> Iterator[Bound]:
    def rows(
        text: str,
        of_16: float,
        of_64: float,
        value: Callable[[Results, int], float | None],
        *,
        at_least: bool = False,
    ) -> Iterator[Bound]:
        yield Bound(text, 16, of_16, value, at_least)
        yield Bound(text, 64, of_64, value, at_least)

    yield from rows("up: time over that of one machine", 1.10, 1.25, _over_one(UP))
    yield from rows("up: polls over those of one machine", 1.5, 1.5, _over_one(UP_POLLS))
    yield from rows(
        "up: time over the direct client's",
        1.5,
        1.6,
        lambda results, n: results.ratio(UP, (OURS, n), (DIRECT, n)),
    )
    yield from rows("refresh: calls in all", 3, 4, _ours(REFRESH_CALLS))
    yield from rows("destroy: calls beyond one DELETE each", 2, 3, _ours(DESTROY_CALLS))
    yield from rows("destroy: time over that of one machine", 1.5, 2, _over_one(DESTROY))
    yield from rows(
        "up: the native plugin's time over the dynamic provider's",
        1.05,
        1.05,
        lambda results, n: results.ratio(UP, (NATIVE, n), (OURS, n)),
    )
    yield from rows(
        "up of the native plugin's cluster: time over that of machines one by one",
        1.15,
        1.15,
        lambda results, n: results.ratio(UP, (NATIVE_CLUSTER, n), (NATIVE, n)),
    )
    for who, limit in ((CLUSTER, 1.15), (FOLLOWING, 2.2)):
        yield Bound(
            f"up of a {who}: time over that of one machine",
            8,
            limit,
            _over_a_cluster_of_one(who),
        )
    yield Bound(
        "up of those that wait for capacity: POSTs without room over those of one machine",
        64,
        1.3,
        lambda results, n: results.ratio(REFUSED, (WAITING, n), (WAITING, 1)),
    )
    yield from rows(
        "up: the naive provider's time over ours",
        2.5,
        8,
        lambda results, n: results.ratio(UP, (NAIVE, n), (OURS, n)),
        at_least=True,
    )


BOUNDS = tuple(_bounds())


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
