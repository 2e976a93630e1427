"""Servers on the loopback address: of a release's archives, and of git repositories over https."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from typing_extensions import Self

HTTPS_PORT = 443
"""Pulumi takes a port for a part of the repository's name, so it must be the usual one."""


class Serving:
    """Answers requests in a thread while it is entered."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Files(Serving):
    """Serves a folder on a port of the loopback address."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        """The paths that were asked for."""
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                asked.append(self.path)

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{server.server_port}"
        super().__init__(server)


class GitServer(Serving):
    """Serves the bare repositories below a folder by `git http-backend`, as https://localhost/...

    OSError where the port can't be had."""

    def __init__(self, folder: Path, ca: trustme.CA) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost").configure_cert(context)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _serve_git(self, folder)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", HTTPS_PORT), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        super().__init__(server)


def _serve_git(request: BaseHTTPRequestHandler, folder: Path) -> None:
    path, _, query = request.path.partition("?")
    env = {
        **os.environ,
        "GIT_PROJECT_ROOT": str(folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
    }
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    backend = ("git", "http-backend")
    said = subprocess.run(backend, input=body, env=env, capture_output=True, check=True)
    head, _, body = said.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    request.send_response(int(headers.pop("Status", "200 OK").split()[0]))
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
