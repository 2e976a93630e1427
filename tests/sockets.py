"""Servers on sockets of this machine, for tests of the wire."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], object], scheme: str = "http") -> Iterator[str]:
    """A server on this machine's loopback that gives each connection to `answer`; its URL."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_over = threading.Event()

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                if is_over.is_set():
                    connection.close()
                    return
                threading.Thread(target=serve, args=[connection], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        # Neither closing nor, on Windows, shutting down wakes accept().
        is_over.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join(5)


def request_of(connection: socket.socket) -> bytes:
    """Read one request, body included; empty where the peer has left."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """One answer of a server, ready for the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
