"""Runs the emulator in a thread of the current process, for tests."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pulumi_fal.emulator.app import create_app
from pulumi_fal.emulator.calls import Log
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import State

_GREETING = b"SSH-2.0-fal_emulator\r\n"


class Greeter:
    """Greets whoever connects from this computer, and hangs up. Has a thread of its own.

    `address` is the IP:PORT that it listens on.
    """

    def __init__(self, port: int) -> None:
        """Listen on the port, or on a free one if it is 0 or in use."""
        try:
            self._socket = socket.create_server(("127.0.0.1", port))
        except OSError:
            self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._ends = False
        self._thread = threading.Thread(target=self._greet, name="fal-emulator-ssh", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ends = True
        with suppress(OSError):
            socket.create_connection(self._socket.getsockname(), 5).close()  # accept() returns
        self._thread.join()
        self._socket.close()

    def _greet(self) -> None:
        while not self._ends:
            with suppress(OSError):  # the peer has left
                connection, _ = self._socket.accept()
                with connection:
                    connection.sendall(_GREETING)


if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

API_KEY = "emulator"
"""The default key."""


class EmulatorServer:
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
        say: is called with a line of text for every request.

    Attributes:
        url: the address of the server: if it listens on all addresses, the loopback one.
        address: the IP address that it listens on.
        endpoint: the endpoint of the chosen API.
        env: the environment variables with the endpoint and the key for a client, and with the
            address at which an SSH server greets for all machines.
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
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.state = State(clock, provisioning, deletion)
        self.faults = Faults()
        self.log = Log()
        self._socket = _listen(host, port)
        # After a restart on the same port, what another terminal has set stays right.
        self._ssh = Greeter(port + 1 if 0 < port < 65535 else 0)
        bound, port = self._socket.getsockname()[:2]
        self.address = ipaddress.ip_address(bound)
        url_host = _url_host(host, self.address)
        self.url = f"http://{url_host}:{port}"
        app = create_app(
            self.state,
            self.faults,
            self.log,
            hosts=[*_own_hosts(url_host, self.address), *allowed_hosts],
            api_key=api_key,
            latency=latency,
            say=say,
        )
        self.endpoint = self.url + ("/v1" if api == "v1" else "")
        self.env = {
            "FAL_COMPUTE_API": api,
            "FAL_COMPUTE_ENDPOINT": self.endpoint,
            "FAL_ADMIN_API_KEY": api_key or API_KEY,
            "FAL_COMPUTE_SSH_ADDRESS": self._ssh.address,
        }
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
            target=self._server.run, args=([self._socket],), name="fal-emulator", daemon=True
        )

    def __enter__(self) -> EmulatorServer:
        self._ssh.start()
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the emulator's server ended while it started")
            time.sleep(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Don't wait for calls in flight. From Python 3.12 on, only the time limit ensures that.
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._ssh.end()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. "::" includes all IPv4 addresses, as 0.0.0.0 does."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    dualstack = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, dualstack_ipv6=dualstack)


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
