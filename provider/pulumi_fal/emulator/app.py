"""Assembles the emulator's ASGI application from the API, the controls and the web page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException as RoutingError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Match

from pulumi_fal.emulator.calls import log_request
from pulumi_fal.emulator.control import control
from pulumi_fal.emulator.legacy import legacy
from pulumi_fal.emulator.page import page
from pulumi_fal.emulator.state import State, UnknownMachineError
from pulumi_fal.emulator.v1 import PREFIX, refused, v1

if TYPE_CHECKING:
    from pulumi_fal.emulator.faults import Faults


def create_app(
    state: State,
    faults: Faults,
    *,
    hosts: Iterable[str],
    api_key: str | None = None,
    latency: float = 0.0,
    say: Callable[[str], object] = lambda _: None,
) -> FastAPI:
    """Return the emulator as an ASGI application.

    Args:
        state: the machines.
        faults: the faults of the next calls.
        hosts: the hosts that a request may name in its Host header.
        api_key: the key that calls must use, or another key of the same account (see
            `state.same_account`). None accepts any key, and each key has its own account.
        latency: the minimum duration of every call in seconds.
        say: is called with a line of text for every request.
    """
    app = FastAPI(title="fal Compute emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.machines, app.state.faults = state, faults
    app.state.api_key, app.state.latency, app.state.say = api_key, latency, say
    # A page of another site can have its name resolve to the emulator's address. The browser then
    # takes the emulator for that site, and lets the page read and control it. What it can't change
    # is that each request names the page's own host. Older releases of Starlette take "[" for the
    # host of every IPv6 address, which is safe to allow: such a page has a name, no address.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts, "["], www_redirect=False)
    app.include_router(legacy)
    app.include_router(v1)
    app.include_router(control)
    app.include_router(page)
    app.add_exception_handler(UnknownMachineError, _unknown_machine)
    app.exception_handler(RoutingError)(_no_such_path)
    return app


async def _unknown_machine(request: Request, error: Exception) -> Response:
    """Return 404 for a control call about a machine that doesn't exist."""
    return await http_exception_handler(request, HTTPException(404, f"Instance {error} not found"))


async def _no_such_path(request: Request, error: RoutingError) -> Response:
    """Refuse the path and log the request, because a wrong endpoint is a common mistake."""
    headers = {**(error.headers or {})}
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    if f"{request.url.path}/".startswith(f"{PREFIX}/"):
        response = refused(error.status_code, error.detail, headers)
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
