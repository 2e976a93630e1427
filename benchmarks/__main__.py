"""Measure every row, and print them as a table; docs/performance.md has some of them."""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tools.demo import Failed

from benchmarks.measure import COMMANDS, Command, run
from benchmarks.programs import BY_HAND, NATIVE, OURS, WAITING

# What is written by hand works on four machines at a time: 64 would take it four minutes.
ROWS = {
    1: {BY_HAND: 3, OURS: 3, NATIVE: 3},
    16: {BY_HAND: 1, OURS: 1},
    64: {OURS: 3, WAITING: 3, NATIVE: 1},
    256: {OURS: 3, WAITING: 3},
}
"""How often each program runs with how many machines."""

Run = dict[str, Command]
Figure = Callable[[Run], float]


def _of(name: str, figure: Callable[[Command], float]) -> Figure:
    return lambda run: figure(run[name])


TIMES = {f"{name}, s": _of(name, lambda command: command.seconds) for name in COMMANDS}
FIGURES = {
    **TIMES,
    **{f"CPU of {name}, s": _of(name, lambda command: command.cpu) for name in COMMANDS},
    **{f"requests of {name}": _of(name, lambda command: command.requests) for name in COMMANDS},
}
"""What is taken from every run."""
HEADER = ("program", "machines", "runs", *FIGURES, *(f"{name} / by hand" for name in COMMANDS))


def main() -> None:
    options = _options()
    runs = measure(options.largest)
    base = runs[BY_HAND, 1]
    lines = [
        [
            who,
            str(machines),
            str(len(same)),
            *(_rounded(median(map(figure, same))) for figure in FIGURES.values()),
            *(_ratio(figure, same, base) for figure in TIMES.values()),
        ]
        for (who, machines), same in runs.items()
    ]
    for cells in (HEADER, ["---"] * len(HEADER), *lines):
        print(f"| {' | '.join(cells)} |")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])


def measure(largest: int) -> dict[tuple[str, int], list[Run]]:
    """Run all rows with at most so many machines, one at a time, and repeats last."""
    made: dict[tuple[str, int], list[Run]] = defaultdict(list)
    started = time.monotonic()
    for turn in range(max(times for programs in ROWS.values() for times in programs.values())):
        for machines, programs in ROWS.items():
            for who, times in programs.items():
                if turn >= times or machines > largest:
                    continue
                try:
                    made[who, machines].append(run(who, machines))
                except Failed as failure:
                    raise SystemExit(f"{who}, {machines}: {failure}") from None
                seconds = time.monotonic() - started
                print(f"{seconds:4.0f} s  {who}, {machines}", flush=True)
    return made


def _rounded(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _ratio(seconds: Figure, runs: list[Run], base: list[Run]) -> str:
    """The time divided by that of one machine, written by hand."""
    return f"{median(map(seconds, runs)) / median(map(seconds, base)):.2f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare pulumi-fal on the emulator with a provider written by hand.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--largest", type=int, default=256, metavar="N", help="leave out rows with more machines")
    add("--csv", type=Path, metavar="FILE", help="write the table into this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
