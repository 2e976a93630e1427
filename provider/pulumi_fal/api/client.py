"""The client for fal Compute's REST API, with one method per call.

Example:
    settings = resolve(os.environ, lambda key: None)
    for instance in Client(settings).list_instances():
        print(instance.id, instance.status)

The transport sends single HTTP requests, and turns failures into exceptions. The client repeats.
"""

from __future__ import annotations

import contextlib
import copy
import re
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from pulumi_fal._version import __version__
from pulumi_fal.api import retry
from pulumi_fal.api.dialects import DIALECTS, Page, Request, mismatch
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import (
    KEYS_PAGE,
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnreachableError,
    UnusableAnswerError,
    printable,
)

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
"""Timeouts in seconds, to connect and between two bytes of the answer."""
CREATE_READ_TIMEOUT = 180.0
"""The read timeout in seconds of a create, which takes longer to answer."""
_PAGE_SECONDS = 15.0
"""Seconds for which each page after the first is retried if the list itself is not retried."""
_MAX_SHOWN = 300
"""The maximum number of characters of the API's text in a message."""
_UNUSABLE_PROXY = (
    "Nothing was sent to the API: the proxy in the environment (HTTPS_PROXY or ALL_PROXY) can't be "
    "used. Correct its URL, or for a SOCKS proxy run `pip install 'requests[socks]'`."
)
_NO_CA_BUNDLE = (
    "Nothing was sent to the API: the file of CA certificates in the environment "
    "(REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE) is missing or has no certificates. Correct the "
    "variable, or unset it to use the certificates that come with requests."
)
_ERROR_TYPES: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitedError,
}

T = TypeVar("T")
Send = Callable[[Request[Any], float | None], Any]
"""Sends a request with a timeout in seconds, and returns the decoded body of the answer."""


def error_type(status: int) -> type[APIError]:
    """Return the type of the exception for an answer whose status is not 2xx."""
    if status < 400:
        return UnusableAnswerError
    return _ERROR_TYPES.get(status, ServerError if status >= 500 else InvalidRequestError)


