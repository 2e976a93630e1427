"""What goes over the wire, and what every answer becomes. Sockets are in test_connections.py."""

from __future__ import annotations

import email.utils
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from pulumi_fal import __version__, errors
from pulumi_fal.api import transport
from pulumi_fal.api.dialects import V1, Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.transport import Transport
from pulumi_fal.errors import APIError

from ..fakes import CREATE, DELETE, ED25519, EIGHT, GET, ID, KEY, settings

BASE = "https://fal.test"
PATH = f"/compute/instance/{ID}"
REQUESTS: dict[str, Request[Any]] = {"GET": GET, "POST": CREATE, "DELETE": DELETE}
NEW = NewInstance(EIGHT, ED25519)
TITLED = "<html><head><title>503 Busy</title></head><body><h1>503 Busy</h1></body></html>"
PAGE = "<html><style>p {}</style><h1>502 Bad Gateway</h1><p>nginx</p></html>"


@pytest.fixture
def wire() -> Any:
    with responses.RequestsMock() as mock:
        yield mock


def send(method: str = "GET", timeout: float | None = None) -> Any:
    request = replace(REQUESTS[method], path=PATH, instance_id=ID)
    return Transport(settings(BASE)).send(request, timeout)


def failure(wire: Any, method: str = "GET", **answer: Any) -> APIError:
    wire.add(method, BASE + PATH, **answer)
    with pytest.raises(APIError) as caught:
        send(method)
    return caught.value


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_request_says_who_asks(wire: Any, method: str) -> None:
    """The key has fal's own form, and the version is for those who read server logs."""
    wire.add(method, BASE + PATH, json={})
    send(method)
    headers = wire.calls[0].request.headers
    assert headers["Authorization"] == f"Key {KEY}"
    assert headers["User-Agent"] == f"pulumi-fal/{__version__}"
    assert headers["Accept"] == "application/json"


