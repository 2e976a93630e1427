"""Requests and answers of the legacy REST API, `https://rest.alpha.fal.ai`.

Its create has no idempotency key, so it is retried only if the API certainly did not accept it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pulumi_fal.api import shapes
from pulumi_fal.api.models import Instance, Status
from pulumi_fal.api.request import Request


def reason(body: Any) -> str | None:
    """Return the message of an error: FastAPI's `detail` or a gateway's `error`; None if absent."""
    detail = body.get("detail", body.get("error")) if isinstance(body, Mapping) else None
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    if isinstance(detail, list):
        return "; ".join(_field_errors(detail))
    return detail if isinstance(detail, str) else None


def list_instances() -> Request[list[Instance]]:
    """List all machines of the account."""
    return Request(
        "list",
        "GET",
        "/compute/instances",
        lambda body: [_listed_instance(item) for item in shapes.array(body)],
        reason,
        is_idempotent=True,
    )


def get_instance(instance_id: str) -> Request[Instance]:
    """Get one machine."""

    def parse(body: Any) -> Instance:
        found = _instance(body)
        if found.id != instance_id:
            raise ValueError("the answer is about another machine")
        return found

    return Request(
        "get",
        "GET",
        _path(instance_id),
        parse,
        reason,
        instance_id=instance_id,
        is_idempotent=True,
    )


def create_instance(instance_type: str, ssh_key: str, sector: str | None) -> Request[Instance]:
    """Create a machine."""
    body = {"instance_type": instance_type, "ssh_key": ssh_key}
    if sector:
        body["sector"] = sector
    return Request("create", "POST", "/compute/instance", _instance, reason, body=body)


def delete_instance(instance_id: str) -> Request[None]:
    """Delete a machine. The API does not document the answer, so any 2xx counts as success."""
    return Request(
        "delete",
        "DELETE",
        _path(instance_id),
        lambda body: None,
        reason,
        instance_id=instance_id,
        is_idempotent=True,
        json_expected=False,
    )


def _path(instance_id: str) -> str:
    return f"/compute/instance/{quote(instance_id, safe='')}"


def _instance(body: Any) -> Instance:
    """Parse a machine. Unknown fields are ignored, unknown statuses are kept."""
    found = shapes.mapping(body)
    return Instance(
        id=shapes.text(found, "id"),
        instance_type=shapes.text(found, "instance_type"),
        sector=shapes.optional_text(found, "sector") or None,
        ip=shapes.optional_text(found, "ip") or None,
        status=shapes.optional_text(found, "status") or Status.UNKNOWN.value,
    )


def _listed_instance(body: Any) -> Instance:
    """Parse a machine in a list, in which only the `id` is required.

    Unreadable fields are ignored, because one malformed machine must not hide all others. The
    `instance_type` is then "".
    """
    found = shapes.mapping(body)
    readable = {name: value for name, value in found.items() if isinstance(value, str)}
    return Instance(
        id=shapes.text(found, "id"),
        instance_type=shapes.optional_text(readable, "instance_type"),
        sector=shapes.optional_text(readable, "sector") or None,
        ip=shapes.optional_text(readable, "ip") or None,
        status=shapes.optional_text(readable, "status") or Status.UNKNOWN.value,
    )


def _field_errors(details: list[Any]) -> Iterator[str]:
    """Yield `field: message` for each error, without FastAPI's `input`, which may be a secret."""
    for detail in details:
        if isinstance(detail, str):
            yield detail
        if isinstance(detail, Mapping):
            loc = detail.get("loc")
            parts = loc if isinstance(loc, list) else []
            location = [str(part) for part in parts if part != "body"]
            yield ": ".join(filter(None, [".".join(location), str(detail.get("msg", ""))]))
