"""The legacy REST API, `https://rest.alpha.fal.ai`: its paths, bodies, answers and errors.

Its create takes no idempotency key, so only one that the API surely did not take is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pulumi_fal.api import shapes
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Page, Request


def reason(body: Any) -> str | None:
    """FastAPI's `detail`, field by field where it names fields; or a gateway's `error`."""
    detail = body.get("detail", body.get("error")) if isinstance(body, Mapping) else None
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    if isinstance(detail, list):
        return "; ".join(_field_errors(detail))
    return detail if isinstance(detail, str) else None


def list_instances(_cursor: str | None = None) -> Request[Page]:
    """All machines of the account, as a bare array; there is one page, so no cursor."""
    return Request(
        "list",
        "GET",
        "/compute/instances",
        lambda body: Page(shapes.listed_instances(body)),
        reason,
        is_idempotent=True,
    )


def get_instance(instance_id: str) -> Request[Instance]:
    """One machine."""
    return Request(
        "get",
        "GET",
        _path(instance_id),
        lambda body: shapes.same_instance(instance_id, body),
        reason,
        instance_id=instance_id,
        is_idempotent=True,
    )


def create_instance(
    instance_type: str, ssh_key: str, sector: str | None, _idempotency_key: str = ""
) -> Request[Instance]:
    """Make a machine. This API takes no idempotency key."""
    body = shapes.new_instance(instance_type, ssh_key, sector)
    return Request("create", "POST", "/compute/instance", shapes.instance, reason, body=body)


def delete_instance(instance_id: str) -> Request[None]:
    """Delete a machine. What the API answers is not specified, so any success is one."""
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
    """`field: message` of an entry; never its input, which FastAPI repeats and may be a secret."""
    for detail in details:
        if isinstance(detail, str):
            yield detail
        if isinstance(detail, Mapping):
            loc = detail.get("loc")
            parts = loc if isinstance(loc, list) else []
            location = [str(part) for part in parts if part != "body"]
            yield ": ".join(filter(None, [".".join(location), str(detail.get("msg", ""))]))
