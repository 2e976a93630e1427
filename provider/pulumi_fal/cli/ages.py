"""How long a machine has been running, counted from when Pulumi recorded it in a stack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from pulumi_fal.cli import show

_UNITS = {"d": 86400, "h": 3600, "m": 60}


def duration(text: str | None) -> int | None:
    """The seconds that an option names: 30m, 12h, 7d, or several of them, as in 1d12h."""
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
    """By machine, when a stack first recorded it; more than one may have it, by an import."""
    found: dict[str, float] = {}
    for id_, created in records:
        if created is not None:
            found[id_] = min(created, found.get(id_, created))
    return found


def in_words(seconds: float) -> str:
    """In days and hours, in hours and minutes, or in minutes."""
    minutes = int(seconds) // 60
    hours, days = minutes // 60, minutes // 1440
    parts = ((days, "d"), (hours % 24, "h")) if days else ((hours, "h"), (minutes % 60, "m"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0m"


def as_json(created: float | None, now: float) -> dict[str, Any]:
    """What JSON says of a machine's age; null where no stack says when it was recorded."""
    if created is None:
        return {"created": None, "age_seconds": None}
    return {"created": show.moment(created), "age_seconds": age(created, now)}


def age(created: float, now: float) -> int:
    """In seconds. The clock of the computer that recorded it may be ahead of this one's."""
    return max(0, int(now - created))
