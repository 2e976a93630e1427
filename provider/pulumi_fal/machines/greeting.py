"""Finds out whether an SSH server answers at a machine's address. Nothing that it says is trusted.

The thread that waits for the machine connects as well, so many machines need no more threads.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from pulumi_fal.clock import Clock

ADDRESS_VARIABLE = "FAL_COMPUTE_SSH_ADDRESS"
"""The environment variable with the IP:PORT to connect to instead, for machines of the emulator."""
PORT = 22
ATTEMPT_SECONDS = 5.0
"""How long one attempt may take, from the connection to the greeting."""
_LONGEST = 255
"""The most bytes that are read: the longest greeting of an SSH server (RFC 4253, section 4.2)."""
_SLICE_SECONDS = 0.1
"""The longest time until an interrupt ends an attempt."""

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK)
"""What a connect returns whose outcome is not known yet: on Windows the second."""


Greeting = Callable[[str, Clock], str | None]
"""Returns why no SSH server greets at an ip, or None if one does. Raises Interrupted."""


def chosen(environ: Mapping[str, str]) -> Greeting:
    """Return `problem`, with the address that the environment sets."""
    return partial(problem, instead=environ.get(ADDRESS_VARIABLE, ""))


def problem(ip: str, clock: Clock, instead: str = "") -> str | None:
    """Return None if an SSH server greets on port 22 of the ip, or the reason why none does.

    With `instead`, an IP:PORT, this connects there, and the reason says so: the variable may have
    been forgotten in a terminal. The reason never contains the ip, because a program may treat it
    as a secret. Raises Interrupted.
    """
    until = clock.now() + ATTEMPT_SECONDS
    where = f" at the address in {ADDRESS_VARIABLE}" if instead else ""
    host, _, port = instead.rpartition(":") if instead else (ip, "", str(PORT))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"),
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )[0]
        with closing(socket.socket(family, kind, protocol)) as connection:
            connection.setblocking(False)
            _connect(connection, address, clock, until)
            greets = _greets(connection, clock, until)
            return None if greets else f"what answers{where} is no SSH server"
    except socket.gaierror:
        return f"{ADDRESS_VARIABLE} is not IP:PORT" if instead else "its ip is not an IP address"
    except TimeoutError:
        return f"no answer{where} within {ATTEMPT_SECONDS:.0f} s"
    except OSError as error:
        why = _in_words(error.errno) if error.errno else "the connection failed"
        return why + where


def _connect(connection: socket.socket, address: Any, clock: Clock, until: float) -> None:
    failure = connection.connect_ex(address)
    if failure in _UNDER_WAY:
        _wait(connection, selectors.EVENT_WRITE, clock, until)
        failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, _in_words(failure))


def _in_words(number: int) -> str:
    """What the system calls an error. On Windows, os.strerror doesn't know those of sockets."""
    of_sockets: dict[int, str] = getattr(socket, "errorTab", {})
    return of_sockets.get(number, os.strerror(number)).rstrip(".")


def _greets(connection: socket.socket, clock: Clock, until: float) -> bool:
    received = b""
    while len(received) < _LONGEST:
        _wait(connection, selectors.EVENT_READ, clock, until)
        part = connection.recv(_LONGEST - len(received))
        received += part
        # A server may send other lines first.
        if any(line.startswith(b"SSH-") for line in received.split(b"\n")):
            return True
        if not part:
            break
    return False


def _wait(connection: socket.socket, event: int, clock: Clock, until: float) -> None:
    """Wait for the event. Raises TimeoutError at `until`, a time of the clock, and Interrupted."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, event)
        while True:
            clock.check()
            if selector.select(_SLICE_SECONDS):
                return
            if clock.now() >= until:
                raise TimeoutError
