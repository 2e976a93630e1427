"""What a run has searched and what it has found, in one table, also where processes shared it."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SEED = int(os.environ.setdefault("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
"""From which all that is drawn at random follows. Workers of one run inherit it."""
COUNTS = ("cases", "runs", "failures", "ways_out", "unnamed", "orphans", "duplicates", "broken")
"""The columns: the cases, what happened in them, and what of it must never happen."""
CHAOS = "has the marker chaos"
"""The name of a test's property."""
OTHERS = "stories, each a test"
_PROPERTY = "tally"

Record = Callable[[str, object], None]
"""The fixture `record_property`."""


@dataclass
class Line:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seconds: float = 0.0

    def add(self, counts: Mapping[str, int], seconds: float) -> None:
        for name, count in counts.items():
            self.counts[name] += count
        self.seconds += seconds


def record(record_property: Record, part: str, **counts: int) -> None:
    """Count this for a part of the search, with the names of COUNTS."""
    record_property(_PROPERTY, [part, counts])


def lines(reports: Iterable[Any]) -> dict[str, Line]:
    """Sum up the reports of tests by the part that they are of.

    A test with the marker `chaos` that counts nothing is a case by itself.
    """
    found: dict[str, Line] = {}
    for report in reports:
        counted = [value for name, value in report.user_properties if name == _PROPERTY]
        if not counted and is_drawn([report]):
            counted = [[OTHERS, {"cases": 1, "broken": int(report.failed)}]]
        for part, counts in counted:
            found.setdefault(part, Line()).add(counts, report.duration / len(counted))
    return found


def table(found: Mapping[str, Line], *, is_drawn: bool) -> str:
    """Return the table, with the sum of all lines as its last one.

    `is_drawn` says whether the seed has decided anything. Without it, only the simulation has
    searched, which runs no engine, so that all that it can find is a broken law.
    """
    title = f"CHAOS_SEED={SEED}" if is_drawn else None
    names = COUNTS if is_drawn else ("cases", "broken")
    rows = Table("part", title=title, title_justify="left", box=box.SIMPLE)
    for name in names:
        rows.add_column(name.replace("_", " "), justify="right")
    rows.add_column("seconds", justify="right")
    total = Line()
    parts = [part for part, line in found.items() if line.counts["cases"]]
    for part in sorted(parts, key=lambda part: (part == OTHERS, part)):
        _add(rows, part, found[part], names)
        total.add(found[part].counts, found[part].seconds)
    rows.add_section()
    _add(rows, "all", total, names)
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(rows)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def is_drawn(reports: Iterable[Any]) -> bool:
    """Whether any of these tests has the marker `chaos`, so that it follows from the seed."""
    return any((CHAOS, True) in map(tuple, report.user_properties) for report in reports)


def _add(rows: Table, part: str, line: Line, names: Iterable[str]) -> None:
    counts = (f"{line.counts[name]:,}" for name in names)
    rows.add_row(part, *counts, f"{line.seconds:,.0f}")
