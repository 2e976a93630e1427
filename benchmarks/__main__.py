"""Run all benchmarks, then write a table, a CSV and a plot, and compare with the targets."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import naive, plot
from benchmarks.measure import (
    CLUSTER,
    COMMANDS,
    DIRECT,
    FOLLOWING,
    NAIVE,
    NATIVE,
    NATIVE_CLUSTER,
    OURS,
    V1,
    WAITING,
    Failed,
    run,
)
from benchmarks.results import CALLS, TIMES, Measure, Results, verdicts

REPEATS = 3
"""How often pulumi-fal runs: its polls have jitter, so a single run would be down to luck."""
LARGEST_REPEATED = 64
NAIVE_WIDTH = 4
"""How many machines the process of a dynamic provider works on at a time."""
NAIVE_SECONDS = 300.0
"""The longest that the naive provider may take for one number of machines."""
BUDGET = 13 * 60.0
"""Seconds after which no run is repeated."""

console = Console()


def main() -> None:
    options = _options()
    results, started = Results(), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    for who, machines, is_repeat in plan(options.sizes):
        reason = (
            f"more than {BUDGET / 60:.0f} minutes have passed"
            if is_repeat and time.monotonic() - started > BUDGET
            else too_long(who, machines, options.provisioning)
        )
        if reason:
            console.print(f"{who}, {machines} machines: skipped, {reason}")
            continue
        try:
            measured = run(who, machines, options.provisioning)
        except Failed as failure:
            raise SystemExit(f"{who}, {machines} machines: {failure}") from None
        results.add(measured)
        times = ", ".join(f"{name} {measured.commands[name].seconds:.1f} s" for name in COMMANDS)
        console.print(f"{who}, {machines} machine{'s' if machines > 1 else ''}: {times}")
    for title, measures in (("Time and memory", TIMES), ("API calls", CALLS)):
        console.print(table(results, title, measures))
    _write(results, options.out)
    for verdict in verdicts(results):
        word, color = ("reached", "green") if verdict.is_reached else ("not reached", "red")
        console.print(f"[{color}]{word:12}[/]{verdict}", highlight=False, soft_wrap=True)
    console.print(f"{time.monotonic() - started:.0f} s in total")


def plan(sizes: list[int]) -> Iterator[tuple[str, int, bool]]:
    """Yield who runs next, with how many machines, and whether that is a repeat.

    Runs don't overlap, so that they don't share the processors. The sizes of one provider follow
    each other, so that ratios compare runs of the same few minutes.
    """
    for repeat in range(REPEATS):
        for machines in sizes:
            if repeat == 0 or machines <= LARGEST_REPEATED:
                yield OURS, machines, repeat > 0
        for who, machines in ((CLUSTER, 1), (CLUSTER, 8), (FOLLOWING, 8)):
            yield who, machines, repeat > 0
        if repeat == 0:
            for machines in (1, 64):
                yield WAITING, machines, False
            for machines in sizes:
                for who in (V1, NATIVE, NATIVE_CLUSTER, DIRECT, NAIVE):
                    yield who, machines, False


def too_long(who: str, machines: int, provisioning: float) -> str:
    """Why a run is skipped, or "" if it isn't."""
    waves = ceil(machines / NAIVE_WIDTH)
    seconds = waves * (provisioning + 2 * naive.INTERVAL)
    if who != NAIVE or seconds <= NAIVE_SECONDS:
        return ""
    return f"{NAIVE_WIDTH} at a time would take about {seconds / 60:.0f} minutes"


def table(results: Results, title: str, measures: Sequence[Measure]) -> Table:
    """Medians, and in brackets their ratio to pulumi-fal's."""
    made = Table(title=f"{title}; in brackets: relative to pulumi-fal", title_justify="left")
    made.add_column("", justify="right")
    made.add_column("", no_wrap=True)
    for measure in measures:
        unit = "" if measure.unit == "calls" else f", {measure.unit}"
        made.add_column(f"{measure.name}{unit}", justify="right")
    last = 0
    for who, machines in results.rows():
        if machines != last:
            made.add_section()
        cells = [str(machines) if machines != last else "", who]
        for measure in measures:
            value = results.value(who, machines, measure)
            ratio = results.ratio(measure, (who, machines), (OURS, machines))
            digits = 1 if measure.unit == "s" else 0
            text = "" if value is None else f"{value:.{digits}f}"
            cells.append(text if who == OURS or ratio is None else f"{text} ({ratio:.2g})")
        made.add_row(*cells)
        last = machines
    return made


def _write(results: Results, out: Path) -> None:
    written = [out / "benchmark.csv"]
    results.write_csv(written[0])
    try:
        plot.draw(results, out / "benchmark.svg")
        written.append(out / "benchmark.svg")
    except ModuleNotFoundError as error:
        console.print(f"No plot: {error.name} is not installed; `make bench` installs it.")
    console.print(f"Written: {', '.join(map(str, written))}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare pulumi-fal on the emulator with a naive provider, and with no Pulumi.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default="1,4,16,64,256",
        metavar="N,N",
        help="numbers of machines; 1 is needed for the ratios",
    )
    parser.add_argument(
        "--provisioning",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="seconds until a machine is ready",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs"),
        metavar="FOLDER",
        help="where to write benchmark.csv and benchmark.svg",
    )
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(size) for size in text.split(",")})
    if sizes[0] < 1:
        raise ValueError("a number of machines must be 1 or more")
    return sizes


if __name__ == "__main__":
    main()
