"""The two APIs, which differ in paths, in the format of lists and errors, and in a few fields."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import field_validator

from pulumi_fal.api.models import Instance
from pulumi_fal.emulator.calls import Account, ApiCall, CreateBody, CurrentState, Refusal
from pulumi_fal.emulator.state import KeyReusedError, NoCapacityError, State, UnknownMachineError

V1_PREFIX = "/v1"
"""The first part of every path of the v1 API."""


class LegacyCall(ApiCall):
    """A call of the legacy API, which is a FastAPI service and has FastAPI's format for errors."""

    api = "legacy"
    no_machines: ClassVar[list[Any]] = []

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, RequestValidationError):
            return await request_validation_exception_handler(request, error)
        if isinstance(error, UnknownMachineError):
            error = HTTPException(404, f"Instance {error} not found")
        if isinstance(error, NoCapacityError) and error.status == 422:
            problem = {"loc": ["body", "instance_type"], "msg": str(error), "type": "value_error"}
            return JSONResponse({"detail": [problem]}, 422)
        if isinstance(error, NoCapacityError):
            error = HTTPException(error.status, str(error), headers=_headers(error))
        if isinstance(error, KeyReusedError):
            error = HTTPException(400, str(error))
        return await http_exception_handler(request, error)


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
            return v1_error(error.status_code, str(error.detail), error.headers)
        if isinstance(error, UnknownMachineError):
            return v1_error(404, f"Instance {error} not found")
        if isinstance(error, RequestValidationError):
            problems = (
                f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}"
                for problem in error.errors()
            )
            return v1_error(400, "; ".join(problems))
        if isinstance(error, NoCapacityError):
            return v1_error(error.status, str(error), _headers(error))
        return v1_error(400, str(error))


class V1CreateBody(CreateBody):
    """The body of a create of the v1 API, in which the sector can be absent but not null."""

    @field_validator("sector", mode="before")
    @classmethod
    def _not_null(cls, sector: object) -> object:
        if sector is None:
            raise ValueError("null is not a sector")
        return sector


legacy = APIRouter(prefix="/compute", route_class=LegacyCall)
v1 = APIRouter(prefix=f"{V1_PREFIX}/compute", route_class=V1Call)


@legacy.get("/instances", name="list")
async def legacy_list(machines: CurrentState, account: Account) -> list[dict[str, Any]]:
    return [_legacy_instance(instance) for instance in machines.list(account)]


@v1.get("/instances", name="list")
async def v1_list(
    machines: CurrentState,
    account: Account,
    cursor: str | None = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    page, found = _page(cursor), machines.list(account)
    size = min(limit or machines.page_size, machines.page_size)
    start, end = (page - 1) * size, page * size
    next_cursor = base64.b64encode(str(page + 1).encode()).decode() if end < len(found) else None
    return {
        "instances": [_v1_instance(machines, instance) for instance in found[start:end]],
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
    }


@legacy.get("/instance/{instance_id}", name="get")
async def legacy_get(machines: CurrentState, account: Account, instance_id: str) -> dict[str, Any]:
    return _legacy_instance(machines.get(instance_id, account))


@v1.get("/instances/{instance_id}", name="get")
async def v1_get(machines: CurrentState, account: Account, instance_id: str) -> dict[str, Any]:
    return _v1_instance(machines, machines.get(instance_id, account))


@legacy.post("/instance", name="create")
async def legacy_create(
    machines: CurrentState, account: Account, body: CreateBody
) -> dict[str, Any]:
    return _legacy_instance(machines.create(body.requested, account))


@v1.post("/instances", name="create", status_code=201)
async def v1_create(
    machines: CurrentState,
    account: Account,
    body: V1CreateBody,
    idempotency_key: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    return _v1_instance(machines, machines.create(body.requested, account, idempotency_key))


@legacy.delete("/instance/{instance_id}", name="delete")
@v1.delete("/instances/{instance_id}", name="delete", status_code=204)
async def delete_instance(machines: CurrentState, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)


def v1_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the shape that the v1 API uses."""
    kinds = {
        401: "authorization_error",
        403: "authorization_error",
        404: "not_found",
        429: "rate_limited",
        501: "not_implemented",
    }
    kind = kinds.get(status, "server_error" if status >= 500 else "validation_error")
    error = {"type": kind, "message": message, "request_id": f"req_{uuid.uuid4().hex[:12]}"}
    return JSONResponse({"error": error}, status, headers)


def _headers(error: NoCapacityError) -> dict[str, str]:
    return {"Retry-After": "20"} if error.status == 429 else {}


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


def _legacy_instance(instance: Instance) -> dict[str, Any]:
    shown = asdict(instance)
    del shown["region"], shown["creator_user_nickname"]  # this API does not have these fields
    return shown


def _v1_instance(machines: State, instance: Instance) -> dict[str, Any]:
    machine = machines.machines[instance.id]
    shown = {
        **vars(instance),
        "region": machine.region,
        "creator_user_nickname": machine.creator_user_nickname,
    }
    return {name: value for name, value in shown.items() if value is not None}
