"""Run all benchmarks, compare them with the goals, and write the figures into the docs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import plot, quoted
from benchmarks.goals import verdicts
from benchmarks.measure import Failed, run
from benchmarks.programs import OURS
from benchmarks.results import CALLS, TIMES, Measure, Results
from benchmarks.schedule import BUDGET, LIMIT, PROVISIONING, ROWS, rows, runs

DOCS = quoted.ROOT / "docs"

console = Console()
if not console.is_terminal:
    console.width = 140  # a log has no width, and the tables need this much


def main() -> None:
    options = _options()
    started = time.monotonic()
    console.print(schedule(options.largest, options.provisioning))
    results = measured(options.largest, options.provisioning, started)
    for title, measures in (("Time and memory", TIMES), ("API calls", CALLS)):
        console.print(table(results, title, measures))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        _write(results, options.out)
    elif (options.largest, options.provisioning) == (_largest(), PROVISIONING):
        _write(results, DOCS)
        for page in quoted.correct(quoted.read(DOCS / "benchmark.csv")):
            console.print(f"Corrected: the figures in {page}")
    else:
        console.print("Nothing is written, because this was not the whole benchmark; see --out.")
    for verdict in verdicts(results):
        _judge(verdict.is_reached, str(verdict))
    seconds = time.monotonic() - started
    _judge(seconds <= LIMIT, f"all runs: {seconds:.0f} s (at most {LIMIT:.0f})")


def schedule(largest: int, provisioning: float) -> Table:
    """How long each run is expected to take."""
    made = Table("", "machines", "runs", "s each", title="Schedule", title_justify="left")
    for row in rows(largest):
        seconds = row.estimate(provisioning)
        made.add_row(row.who, str(row.machines), str(row.times), f"{seconds:.0f}")
    total = sum(row.times * row.estimate(provisioning) for row in rows(largest))
    made.add_section()
    made.add_row("in total", "", str(sum(row.times for row in rows(largest))), f"{total:.0f}")
    return made


def measured(largest: int, provisioning: float, started: float) -> Results:
    """The results of all runs. A repeat that would exceed the budget is left out."""
    results = Results()
    for row, is_repeat in runs(largest):
        what = f"{row.who}, {row.machines} machine{'s' if row.machines > 1 else ''}"
        if is_repeat and time.monotonic() - started + row.estimate(provisioning) > BUDGET:
            console.print(f"{what}: not repeated, to end within {LIMIT / 60:.0f} minutes")
            continue
        try:
            made = run(row.who, row.machines, provisioning)
        except Failed as failure:
            raise SystemExit(f"{what}: {failure}") from None
        results.add(made)
        times = ", ".join(f"{name} {part.seconds:.1f} s" for name, part in made.commands.items())
        console.print(f"{time.monotonic() - started:4.0f} s  {what}: {times}", highlight=False)
    return results


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


def _judge(is_reached: bool, text: str) -> None:
    word, color = ("reached", "green") if is_reached else ("not reached", "red")
    console.print(f"[{color}]{word:12}[/]{text}", highlight=False, soft_wrap=True)


def _write(results: Results, out: Path) -> None:
    written = [out / "benchmark.csv"]
    results.write_csv(written[0])
    try:
        plot.draw(results, out / "benchmark.svg")
        written.append(out / "benchmark.svg")
    except ModuleNotFoundError as error:
        console.print(f"No plot: {error.name} is not installed; `make bench` installs it.")
    console.print(f"Written: {', '.join(map(str, written))}")


def _largest() -> int:
    return max(row.machines for row in ROWS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare pulumi-fal on the emulator with a naive provider, and with no Pulumi. "
        "Without options, the figures in the documentation are replaced by those of this run.",
    )
    parser.add_argument(
        "--largest",
        type=int,
        default=_largest(),
        metavar="N",
        help="leave out the runs with more machines (default: %(default)s)",
    )
    parser.add_argument(
        "--provisioning",
        type=float,
        default=PROVISIONING,
        metavar="SECONDS",
        help="seconds until a machine is ready (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write benchmark.csv and benchmark.svg, in place of the documentation",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
