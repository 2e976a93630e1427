"""Which runs there are, in which order, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator
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
    UNWRITTEN,
    V1,
    WAITING,
)

PROVISIONING = 10.0
"""The seconds until a machine is ready, if the command line doesn't say otherwise."""
LIMIT = 10 * 60.0
"""The most seconds that `make bench` may take."""
BUDGET = LIMIT - 30.0
"""The most seconds that all runs may take. The rest is for what the target does besides."""


@dataclass(frozen=True)
class Row:
    """A row of the results: who creates how many machines, and how often."""

    who: str
    machines: int
    seconds: float
    """What one run takes on two quiet processors, beside the time that machines need."""
    times: int = 1
    """Its figures are the medians of so many runs. More than one where polls have jitter, and the
    row is compared with others."""
    waves: int = 1
    """How often the run has to wait until machines are ready."""

    def estimate(self, provisioning: float) -> float:
        return self.waves * provisioning + self.seconds


# The naive provider works on four machines at a time. 64 would take it four minutes.
ROWS = (
    Row(OURS, 1, 9, times=3),
    Row(OURS, 16, 10),
    Row(OURS, 64, 11, times=3),
    Row(OURS, 256, 20, times=2),
    Row(UNWRITTEN, 256, 16),
    Row(V1, 64, 4),
    Row(NATIVE, 1, 9),
    Row(NATIVE, 64, 11),
    Row(NATIVE_CLUSTER, 64, 5),
    Row(NATIVE_FOLLOWING, 8, 6, waves=2),
    Row(CLUSTER, 8, 4),
    Row(FOLLOWING, 8, 6, waves=2),
    Row(WAITING, 1, 20),
    Row(WAITING, 64, 24),
    Row(DIRECT, 1, 4),
    Row(DIRECT, 16, 4),
    Row(DIRECT, 64, 4),
    Row(DIRECT, 256, 5),
    Row(NAIVE, 1, 9),
    Row(NAIVE, 16, 22, waves=4),
)


def rows(largest: int) -> list[Row]:
    """The rows with at most so many machines."""
    return [row for row in ROWS if row.machines <= largest]


def runs(largest: int) -> Iterator[tuple[Row, bool]]:
    """Yield the row of each run in their order, and whether it is a repeat.

    Runs don't overlap, so that they don't share the processors. The sizes of one provider follow
    each other, so that ratios compare runs of the same few minutes.
    """
    for turn in range(max(row.times for row in ROWS)):
        for row in rows(largest):
            if turn < row.times:
                yield row, turn > 0