class Transport:
    """An HTTP client for the API. Can be used from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pooled = self._session(connections=settings.parallel)

    def _session(self, connections: int) -> requests.Session:
        session = requests.Session()
        session.headers.update(
            {"User-Agent": f"pulumi-fal/{__version__}", "Accept": "application/json"}
        )
        # As authentication, because a .netrc entry for the host would replace a plain header.
        session.auth = self._with_key
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        if urlsplit(self._settings.endpoint).scheme == "http":
            session.trust_env = False  # a proxy for localhost would see the key unencrypted
        return session

    def _with_key(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Key {self._settings.api_key}"
        return request

    def send(self, request: Request[Any], timeout: float | None = None) -> Any:
        """Send the request, and return the decoded JSON, or None for a delete.

        `timeout` is in seconds, and can only shorten the default timeouts. Raises APIError unless
        the answer is a usable 2xx, and ConfigurationError if the settings of this computer prevent
        sending.
        """
        connect_timeout = CONNECT_TIMEOUT
        read_timeout = CREATE_READ_TIMEOUT if request.creates else READ_TIMEOUT
        if timeout is not None:  # half for each, so that the sum stays within the timeout
            connect_timeout = min(connect_timeout, timeout / 2)
            read_timeout = min(read_timeout, timeout / 2)
        # A create always uses a new connection. If the server closed a pooled connection at the
        # same time, it would be unknown whether the API has received the request.
        pooled = contextlib.nullcontext(self._pooled)
        try:
            with self._session(connections=1) if request.creates else pooled as session:
                response = session.request(
                    request.method,
                    self._settings.endpoint + request.path,
                    json=request.body,
                    headers=request.headers,
                    timeout=(connect_timeout, read_timeout),
                    allow_redirects=False,
                )
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidProxyURL):
            raise ConfigurationError(_UNUSABLE_PROXY) from None
        except requests.RequestException as error:
            tls = [cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)]
            if any(cause.library in ("PEM", "X509") for cause in tls):  # of loading certificates
                raise ConfigurationError(_NO_CA_BUNDLE) from None
            raise request.error(UnreachableError, _reason(error), sent=_was_sent(error)) from None
        except OSError:
            # requests wraps errors of the network. The only OSError that it doesn't wrap is that of
            # a missing CA bundle, which it checks before it sends anything.
            raise ConfigurationError(_NO_CA_BUNDLE) from None
        response.encoding = "utf-8"  # as JSON is; an answer may name one that Python can't decode
        if not response.ok or response.is_redirect or not 200 <= response.status_code < 300:
            raise self._refusal(request, response)
        if request.kind == "delete" and response.text.lstrip()[:1] != "<":  # as HTML begins
            return None
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise request.error(
                UnusableAnswerError,
                f"not the API's JSON but {self._words(response) or 'an empty body'!r}",
                status=response.status_code,
            ) from None

    def _refusal(self, request: Request[Any], response: requests.Response) -> APIError:
        status = response.status_code
        kind = error_type(status)
        said = self._detail(request, response) or self._clean(response.reason or "")
        detail = said or "no reason given"
        advice = None
        if kind is AuthenticationError:
            advice = (
                f"The key that was refused came from {self._settings.key_source}; make "
                f"{request.dialect.needed_key} at {KEYS_PAGE} and set it {self._settings.set_key}."
            )
        if kind is UnusableAnswerError:
            detail = "a redirect, which is not followed"
        retry_after = _retry_after(response)
        return request.error(kind, detail, status=status, retry_after=retry_after, advice=advice)

    def _detail(self, request: Request[Any], response: requests.Response) -> str:
        """Return the API's own message, or the first words of an answer in another format."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            return self._words(response)
        reason = request.dialect.reason(body)
        said = self._words(response) if reason is None else self._clean(reason)
        other = mismatch(self._settings.api, body)
        return f"{said.rstrip('.')}, {other}" if other else said

    def _words(self, response: requests.Response) -> str:
        """Return the first words of a page, without tags and without the title."""
        hidden = r"(?is)<(script|style|title)\b.*?</\1>|<[^>]*>"
        text = re.sub(hidden, " ", response.text[:20_000])
        return self._clean(text)

    def _clean(self, text: str) -> str:
        """Return the text without control characters, shortened, and without the key."""
        words = " ".join(printable(text).split()).replace(self._settings.api_key, "[the key]")
        return words if len(words) <= _MAX_SHOWN else words[:_MAX_SHOWN] + "..."


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds from either form of the header; None if it is absent or invalid."""
    value = response.headers.get("Retry-After")
    if not value:
        return None
    try:
        return max(0.0, float(Retry().parse_retry_after(value)))
    except (urllib3.exceptions.InvalidHeader, OverflowError, ValueError):
        return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, which requests and urllib3 store in three places.

    `__context__` is not one of them: it may be an earlier failure that the caller is handling.
    """
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__]
    return seen


def _was_sent(error: requests.RequestException) -> bool:
    """Whether the API may have received the request. False only if it certainly did not."""
    unsent = (
        requests.ConnectTimeout,
        requests.exceptions.InvalidURL,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        ssl.SSLCertVerificationError,
    )
    # urllib3's ProxyError is not included, because it also wraps a reset after the request was
    # received. If the proxy refuses to connect, http.client's message starts with "Tunnel".
    return not any(
        isinstance(cause, unsent) or str(cause).startswith("Tunnel ") for cause in _causes(error)
    )


def _reason(error: requests.RequestException) -> str:
    """Describe the error in a few words. Its own text is not used: it may contain headers."""
    if isinstance(error, requests.Timeout):
        return "timed out"
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate was not accepted: {cause.verify_message}"
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return "the host name can't be resolved"
        # Its strerror is OpenSSL's own text, with a line number of Python's source.
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return f"TLS failed: {cause.reason.replace('_', ' ').lower()}"
        if isinstance(cause, OSError) and cause.strerror:
            by_whom = _by_whom(causes) if isinstance(cause, ConnectionRefusedError) else ""
            return cause.strerror.lower() + by_whom
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
        return "the proxy could not be reached"
    return "the connection was lost"


def _by_whom(causes: list[BaseException]) -> str:
    """Return the address that refused the connection, which may be a proxy's; "" if not known."""
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            host = f"[{cause.conn.host}]" if ":" in cause.conn.host else cause.conn.host
            return f" by {host}:{cause.conn.port}"
    return ""


