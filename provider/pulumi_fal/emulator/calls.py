"""The four calls in both APIs, and what they share: the key, faults, and the log of requests.

The APIs differ in paths, in the format of lists and errors, and in a few fields.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from pulumi_fal.api.models import Instance, InstanceType, NewInstance, Sector
from pulumi_fal.emulator.faults import Fault, Faults
from pulumi_fal.emulator.state import KeyReusedError, NoCapacityError, State, UnknownMachineError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

V1_PREFIX = "/v1"
"""The first part of every path of the v1 API."""
Handler = Callable[[Request], Awaitable[Response]]

Refusal = (
    RequestValidationError | UnknownMachineError | NoCapacityError | KeyReusedError | HTTPException
)
"""The exceptions that a call may raise."""


@dataclass(frozen=True)
class LoggedRequest:
    """An entry in the log. It has no headers, because they contain the key.

    `at` is in seconds since the epoch. `status` is None if no answer was sent. `api` is the API to
    which the path belongs, or None if it belongs to neither.
    """

    at: float
    method: str
    path: str
    status: int | None
    ms: int
    fault: str | None = None
    api: str | None = None


class Log(deque[LoggedRequest]):
    """The latest 10 000 requests, oldest first. `total` counts all that there were."""

    def __init__(self) -> None:
        super().__init__(maxlen=10_000)
        self.total = 0

    def append(self, request: LoggedRequest) -> None:
        """Add a request, which drops the oldest one if the log is full."""
        super().append(request)
        self.total += 1


class Service:
    """What a request needs of the emulator that serves it, which is server.EmulatorServer."""

    state: State
    faults: Faults
    log: Log
    api_key: str | None
    latency: float
    prices: Mapping[str, float]
    say: Callable[[str], object]
    url: str
    exports: str


class CreateBody(BaseModel):
    """The body of a create, which is the same in both versions of the API."""

    instance_type: InstanceType
    ssh_key: Annotated[str, Field(min_length=1)]
    sector: Sector | None = None

    @field_validator("sector")
    @classmethod
    def _only_with_infiniband(cls, sector: Sector | None, info: ValidationInfo) -> Sector | None:
        kind = InstanceType.known(info.data.get("instance_type"))
        if sector and kind and not kind.has_infiniband:
            raise ValueError(f"sector is only for {' and '.join(InstanceType.with_infiniband())}")
        return sector

    @property
    def requested(self) -> NewInstance:
        sector = self.sector.value if self.sector else None
        return NewInstance(self.instance_type.value, self.ssh_key, sector)


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Current = Annotated[Service, Depends(_service)]


async def _account(request: Request, service: Current) -> str:
    return service.state.account_of(_key(request))


Account = Annotated[str, Depends(_account)]


class Reset(Response):
    """Resets the connection instead of sending an answer. Needs ResettableProtocol of server.py."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["reset"]()
        while (await receive())["type"] != "http.disconnect":
            pass


class ApiCall(APIRoute):
    """The route of one of the four calls. It counts and logs the call, and applies key and faults.

    Each version of the API has a router with a subclass as `route_class`, and names its routes as
    in state.CALLS.
    """

    api: ClassVar[str]
    """The version of the API, as in the settings."""
    no_machines: ClassVar[Any]
    """The body of an empty list."""

    async def refusal(self, request: Request, error: Refusal) -> Response:
        """Return the answer to an exception, in the format of this version of the API."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def work(request: Request) -> Response:
            # Exceptions become answers here, so that a fault can replace them.
            try:
                return await handle(request)
            except get_args(Refusal) as error:
                return await self.refusal(request, error)

        async def answer(request: Request) -> Response:
            service, began, fault = await _service(request), time.perf_counter(), None
            with service.state.call(self.name):
                await asyncio.sleep(service.latency)
                if _is_key_accepted(_key(request), service):
                    fault = service.faults.take(self.name)
                    response = await self._play(fault, work, request)
                else:
                    error = HTTPException(401, "Invalid credentials")
                    response = await self.refusal(request, error)
            log_request(request, response, began, fault, self.api)
            return response

        return answer

    async def _play(self, fault: Fault | None, work: Handler, request: Request) -> Response:
        # Read the whole request first: a client that is still sending would see a reset as a
        # broken pipe.
        await request.body()
        if fault is None:
            return await work(request)
        # Count the call as held before its work, so that a test that sees the work done can rely
        # on it.
        service = await _service(request)
        release = service.faults.hold() if fault.held else None
        normal = await work(request) if fault.taken else None
        if release is not None:
            await asyncio.wrap_future(release)
        await asyncio.sleep(fault.seconds)
        if fault.detail is not None:
            error = HTTPException(fault.status or 500, fault.detail, headers=fault.headers)
            return await self.refusal(request, error)
        if normal is not None and fault.body is None:
            return normal
        if fault.status is None:
            return Reset()
        if fault.name == "lapse":
            return JSONResponse(self.no_machines)
        body = fault.body or ""
        media_type = "text/html" if body.startswith("<") else "application/json"
        return Response(body, fault.status, fault.headers, media_type)


def log_request(
    request: Request,
    response: Response,
    began: float,
    fault: Fault | None = None,
    api: str | None = None,
) -> None:
    """Add a request and its answer to the log, and say them."""
    logged = LoggedRequest(
        at=time.time(),
        method=request.method,
        path=request.url.path,
        status=None if isinstance(response, Reset) else response.status_code,
        ms=round((time.perf_counter() - began) * 1000),
        fault=fault.name if fault else None,
        api=api,
    )
    service: Service = request.app.state.service
    service.log.append(logged)
    clock = time.strftime("%H:%M:%S", time.localtime(logged.at))
    outcome = f"{logged.status or 'reset'} {logged.ms} ms"
    fault_met = f"  fault: {logged.fault}" if logged.fault else ""
    service.say(f"{clock} {logged.method} {logged.path} {outcome}{fault_met}")


def _key(request: Request) -> str:
    """Return the key in the request, or ""."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme == "Key" else ""


