"""The four calls of the v1 REST API, and the shape of its errors."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

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
        status, headers = 400, None
        if isinstance(error, HTTPException):
            status, message, headers = error.status_code, str(error.detail), error.headers
        elif isinstance(error, UnknownMachineError):
            status, message = 404, f"Instance {error} not found"
        elif isinstance(error, RequestValidationError):
            message = "; ".join(
                f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}"
                for problem in error.errors()
            )
        else:
            message = str(error)
        kind = _TYPES.get(status, "server_error" if status >= 500 else "validation_error")
        content = {"type": kind, "message": message, "request_id": f"req_{uuid.uuid4().hex[:12]}"}
        return JSONResponse({"error": content}, status, headers)


v1 = APIRouter(prefix="/v1/compute", route_class=V1Call)


@v1.get("/instances", name="list")
async def list_instances(
    machines: Machines, account: Account, cursor: str | None = None
) -> dict[str, Any]:
    page, found = _page(cursor), machines.list(account)
    start, end = (page - 1) * machines.page_size, page * machines.page_size
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
    new: NewInstance,
    idempotency_key: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    made = machines.create(
        new.instance_type.value, new.ssh_key, new.requested_sector, account, idempotency_key
    )
    return _shown(machines, made)


@v1.delete("/instances/{instance_id}", name="delete", status_code=204)
async def delete_instance(machines: Machines, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)


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
