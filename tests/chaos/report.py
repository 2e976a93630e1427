"""Cases that are played side by side, and a table of their outcomes."""

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
"""How many cases are played at a time; they wait as much as they work."""
ONLY = os.environ.get("CHAOS_ONLY", "")
"""A regular expression; only cases whose place or name it matches are played."""
SHOWN = 3
"""How many broken cases are shown with all that happened."""

Case = tuple[str, str, Callable[[World], None], str]
"""The place of the fault, its name, what is done, and the template stack that it begins with."""

Play = Callable[[Iterable[Case], str], None]
"""Plays cases under a title; the fixture of this name."""


def play_all(cases: Iterable[Case], template: Template, folder: Path) -> list[Outcome]:
    """Play every case, a few at a time, each in a folder of its own."""

    def play(numbered: tuple[int, Case]) -> Outcome:
        number, (where, name, act, start) = numbered
        return template.play(folder / str(number), Outcome(where, name), act, start=start)

    with ThreadPoolExecutor(WORKERS) as pool:
        chosen = (case for case in cases if re.search(ONLY, f"{case[0]}, {case[1]}"))
        return list(pool.map(play, enumerate(chosen)))


def print_table(outcomes: list[Outcome], title: str) -> None:
    """Print one line for each place, and their sum."""
    table = Table("call", "cases", title=title)
    counts = ("runs", "failures", "ways_out", "unnamed", "orphans", "duplicates")
    for heading in ("runs", "failed", "ways out", "unnamed", "orphans", "duplicates"):
        table.add_column(heading, justify="right")
    for where in dict.fromkeys(outcome.where for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.where == where]
        table.add_row(where, str(len(here)), *(str(_sum(here, name)) for name in counts))
    table.add_section()
    table.add_row("all", str(len(outcomes)), *(str(_sum(outcomes, name)) for name in counts))
    console = Console(width=100)
    console.print()
    console.print(table)


def broken(outcomes: list[Outcome]) -> str:
    """What is wrong, case by case; "" if nothing is."""
    bad = [outcome for outcome in outcomes if outcome.broken]
    lines = [f"{case.where}, {case.name}: {'; '.join(case.broken)}" for case in bad]
    transcripts = [f"--- {case.where}, {case.name}\n{case.transcript}" for case in bad[:SHOWN]]
    return "\n".join([*lines, *transcripts])


def _sum(outcomes: list[Outcome], name: str) -> int:
    return sum(getattr(outcome, name) for outcome in outcomes)
