"""Helpers that check the types in decoded JSON. They raise ValueError, without quoting values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def array(value: object) -> list[Any]:
    """Return the value, which has to be an array."""
    if not isinstance(value, list):
        raise ValueError(f"expected an array, not {type(value).__name__}")
    return value


def mapping(value: object) -> Mapping[Any, Any]:
    """Return the value, which has to be an object."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object, not {type(value).__name__}")
    return value


def text(body: Mapping[Any, Any], field: str) -> str:
    """Return the value of a field that has to be a non-empty string."""
    if body.get(field) in (None, ""):
        raise ValueError(f"{field!r} is missing")
    return optional_text(body, field)


def optional_text(body: Mapping[Any, Any], field: str) -> str:
    """Return the value of a field that has to be a string, or "" if it is null or absent."""
    value = body.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is not a string")
    # The text may be printed to a terminal, so control characters are replaced.
    return "".join(c if c.isprintable() else " " for c in value)
