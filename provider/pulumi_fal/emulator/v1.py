"""The four calls of the v1 REST API, and the shape of its errors."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import field_validator

from pulumi_fal.api.models import Instance
from pulumi_fal.emulator.calls import Account, ApiCall, NewInstance, Refusal
from pulumi_fal.emulator.control import Machines
from pulumi_fal.emulator.state import State, UnknownMachineError

_TYPES = {
    401: "authorization_error",
    403: "authorization_error",
    404: "not_found",
    429: "rate_limited",
    501: "not_implemented",
}


class V1Call(ApiCall):
    """A call of the v1 API, whose errors are an object with type, message and request id."""

    api = "v1"
    no_machines: ClassVar[dict[str, Any]] = {
        "instances": [],
        "next_cursor": None,
        "has_more": False,
    }

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, HTTPException):
            return refused(error.status_code, str(error.detail), error.headers)
        if isinstance(error, UnknownMachineError):
            return refused(404, f"Instance {error} not found")
        if isinstance(error, RequestValidationError):
            problems = (
                f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}"
                for problem in error.errors()
            )
            return refused(400, "; ".join(problems))
        return refused(400, str(error))


class NewV1Instance(NewInstance):
    """The body of a create, in which the sector can be absent but not null."""

    @field_validator("sector", mode="before")
    @classmethod
    def _not_null(cls, sector: object) -> object:
        if sector is None:
            raise ValueError("null is not a sector")
        return sector


PREFIX = "/v1"
"""The first part of every path of this API."""
v1 = APIRouter(prefix=f"{PREFIX}/compute", route_class=V1Call)


@v1.get("/instances", name="list")
async def list_instances(
    machines: Machines,
    account: Account,
    cursor: str | None = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    page, found = _page(cursor), machines.list(account)
    size = min(limit or machines.page_size, machines.page_size)
    start, end = (page - 1) * size, page * size
    next_cursor = base64.b64encode(str(page + 1).encode()).decode() if end < len(found) else None
    return {
        "instances": [_shown(machines, instance) for instance in found[start:end]],
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
    }


@v1.get("/instances/{instance_id}", name="get")
async def get_instance(machines: Machines, account: Account, instance_id: str) -> dict[str, Any]:
    return _shown(machines, machines.get(instance_id, account))


@v1.post("/instances", name="create", status_code=201)
async def create_instance(
    machines: Machines,
    account: Account,
    new: NewV1Instance,
    idempotency_key: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    made = machines.create(
        new.instance_type.value, new.ssh_key, new.requested_sector, account, idempotency_key
    )
    return _shown(machines, made)


@v1.delete("/instances/{instance_id}", name="delete", status_code=204)
async def delete_instance(machines: Machines, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the shape that this API uses."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "validation_error")
    error = {"type": kind, "message": message, "request_id": f"req_{uuid.uuid4().hex[:12]}"}
    return JSONResponse({"error": error}, status, headers)


def _page(cursor: str | None) -> int:
    if cursor is None:
        return 1
    try:
        page = int(base64.b64decode(cursor, validate=True))
    except (ValueError, binascii.Error):
        page = 0
    if page < 1:
        raise HTTPException(400, "cursor: not a cursor that a list has returned")
    return page


def _shown(machines: State, instance: Instance) -> dict[str, Any]:
    machine = machines.machines[instance.id]
    shown = {
        **vars(instance),
        "region": machine.region,
        "creator_user_nickname": machine.creator_user_nickname,
    }
    return {name: value for name, value in shown.items() if value is not None}
