"""The requests that the emulator takes: those that call it by one of its own names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnHosts:
    """Refuses requests whose Host header names another host. The port can be any.

    A page of another site can have its name resolve to the emulator's address. The browser then
    takes the emulator for that site, and lets the page read and control it. What it can't change
    is that each request names the page's own host.

    Starlette has such a check too, but only new releases ignore case, as names of hosts do, and
    older ones don't read IPv6 addresses.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _named(Headers(scope=scope)) in self._hosts:
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("Invalid host header", 400)(scope, receive, send)


def _named(headers: Headers) -> str:
    """Return the host that a request names, without its port. IPv6 addresses have brackets."""
    return re.sub(r":\d*$", "", headers.get("host", "")).lower()
