"""Measure every row, and print them as a table; docs/performance.md has some of them."""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.measure import Command, Failed, Run, run
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

# The naive provider works on four machines at a time: 64 would take it four minutes.
ROWS = {
    OURS: {1: 3, 16: 1, 64: 3, 256: 2},
    UNWRITTEN: {256: 1},
    V1: {64: 1},
    NATIVE: {1: 1, 64: 1},
    NATIVE_CLUSTER: {64: 1},
    NATIVE_FOLLOWING: {8: 1},
    CLUSTER: {8: 1},
    FOLLOWING: {8: 1},
    WAITING: {1: 1, 64: 1},
    NAIVE: {1: 1, 16: 1},
    DIRECT: {1: 1, 16: 1, 64: 1, 256: 1},
}
"""How often each program runs with how many machines. Polls have jitter, so that what the others
are compared with runs more than once."""


def _of(name: str, figure: Callable[[Command], float]) -> Callable[[Run], float | None]:
    """A figure of one command, or None of a run without it."""
    return lambda run: figure(run.commands[name]) if name in run.commands else None


FIGURES: dict[str, Callable[[Run], float | None]] = {
    "up, s": _of("up", lambda up: up.seconds),
    "refresh, s": _of("refresh", lambda refresh: refresh.seconds),
    "destroy, s": _of("destroy", lambda destroy: destroy.seconds),
    "polls of up": _of("up", lambda up: up.calls["list"] + up.calls["get"]),
    "POSTs of up": _of("up", lambda up: up.calls["create"]),
    "requests of refresh": _of("refresh", lambda refresh: sum(refresh.calls.values())),
    "requests of destroy": _of("destroy", lambda destroy: sum(destroy.calls.values())),
    "memory, MB": lambda run: run.memory,
}
"""What is taken from every run: times, API requests, and the peak of the plugin's process."""
HEADER = ("program", "machines", "runs", *FIGURES)


def main() -> None:
    options = _options()
    runs = measure(options.largest, options.provisioning)
    lines = [
        [
            who,
            str(machines),
            str(len(same)),
            *(_median(figure, same) for figure in FIGURES.values()),
        ]
        for (who, machines), same in runs.items()
    ]
    for cells in (HEADER, ["---"] * len(HEADER), *lines):
        print(f"| {' | '.join(cells)} |")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])


def measure(largest: int, provisioning: float) -> dict[tuple[str, int], list[Run]]:
    """Run all rows with at most so many machines, one at a time, and repeats last."""
    made: dict[tuple[str, int], list[Run]] = defaultdict(list)
    started = time.monotonic()
    for turn in range(max(times for sizes in ROWS.values() for times in sizes.values())):
        for who, sizes in ROWS.items():
            for machines, times in sizes.items():
                if turn >= times or machines > largest:
                    continue
                try:
                    made[who, machines].append(run(who, machines, provisioning))
                except Failed as failure:
                    raise SystemExit(f"{who}, {machines}: {failure}") from None
                seconds = time.monotonic() - started
                print(f"{seconds:4.0f} s  {who}, {machines}", flush=True)
    return made


def _median(figure: Callable[[Run], float | None], runs: list[Run]) -> str:
    known = [value for value in map(figure, runs) if value is not None]
    return f"{median(known):.1f}".removesuffix(".0") if known else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare pulumi-fal on the emulator with a naive provider, and with no Pulumi.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--largest", type=int, default=256, metavar="N", help="leave out rows with more machines")
    add(
        "--provisioning",
        type=float,
        default=10.0,
        metavar="S",
        help="the seconds until a machine is ready",
    )
    add("--csv", type=Path, metavar="FILE", help="write the table into this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
