"""Requests and answers of the current REST API, `https://api.fal.ai/v1`.

Its create takes an idempotency key, and the API keeps the answer for KEPT_SECONDS. Within that time
the same create can be sent again without creating a second machine.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pulumi_fal.api import shapes
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.request import Page, Request

KEPT_SECONDS = 600.0
"""Seconds for which the API keeps the answer to a create with an idempotency key."""
_PATH = "/compute/instances"
_NEEDED_KEY = "an admin API key of an account that has the compute permission"


def reason(body: Any) -> str | None:
    """Return the message of an error with the request id, which fal's support asks for.

    Returns None if there is no message.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return error if isinstance(error, str) else None
    message, request_id = error.get("message"), error.get("request_id")
    if not isinstance(message, str):
        return None
    known = isinstance(request_id, str) and request_id
    return f"{message.rstrip('.')} (request id {request_id})" if known else message


def list_instances(cursor: str | None = None) -> Request[Page]:
    """List one page of the account's machines.

    This sends no `limit`, because fal does not document its maximum.
    """
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
    """Get one machine."""
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


def new_idempotency_key() -> str:
    """Return a key for a new create."""
    return str(uuid.uuid4())


def create_instance(new: NewInstance, idempotency_key: str = "") -> Request[Instance]:
    """Create a machine. With an `idempotency_key`, sending the request again creates no other."""
    return Request(
        "create",
        "POST",
        _PATH,
        shapes.created,
        reason,
        body=new.body,
        headers={"Idempotency-Key": idempotency_key} if idempotency_key else {},
        is_idempotent=bool(idempotency_key),
        needed_key=_NEEDED_KEY,
    )


def delete_instance(instance_id: str) -> Request[None]:
    """Delete a machine. The answer has no body."""
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
