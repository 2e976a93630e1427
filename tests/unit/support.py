"""What unit tests share: a clock nobody waits for, SSH keys made in code, servers on sockets."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock

KEY = "s3cr3t-id:s3cr3t-half"
ID = "0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10"


class TurnedClock(Clock):
    """Time stands still until somebody waits for it, and then passes at once."""

    def __init__(self, time: float = 1000.0) -> None:
        super().__init__()
        self.time = time
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept.append(seconds)
        self.time += max(0.0, seconds)

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        if seconds is None:
            raise AssertionError("waits for another thread, and there is none")
        self.sleep(seconds)


def settings(endpoint: str = "https://fal.test", **others: float) -> Settings:
    """Settings with a key that is easily found wherever it leaks to."""
    return Settings(endpoint, KEY, "the environment variable FAL_KEY", **others)  # type: ignore[arg-type]


def blob(*fields: bytes) -> str:
    """The base64 part of a public key: each field with its length before it (RFC 4251, 5)."""
    wire = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return base64.b64encode(wire).decode()


ED25519 = "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(range(32)))
RSA = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xc5" * 256)
ECDSA = "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\4" + b"\x17" * 64)


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], object], scheme: str = "http") -> Iterator[str]:
    """A server on this machine's loopback that gives each connection to `answer`; its URL."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=[connection], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        # Closing alone doesn't wake accept().
        listener.shutdown(socket.SHUT_RDWR)
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
