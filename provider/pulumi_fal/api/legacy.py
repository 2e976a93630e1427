"""Requests and answers of the legacy REST API, `https://rest.alpha.fal.ai`.

Its create has no idempotency key, so it is retried only if the API certainly did not accept it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pulumi_fal.api import shapes
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.request import Page, Request


def reason(body: Any) -> str | None:
    """Return the message of an error: FastAPI's `detail` or a gateway's `error`; None if absent."""
    detail = body.get("detail", body.get("error")) if isinstance(body, Mapping) else None
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    if isinstance(detail, list):
        return "; ".join(_field_errors(detail))
    return detail if isinstance(detail, str) else None


def list_instances(_cursor: str | None = None) -> Request[Page]:
    """List all machines of the account. This API returns them as one page, without a cursor."""
    return Request(
        "list",
        "GET",
        "/compute/instances",
        lambda body: Page(shapes.listed_instances(body)),
        reason,
        is_idempotent=True,
    )


def get_instance(instance_id: str) -> Request[Instance]:
    """Get one machine."""
    return Request(
        "get",
        "GET",
        _path(instance_id),
        lambda body: shapes.same_instance(instance_id, body),
        reason,
        instance_id=instance_id,
        is_idempotent=True,
    )


def new_idempotency_key() -> str:
    """Return "", because this API does not support idempotency keys."""
    return ""


def create_instance(new: NewInstance, _idempotency_key: str = "") -> Request[Instance]:
    """Create a machine. This API does not support idempotency keys."""
    return Request("create", "POST", "/compute/instance", shapes.created, reason, body=new.body)


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
