"""The emulator as an application: a router for each dialect of the API, the controls, the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException as RoutingError
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
    app.include_router(legacy)
    app.include_router(v1)
    app.include_router(control)
    app.include_router(page)
    app.add_exception_handler(UnknownMachineError, _unknown_machine)
    app.exception_handler(RoutingError)(_no_such_path)
    return app


async def _unknown_machine(request: Request, error: Exception) -> Response:
    """The answer of a control that names a machine which isn't there."""
    return await http_exception_handler(request, HTTPException(404, f"Instance {error} not found"))


async def _no_such_path(request: Request, error: RoutingError) -> Response:
    """A path that isn't fal's shows on the console too: a wrong endpoint is a common mistake."""
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
    """The methods that the path has; a router knows only those of the first route that fits."""
    routes = request.app.routes
    return [
        method
        for method in ("DELETE", "GET", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]
