"""What goes over the wire, what every answer becomes, and what was sent for sure."""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
import responses
import trustme
import urllib3
from requests import adapters

from pulumi_fal import __version__, errors
from pulumi_fal.api.client import Transport
from pulumi_fal.api.dialects import Request
from pulumi_fal.errors import APIError, ConfigurationError, UnreachableError, UnusableAnswerError

from ..fakes import CREATE, DELETE, GET, ID, KEY, LIST, settings
from ..sockets import request_of, response, serving

BASE = "https://fal.test"
PATH = f"/compute/instance/{ID}"
REQUESTS: dict[str, Request[Any]] = {"GET": GET, "POST": CREATE, "DELETE": DELETE}
OTHER = "as the v1 API answers, although FAL_COMPUTE_API (or fal:api) is legacy"
TITLED = "<html><head><title>503 Busy</title></head><body><h1>503 Busy</h1></body></html>"
PAGE = "<html><style>p {}</style><h1>502 Bad Gateway</h1><p>nginx</p></html>"
each_method = pytest.mark.parametrize("method", REQUESTS)


@pytest.fixture
def wire() -> Any:
    with responses.RequestsMock() as mock:
        yield mock


def send(method: str = "GET", timeout: float | None = None) -> Any:
    request = replace(REQUESTS[method], path=PATH, instance_id=ID)
    return Transport(settings(BASE)).send(request, timeout)


def failure(wire: Any, method: str = "GET", **answer: Any) -> APIError:
    """The error for an answer. None has the key, wherever it came from."""
    wire.add(method, BASE + PATH, **answer)
    with pytest.raises(APIError) as caught:
        send(method)
    assert KEY not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    return caught.value


