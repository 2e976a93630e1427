"""One HTTP request, one outcome: the decoded body, or one error. Nothing is repeated here."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from pulumi_fal._version import __version__
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import Settings
from pulumi_fal.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InProgressError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnreachableError,
    UnusableAnswerError,
)

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
"""Seconds. The read timeout is between two bytes; a create may think longer before its first."""
CREATE_READ_TIMEOUT = 180.0
_SHOWN = 300
_UNUSABLE_PROXY = (
    "Nothing was sent to the API: the proxy that the environment names (HTTPS_PROXY or ALL_PROXY) "
    "can't be used. Correct its URL; a SOCKS proxy needs the package that "
    "`pip install 'requests[socks]'` brings."
)
_NO_CA_BUNDLE = (
    "Nothing was sent to the API: the file of CA certificates that the environment names "
    "(REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE) is missing, or holds none. Correct the variable, or "
    "unset it to use the certificates that come with requests."
)


class Transport:
    """The wire. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pooled = self._session()

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.headers.update(
            {"User-Agent": f"pulumi-fal/{__version__}", "Accept": "application/json"}
        )
        # As an auth object, since a .netrc entry for the host would replace a plain header.
        session.auth = _KeyAuth(self._settings.api_key)
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._settings.parallel)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        if urlsplit(self._settings.endpoint).scheme == "http":
            session.trust_env = False  # loopback: no proxy gets to see the key in the clear
        return session

    def send(self, request: Request[Any], timeout: float | None = None) -> Any:
        """Send it. The decoded JSON of a 2xx, None where no JSON is expected; else an APIError.

        `timeout`: seconds without an answer after which it is given up, where that is less than
        usual. ConfigurationError where this computer's own settings keep it from being sent.
        """
        connect_timeout = CONNECT_TIMEOUT
        read_timeout = CREATE_READ_TIMEOUT if request.creates else READ_TIMEOUT
        if timeout is not None:  # half for either, so that both together stay within it
            connect_timeout = min(connect_timeout, timeout / 2)
            read_timeout = min(read_timeout, timeout / 2)
        # A create never goes out on a kept connection: one that the server closed meanwhile would
        # make it unknowable whether the request was taken.
        kept = contextlib.nullcontext(self._pooled)
        try:
            with self._session() if request.creates else kept as session:
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
            if any(_is_of_loading_certificates(cause) for cause in _causes(error)):
                raise ConfigurationError(_NO_CA_BUNDLE) from None
            raise request.error(UnreachableError, _reason(error), sent=_was_sent(error)) from None
        except OSError:
            # requests wraps what the network does. What it lets through is the check that the CA
            # bundle is there, before anything is sent.
            raise ConfigurationError(_NO_CA_BUNDLE) from None
        if not response.ok or response.is_redirect or not 200 <= response.status_code < 300:
            raise self._refusal(request, response)
        if not request.json_expected and not _looks_like_html(response):
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
        detail = self._detail(request, response) or response.reason or "no reason given"
        if status in (401, 403):
            return request.error(
                AuthenticationError,
                detail,
                status=status,
                needed_key=request.needed_key,
                key_source=self._settings.key_source,
            )
        if status == 404:
            return request.error(NotFoundError, detail, status=status)
        if status == 409:
            if request.conflict_passes:
                wait = _retry_after(response)
                return request.error(InProgressError, detail, status=status, retry_after=wait)
            return request.error(ConflictError, detail, status=status)
        if status == 429 or status >= 500:
            kind = RateLimitedError if status == 429 else ServerError
            return request.error(kind, detail, status=status, retry_after=_retry_after(response))
        if status < 400:
            detail = "a redirect, which is not followed"
            return request.error(UnusableAnswerError, detail, status=status)
        return request.error(InvalidRequestError, detail, status=status)

    def _detail(self, request: Request[Any], response: requests.Response) -> str:
        """The API's own reason, or the first words of an answer that isn't the API's."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            return self._words(response)
        reason = request.reason(body)
        return self._words(response) if reason is None else self._clean(reason)

    def _words(self, response: requests.Response) -> str:
        """The first words of a page, without its tags and its title, which its heading repeats."""
        unseen = r"(?is)<(script|style|title)\b.*?</\1>|<[^>]*>"
        text = re.sub(unseen, " ", response.text[:20_000])
        return self._clean(text)

    def _clean(self, text: str) -> str:
        """Text from outside, fit for a terminal and without the key, should it be echoed."""
        printable = "".join(c if c.isprintable() else " " for c in text)
        words = " ".join(printable.split()).replace(self._settings.api_key, "[the key]")
        return words if len(words) <= _SHOWN else words[:_SHOWN] + "..."


class _KeyAuth(requests.auth.AuthBase):
    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Key {self._api_key}"
        return request


def _looks_like_html(response: requests.Response) -> bool:
    return response.text.lstrip()[:1] == "<"


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, from either form of the header; None where it is absent or makes no sense."""
    value = response.headers.get("Retry-After")
    if not value:
        return None
    try:
        return max(0.0, float(Retry().parse_retry_after(value)))
    except (urllib3.exceptions.InvalidHeader, OverflowError, ValueError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it wraps: requests and urllib3 keep causes in three different places.

    Not `__context__`: it may lead to an earlier failure that the caller is just handling.
    """
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__]
    return iter(seen)


def _is_of_loading_certificates(cause: BaseException) -> bool:
    return isinstance(cause, ssl.SSLError) and cause.library in ("PEM", "X509")


def _was_sent(error: requests.RequestException) -> bool:
    """Whether the API may have the request. True unless it is certain that it can't."""
    certain = (
        requests.ConnectTimeout,
        requests.exceptions.InvalidURL,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        ssl.SSLCertVerificationError,
    )
    # Not urllib3's ProxyError: it also wraps a reset that came after the request had been taken.
    # http.client says "Tunnel" where the proxy itself refused to connect.
    return not any(
        isinstance(cause, certain) or str(cause).startswith("Tunnel ") for cause in _causes(error)
    )


def _reason(error: requests.RequestException) -> str:
    """A few words for people. Never the error's own text: it can hold a header."""
    if isinstance(error, requests.Timeout):
        return "timed out"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate was not accepted: {cause.verify_message}"
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return "the host name can't be resolved"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in _causes(error)):
        return "the proxy could not be reached"
    return "the connection broke off"
