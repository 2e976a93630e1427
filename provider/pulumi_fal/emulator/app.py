"""The emulator's ASGI application: both APIs, the controls under `/_emulator`, and the page at `/`.

Controls and page need no key, are not counted, and get no faults.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import resources
from math import inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from pydantic import BaseModel, NonNegativeInt, field_validator
from starlette.exceptions import HTTPException as RoutingError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Match

from pulumi_fal.emulator.calls import CurrentState, Log, log_request
from pulumi_fal.emulator.dialects import V1_PREFIX, legacy, v1, v1_error
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import CAPACITY_ANSWERS, State, UnknownMachineError


def create_app(
    state: State,
    faults: Faults,
    log: Log,
    *,
    hosts: Sequence[str],
    api_key: str | None = None,
    latency: float = 0.0,
    say: Callable[[str], object] = lambda _: None,
) -> FastAPI:
    """Return the emulator as an ASGI application.

    Args:
        state: the machines.
        faults: the faults of the next calls.
        log: gets an entry for every request, except those to controls and page.
        hosts: the hosts that a request may name in its Host header.
        api_key: the key that calls must use, or another key of the same account (see
            `state.same_account`). None accepts any key, and each key has its own account.
        latency: the minimum duration of every call in seconds.
        say: is called with a line of text for every request.
    """
    app = FastAPI(title="fal Compute emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.machines, app.state.faults, app.state.log = state, faults, log
    app.state.api_key, app.state.latency, app.state.say = api_key, latency, say
    # A page of another site can have its name resolve to the emulator's address. The browser then
    # takes the emulator for that site, and lets the page read and control it. What it can't change
    # is that each request names the page's own host. Older releases of Starlette take "[" for the
    # host of every IPv6 address, which is safe to allow: such a page has a name, no address. They
    # mind case, and browsers write names small.
    names = [*hosts, *map(str.lower, hosts), "["]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    for router in (legacy, v1, control, page):
        app.include_router(router)
    app.add_exception_handler(UnknownMachineError, _unknown_machine)
    app.exception_handler(RoutingError)(_no_such_path)
    return app


# The controls.


async def _faults(request: Request) -> Faults:
    faults: Faults = request.app.state.faults
    return faults


Script = Annotated[Faults, Depends(_faults)]


async def _only_json(request: Request) -> None:
    """Refuse a POST that a page of another site can make a browser send, which is never JSON."""
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and content_type != "application/json":
        raise HTTPException(
            415,
            "A control needs the header `Content-Type: application/json`, even without a body, so "
            "that no web page elsewhere can send it.",
        )


control = APIRouter(prefix="/_emulator", dependencies=[Depends(_only_json)])


@control.get("/report")
async def report(
    request: Request,
    machines: CurrentState,
    script: Script,
    known: str = "",
    log: Annotated[int, Query(ge=0)] = 10_000,
) -> dict[str, Any]:
    now, requests = machines.now(), request.app.state.log
    return {
        "calls": machines.calls,
        "creations": machines.creations,
        "deletions": machines.deletions,
        "most_in_flight": machines.most_in_flight,
        "machines": [
            {
                **asdict(machine.seen_at(now)),
                "age": now - machine.created,
                "deleting": machine.gone_at < inf,
            }
            for machine in machines.existing()
        ],
        "unclaimed": sorted(machines.unclaimed(known.split(","))),
        "faults": script.left(),
        "held": script.held,
        "capacity": {
            "machines": machines.capacity,
            "in_sector": machines.sector_capacity,
            "status": machines.capacity_status,
        },
        "any_key": request.app.state.api_key is None,
        "requests": requests.total,
        "log": [asdict(logged) for logged in list(requests)[max(0, len(requests) - log) :]],
    }


@control.post("/faults")
async def add_faults(script: Script, lines: list[str]) -> None:
    try:
        for line in lines:
            script.script(line)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


@control.delete("/faults")
async def clear_faults(script: Script) -> None:
    script.clear()


@control.post("/faults/release")
async def release(script: Script) -> None:
    script.release()


@control.post("/machines/{instance_id}/stuck")
async def stuck(machines: CurrentState, instance_id: str) -> None:
    machines.stuck(instance_id)


@control.post("/machines/{instance_id}/kill")
async def kill(machines: CurrentState, instance_id: str) -> None:
    machines.kill(instance_id)


@control.post("/machines/{instance_id}/status")
async def status(
    machines: CurrentState, instance_id: str, status: Annotated[str, Body(embed=True)]
) -> None:
    machines.set_status(instance_id, status)


@control.post("/machines/{instance_id}/hide")
async def hide(
    machines: CurrentState,
    instance_id: str,
    call: Annotated[Literal["list", "get"], Body()],
    seconds: Annotated[float, Body()],
) -> None:
    machines.hide(instance_id, call, seconds)


class Capacity(BaseModel):
    """How many machines may exist, and how further creates are refused. None is no limit."""

    machines: NonNegativeInt | None = None
    in_sector: NonNegativeInt | None = None
    status: int = 400

    @field_validator("status")
    @classmethod
    def _known(cls, status: int) -> int:
        if status not in CAPACITY_ANSWERS:
            raise ValueError(f"it must be one of {', '.join(map(str, CAPACITY_ANSWERS))}")
        return status


@control.post("/capacity")
async def capacity(machines: CurrentState, wanted: Capacity) -> None:
    machines.capacity, machines.sector_capacity = wanted.machines, wanted.in_sector
    machines.capacity_status = wanted.status


@control.post("/clock/advance")
async def advance(machines: CurrentState, seconds: Annotated[float, Body(embed=True)]) -> None:
    machines.advance(seconds)


# The page.

PAGE = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the hashes of the page's own scripts or styles, for the content security policy."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = (b64encode(sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


# The policy allows nothing from other hosts, and no script from the path of a logged request.
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes('script')}",
            f"style-src {_hashes('style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

page = APIRouter()


@page.get("/")
async def show() -> Response:
    return Response(PAGE, headers=HEADERS, media_type="text/html")


# Errors of neither API's calls.


async def _unknown_machine(request: Request, error: Exception) -> Response:
    """Return 404 for a control call about a machine that doesn't exist."""
    return await http_exception_handler(request, HTTPException(404, f"Instance {error} not found"))


async def _no_such_path(request: Request, error: RoutingError) -> Response:
    """Refuse the path and log the request, because a wrong endpoint is a common mistake."""
    headers = {**(error.headers or {})}
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    if f"{request.url.path}/".startswith(f"{V1_PREFIX}/"):
        response = v1_error(error.status_code, error.detail, headers)
    else:
        error = HTTPException(error.status_code, error.detail, headers)
        response = await http_exception_handler(request, error)
    if not request.url.path.startswith(control.prefix):
        log_request(request, response, time.perf_counter())
    return response


def _methods(request: Request) -> list[str]:
    """Return the methods of the path. A router knows only those of the first matching route."""
    routes = request.app.routes
    return [
        method
        for method in ("DELETE", "GET", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]
