"""Ages of machines, counted from when Pulumi recorded each in the state of a stack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from pulumi_fal.cli import show

_UNITS = {"d": 86400, "h": 3600, "m": 60}


def duration(text: str | None) -> int | None:
    """Parse the value of an option, such as 30m, 12h, 7d or 1d12h, and return it in seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", text, re.ASCII)
    if not text or found is None:
        raise click.BadParameter(
            f"{text!r} is not a duration. Give minutes, hours or days, for example 30m, 12h, 7d or "
            "1d12h."
        )
    counts = zip(found.groups("0"), _UNITS.values(), strict=True)
    return sum(int(count) * size for count, size in counts)


def earliest(records: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return the earliest time of each machine by its id. Several stacks may have imported it."""
    found: dict[str, float] = {}
    for id_, created in records:
        if created is not None:
            found[id_] = min(created, found.get(id_, created))
    return found


def in_words(seconds: float) -> str:
    """Return a duration in days and hours, in hours and minutes, or in minutes."""
    minutes = int(seconds) // 60
    hours, days = minutes // 60, minutes // 1440
    parts = ((days, "d"), (hours % 24, "h")) if days else ((hours, "h"), (minutes % 60, "m"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0m"


def as_json(created: float | None, now: float) -> dict[str, Any]:
    """Return the JSON fields for a machine's age. They are null if no stack has the time."""
    if created is None:
        return {"created": None, "age_seconds": None}
    return {"created": show.moment(created), "age_seconds": age(created, now)}


def age(created: float, now: float) -> int:
    """Return the age in seconds; 0 if the clock of the computer that recorded it is ahead."""
    return max(0, int(now - created))
