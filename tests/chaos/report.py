"""Cases that are drawn from all that there are and played side by side, and their outcomes."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from math import ceil
from operator import itemgetter
from pathlib import Path

from ..e2e.harness import Stack
from ..tally import SEED, Record, record
from .world import Outcome, World, play

WORKERS = int(os.environ.get("CHAOS_WORKERS", "2"))
"""How many cases a test plays at a time; they wait as much as they work."""
ONLY = os.environ.get("CHAOS_ONLY", "")
"""A regular expression; only cases whose place or name it matches are played, and all of them."""
SHARE = float(os.environ.get("CHAOS_SHARE", "0.2"))
"""How much of each row of a table is played in a run; CHAOS_SEED draws other cases every time."""
SHOWN = 3
"""How many broken cases are shown with all that happened."""

Case = tuple[str, str, Callable[[World], None], str]
"""The place of the fault, its name, what is done, and whether the stack is `new` or `ready`."""

Play = Callable[[Iterable[Case]], None]
"""Plays cases of a test's host; the fixture of this name."""


def drawn(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield some cases of each row: its share, and at least one."""
    for row, of_row in groupby(cases, key=itemgetter(0)):
        there = list(of_row)
        count = len(there) if ONLY else ceil(SHARE * len(there))
        yield from random.Random(f"{SEED} {row}").sample(there, count)


def play_all(cases: Iterable[Case], host: type[Stack], new: Path, folder: Path) -> list[Outcome]:
    """Play every case, a few at a time, each in a folder of its own."""

    def play_one(numbered: tuple[int, Case]) -> Outcome:
        number, (where, name, act, start) = numbered
        return play(host, new, folder / str(number), Outcome(where, name), act, start)

    with ThreadPoolExecutor(WORKERS) as pool:
        chosen = (case for case in cases if re.search(ONLY, f"{case[0]}, {case[1]}"))
        return list(pool.map(play_one, enumerate(chosen)))


def count(outcomes: list[Outcome], host: str, record_property: Record) -> None:
    """Count the outcomes for the table at the end of the run, by the call that met the fault."""
    record(record_property, host)
    for outcome in outcomes:
        record(
            record_property,
            f"{host}: {outcome.where.partition(':')[0]}",
            cases=1,
            runs=outcome.runs,
            failures=outcome.failures,
            ways_out=outcome.ways_out,
            unnamed=outcome.unnamed,
            orphans=outcome.orphans,
            duplicates=outcome.duplicates,
            broken=int(bool(outcome.broken)),
        )


def broken(outcomes: list[Outcome]) -> str:
    """What is wrong, case by case; "" if nothing is."""
    bad = [outcome for outcome in outcomes if outcome.broken]
    lines = [f"{case.where}, {case.name}: {'; '.join(case.broken)}" for case in bad]
    transcripts = [f"--- {case.where}, {case.name}\n{case.transcript}" for case in bad[:SHOWN]]
    return "\n".join([*lines, *transcripts])
