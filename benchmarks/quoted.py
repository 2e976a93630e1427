"""The figures that README.md and docs/performance.md quote, each computed from benchmark.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import (
    CLUSTER,
    DIRECT,
    FOLLOWING,
    FULL_SECONDS,
    NAIVE,
    NATIVE,
    NATIVE_CLUSTER,
    NATIVE_FOLLOWING,
    OURS,
    UNWRITTEN,
    V1,
    WAITING,
    WAITING_INTERVAL,
)
from benchmarks.results import (
    DESTROY,
    DESTROY_CALLS,
    MEMORY,
    REFRESH,
    REFRESH_CALLS,
    REFUSED,
    UP,
    UP_POLLS,
    Measure,
)
from pulumi_fal.api import options

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")

Row = tuple[str, int]
Figures = dict[tuple[str, int, str], float]
"""The values of benchmark.csv by who, the number of machines, and the measure."""
Quote = Callable[[Figures], str]
"""Writes a figure as a page has it."""


def read(path: Path) -> Figures:
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (line["who"], int(line["machines"]), line["measure"]): float(line["value"])
            for line in csv.DictReader(file)
        }


@dataclass(frozen=True)
class Sentence:
    """A piece of text that one of the pages has once, with {} for each figure."""

    text: str
    quotes: tuple[Quote, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the text with any figures, wherever its lines end."""
        words = (re.escape(word).replace(r"\{\}", r"([\d.]+)") for word in self.text.split())
        return re.compile(r"\s+".join(words))

    def said(self, text: str) -> list[str]:
        """The figures that a page has, or none if it doesn't have the sentence once."""
        found = list(self.pattern.finditer(text))
        return list(found[0].groups()) if len(found) == 1 else []

    def measured(self, figures: Figures) -> list[str]:
        return [quote(figures) for quote in self.quotes]

    def corrected(self, text: str, figures: Figures) -> str:
        """The text of a page with the figures that were measured."""
        found = self.pattern.search(text)
        if found is None:
            return text
        for group, figure in reversed(list(enumerate(self.measured(figures), start=1))):
            text = text[: found.start(group)] + figure + text[found.end(group) :]
        return text


def correct(figures: Figures) -> Iterator[Path]:
    """Write the figures into the pages, and yield the pages that have changed."""
    for page in PAGES:
        before = after = page.read_text(encoding="utf-8")
        for sentence in SENTENCES:
            after = sentence.corrected(after, figures)
        if after != before:
            page.write_text(after, encoding="utf-8")
            yield page


def _ratio(measure: Measure, over: Row, under: Row) -> Quote:
    def quote(figures: Figures) -> str:
        ratio = figures[(*over, measure.name)] / figures[(*under, measure.name)]
        return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"

    return quote


def _value(measure: Measure, who: str, machines: int) -> Quote:
    digits = 1 if measure.unit == "s" else 0
    return lambda figures: f"{figures[who, machines, measure.name]:.{digits}f}"


def _over_one(measure: Measure, *machines: int) -> tuple[Quote, ...]:
    return tuple(_ratio(measure, (OURS, n), (OURS, 1)) for n in machines)


def _over_other(measure: Measure, over: str, under: str, *machines: int) -> tuple[Quote, ...]:
    return tuple(_ratio(measure, (over, n), (under, n)) for n in machines)


def _values(measure: Measure, who: str, *machines: int) -> tuple[Quote, ...]:
    return tuple(_value(measure, who, n) for n in machines)


def _row(head: str, quotes: Sequence[Quote]) -> Sentence:
    return Sentence(f"| {head} | {' | '.join(['{}'] * len(quotes))} |", tuple(quotes))