def _is_key_accepted(key: str, service: Service) -> bool:
    account_of, required = service.state.account_of, service.api_key
    return bool(key) and (required is None or account_of(key) == account_of(required))


def as_http(error: Exception) -> HTTPException:
    """Return an exception of the state with the status and the text that both APIs give it."""
    if isinstance(error, HTTPException):
        return error
    if isinstance(error, UnknownMachineError):
        return HTTPException(404, f"Instance {error} not found")
    status = error.status if isinstance(error, NoCapacityError) else 400
    return HTTPException(status, str(error), {"Retry-After": "20"} if status == 429 else None)


class LegacyCall(ApiCall):
    """A call of the legacy API, which is a FastAPI service and has FastAPI's format for errors."""

    api = "legacy"
    no_machines: ClassVar[Any] = []

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, RequestValidationError):
            return await request_validation_exception_handler(request, error)
        if isinstance(error, NoCapacityError) and error.status == 422:
            problem = {"loc": ["body", "instance_type"], "msg": str(error), "type": "value_error"}
            return JSONResponse({"detail": [problem]}, 422)
        return await http_exception_handler(request, as_http(error))


class V1Call(ApiCall):
    """A call of the v1 API, whose errors are an object with type, message and request id."""

    api = "v1"
    no_machines: ClassVar[Any] = {"instances": [], "next_cursor": None, "has_more": False}

    async def refusal(self, request: Request, error: Refusal) -> Response:
        if isinstance(error, RequestValidationError):
            problems = (
                f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}"
                for problem in error.errors()
            )
            return v1_error(400, "; ".join(problems))
        http = as_http(error)
        return v1_error(http.status_code, str(http.detail), http.headers)


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
async def legacy_list(service: Current, account: Account) -> list[dict[str, Any]]:
    return [_legacy_instance(instance) for instance in service.state.list(account)]


@v1.get("/instances", name="list")
async def v1_list(
    service: Current,
    account: Account,
    cursor: str | None = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    page, found = _page(cursor), service.state.list(account)
    size = min(limit or service.state.page_size, service.state.page_size)
    start, end = (page - 1) * size, page * size
    next_cursor = base64.b64encode(str(page + 1).encode()).decode() if end < len(found) else None
    return {
        "instances": [_v1_instance(service, instance) for instance in found[start:end]],
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
    }


@legacy.get("/instance/{instance_id}", name="get")
async def legacy_get(service: Current, account: Account, instance_id: str) -> dict[str, Any]:
    return _legacy_instance(service.state.get(instance_id, account))


@v1.get("/instances/{instance_id}", name="get")
async def v1_get(service: Current, account: Account, instance_id: str) -> dict[str, Any]:
    return _v1_instance(service, service.state.get(instance_id, account))


@legacy.post("/instance", name="create")
async def legacy_create(service: Current, account: Account, body: CreateBody) -> dict[str, Any]:
    return _legacy_instance(service.state.create(body.requested, account))


@v1.post("/instances", name="create", status_code=201)
async def v1_create(
    service: Current,
    account: Account,
    body: V1CreateBody,
    idempotency_key: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    return _v1_instance(service, service.state.create(body.requested, account, idempotency_key))


@legacy.delete("/instance/{instance_id}", name="delete")
@v1.delete("/instances/{instance_id}", name="delete", status_code=204)
async def delete_instance(service: Current, account: Account, instance_id: str) -> None:
    service.state.delete(instance_id, account)


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


def _v1_instance(service: Service, instance: Instance) -> dict[str, Any]:
    machine = service.state.machines[instance.id]
    shown = {
        **vars(instance),
        "region": machine.region,
        "creator_user_nickname": machine.creator_user_nickname,
    }
    return {name: value for name, value in shown.items() if value is not None}
