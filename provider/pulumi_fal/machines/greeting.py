"""Finds out whether an SSH server answers at a machine's address. Nothing that it says is trusted.

The thread that waits for the machine connects as well, so many machines need no more threads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial

ADDRESS_VARIABLE = "FAL_COMPUTE_SSH_ADDRESS"
"""The environment variable with the IP:PORT to connect to instead, for machines of the emulator."""
PORT = 22
WAIT_SECONDS = 2.0
"""How long to wait for a connection, and then for the greeting. An interrupt waits as long."""
_LONGEST = 255
"""The most bytes that are read: the longest greeting of an SSH server (RFC 4253, section 4.2)."""

Greeting = Callable[[str], str | None]
"""Returns why no SSH server greets at an ip, or None if one does."""


def chosen(environ: Mapping[str, str]) -> Greeting:
    """Return `problem`, with the address that the environment sets."""
    return partial(problem, instead=environ.get(ADDRESS_VARIABLE, ""))


def problem(ip: str, instead: str = "") -> str | None:
    """Return None if an SSH server greets on port 22 of the ip, or the reason why none does.

    With `instead`, an IP:PORT, this connects there, and the reason says so: the variable may have
    been forgotten in a terminal. The reason never contains the ip, because a program may treat it
    as a secret.
    """
    where = f" at the address in {ADDRESS_VARIABLE}" if instead else ""
    host, _, port = instead.rpartition(":") if instead else (ip, "", str(PORT))
    try:
        address = (host.strip("[]"), int(port))
        with socket.create_connection(address, timeout=WAIT_SECONDS) as connection:
            greets = connection.recv(_LONGEST).startswith(b"SSH-")
            return None if greets else f"what answers{where} is no SSH server"
    except (ValueError, socket.gaierror):
        return f"{ADDRESS_VARIABLE} is not IP:PORT" if instead else "its ip is not an IP address"
    except TimeoutError:
        return f"no answer{where} within {WAIT_SECONDS:.0f} s"
    except OSError as error:
        why = error.strerror or "the connection failed"
        return why + where