def _readme() -> Iterator[Sentence]:
    yield Sentence(
        "Creating 64 machines takes {} times as long as creating one",
        _over_one(UP, 64),
    )
    yield Sentence(
        "For 16, the minimal provider takes {} times as long as this one",
        _over_other(UP, NAIVE, OURS, 16),
    )
    yield Sentence(
        "For 16 machines, the polling requests of `up` are {} instead of {}, the requests of "
        "`refresh` {} instead of {}, and those of `destroy`, besides one DELETE each, {} instead "
        "of {}.",
        tuple(
            _value(measure, who, 16)
            for measure in (UP_POLLS, REFRESH_CALLS, DESTROY_CALLS)
            for who in (OURS, NAIVE)
        ),
    )


def _performance() -> Iterator[Sentence]:
    """Its tables, then its text."""
    sizes = (1, 16, 64, 256)
    for measure in (UP, REFRESH, DESTROY):
        yield _row(f"`{measure.name}`, seconds", _values(measure, OURS, *sizes))
    yield _row("`up`: time relative to one machine", _over_one(UP, *sizes))
    yield _row("`up`: time relative to the direct client", _over_other(UP, OURS, DIRECT, *sizes))
    yield _row("`up`: polling requests", _values(UP_POLLS, OURS, *sizes))
    yield _row("`refresh`: requests in total", _values(REFRESH_CALLS, OURS, *sizes))
    yield _row("`destroy`: requests besides one DELETE each", _values(DESTROY_CALLS, OURS, *sizes))
    yield _row("memory of the provider's process, MB", _values(MEMORY, OURS, *sizes))
    for head, measure in (
        ("`up` of 16 machines, seconds", UP),
        ("`destroy` of 16 machines, seconds", DESTROY),
        ("`up` of 16 machines, polling requests", UP_POLLS),
        ("`refresh` of 16 machines, requests", REFRESH_CALLS),
        ("`destroy` of 16 machines, requests besides one DELETE each", DESTROY_CALLS),
    ):
        yield _row(head, [_value(measure, who, 16) for who in (NAIVE, OURS, DIRECT)])
    for head, over, under in (
        ("64 machines with the v1 API | the same with the legacy API", (V1, 64), (OURS, 64)),
        (
            "1 machine with the native plugin | the same with the Python package",
            (NATIVE, 1),
            (OURS, 1),
        ),
        (
            "64 machines with the native plugin | the same with the Python package",
            (NATIVE, 64),
            (OURS, 64),
        ),
        (
            "64 machines through a cluster of the native plugin | the same one by one",
            (NATIVE_CLUSTER, 64),
            (NATIVE, 64),
        ),
        ("a cluster of 8 in a given sector | one machine", (CLUSTER, 8), (OURS, 1)),
        ("a cluster of 8 in a sector that the API chose | one machine", (FOLLOWING, 8), (OURS, 1)),
        ("the same with the native plugin | one machine", (NATIVE_FOLLOWING, 8), (OURS, 1)),
    ):
        yield _row(head, [_ratio(UP, over, under)])
    for head, machines in (("1 machine", 1), ("64 machines", 64)):
        yield _row(head, [_value(REFUSED, WAITING, machines), _value(UP, WAITING, machines)])
    yield Sentence(
        "a poll interval of {} s, so that they ask {} times as often as by default, on an API that "
        "has no room for the first {} s",
        (
            lambda _: f"{WAITING_INTERVAL:g}",
            lambda _: f"{options.POLL_INTERVAL.default / WAITING_INTERVAL:.0f}",
            lambda _: f"{FULL_SECONDS:g}",
        ),
    )
    yield Sentence(
        "Of the {} s that `up` of one machine took, 10 s are fal's.", _values(UP, OURS, 1)
    )
    yield Sentence(
        "Without those writes, `up` of 256 machines took {} times as long as that of one machine, "
        "instead of {} times, and `destroy` took {} times as long, instead of {} times.",
        tuple(
            _ratio(measure, (who, 256), (OURS, 1))
            for measure in (UP, DESTROY)
            for who in (UNWRITTEN, OURS)
        ),
    )


SENTENCES = (*_readme(), *_performance())
