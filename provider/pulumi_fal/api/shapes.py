"""What both dialects of the API share: machines, and reading decoded JSON.

ValueError says what is wrong with the shape of a value, never what the value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.models import Instance, Status


def array(value: object) -> list[Any]:
    """The value, which has to be an array."""
    if not isinstance(value, list):
        raise ValueError(f"expected an array, not {type(value).__name__}")
    return value


def mapping(value: object) -> Mapping[Any, Any]:
    """The value, which has to be an object."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object, not {type(value).__name__}")
    return value


def text(body: Mapping[Any, Any], field: str) -> str:
    """A field that has to be a string, and not a blank one."""
    if body.get(field) in (None, ""):
        raise ValueError(f"{field!r} is missing")
    return optional_text(body, field)


def optional_text(body: Mapping[Any, Any], field: str) -> str:
    """A field that has to be a string, or "" where it is null or absent."""
    value = body.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is not a string")
    return "".join(c if c.isprintable() else " " for c in value)  # it goes to terminals


def new_instance(instance_type: str, ssh_key: str, sector: str | None) -> dict[str, str]:
    """The body of a create."""
    body = {"instance_type": instance_type, "ssh_key": ssh_key}
    return {**body, "sector": sector} if sector else body


def instance(body: object) -> Instance:
    """A machine. Unknown fields are ignored, and unknown statuses kept."""
    found = mapping(body)
    for needed in ("id", "instance_type"):
        text(found, needed)
    return _instance(found)


def same_instance(instance_id: str, body: object) -> Instance:
    """The machine of that id, and no other."""
    found = instance(body)
    if found.id != instance_id:
        raise ValueError("the answer is about another machine")
    return found


def listed_instances(value: object) -> list[Instance]:
    """The machines of a list, of which only the `id` is needed.

    A field that can't be read is left out, since the machine may be anybody's: one odd entry must
    not hide all others. `instance_type` is "" then.
    """
    return [_listed_instance(mapping(entry)) for entry in array(value)]


def _listed_instance(found: Mapping[Any, Any]) -> Instance:
    text(found, "id")
    readable = {name: value for name, value in found.items() if isinstance(value, str)}
    return _instance(readable)


def _instance(found: Mapping[Any, Any]) -> Instance:
    # What only informs people is left out where it can't be read.
    told = {
        name: found.get(name) if isinstance(found.get(name), str) else None
        for name in ("region", "creator_user_nickname")
    }
    return Instance(
        id=text(found, "id"),
        instance_type=optional_text(found, "instance_type"),
        sector=optional_text(found, "sector") or None,
        ip=optional_text(found, "ip") or None,
        status=optional_text(found, "status") or Status.UNKNOWN.value,
        region=optional_text(told, "region") or None,
        creator_user_nickname=optional_text(told, "creator_user_nickname") or None,
    )
