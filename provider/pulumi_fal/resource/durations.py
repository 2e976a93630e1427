"""Durations in the form of Pulumi's custom timeouts, such as 6h, 30m or 1h30m."""

from __future__ import annotations

import re

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PART = r"(\d+(?:\.\d+)?)([dhms])"


def parse(text: str) -> float | None:
    """Return the seconds of a duration such as 6h, 30m or 1h30m; None if it is not one."""
    if not re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        return None
    parts = re.findall(_PART, text, re.ASCII)
    return sum(float(count) * _UNITS[unit] for count, unit in parts)


def shown(seconds: float) -> str:
    """Format seconds as days and hours, as hours and minutes, or as minutes."""
    minutes = int(seconds) // 60
    hours, days = minutes // 60, minutes // 1440
    parts = ((days, "d"), (hours % 24, "h")) if days else ((hours, "h"), (minutes % 60, "m"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0m"


def rounded(seconds: float) -> float:
    """Round down to minutes: the longer, the coarser.

    A text with the result seldom changes, so that a log gets few lines of a long wait.
    """
    minutes = int(seconds) // 60
    step = next((step for step in (1, 5, 10) if minutes < 10 * step), 30)
    return (minutes - minutes % step) * 60.0
