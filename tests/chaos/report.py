"""Cases side by side, and the one table of what became of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .world import Outcome, Template, World

WORKERS = int(os.environ.get("CHAOS_WORKERS", "3"))
"""Cases at a time: they wait as much as they work."""
ONLY = os.environ.get("CHAOS_ONLY", "")
"""A regular expression: cases of whose place and name no part matches are left out."""
SHOWN = 3
"""So many broken cases are shown with all that happened."""

Case = tuple[str, str, Callable[[World], None], str]
"""Where the fault is, its name, what is done, and which of the template's stacks it begins with."""


def play_all(cases: Iterable[Case], template: Template, folder: Path) -> list[Outcome]:
    """Play every case, a few at a time, each in a folder of its own."""

    def play(numbered: tuple[int, Case]) -> Outcome:
        number, (where, name, act, start) = numbered
        return template.play(folder / str(number), Outcome(where, name), act, start=start)

    with ThreadPoolExecutor(WORKERS) as pool:
        chosen = (each for each in cases if re.search(ONLY, f"{each[0]}, {each[1]}"))
        return list(pool.map(play, enumerate(chosen)))


def print_table(outcomes: list[Outcome], title: str) -> None:
    """One line for each place, and their sum."""
    table = Table("call", "cases", title=title)
    counts = ("runs", "failures", "ways_out", "unnamed", "orphans", "duplicates")
    for heading in ("runs", "failed", "ways out", "unnamed", "orphans", "duplicates"):
        table.add_column(heading, justify="right")
    for where in dict.fromkeys(each.where for each in outcomes):
        here = [each for each in outcomes if each.where == where]
        table.add_row(where, str(len(here)), *(str(_sum(here, name)) for name in counts))
    table.add_section()
    table.add_row("all", str(len(outcomes)), *(str(_sum(outcomes, name)) for name in counts))
    console = Console(width=100)
    console.print()
    console.print(table)


def broken(outcomes: list[Outcome]) -> str:
    """What is wrong, case by case; "" when nothing is."""
    bad = [each for each in outcomes if each.broken]
    lines = [f"{each.where}, {each.name}: {'; '.join(each.broken)}" for each in bad]
    transcripts = [f"--- {each.where}, {each.name}\n{each.transcript}" for each in bad[:SHOWN]]
    return "\n".join([*lines, *transcripts])


def _sum(outcomes: list[Outcome], name: str) -> int:
    return sum(getattr(each, name) for each in outcomes)
