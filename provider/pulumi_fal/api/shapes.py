"""Parsing that both versions of the API share: machines, and the types in decoded JSON.

The functions raise ValueError, which describes the wrong type but never quotes the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.models import Instance, Status
from pulumi_fal.errors import printable


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
    return printable(value)


def instance(body: object) -> Instance:
    """Parse a machine. Unknown fields are ignored, unknown statuses are kept."""
    found = mapping(body)
    for needed in ("id", "instance_type"):
        text(found, needed)
    return _instance(found)


def created(body: object) -> Instance:
    """Parse the answer to a create, which needs only an id: a machine is running."""
    return _listed_instance(mapping(body))


def same_instance(instance_id: str, body: object) -> Instance:
    """Parse a machine, which must have the given id."""
    found = instance(body)
    if found.id != instance_id:
        raise ValueError("the answer is about another machine")
    return found


def listed_instances(value: object) -> list[Instance]:
    """Parse a list of machines, in which only the `id` is required.

    Unreadable fields are ignored, because one malformed machine must not hide all others. The
    `instance_type` is then "".
    """
    return [_listed_instance(mapping(item)) for item in array(value)]


def _listed_instance(found: Mapping[Any, Any]) -> Instance:
    text(found, "id")
    readable = {name: value for name, value in found.items() if isinstance(value, str)}
    return _instance(readable)


def _instance(found: Mapping[Any, Any]) -> Instance:
    # These fields are only for information, so they are left out if they are not text.
    informative = {
        name: found.get(name) if isinstance(found.get(name), str) else None
        for name in ("region", "creator_user_nickname")
    }
    return Instance(
        id=text(found, "id"),
        instance_type=optional_text(found, "instance_type"),
        sector=optional_text(found, "sector") or None,
        ip=optional_text(found, "ip") or None,
        status=optional_text(found, "status") or Status.UNKNOWN.value,
        region=optional_text(informative, "region") or None,
        creator_user_nickname=optional_text(informative, "creator_user_nickname") or None,
    )
