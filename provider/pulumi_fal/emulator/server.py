"""The emulator in a thread of this process, for tests."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pulumi_fal.emulator.app import create_app
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    from starlette.types import ASGIApp, Receive, Scope, Send

API_KEY = "emulator"
"""The key of an emulator that nobody gave one."""


class EmulatorServer:
    """An emulator that runs for as long as the `with` block does.

    Args:
        provisioning: seconds from a machine's creation until it is ready.
        deletion: seconds for which a deleted machine still exists.
        latency: seconds that every call takes at least.
        clock: the machines' time in seconds; a `TurnedClock` stands still until turned.
        api_key: the key that calls must carry, or another of its account, where
            `state.same_account` says that there is one; None takes any, each of its own account.
        api: the API that `env` makes a client speak, "legacy" or "v1"; both are served.
        host, port: where to listen; port 0 takes a free one. OSError when it can't.
        say: is given a readable line for every request.

    Attributes:
        url: where it listens.
        endpoint: the same, as a client of the chosen API needs it.
        env: the environment with which a client finds the endpoint and its key.
        state: the machines, to look at and to change while it runs.
        faults: what the next calls meet.
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
        api: str = "legacy",
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.state = State(clock, provisioning, deletion)
        self.faults = Faults()
        app = create_app(self.state, self.faults, api_key=api_key, latency=latency, say=say)
        self._socket = socket.create_server((host, port))
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        self.endpoint = self.url + ("/v1" if api == "v1" else "")
        self.env = {
            "FAL_COMPUTE_API": api,
            "FAL_COMPUTE_ENDPOINT": self.endpoint,
            "FAL_ADMIN_API_KEY": api_key or API_KEY,
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
        # Nobody waits for calls in flight; from Python 3.12 on only the time limit sees to that.
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


class ResettableProtocol(H11Protocol):
    """uvicorn's HTTP, which also tells the application how to reset its connection.

    ASGI has no word for "hang up without an answer", so the word is added to the scope.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so only for sockets that name their protocol. Without it a kept connection's
        # answers wait 40 ms for the client's acknowledgement of their headers.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app: ASGIApp = self.app

        def reset() -> None:
            # Without lingering the kernel sends RST rather than FIN.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()

        async def app_with_reset(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), "reset": reset}
            await app(scope, receive, send)

        self.app = app_with_reset
