"""The current REST API, `https://api.fal.ai/v1`: its paths, bodies, answers and errors.

Its create takes an idempotency key, for which the answer is kept for KEY_SECONDS: until then the
same create may be sent again, and makes no second machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pulumi_fal.api import shapes
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Page, Request

KEY_SECONDS = 600.0
"""How long the API keeps the answer to a create for its idempotency key."""
_PATH = "/compute/instances"
_NEEDED_KEY = "an admin API key of an account that has the compute permission"


def reason(body: Any) -> str | None:
    """The error's `message`, with the request's id, which fal's support asks for."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return error if isinstance(error, str) else None
    message, request_id = error.get("message"), error.get("request_id")
    if not isinstance(message, str):
        return None
    known = isinstance(request_id, str) and request_id
    return f"{message.rstrip('.')} (request id {request_id})" if known else message


def list_instances(cursor: str | None = None) -> Request[Page]:
    """One page of the account's machines. No `limit` is sent, since its maximum isn't published."""
    return Request(
        "list",
        "GET",
        f"{_PATH}?cursor={quote(cursor, safe='')}" if cursor else _PATH,
        _page,
        reason,
        is_idempotent=True,
        needed_key=_NEEDED_KEY,
    )


def get_instance(instance_id: str) -> Request[Instance]:
    """One machine."""
    return Request(
        "get",
        "GET",
        f"{_PATH}/{quote(instance_id, safe='')}",
        lambda body: shapes.same_instance(instance_id, body),
        reason,
        instance_id=instance_id,
        is_idempotent=True,
        needed_key=_NEEDED_KEY,
    )


def create_instance(
    instance_type: str, ssh_key: str, sector: str | None, idempotency_key: str = ""
) -> Request[Instance]:
    """Make a machine. With an `idempotency_key`, however often the request is sent."""
    return Request(
        "create",
        "POST",
        _PATH,
        shapes.instance,
        reason,
        body=shapes.new_instance(instance_type, ssh_key, sector),
        headers={"Idempotency-Key": idempotency_key} if idempotency_key else {},
        is_idempotent=bool(idempotency_key),
        needed_key=_NEEDED_KEY,
        # What a second request gets while the first one is served is not published.
        conflict_passes=bool(idempotency_key),
    )


def delete_instance(instance_id: str) -> Request[None]:
    """Delete a machine; the answer has no body."""
    return Request(
        "delete",
        "DELETE",
        f"{_PATH}/{quote(instance_id, safe='')}",
        lambda body: None,
        reason,
        instance_id=instance_id,
        is_idempotent=True,
        json_expected=False,
        needed_key=_NEEDED_KEY,
    )


def _page(body: Any) -> Page:
    found = shapes.mapping(body)
    instances = shapes.listed_instances(found.get("instances"))
    cursor = shapes.optional_text(found, "next_cursor") or None
    if found.get("has_more") is True and cursor is None:
        raise ValueError("there are more pages, and no cursor for the next one")
    return Page(instances, cursor)
