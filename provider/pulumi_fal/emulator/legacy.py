"""The four calls of the legacy REST API, and the format of its errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.emulator.calls import Account, ApiCall, Refusal
from pulumi_fal.emulator.control import Machines
from pulumi_fal.emulator.state import NoCapacityError, UnknownMachineError


class LegacyCall(ApiCall):
    """A call of the legacy API, which is a FastAPI service and has FastAPI's format for errors."""

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, RequestValidationError):
            return await request_validation_exception_handler(request, error)
        if isinstance(error, UnknownMachineError):
            error = HTTPException(404, f"Instance {error} not found")
        if isinstance(error, NoCapacityError):
            error = HTTPException(400, str(error))
        return await http_exception_handler(request, error)


class NewInstance(BaseModel):
    instance_type: InstanceType
    ssh_key: Annotated[str, Field(min_length=1)]
    sector: Sector | None = None

    @field_validator("sector")
    @classmethod
    def _only_8x(cls, sector: Sector | None, info: ValidationInfo) -> Sector | None:
        if sector and info.data.get("instance_type") == InstanceType.GPU_1X_H100_SXM5:
            raise ValueError(f"sector is only for {InstanceType.GPU_8X_H100_SXM5.value}")
        return sector


legacy = APIRouter(prefix="/compute", route_class=LegacyCall)


@legacy.get("/instances", name="list")
async def list_instances(machines: Machines, account: Account) -> list[dict[str, Any]]:
    return [asdict(instance) for instance in machines.list(account)]


@legacy.get("/instance/{instance_id}", name="get")
async def get_instance(machines: Machines, account: Account, instance_id: str) -> dict[str, Any]:
    return asdict(machines.get(instance_id, account))


@legacy.post("/instance", name="create")
async def create_instance(machines: Machines, account: Account, new: NewInstance) -> dict[str, Any]:
    sector = new.sector.value if new.sector else None
    return asdict(machines.create(new.instance_type.value, new.ssh_key, sector, account))


@legacy.delete("/instance/{instance_id}", name="delete")
async def delete_instance(machines: Machines, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)
