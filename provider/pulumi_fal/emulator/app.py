"""The emulator's ASGI application: both APIs, the controls under `/_emulator`, and the page at `/`.

Controls and page need no key, are not counted, and get no faults.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import resources
from math import inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from pydantic import BaseModel, NonNegativeInt
from starlette.exceptions import HTTPException as RoutingError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pulumi_fal.emulator.calls import V1_PREFIX, Current, Service, legacy, log_request, v1, v1_error
from pulumi_fal.emulator.state import UnknownMachineError


def create_app(service: Service, hosts: Sequence[str]) -> FastAPI:
    """Return the ASGI application, with the hosts that a request may name in its Host header."""
    app = FastAPI(title="fal Compute emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
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
    service: Current, known: str = "", log: Annotated[int, Query(ge=0)] = 10_000
) -> dict[str, Any]:
    machines, now, requests = service.state, service.state.now(), service.log
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
                "stuck": machine.stuck_at < inf,
            }
            for machine in machines.existing()
        ],
        "unclaimed": sorted(machines.unclaimed(known.split(","))),
        "faults": service.faults.left(),
        "held": service.faults.held,
        "capacity": {
            "machines": machines.capacity,
            "in_sector": machines.sector_capacity,
            "status": machines.capacity_status,
        },
        "cost": machines.cost(service.prices) if service.prices else None,
        "any_key": service.api_key is None,
        "url": service.url,
        "exports": service.exports,
        "requests": requests.total,
        "log": [asdict(logged) for logged in list(requests)[max(0, len(requests) - log) :]],
    }


@control.post("/faults")
async def add_faults(service: Current, lines: list[str]) -> None:
    try:
        for line in lines:
            service.faults.script(line)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


@control.delete("/faults")
async def clear_faults(service: Current) -> None:
    service.faults.clear()


@control.post("/faults/release")
async def release(service: Current) -> None:
    service.faults.release()


@control.post("/machines/{instance_id}/stuck")
async def stuck(service: Current, instance_id: str) -> None:
    service.state.stuck(instance_id)


@control.post("/machines/{instance_id}/kill")
async def kill(service: Current, instance_id: str) -> None:
    service.state.kill(instance_id)


@control.post("/machines/{instance_id}/status")
async def status(
    service: Current, instance_id: str, status: Annotated[str, Body(embed=True)]
) -> None:
    service.state.set_status(instance_id, status)


@control.post("/machines/{instance_id}/hide")
async def hide(
    service: Current,
    instance_id: str,
    call: Annotated[Literal["list", "get"], Body()],
    seconds: Annotated[float, Body()],
) -> None:
    service.state.hide(instance_id, call, seconds)


class Capacity(BaseModel):
    """How many machines may exist, and how further creates are refused. None is no limit."""

    machines: NonNegativeInt | None = None
    in_sector: NonNegativeInt | None = None
    status: Literal[400, 409, 422, 429, 503] = 400


@control.post("/capacity")
async def capacity(service: Current, wanted: Capacity) -> None:
    state = service.state
    state.capacity, state.sector_capacity = wanted.machines, wanted.in_sector
    state.capacity_status = wanted.status


@control.post("/clock/advance")
async def advance(service: Current, seconds: Annotated[float, Body(embed=True)]) -> None:
    service.state.advance(seconds)


# The page.

PAGE = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the hashes of the page's own scripts or styles, for the content security policy."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = (b64encode(sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


# The policy allows nothing from other hosts, and no script from the path of a logged request.
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
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
    if f"{request.url.path}/".startswith(f"{V1_PREFIX}/"):
        response = v1_error(error.status_code, error.detail, error.headers)
    else:
        response = await http_exception_handler(request, error)
    if not request.url.path.startswith(control.prefix):
        log_request(request, response, time.perf_counter())
    return response
