"""The emulator's HTTP: the four calls as fal answers them, the controls, and the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from starlette.exceptions import HTTPException as RoutingError

from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.emulator.control import Machines, control
from pulumi_fal.emulator.page import page
from pulumi_fal.emulator.state import Call, NoCapacityError, State, UnknownMachineError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from pulumi_fal.emulator.faults import Fault, Faults

Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    state: State,
    faults: Faults,
    *,
    api_key: str | None = None,
    latency: float = 0.0,
    say: Callable[[str], object] = lambda _: None,
) -> FastAPI:
    """The emulator as an ASGI application.

    Args:
        state: the machines.
        faults: what the next calls meet.
        api_key: the key that every call must carry, or another of its account, where
            `state.same_account` says that there is one; None takes any, each of its own account.
        latency: seconds that every call takes at least.
        say: is given a readable line for every request.
    """
    app = FastAPI(title="fal Compute emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.machines, app.state.faults = state, faults
    app.state.api_key, app.state.latency, app.state.say = api_key, latency, say
    app.include_router(api)
    app.include_router(control)
    app.include_router(page)
    app.add_exception_handler(UnknownMachineError, _unknown_machine)
    app.exception_handler(RoutingError)(_no_such_path)
    return app


class Reset(Response):
    """No answer: the connection is reset. It needs the server's own protocol (server.py)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["reset"]()
        while (await receive())["type"] != "http.disconnect":
            pass


class ApiCall(APIRoute):
    """One of the four calls: counted and written down, its key checked, its fault played."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            app, began, fault = request.app.state, time.perf_counter(), None
            with app.machines.call(self.name):
                await asyncio.sleep(app.latency)
                response = _refused(request, app.api_key)
                if response is None:
                    fault = app.faults.take(self.name)
                    response = await _play(fault, handle, request)
            _write_down(request, response, began, fault)
            return response

        return answer


async def _play(fault: Fault | None, handle: Handler, request: Request) -> Response:
    # Before any answer: a client that still sends would meet a reset as a broken pipe.
    await request.body()
    if fault is None:
        return await _as_fastapi(handle, request)
    # Before the work, so that whoever sees it done finds the call held.
    release = request.app.state.faults.hold() if fault.held else None
    right = await _as_fastapi(handle, request) if fault.taken else None
    if release is not None:
        await asyncio.wrap_future(release)
    await asyncio.sleep(fault.seconds)
    if right is not None and fault.body is None:
        return right
    if fault.status is None:
        return Reset()
    body = fault.body or ""
    media_type = "text/html" if body.startswith("<") else "application/json"
    return Response(body, fault.status, fault.headers, media_type)


async def _as_fastapi(handle: Handler, request: Request) -> Response:
    """FastAPI's answer, its own error shapes included, so that a fault can come in its place."""
    try:
        return await handle(request)
    except RequestValidationError as error:
        return await request_validation_exception_handler(request, error)
    except UnknownMachineError as error:
        return await _unknown_machine(request, error)
    except HTTPException as error:
        return await http_exception_handler(request, error)


def _key(request: Request) -> str:
    """The key that a request carries, or ""."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme == "Key" else ""


def _refused(request: Request, api_key: str | None) -> Response | None:
    key, account_of = _key(request), request.app.state.machines.account_of
    if key and (api_key is None or account_of(key) == account_of(api_key)):
        return None
    return Response('{"detail": "Invalid credentials"}', 401, media_type="application/json")


def _write_down(request: Request, response: Response, began: float, fault: Fault | None) -> None:
    """Log a request, never its headers: they carry the key."""
    call = Call(
        at=time.time(),
        method=request.method,
        path=request.url.path,
        status=None if isinstance(response, Reset) else response.status_code,
        ms=round((time.perf_counter() - began) * 1000),
        fault=fault.name if fault else None,
    )
    request.app.state.machines.write_down(call)
    request.app.state.say(
        f"{time.strftime('%H:%M:%S', time.localtime(call.at))} {call.method} {call.path}"
        f" {call.status or 'reset'} {call.ms} ms{f'  fault: {call.fault}' if call.fault else ''}"
    )


async def _unknown_machine(request: Request, error: Exception) -> Response:
    return await http_exception_handler(request, HTTPException(404, f"Instance {error} not found"))


async def _no_such_path(request: Request, error: RoutingError) -> Response:
    """A path that isn't fal's shows on the console too: a wrong endpoint is a common mistake."""
    response = await http_exception_handler(request, error)
    if not request.url.path.startswith(control.prefix):
        _write_down(request, response, time.perf_counter(), None)
    return response


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


async def _account(request: Request, machines: Machines) -> str:
    return machines.account_of(_key(request))


Account = Annotated[str, Depends(_account)]

api = APIRouter(prefix="/compute", route_class=ApiCall)


@api.get("/instances", name="list")
async def list_instances(machines: Machines, account: Account) -> list[dict[str, Any]]:
    return [asdict(instance) for instance in machines.list(account)]


@api.get("/instance/{instance_id}", name="get")
async def get_instance(machines: Machines, account: Account, instance_id: str) -> dict[str, Any]:
    return asdict(machines.get(instance_id, account))


@api.post("/instance", name="create")
async def create_instance(machines: Machines, account: Account, new: NewInstance) -> dict[str, Any]:
    sector = new.sector.value if new.sector else None
    try:
        return asdict(machines.create(new.instance_type.value, new.ssh_key, sector, account))
    except NoCapacityError as error:
        raise HTTPException(400, str(error)) from None


@api.delete("/instance/{instance_id}", name="delete")
async def delete_instance(machines: Machines, account: Account, instance_id: str) -> None:
    machines.delete(instance_id, account)
