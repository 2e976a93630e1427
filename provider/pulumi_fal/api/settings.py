"""Where the API is, who asks, and how patiently: from the environment, else from Pulumi's config.

A variable named for this provider wins over config, because destroy and refresh see the config
that was saved in state: a key that was rotated since is stale there, and a variable is not. The
variables that fal's other clients read come last: a key for inference in somebody's shell must not
take the place of the stack's own.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pulumi_fal.errors import ConfigurationError

ENDPOINTS = {"legacy": "https://rest.alpha.fal.ai", "v1": "https://api.fal.ai/v1"}
"""By the API that is spoken: where it is, unless an endpoint is set."""
DEFAULT_API = "legacy"
DEFAULT_TIMEOUT_SECONDS = 3600.0

NO_KEY = (
    "No fal API key is set, and this needs one. Make a key with the ADMIN scope on the keys page "
    "of the fal dashboard, then set FAL_ADMIN_API_KEY in the environment, or run "
    "`pulumi config set --secret fal:apiKey`."
)


ENDPOINT, ACCOUNT = "endpoint", "account"
"""What state calls the two parts of a home."""


@dataclass(frozen=True)
class Home:
    """The endpoint and the account (a hash of its key) that a machine was last seen with.

    "" stands for what state doesn't say: releases before 0.2 kept no account.
    """

    endpoint: str = ""
    account: str = ""

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Home:
        """The home that a resource's outputs tell."""
        return cls(str(props.get(ENDPOINT) or ""), str(props.get(ACCOUNT) or ""))

    @property
    def key(self) -> str:
        """What tells one home from another: the account where it is known."""
        return self.account or self.endpoint


@dataclass(frozen=True)
class Settings:
    """What a client needs to know. The key never shows in the repr."""

    endpoint: str
    api_key: str = field(repr=False)
    key_source: str
    api: str = DEFAULT_API
    """One of ENDPOINTS."""
    poll_interval: float = 2.0
    """Seconds between two polls while machines are awaited."""
    retry_budget: float = 120.0
    """Seconds for which a failing call is repeated."""
    appear_seconds: float = 20.0
    """Seconds after a create without an answer in which its machine may still appear."""
    parallel: int = 256
    """How many machines the plugin works on at once, at most."""

    @property
    def home(self) -> Home:
        """The endpoint and the account that this key sees machines with."""
        return Home(self.endpoint, self.account)

    @property
    def account(self) -> str:
        """Tells one endpoint and key from another; the key can't be had from it."""
        return hashlib.sha256(f"{self.endpoint} {self.api_key}".encode()).hexdigest()[:12]


def resolve(environ: Mapping[str, str], config: Callable[[str], str | None]) -> Settings:
    """Find the settings, or raise ConfigurationError with what is missing and how to set it.

    `config` answers keys of Pulumi's config, as in `fal:apiKey`.
    """
    api_key, source = _api_key(environ, config)
    api = _api(environ, config)
    return Settings(
        endpoint=_endpoint(environ, config, api),
        api=api,
        api_key=api_key,
        key_source=source,
        poll_interval=_seconds(environ, config, "FAL_COMPUTE_POLL_INTERVAL", "fal:pollInterval", 2),
        retry_budget=_seconds(environ, config, "FAL_COMPUTE_RETRY_BUDGET", "fal:retryBudget", 120),
        appear_seconds=_seconds(environ, config, "FAL_COMPUTE_SETTLE", "fal:settle", 20),
        parallel=parallel(environ, config),
    )


def parallel(environ: Mapping[str, str], config: Callable[[str], str | None]) -> int:
    """How many machines at once: FAL_COMPUTE_PARALLEL or fal:parallel, 256 by default."""
    return max(1, int(_seconds(environ, config, "FAL_COMPUTE_PARALLEL", "fal:parallel", 256)))


def _api_key(environ: Mapping[str, str], config: Callable[[str], str | None]) -> tuple[str, str]:
    for value, source in _candidates(environ, config):
        if value and value.strip():
            return _header_safe(value.strip(), source), source
    raise ConfigurationError(NO_KEY)


def _candidates(
    environ: Mapping[str, str], config: Callable[[str], str | None]
) -> Iterator[tuple[str | None, str]]:
    """One at a time: the config may have to be decrypted, so it is asked for only if need be."""
    pair = [environ.get("FAL_KEY_ID", "").strip(), environ.get("FAL_KEY_SECRET", "").strip()]
    yield environ.get("FAL_ADMIN_API_KEY"), "the environment variable FAL_ADMIN_API_KEY"
    yield config("fal:apiKey"), "the config value fal:apiKey"
    yield environ.get("FAL_KEY"), "the environment variable FAL_KEY"
    yield ":".join(pair) if all(pair) else None, "FAL_KEY_ID and FAL_KEY_SECRET"


def _header_safe(key: str, source: str) -> str:
    """The key as it may stand in a header: the HTTP library would print a bad one in its error."""
    if key.isascii() and key.isprintable() and " " not in key:
        return key
    raise ConfigurationError(
        f"The fal API key in {source} has a space, a line break or a letter that no key has. "
        "Copy it again from the keys page of the fal dashboard."
    )


def _api(environ: Mapping[str, str], config: Callable[[str], str | None]) -> str:
    api = (environ.get("FAL_COMPUTE_API") or config("fal:api") or DEFAULT_API).strip()
    if api not in ENDPOINTS:
        raise ConfigurationError(
            f"FAL_COMPUTE_API (or fal:api) must be {' or '.join(ENDPOINTS)}, not {api!r}."
        )
    return api


def _endpoint(environ: Mapping[str, str], config: Callable[[str], str | None], api: str) -> str:
    default = ENDPOINTS[api]
    endpoint = (environ.get("FAL_COMPUTE_ENDPOINT") or config("fal:endpoint") or default).strip()
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    usable = (
        host
        and not (parts.username or parts.password or parts.query or parts.fragment)
        and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))
    )
    if not usable:
        shown = f"{parts.scheme}://{host}" if host else "the value that is set"
        raise ConfigurationError(
            f"The endpoint ({shown}) can't be used: it must be https://HOST[:PORT][/PATH] without "
            "credentials or a query; plain http is for this machine's own addresses only. Set "
            f"FAL_COMPUTE_ENDPOINT or fal:endpoint, or neither for {default}."
        )
    return endpoint.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(
    environ: Mapping[str, str],
    config: Callable[[str], str | None],
    variable: str,
    key: str,
    default: float,
) -> float:
    text = environ.get(variable) or config(key) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise ConfigurationError(f"{variable} (or {key}) must be a positive number, not {text!r}.")
    return value
