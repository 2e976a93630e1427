"""The emulator's ASGI application, and a server that runs it in a thread of the current process.

The application has both APIs, the controls under `/_emulator`, and the page at `/`. Controls and
page need no key, are not counted, and get no faults.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import struct
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib import resources
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal

import uvicorn
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from pydantic import BaseModel, NonNegativeInt
from starlette.exceptions import HTTPException as RoutingError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from pulumi_fal.emulator.calls import (
    V1_PREFIX,
    Current,
    Log,
    Service,
    as_http,
    legacy,
    log_request,
    v1,
    v1_error,
)
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import State, UnknownMachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send


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
    return await http_exception_handler(request, as_http(error))


async def _no_such_path(request: Request, error: RoutingError) -> Response:
    """Refuse the path and log the request, because a wrong endpoint is a common mistake."""
    if f"{request.url.path}/".startswith(f"{V1_PREFIX}/"):
        response = v1_error(error.status_code, error.detail, error.headers)
    else:
        response = await http_exception_handler(request, error)
    if not request.url.path.startswith(control.prefix):
        log_request(request, response, time.perf_counter())
    return response


Address = ipaddress.IPv4Address | ipaddress.IPv6Address

API_KEY = "emulator"
"""The default key."""


class EmulatorServer(Service):
    """An emulator that runs during a `with` block.

    Args:
        provisioning: the seconds from a machine's creation until it is ready.
        deletion: the seconds for which a deleted machine still exists.
        latency: the minimum duration of every call in seconds.
        clock: returns the machines' time in seconds; a `TurnedClock` moves only when told to.
        api_key: the key that calls must use, or another key of the same account (see
            `state.same_account`). None accepts any key, and each key has its own account.
        api: the API that clients use with `env`, "legacy" or "v1". The emulator serves both.
        host: the address to listen on, or a name of this computer; "0.0.0.0" or "::" for all.
        allowed_hosts: the names by which clients may call it besides its own.
        port: the port to listen on; 0 chooses a free port. Raises OSError if it can't be used.
        prices: the price of each instance type an hour, for the counter on the page.
        say: is called with a line of text for every request.

    Attributes:
        url: the address of the server: if it listens on all addresses, the loopback one.
        address: the IP address that it listens on.
        endpoint: the endpoint of the chosen API.
        env: the environment variables with the endpoint and the key for a client, and with the
            address at which an SSH server greets for all machines.
        exports: lines for a shell that set what a client needs of these, without a required key.
        state: the machines, which tests can inspect and change at any time.
        faults: the faults of the next calls.
        log: the latest requests to the APIs.
    """

    def __init__(
        self,
        *,
        provisioning: float = 0.0,
        deletion: float = 0.0,
        latency: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        api_key: str | None = API_KEY,
        host: str = "127.0.0.1",
        port: int = 0,
        allowed_hosts: Iterable[str] = (),
        api: str = "legacy",
        prices: Mapping[str, float] | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.state, self.faults, self.log = State(clock, provisioning, deletion), Faults(), Log()
        self.api_key, self.latency, self.prices, self.say = api_key, latency, prices or {}, say
        self._socket = _listen(host, port)
        self._ssh = _listen_beside(port)
        bound, port = self._socket.getsockname()[:2]
        self.address = ipaddress.ip_address(bound)
        url_host = _url_host(host, self.address)
        self.url = f"http://{url_host}:{port}"
        self.endpoint = self.url + ("/v1" if api == "v1" else "")
        self.env = {
            "FAL_COMPUTE_API": api,
            "FAL_COMPUTE_ENDPOINT": self.endpoint,
            "FAL_ADMIN_API_KEY": api_key or API_KEY,
            "FAL_COMPUTE_SSH_ADDRESS": "{}:{}".format(*self._ssh.getsockname()),
        }
        left_out = {"FAL_COMPUTE_API": api == "legacy", "FAL_ADMIN_API_KEY": api_key is not None}
        self.exports = "\n".join(
            _assignment(name, value) for name, value in self.env.items() if not left_out.get(name)
        )
        app = create_app(self, [*_own_hosts(url_host, self.address), *allowed_hosts])
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=ResettableProtocol,
                ws="none",
                lifespan="off",
                log_level="critical",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="fal-emulator", daemon=True
        )

    async def _serve(self) -> None:
        async with await asyncio.start_server(_greet, sock=self._ssh):
            await self._server.serve([self._socket])

    def __enter__(self) -> EmulatorServer:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the emulator's server ended while it started")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        # Don't wait for calls in flight. From Python 3.12 on, only the time limit ensures that.
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


def _assignment(name: str, value: str) -> str:
    """Return a line to paste into the shell: PowerShell on Windows, else a POSIX shell."""
    return f'$env:{name} = "{value}"' if sys.platform == "win32" else f"export {name}={value}"


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. "::" includes all IPv4 addresses, as 0.0.0.0 does."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    dualstack = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, dualstack_ipv6=dualstack)


def _listen_beside(port: int) -> socket.socket:
    """Return a socket that listens on the next port, or on a free one if that can't be had.

    After a restart on the same port, what another terminal has set stays right.
    """
    with suppress(OSError, OverflowError):
        return socket.create_server(("127.0.0.1", port + 1 if port else 0))
    return socket.create_server(("127.0.0.1", 0))


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet whoever connects as an SSH server would, and hang up."""
    writer.write(b"SSH-2.0-fal_emulator\r\n")
    writer.close()


def _url_host(host: str, address: Address) -> str:
    """Return the host for a URL. "All addresses" is no host, so it is the loopback address."""
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if ":" in host else host


def _own_hosts(url_host: str, address: Address) -> set[str]:
    """Return the hosts that a request to the emulator may name in its Host header.

    The loopback ones are always among them, because a forwarded or published port has them. An
    emulator that listens on all addresses is also known by the name of its computer or container.
    """
    name = {socket.gethostname()} if address.is_unspecified else set()
    return {"localhost", "127.0.0.1", "[::1]", url_host} | name


class ResettableProtocol(H11Protocol):
    """uvicorn's HTTP protocol, extended so that the application can reset the connection.

    ASGI can't express that a connection ends without an answer, so the scope gets an extension.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets TCP_NODELAY only for sockets that name their protocol. Without it, answers on
        # a reused connection wait 40 ms for the client to acknowledge the headers.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app: ASGIApp = self.app

        def reset() -> None:
            # With a linger time of 0 the kernel sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()

        async def app_with_reset(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), "reset": reset}
            await app(scope, receive, send)

        self.app = app_with_reset
