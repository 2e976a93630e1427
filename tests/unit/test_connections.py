"""The wire on real sockets: what was sent for sure, what surely wasn't, and who gets the key."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
import urllib3
from requests import adapters

from pulumi_fal.api import transport
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.transport import Transport
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    UnreachableError,
    UnusableAnswerError,
)

from ..fakes import CREATE, KEY, LIST, settings
from ..sockets import request_of, response, serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The computer that runs the tests may have a proxy of its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def failure(url: str, request: Request[Any] = CREATE) -> APIError:
    with pytest.raises(APIError) as caught:
        Transport(settings(url)).send(request)
    assert KEY not in f"{caught.value} {caught.value!r}"
    return caught.value


def unreachable(url: str, request: Request[Any] = CREATE) -> tuple[bool, str]:
    error = failure(url, request)
    assert isinstance(error, UnreachableError)
    return error.sent, error.detail


def seen(connection: socket.socket, data: bytes, requests: list[bytes] | None = None) -> None:
    """Read one request, add it to `requests`, send `data` and hang up."""
    request = request_of(connection)
    if requests is not None:
        requests.append(request)
    connection.sendall(data)


@pytest.fixture
def nobody() -> str:
    """The address of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "url, proxy, reason",
    [
        ("http://{nobody}", "", "connection refused by {nobody}"),
        ("https://fal.test", "http://user:s3cr3t@{nobody}", "connection refused by {nobody}"),
    ],
)
def test_refused_connection(
    monkeypatch: pytest.MonkeyPatch, nobody: str, url: str, proxy: str, reason: str
) -> None:
    """A refused connection never took the request. Its address shows what to correct."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(nobody=nobody))
    expected = (False, reason.format(nobody=nobody))
    assert unreachable(url.format(nobody=nobody)) == expected


def test_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is not known never took the request."""

    def no_such_host(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    assert unreachable("https://fal.test") == (False, "the host name can't be resolved")


def test_unknown_certificate() -> None:
    """The request is not sent to a server that shows one, even if it names the right host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    requests: list[bytes] = []

    def over_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            requests.append(request_of(secure))

    with serving(over_tls, "https") as url:
        sent, reason = unreachable(url)
    assert not sent
    assert reason.startswith("the certificate was not accepted: ")
    assert requests == []


def test_broken_tls() -> None:
    """TLS may break at any time, and the error doesn't say when: what isn't certain was sent."""

    def in_plain_text(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(response(b"{}"))

    with serving(in_plain_text, "https") as url:
        sent, reason = unreachable(url)
    assert sent
    # OpenSSL 3.0 and OpenSSL 3.5
    assert reason in {
        "TLS failed: wrong version number",
        "TLS failed: record layer failure",
    }


def test_proxy_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the tunnel gets neither the request nor the key."""
    requests: list[bytes] = []
    no = response(b"", "407 Proxy Authentication Required")
    with serving(lambda connection: seen(connection, no, requests)) as url:
        monkeypatch.setenv("https_proxy", url)
        assert unreachable("https://fal.test") == (False, "the proxy could not be reached")
    assert requests[0].startswith(b"CONNECT fal.test:443")
    assert KEY.encode() not in b"".join(requests)


def test_reset_behind_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset behind a proxy counts as sent, although urllib3 blames the proxy."""

    def request(*args: Any, **kwargs: Any) -> Any:
        reset = ConnectionResetError(104, "Connection reset by peer")
        wrapped = urllib3.exceptions.ProxyError("Unable to connect to proxy", reset)
        pool = urllib3.HTTPSConnectionPool("fal.test")
        raise requests.exceptions.ProxyError(
            urllib3.exceptions.MaxRetryError(pool, "/x", wrapped)
        ) from None

    monkeypatch.setattr(requests.Session, "request", request)
    assert unreachable("https://fal.test") == (True, "connection reset by peer")


def hang_up(connection: socket.socket) -> None:
    request_of(connection)


def reset(connection: socket.socket) -> None:
    request_of(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def break_off(connection: socket.socket) -> None:
    seen(connection, response(b'{"id": "the whole answer"}')[:-10])


def speak_smtp(connection: socket.socket) -> None:
    seen(connection, b"220 mail.test ESMTP\r\n")


@pytest.mark.parametrize(
    "answer, reason",
    [
        (hang_up, "the connection was lost"),
        (reset, "connection reset by peer"),
        (break_off, "the connection was lost"),
        (speak_smtp, "the connection was lost"),
    ],
)
def test_lost_answer(answer: Callable[[socket.socket], None], reason: str) -> None:
    """A server that has read the request may have taken it, whatever it answers."""
    with serving(answer) as url:
        sent, said = unreachable(url)
    assert sent
    assert said == reason or (answer is reset and os.name == "nt")  # it has words of its own


@pytest.mark.parametrize(
    "request_, constant", [(CREATE, "CREATE_READ_TIMEOUT"), (LIST, "READ_TIMEOUT")]
)
def test_no_answer(request_: Request[Any], constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers may be making the machine at this moment."""
    monkeypatch.setattr(transport, constant, 0.2)

    def read_for_ever(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with serving(read_for_ever) as url:
        assert unreachable(url, request_) == (True, "timed out")


def test_redirect() -> None:
    """The target of a redirect gets neither key nor body."""
    requests: list[bytes] = []
    there = response(b"", "307 Temporary Redirect", "Location: /elsewhere")
    with serving(lambda connection: seen(connection, there, requests)) as url:
        assert isinstance(failure(url), UnusableAnswerError)
    assert len(requests) == 1


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_no_proxy_for_this_computer(
    variable: str, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for this machine would see the key in the clear."""
    monkeypatch.setenv(variable, f"http://{nobody}")
    with serving(lambda connection: seen(connection, response(b"[]"))) as url:
        assert Transport(settings(url)).send(LIST) == []


def test_shared_connections() -> None:
    """A create has its own connection, since a kept one may close under it unanswered."""
    served: list[list[bytes]] = []

    def keep_alive(connection: socket.socket) -> None:
        methods: list[bytes] = []
        served.append(methods)
        while request := request_of(connection):
            methods.append(request.split()[0])
            connection.sendall(response(b"[]"))

    with serving(keep_alive) as url:
        wire = Transport(settings(url))
        for request in (CREATE, CREATE, LIST, LIST):
            wire.send(request)
    assert served == [[b"POST"], [b"POST"], [b"GET", b"GET"]]


def not_sent(url: str) -> str:
    """Why this computer's own settings keep a request from being sent."""
    with pytest.raises(ConfigurationError, match="Nothing was sent to the API") as caught:
        Transport(settings(url)).send(CREATE)
    assert KEY not in f"{caught.value} {caught.value!r}"
    return str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    """A CA bundle that is missing or has no certificate is an error of the environment."""
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with serving(lambda connection: None, "https") as url:
        assert "REQUESTS_CA_BUNDLE" in not_sent(url)


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@127.0.0.1:1", "http:///hunter2"])
def test_unusable_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy whose scheme is not supported fails at once, and nothing is repeated."""
    monkeypatch.setattr(adapters, "SOCKSProxyManager", _without_package)
    monkeypatch.setenv("all_proxy", proxy)
    said = not_sent("https://127.0.0.1:1")
    assert "HTTPS_PROXY or ALL_PROXY" in said
    assert "hunter2" not in said


def _without_package(*_: Any, **__: Any) -> None:
    """The function that requests uses where PySocks is not installed."""
    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")