def test_a_netrc_entry_for_the_host_does_not_replace_the_key(
    wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is sent although .netrc has an entry for the host."""
    (tmp_path / "netrc").write_text("machine fal.test login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wire.get(BASE + PATH, json={})
    send()
    assert wire.calls[0].request.headers["Authorization"] == f"Key {KEY}"


@pytest.mark.parametrize("method, read", [("GET", 60), ("DELETE", 60), ("POST", 180)])
def test_every_request_has_timeouts_and_a_create_the_longest(
    wire: Any, method: str, read: float
) -> None:
    """A create that is given up too soon leaves a machine behind."""
    wire.add(method, BASE + PATH, json={})
    send(method)
    assert wire.calls[0].request.req_kwargs["timeout"] == (10, read)


@pytest.mark.parametrize("given, connect, read", [(5, 2.5, 2.5), (1000, 10, 60)])
def test_a_caller_who_has_little_time_shortens_the_timeouts_and_never_lengthens_them(
    wire: Any, given: float, connect: float, read: float
) -> None:
    """To connect and to read together take no longer than was given."""
    wire.add("GET", BASE + PATH, json={})
    send("GET", timeout=given)
    assert wire.calls[0].request.req_kwargs["timeout"] == (connect, read)


def test_the_body_is_json_and_so_is_the_answer(wire: Any) -> None:
    """A body is sent as JSON, and the answer is read as JSON."""
    wire.post(
        BASE + PATH,
        json=[1],
        match=[
            responses.matchers.json_params_matcher(dict(CREATE.body or {})),
            responses.matchers.header_matcher({"Content-Type": "application/json"}),
        ],
    )
    assert send("POST") == [1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_redirect_is_followed(wire: Any, method: str, status: int) -> None:
    """The key would go to another host, and a POST would become a GET."""
    there = {"Location": "https://elsewhere.test/"}
    error = failure(wire, method, status=status, headers=there)
    assert type(error) is errors.UnusableAnswerError
    assert error.status == status
    assert error.detail == "a redirect, which is not followed"
    assert len(wire.calls) == 1


def test_a_404_of_the_other_version_is_still_a_404_and_names_the_setting(wire: Any) -> None:
    """The path does not exist there, so nothing was made. A create may go on as after any 404."""
    wire.add("POST", BASE + V1.create_instance(NEW).path, status=404, json={"detail": "Not Found"})
    with pytest.raises(errors.NotFoundError) as caught:
        Transport(settings(BASE, api="v1")).send(V1.create_instance(NEW))
    assert caught.value.detail == (
        '{"detail": "Not Found"}, as the legacy API answers, '
        "although FAL_COMPUTE_API (or fal:api) is v1"
    )


@pytest.mark.parametrize(
    "status, kind",
    [
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (408, errors.InvalidRequestError),
        (409, errors.ConflictError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_each_status_is_one_error_that_knows_the_call(
    wire: Any, status: int, kind: type[APIError]
) -> None:
    """The attributes are for programs, the message for people."""
    error = failure(wire, "DELETE", status=status, json={"detail": "the API's own word"})
    assert type(error) is kind
    assert (error.method, error.path, error.status) == ("DELETE", PATH, status)
    assert (error.detail, error.instance_id) == ("the API's own word", ID)
    assert str(error).startswith(f"DELETE {PATH} answered {status}: the API's own word")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_source_and_scope(wire: Any, status: int) -> None:
    """Most keys that fail are of the wrong scope, or from a forgotten variable."""
    said = str(failure(wire, status=status, json={"detail": "no"}))
    assert "ADMIN scope" in said
    assert "The key that was refused came from the environment variable FAL_KEY;" in said


@pytest.mark.parametrize(
    "status, answer, detail",
    [
        (422, {"json": {"detail": [{"loc": ["body", "sector"], "msg": "no"}]}}, "sector: no"),
        (422, {"json": {"code": 7}}, '{"code": 7}'),
        (422, {"json": "just text"}, '"just text"'),
        (400, {"json": {"detail": "red \x1b[31m\r\nalert\x07\u202e!"}}, "red [31m alert !"),
        (500, {"body": "x" * 10_000}, "x" * 300 + "..."),
        (502, {"body": PAGE, "content_type": "text/html"}, "502 Bad Gateway nginx"),
        (503, {"body": TITLED}, "503 Busy"),
        (503, {"body": ""}, "Service Unavailable"),
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
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_200_that_is_not_json_is_an_error_of_its_own(
    wire: Any, method: str, body: str | bytes, words: str
) -> None:
    """A sign-in page also answers 200."""
    error = failure(wire, method, status=200, body=body)
    assert type(error) is errors.UnusableAnswerError
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
        with pytest.raises(errors.UnusableAnswerError):
            send("DELETE")


ECHOES = [
    {"json": {"detail": f"bad key {KEY}"}},
    {"json": {"detail": [{"loc": ["header", KEY], "msg": f"{KEY} is no key"}]}},
    {"body": f"<p>Authorization: Key {KEY}</p>"},
    {"body": f"Key {KEY}"},
]


@pytest.mark.parametrize("answer", ECHOES, ids=["detail", "fields", "html", "text"])
@pytest.mark.parametrize("status", [200, 400, 401, 422, 429, 500])
def test_a_key_that_the_server_echoes_is_in_no_error(
    wire: Any, status: int, answer: dict[str, Any]
) -> None:
    """Errors end up in CI logs."""
    if status == 200 and "json" in answer:
        answer = {"body": f"not JSON: {KEY}"}
    error = failure(wire, status=status, **answer)
    assert "[the key]" in error.detail
    assert KEY not in f"{error} {error!r} {vars(error)}"


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("7", 7),
        ("0", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_where_it_makes_sense(
    wire: Any, status: int, value: str | None, seconds: float | None
) -> None:
    """A time that has passed means now; nonsense is no time at all."""
    headers = {} if value is None else {"Retry-After": value}
    assert failure(wire, status=status, headers=headers).retry_after == seconds


def test_retry_after_may_be_a_date(wire: Any) -> None:
    """HTTP allows this form too."""
    later = email.utils.formatdate(time.time() + 90, usegmt=True)
    wait = failure(wire, status=429, headers={"Retry-After": later}).retry_after
    assert wait is not None
    assert 60 < wait <= 90


@pytest.mark.parametrize(
    "raised, sent, reason",
    [
        (requests.ConnectTimeout(), False, "timed out"),
        (requests.ReadTimeout(), True, "timed out"),
        (requests.exceptions.InvalidURL(KEY), False, "the connection was lost"),
        (requests.ConnectionError(f"headers: Key {KEY}"), True, "the connection was lost"),
        (requests.exceptions.ChunkedEncodingError(), True, "the connection was lost"),
    ],
)
def test_no_answer_tells_whether_the_request_was_sent(
    wire: Any, raised: Exception, sent: bool, reason: str
) -> None:
    """What isn't certain counts as sent: a machine may hang on it."""
    error = failure(wire, "POST", body=raised)
    assert isinstance(error, errors.UnreachableError)
    assert (error.sent, error.detail, error.status) == (sent, reason, None)
    assert error.instance_id == ID
    assert KEY not in f"{error} {error!r}"


def test_an_earlier_failure_says_nothing_about_this_one(wire: Any) -> None:
    """A POST sent while another error is handled must not inherit its "never sent"."""
    try:
        int("no number")
    except ValueError as earlier:
        earlier.__context__ = requests.ConnectTimeout()
        error = failure(wire, "POST", body=requests.ReadTimeout())
    assert isinstance(error, errors.UnreachableError)
    assert error.sent


def test_the_constants_are_what_the_docs_say() -> None:
    """The docs name the seconds to connect, to read, and to read a create's answer."""
    assert (transport.CONNECT_TIMEOUT, transport.READ_TIMEOUT) == (10, 60)
    assert transport.CREATE_READ_TIMEOUT == 180