class Client:
    """A client with retries. Methods raise APIError if a call fails.

    A call is retried if retry.py allows it, for up to `retry_budget` seconds from the settings.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        send: Send | None = None,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`send` replaces HTTP in tests. `notify` gets a message when a call keeps failing."""
        self._api = settings.api
        self._dialect = DIALECTS[settings.api]
        self._budget = settings.retry_budget
        self._timeout: float | None = None
        self._clock = clock or Clock()
        self._send = send or Transport(settings).send
        self._notify = notify

    def within(self, budget: float, timeout: float | None = None) -> Client:
        """Return a client with another retry budget in seconds. With 0 it makes no retries.

        `timeout` limits the time in seconds for which a single request waits for its answer.
        """
        other = copy.copy(self)
        other._budget = budget
        if timeout is not None:
            other._timeout = timeout
        return other

    def list_instances(self) -> list[Instance]:
        """Return all machines of the account, from all pages of the list."""
        page = self._call(self._dialect.list_instances())
        found = {instance.id: instance for instance in page.instances}
        seen: set[str] = set()
        while page.next_cursor is not None:
            if page.next_cursor in seen:
                request = self._dialect.list_instances()
                raise request.error(UnusableAnswerError, "the pages of the list have no end")
            seen.add(page.next_cursor)
            page = self._next_page(page.next_cursor)
            found |= {instance.id: instance for instance in page.instances}
        return list(found.values())

    def matching_instances(self, wanted: Mapping[str, object]) -> list[Instance]:
        """Return the account's machines with these attributes, of which None stands for any."""
        return [
            instance
            for instance in self.list_instances()
            if all(value in (None, getattr(instance, name)) for name, value in wanted.items())
        ]

    def get_instance(self, instance_id: str) -> Instance:
        """Return one machine. Raises NotFoundError if the API does not know the id."""
        return self._call(self._dialect.get_instance(instance_id))

    def find_instance(self, instance_id: str) -> Instance | None:
        """Return one machine, or None if the API does not know the id."""
        try:
            return self.get_instance(instance_id)
        except NotFoundError:
            return None

    def create_instance(self, new: NewInstance, idempotency_key: str = "") -> Instance:
        """Create a machine. It is billed from now on, even before it is ready.

        With an `idempotency_key`, a create that the API may have accepted is retried as well. The
        legacy API does not support keys.
        """
        return self._call(self._dialect.create_instance(new, idempotency_key))

    @property
    def has_idempotency_keys(self) -> bool:
        """Whether the API supports idempotency keys."""
        return self._dialect.has_idempotency_keys

    def new_idempotency_key(self) -> str:
        """Return a key for a new create, or "" if the API does not support keys."""
        return str(uuid.uuid4()) if self.has_idempotency_keys else ""

    def delete_instance(self, instance_id: str) -> None:
        """Request the deletion of a machine, which may take a while to disappear."""
        self._call(self._dialect.delete_instance(instance_id))

    def attempts(self, *, is_idempotent: bool) -> Iterator[retry.Attempt]:
        """Yield attempts as retry.py allows, for the client's budget.

        `is_idempotent` says whether the API may carry out the request twice without harm.
        """
        budget = retry.Budget(self._budget, self._clock.now(), is_idempotent=is_idempotent)
        return retry.attempts(budget, self._clock, self._notify)

    def _next_page(self, cursor: str) -> Page:
        # One failing page fails the whole list, and the more pages there are, the likelier that is.
        patient = self.within(_PAGE_SECONDS) if self._budget == 0 and not self._timeout else self
        return patient._call(patient._dialect.list_instances(cursor))

    def _call(self, request: Request[T]) -> T:
        for attempt in self.attempts(is_idempotent=request.is_idempotent):
            with attempt:
                answer = self._sent(request)
        return answer

    def _sent(self, request: Request[T]) -> T:
        """Send the request once, and return the parsed answer."""
        body = self._send(request, self._timeout)
        try:
            return request.parse(body)
        except ValueError as error:
            other = mismatch(self._api, body)
            detail = f"JSON {other}" if other else f"JSON of an unexpected shape: {error}"
            raise request.error(UnusableAnswerError, detail, status=200) from None
