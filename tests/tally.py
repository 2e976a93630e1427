"""What a run has searched and what it has found, in one table, also where processes shared it."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SEED = int(os.environ.setdefault("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
"""From which all that is drawn at random follows. Workers of one run inherit it."""
COUNTS = ("cases", "broken")
"""The columns: the cases, and how many of them break a law."""
OTHERS = "stories, each a test"
_PROPERTY = "tally"

Record = Callable[[str, object], None]
"""The fixture `record_property`."""


def record(record_property: Record, part: str, **counts: int) -> None:
    """Count this for a part of the search, with the names of COUNTS."""
    record_property(_PROPERTY, [part, counts])


def table(reports: Iterable[Any]) -> str:
    """Sum up the reports of tests by the part that they are of; "" if nothing was searched.

    A test with the marker `chaos` that counts nothing is a case by itself.
    """
    found: dict[str, dict[str, float]] = {}
    for report in reports:
        counted = [value for name, value in report.user_properties if name == _PROPERTY]
        if not counted and "chaos" in report.keywords:
            counted = [[OTHERS, {"cases": 1, "broken": int(report.failed)}]]
        for part, counts in counted:
            for line in (found.setdefault(part, {}), found.setdefault("all", {})):
                for name, count in (*counts.items(), ("seconds", report.duration / len(counted))):
                    line[name] = line.get(name, 0) + count
    rows = Table("part", title=f"CHAOS_SEED={SEED}", title_justify="left", box=box.SIMPLE)
    columns = (*COUNTS, "seconds")
    for name in columns:
        rows.add_column(name.replace("_", " "), justify="right")
    for part in sorted(found, key=lambda part: (part == "all", part == OTHERS, part)):
        if found[part].get("cases"):
            rows.add_row(part, *(f"{found[part].get(name, 0):,.0f}" for name in columns))
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(rows)
    return console.file.getvalue() if found else ""  # type: ignore[attr-defined]
