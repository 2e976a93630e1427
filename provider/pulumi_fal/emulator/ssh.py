"""The greeting of an SSH server, for programs with `wait_for_ssh`. Nobody can log in to it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

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
