"""The four calls of the legacy REST API, and the format of its errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError

from pulumi_fal.api.models import Instance
from pulumi_fal.emulator.calls import Account, ApiCall, NewInstance, Refusal
from pulumi_fal.emulator.control import Machines
from pulumi_fal.emulator.state import KeyReusedError, NoCapacityError, UnknownMachineError


class LegacyCall(ApiCall):
    """A call of the legacy API, which is a FastAPI service and has FastAPI's format for errors."""

    api = "legacy"
    no_machines: ClassVar[list[Any]] = []

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, RequestValidationError):
            return await request_validation_exception_handler(request, error)
        if isinstance(error, UnknownMachineError):
            error = HTTPException(404, f"Instance {error} not found")
        if isinstance(error, NoCapacityError | KeyReusedError):
            error = HTTPException(400, str(error))
        return await http_exception_handler(request, error)


legacy = APIRouter(prefix="/compute", route_class=LegacyCall)


@legacy.get("/instances", name="list")
async def list_instances(machines: Machines, account: Account) -> list[dict[str, Any]]:
    return [_shown(instance) for instance in machines.list(account)]


@legacy.get("/instance/{instance_id}", name="get")
async def get_instance(machines: Machines, account: Account, instance_id: str) -> dict[str, Any]:
    return _shown(machines.get(instance_id, account))


@legacy.post("/instance", name="create")
async def create_instance(machines: Machines, account: Account, new: NewInstance) -> dict[str, Any]:
    kind, sector = new.instance_type.value, new.requested_sector
    return _shown(machines.create(kind, new.ssh_key, sector, account))


@legacy.delete("/instance/{instance_id}", name="delete")
async def delete_instance(machines: Machines, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)


def _shown(instance: Instance) -> dict[str, Any]:
    shown = asdict(instance)
    del shown["region"], shown["creator_user_nickname"]  # this API does not have these fields
    return shown
