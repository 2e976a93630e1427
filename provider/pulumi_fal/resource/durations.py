"""Durations in the form of Pulumi's custom timeouts, and in words."""

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


def in_words(seconds: float) -> str:
    """Return about how long that is, rounded down: the longer, the coarser. "" below a minute.

    A text with it seldom changes, so that a log gets few lines of a long wait.
    """
    minutes = int(seconds) // 60
    step = next((step for step in (1, 5, 10) if minutes < 10 * step), 30)
    hours, minutes = divmod(minutes - minutes % step, 60)
    parts = (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "")
    return " ".join(filter(None, parts))
