"""What the calls of both APIs share: the check of the key, faults, and the log of requests."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from pulumi_fal.api.models import InstanceType, NewInstance, Sector
from pulumi_fal.emulator.state import KeyReusedError, NoCapacityError, State, UnknownMachineError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from pulumi_fal.emulator.faults import Fault

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


async def _current_state(request: Request) -> State:
    machines: State = request.app.state.machines
    return machines


CurrentState = Annotated[State, Depends(_current_state)]
"""The state of the emulator that serves the request."""


async def _account(request: Request, machines: CurrentState) -> str:
    return machines.account_of(_key(request))


Account = Annotated[str, Depends(_account)]
"""The account of the key in the request."""


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
            app, began, fault = request.app.state, time.perf_counter(), None
            with app.machines.call(self.name):
                await asyncio.sleep(app.latency)
                if _is_key_accepted(request, app.api_key):
                    fault = app.faults.take(self.name)
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
        release = request.app.state.faults.hold() if fault.held else None
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
    request.app.state.log.append(logged)
    clock = time.strftime("%H:%M:%S", time.localtime(logged.at))
    outcome = f"{logged.status or 'reset'} {logged.ms} ms"
    fault_met = f"  fault: {logged.fault}" if logged.fault else ""
    request.app.state.say(f"{clock} {logged.method} {logged.path} {outcome}{fault_met}")


def _key(request: Request) -> str:
    """Return the key in the request, or ""."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme == "Key" else ""


def _is_key_accepted(request: Request, api_key: str | None) -> bool:
    key, account_of = _key(request), request.app.state.machines.account_of
    return bool(key) and (api_key is None or account_of(key) == account_of(api_key))
