"""Runs the emulator in a thread of the current process, for tests."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pulumi_fal.emulator.app import create_app
from pulumi_fal.emulator.calls import Log, Service
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

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