@each_method
def test_headers(wire: Any, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key has fal's own form, whatever .netrc says, and the version is for server logs."""
    (tmp_path / "netrc").write_text("machine fal.test login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wire.add(method, BASE + PATH, json={})
    send(method)
    headers = wire.calls[0].request.headers
    assert headers["Authorization"] == f"Key {KEY}"
    assert headers["User-Agent"] == f"pulumi-fal/{__version__}"
    assert headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "method, given, timeouts",
    [
        ("GET", None, (10, 60)),
        ("DELETE", None, (10, 60)),
        ("POST", None, (10, 180)),
        ("GET", 5, (2.5, 2.5)),
        ("GET", 1000, (10, 60)),
    ],
)
def test_timeouts(
    wire: Any, method: str, given: float | None, timeouts: tuple[float, float]
) -> None:
    """A create that is given up too soon leaves a machine behind. Callers only shorten them."""
    wire.add(method, BASE + PATH, json={})
    send(method, given)
    assert wire.calls[0].request.req_kwargs["timeout"] == timeouts


@pytest.mark.parametrize("status", [301, 307, 304])
@each_method
def test_redirect(wire: Any, method: str, status: int) -> None:
    """None is followed: the key would go to another host, and a POST would become a GET."""
    there = {"Location": "https://elsewhere.test/"}
    error = failure(wire, method, status=status, headers=there)
    assert type(error) is UnusableAnswerError
    assert (error.status, error.detail) == (status, "a redirect, which is not followed")
    assert len(wire.calls) == 1


@pytest.mark.parametrize(
    "status, kind",
    [
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (408, errors.InvalidRequestError),
        (409, errors.ConflictError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_status(wire: Any, status: int, kind: type[APIError]) -> None:
    """The attributes are for programs, the message for people. A refused key has its source."""
    error = failure(wire, "DELETE", status=status, json={"detail": "the API's own word"})
    assert type(error) is kind
    assert (error.method, error.path, error.status) == ("DELETE", PATH, status)
    assert (error.detail, error.instance_id) == ("the API's own word", ID)
    said = str(error)
    assert said.startswith(f"DELETE {PATH} answered {status}: the API's own word")
    source = "The key that was refused came from the environment variable FAL_KEY;"
    assert (source in said) is ("ADMIN scope" in said) is (status in (401, 403))


@pytest.mark.parametrize(
    "status, answer, detail",
    [
        (422, {"json": {"detail": [{"loc": ["body", "sector"], "msg": "no"}]}}, "sector: no"),
        (422, {"json": {"code": 7}}, '{"code": 7}'),
        (422, {"json": "just text"}, '"just text"'),
        (404, {"json": {"instances": []}}, f'{{"instances": []}}, {OTHER}'),
        (400, {"json": {"detail": "red \x1b[31m\r\nalert\x07\u202e!"}}, "red [31m alert !"),
        (500, {"body": "x" * 10_000}, "x" * 300 + "..."),
        (502, {"body": PAGE, "content_type": "text/html"}, "502 Bad Gateway nginx"),
        (503, {"body": TITLED}, "503 Busy"),
        (503, {"body": ""}, "Service Unavailable"),
        (503, {"body": "bus\u00e9", "content_type": "text/plain; charset=undefined"}, "bus\u00e9"),
    ],
)
def test_refusal(wire: Any, status: int, answer: dict[str, Any], detail: str) -> None:
    """A refusal is told in its own words, without tags and control characters, and is cut."""
    error = failure(wire, "POST", status=status, **answer)
    assert error.detail == detail
    assert str(error).startswith(f"POST {PATH} answered {status}: {detail.rstrip('.')}.")


@pytest.mark.parametrize(
    "body, words",
    [
        (PAGE, "'502 Bad Gateway nginx'"),
        ('[{"id": "0e4', '\'[{"id": "0e4\''),
        ("", "'an empty body'"),
        ("<script>x()</script>", "'an empty body'"),
        ("\udcff".encode("utf-8", "surrogateescape") * 2, ""),
        ("[" * 100_000, "'[[["),
    ],
    ids=["html", "cut", "empty", "script", "no text", "deep"],
)
def test_no_json(wire: Any, body: str | bytes, words: str) -> None:
    """A sign-in page also answers 200, which is an error of its own."""
    error = failure(wire, status=200, body=body)
    assert type(error) is UnusableAnswerError
    assert (error.status, error.instance_id) == (200, ID)
    assert error.detail.startswith(f"not the API's JSON but {words}")


@pytest.mark.parametrize(
    "status, body, is_success",
    [
        (200, "null", True),
        (200, "", True),
        (200, "deleted", True),
        (202, '{"ok": true}', True),
        (204, "", True),
        (200, PAGE, False),  # a proxy's sign-in page
    ],
)
def test_delete(wire: Any, status: int, body: str, *, is_success: bool) -> None:
    """Any 2xx but a page is a success where no JSON is expected."""
    wire.delete(BASE + PATH, status=status, body=body)
    if is_success:
        assert send("DELETE") is None
    else:
        with pytest.raises(UnusableAnswerError):
            send("DELETE")


ECHOES = [
    {"json": {"detail": f"bad key {KEY}"}},
    {"json": {"detail": [{"loc": ["header", KEY], "msg": f"{KEY} is no key"}]}},
    {"body": f"<p>Authorization: Key {KEY}</p>"},
    {"body": f"Key {KEY}"},
]


@pytest.mark.parametrize("answer", ECHOES, ids=["detail", "fields", "html", "text"])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_echoed_key(wire: Any, status: int, answer: dict[str, Any]) -> None:
    """A key that the server echoes is in no error, because errors end up in CI logs."""
    if status == 200 and "json" in answer:
        answer = {"body": f"not JSON: {KEY}"}
    assert "[the key]" in failure(wire, status=status, **answer).detail


LATER = email.utils.formatdate(time.time() + 3600, usegmt=True)


@pytest.mark.parametrize(
    "value, least, most",
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        pytest.param(LATER, 60, 3600, id="a date"),
        ("soon", None, None),
        ("-3", None, None),
        ("1.5", None, None),
        ("", None, None),
    ],
)
def test_retry_after(wire: Any, value: str, least: float | None, most: float | None) -> None:
    """A time that has passed means now; nonsense is no time at all."""
    wait = failure(wire, status=429, headers={"Retry-After": value}).retry_after
    assert wait is None if least is None or most is None else least <= (wait or 0) <= most


RESET = ConnectionResetError(104, "Connection reset by peer")
BEHIND_PROXY = urllib3.exceptions.MaxRetryError(
    urllib3.HTTPSConnectionPool("fal.test"), "/x", urllib3.exceptions.ProxyError("no", RESET)
)
"""A reset of which urllib3 says that the proxy could not be reached."""


@pytest.mark.parametrize(
    "raised, sent, reason",
    [
        (requests.ConnectTimeout(), False, "timed out"),
        (requests.ReadTimeout(), True, "timed out"),
        (requests.exceptions.InvalidURL(KEY), False, "the connection was lost"),
        (requests.ConnectionError(f"headers: Key {KEY}"), True, "the connection was lost"),
        (requests.exceptions.ChunkedEncodingError(), True, "the connection was lost"),
        (requests.exceptions.ProxyError(BEHIND_PROXY), True, "connection reset by peer"),
    ],
)
def test_unanswered(wire: Any, raised: Exception, sent: bool, reason: str) -> None:
    """What isn't certain counts as sent: a machine may hang on it."""
    try:
        int("no number")
    except ValueError as earlier:  # says nothing about the POST, although it is being handled
        earlier.__context__ = requests.ConnectTimeout()
        error = failure(wire, "POST", body=raised)
    assert isinstance(error, UnreachableError)
    assert (error.sent, error.detail, error.status) == (sent, reason, None)
    assert error.instance_id == ID


# On real sockets


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The computer that runs the tests may have a proxy of its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def unreachable(url: str) -> tuple[bool, str]:
    """Whether a create was sent, and why it got no answer."""
    with pytest.raises(UnreachableError) as caught:
        Transport(settings(url)).send(CREATE)
    assert KEY not in f"{caught.value} {caught.value!r}"
    return caught.value.sent, caught.value.detail


def seen(connection: socket.socket, data: bytes, requests: list[bytes] | None = None) -> None:
    """Read one request, add it to `requests`, send `data` and hang up."""
    request = request_of(connection)
    if requests is not None:
        requests.append(request)
    connection.sendall(data)


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("is_proxy", [True, False])
def test_refused_connection(monkeypatch: pytest.MonkeyPatch, nobody: str, is_proxy: bool) -> None:
    """A refused connection never took the request. Its address shows what to correct."""
    if is_proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cr3t@{nobody}")
    url = "https://fal.test" if is_proxy else f"http://{nobody}"
    assert unreachable(url) == (False, f"connection refused by {nobody}")


def test_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", mock.Mock(side_effect=unknown))
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
    assert reason in {"TLS failed: wrong version number", "TLS failed: record layer failure"}


def test_proxy_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the tunnel gets neither the request nor the key."""
    requests: list[bytes] = []
    no = response(b"", "407 Proxy Authentication Required")
    with serving(lambda connection: seen(connection, no, requests)) as url:
        monkeypatch.setenv("https_proxy", url)
        assert unreachable("https://fal.test") == (False, "the proxy could not be reached")
    assert requests[0].startswith(b"CONNECT fal.test:443")
    assert KEY.encode() not in b"".join(requests)


@pytest.mark.parametrize("is_reset", [True, False])
def test_lost_answer(is_reset: bool) -> None:
    """A server that has read the request may have taken it, whatever it answers."""

    def hang_up(connection: socket.socket) -> None:
        request_of(connection)
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with serving(hang_up) as url:
        sent, said = unreachable(url)
    assert sent
    if os.name != "nt" or not is_reset:  # it has words of its own
        assert said == ("connection reset by peer" if is_reset else "the connection was lost")


def test_no_proxy_for_this_computer(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for this machine would see the key in the clear."""
    monkeypatch.setenv("all_proxy", f"http://{nobody}")
    with serving(lambda connection: seen(connection, response(b"[]"))) as url:
        assert Transport(settings(url)).send(LIST) == []


def test_status_line() -> None:
    """A reason is text of the server's as well, and may have the key in it."""
    busy = response(b"", f"503 \x1b]0;{KEY}\x07 busy")
    with serving(lambda connection: seen(connection, busy)) as url, pytest.raises(APIError) as no:
        Transport(settings(url)).send(LIST)
    assert no.value.detail == "]0;[the key] busy"


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
    with pytest.raises(ConfigurationError, match="Nothing was sent to the API") as caught:
        Transport(settings(url)).send(CREATE)
    assert KEY not in f"{caught.value} {caught.value!r}"
    return str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with serving(lambda connection: None, "https") as url:
        assert "REQUESTS_CA_BUNDLE" in not_sent(url)


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@127.0.0.1:1", "http:///hunter2"])
def test_unusable_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy whose scheme is not supported fails at once, and nothing is repeated."""
    missing = requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")
    monkeypatch.setattr(adapters, "SOCKSProxyManager", mock.Mock(side_effect=missing))
    monkeypatch.setenv("all_proxy", proxy)
    said = not_sent("https://127.0.0.1:1")
    assert "HTTPS_PROXY or ALL_PROXY" in said
    assert "hunter2" not in said


# What it says


def test_family() -> None:
    """`except FalError` catches whatever this package raises on purpose."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    own = [kind for kind in kinds if kind.__module__ == errors.__name__]
    assert [kind for kind in own if not issubclass(kind, errors.FalError)] == []


@pytest.mark.parametrize(
    "path, is_pulumis, by_path",
    [
        ("/usr/bin", False, True),
        ("{own}:/usr/bin", False, False),
        ("{own}:/usr/bin", True, True),
        ("{own}:{own}", True, False),
    ],
    ids=["not on PATH", "on PATH", "only the plugin's", "the person's as well"],
)
def test_runnable(
    monkeypatch: pytest.MonkeyPatch, path: str, is_pulumis: bool, by_path: bool
) -> None:
    """Commands to copy have a path if their name would not do. Other words stay."""
    own = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", path.format(own=own))
    if is_pulumis:
        monkeypatch.setenv("PULUMI_RUNTIME_VIRTUALENV", "venv")
    errors._command.cache_clear()
    said = errors.runnable("pulumi-fal says: run `pulumi-fal ls`, or\n  pulumi-fal audit")
    monkeypatch.undo()
    errors._command.cache_clear()
    errors._command()
    name = f"{own}/pulumi-fal" if by_path else "pulumi-fal"
    assert said == f"pulumi-fal says: run `{name} ls`, or\n  {name} audit"
    assert errors.runnable(said) == said
