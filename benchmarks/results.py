"""The results of all runs: the measures of each, and how they relate to others."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import KINDS, Command, Run
from benchmarks.programs import COMMANDS, ORDER, OURS


@dataclass(frozen=True)
class Measure:
    """A figure that is taken from every run."""

    name: str
    unit: str
    of: Callable[[Run], float | None]
    """None if the run doesn't have it."""


def _of(command: str, figure: Callable[[Command], float]) -> Callable[[Run], float | None]:
    """A figure of one command."""
    return lambda run: figure(run.commands[command]) if command in run.commands else None


def _calls(command: str, kind: str) -> Measure:
    return Measure(f"{command}: {kind}", "calls", _of(command, lambda made: made.calls[kind]))


def _in_all(command: Command) -> float:
    return sum(command.calls.values())


UP, REFRESH, DESTROY = (
    Measure(name, "s", _of(name, lambda command: command.seconds)) for name in COMMANDS
)
UP_POLLS = Measure("up: polls", "calls", _of("up", lambda command: command.polls))
REFRESH_CALLS = Measure("refresh: calls", "calls", _of("refresh", _in_all))
DESTROY_CALLS = Measure(
    "destroy: beyond DELETE",
    "calls",
    lambda run: (
        _in_all(run.commands["destroy"]) - run.machines if "destroy" in run.commands else None
    ),
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
BY_KIND = tuple(_calls(command, kind) for command in COMMANDS for kind in KINDS)
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
        return sorted(self._runs, key=lambda row: (row[1], ORDER.index(row[0])))

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


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
