"""What users can set, in one table, and how it is read from the environment and Pulumi's config.

This provider's environment variables take precedence over config, because destroy and refresh use
the config that is stored in state, where a key that was rotated since then is outdated. The
variables of fal's other clients come last, so that a key for inference in somebody's shell does not
replace the key of the stack.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from pulumi_fal.errors import KEYS_PAGE, SET_KEY, ConfigurationError

T = TypeVar("T")
Environ = Mapping[str, str]
Config = Callable[[str], str | None]
"""Returns the value of a key in Pulumi's config, such as `fal:apiKey`, or None."""
_HIDDEN = "the value that is set"
"""What a message says in place of a value that may be a key."""
_LONGEST_QUOTED = 30
"""The most characters of a number or the name of an API in a message. Keys are longer."""


@dataclass(frozen=True)
class Option(Generic[T]):
    """One option, as an environment variable and in Pulumi's config."""

    name: str
    """The name in the config of a provider. In the config of a stack, `fal:` stands before it."""
    variable: str
    """The environment variable."""
    default: T
    """The value if none is set. None if there is no default, or if it depends on other options."""
    description: str
    """What it is for, as a sentence without the default."""
    is_secret: bool = False

    @property
    def key(self) -> str:
        """The name in the config of a stack."""
        return f"fal:{self.name}"

    @property
    def names(self) -> str:
        """Both names, for messages."""
        return f"{self.variable} (or {self.key})"

    def text(self, environ: Environ, config: Config) -> str:
        """Return the value that is set, or "". The variable takes precedence over the config."""
        return environ.get(self.variable) or config(self.key) or ""

    def refusal(self, value: str, must: str) -> ConfigurationError:
        """Return the error of a value that is not what the option must be."""
        shown = repr(value) if len(value) <= _LONGEST_QUOTED else _HIDDEN
        return ConfigurationError(f"{self.names} must {must}, not {shown}.")


API_KEY = Option[str | None](
    "apiKey",
    "FAL_ADMIN_API_KEY",
    None,
    "The fal API key, which needs the ADMIN scope. By default FAL_ADMIN_API_KEY, then FAL_KEY, "
    "then FAL_KEY_ID with FAL_KEY_SECRET.",
    is_secret=True,
)
API = Option(
    "api",
    "FAL_COMPUTE_API",
    "legacy",
    "The version of the API: `legacy` or `v1`.",
)
ENDPOINT = Option[str | None](
    "endpoint",
    "FAL_COMPUTE_ENDPOINT",
    None,
    "The API endpoint, by default that of the chosen version. It must use https, except on "
    "loopback addresses.",
)
PARALLEL = Option(
    "parallel",
    "FAL_COMPUTE_PARALLEL",
    256,
    "The maximum number of machines to work on at the same time.",
)
POLL_INTERVAL = Option(
    "pollInterval",
    "FAL_COMPUTE_POLL_INTERVAL",
    2.0,
    "Seconds between two polls while the provider waits for machines.",
)
RETRY_BUDGET = Option(
    "retryBudget",
    "FAL_COMPUTE_RETRY_BUDGET",
    120.0,
    "Seconds for which a failing call is retried.",
)
SETTLE = Option(
    "settle",
    "FAL_COMPUTE_SETTLE",
    20.0,
    "Seconds for which the machine of a create without an answer may still appear.",
)
ABSENCE = Option(
    "absence",
    "FAL_COMPUTE_ABSENCE",
    60.0,
    "Seconds for which a machine must be missing until it counts as gone.",
)
PRICES = Option[str | None](
    "prices",
    "FAL_COMPUTE_PRICES",
    None,
    "What each instance type costs an hour, such as "
    "`gpu_1x_h100_sxm5=2.49,gpu_8x_h100_sxm5=19.90`. Previews, updates and the command line count "
    "costs with it.",
)
OPTIONS: tuple[Option[Any], ...] = (
    API_KEY,
    API,
    ENDPOINT,
    PARALLEL,
    POLL_INTERVAL,
    RETRY_BUDGET,
    SETTLE,
    ABSENCE,
    PRICES,
)

ENDPOINTS = {"legacy": "https://rest.alpha.fal.ai", "v1": "https://api.fal.ai/v1"}
"""The default endpoint of each version of the API."""

NO_KEY = (
    "No fal API key is set, and this operation needs one. Make a key with the ADMIN scope at "
    f"{KEYS_PAGE}, and set it {SET_KEY}."
)
_IN_ENVIRONMENT = f"the environment variable {API_KEY.variable}"
_ADDRESS = re.compile(
    r"([a-z]+://)?(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/[\w./-]*)?", re.ASCII | re.IGNORECASE
)
"""An endpoint as a person may mistype it. A key has no dot, and no number after its colon."""


@dataclass(frozen=True)
class AccountId:
    """The endpoint and the account (a hash of endpoint and key) that a machine was last seen with.

    State stores both among the outputs, under these names. A value is "" if it is not in state:
    early versions did not store the account.
    """

    endpoint: str = ""
    account: str = ""

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> AccountId:
        """Return the AccountId that is stored in a resource's outputs."""
        return cls(str(props.get("endpoint") or ""), str(props.get("account") or ""))

    @property
    def key(self) -> str:
        """The value to compare: the account if it is known, else the endpoint."""
        return self.account or self.endpoint

    @property
    def own_keys(self) -> set[str]:
        """The `key` of every AccountId that is this one, as far as state tells."""
        return {"", self.account, self.endpoint}


@dataclass(frozen=True)
class Settings:
    """The settings of a client. The key is not part of the repr."""

    endpoint: str
    api_key: str = field(repr=False)
    key_source: str
    """Where the key was found, for messages."""
    provider: str = ""
    """The name of the provider that the program declares with these settings, or "" if none."""
    api: str = API.default
    """The version of the API, a key of ENDPOINTS."""
    poll_interval: float = POLL_INTERVAL.default
    """Seconds between two polls during a wait."""
    retry_budget: float = RETRY_BUDGET.default
    """Seconds for which a failing call is retried."""
    settle_seconds: float = SETTLE.default
    """Seconds after a create without an answer in which its machine may still appear."""
    absence_seconds: float = ABSENCE.default
    """Seconds for which a machine must be missing until it counts as gone."""
    parallel: int = PARALLEL.default
    """The maximum number of machines that the plugin works on at once."""
    prices: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What instance types cost an hour, in whatever currency."""

    @property
    def set_key(self) -> str:
        """How to set another key, for messages: "set it", and then this."""
        if self.provider:
            return f"as the apiKey of the provider {self.provider!r} in the program"
        # The variable takes precedence over config.
        return "as FAL_ADMIN_API_KEY" if self.key_source == _IN_ENVIRONMENT else SET_KEY

    @property
    def account_id(self) -> AccountId:
        """What identifies the account of these settings."""
        return AccountId(self.endpoint, self.account)

    @property
    def account(self) -> str:
        """A hash of the endpoint and the key, which does not reveal the key."""
        return hashlib.sha256(f"{self.endpoint} {self.api_key}".encode()).hexdigest()[:12]


def resolve(environ: Environ, config: Config) -> Settings:
    """Return the settings. Raises ConfigurationError if one is missing or invalid."""
    api_key, source = _api_key(environ, config)
    api = _api(environ, config)
    return Settings(
        endpoint=_endpoint(environ, config, api, api_key),
        api=api,
        api_key=api_key,
        key_source=source,
        poll_interval=_positive(POLL_INTERVAL, environ, config),
        retry_budget=_positive(RETRY_BUDGET, environ, config),
        settle_seconds=_positive(SETTLE, environ, config),
        absence_seconds=_positive(ABSENCE, environ, config),
        parallel=parallel(environ, config),
        prices=prices(environ, config),
    )


def problem(environ: Environ, config: Config) -> str | None:
    """Return what is wrong with the settings, for a preview, or None. No message repeats a key.

    A preview needs no key, so a missing one is no problem.
    """
    # The key for inference is the last that counts before a pair of variables.
    any_key = {"FAL_KEY": environ.get("FAL_KEY", "").strip() or "none"}
    try:
        resolve({**environ, **any_key}, config)
    except ConfigurationError as error:
        return str(error)
    return None


def parallel(environ: Environ, config: Config) -> int:
    """Return the maximum number of machines to work on at once. Raises ConfigurationError."""
    return max(1, int(_positive(PARALLEL, environ, config)))


def _api_key(environ: Environ, config: Config) -> tuple[str, str]:
    for value, source in _candidates(environ, config):
        if value and value.strip():
            return _header_safe(value.strip(), source), source
    raise ConfigurationError(NO_KEY)


def _candidates(environ: Environ, config: Config) -> Iterator[tuple[str | None, str]]:
    """Yield possible keys with their sources, lazily, because config may have to be decrypted."""
    pair = [environ.get("FAL_KEY_ID", "").strip(), environ.get("FAL_KEY_SECRET", "").strip()]
    yield environ.get(API_KEY.variable), _IN_ENVIRONMENT
    yield config(API_KEY.key), f"the config value {API_KEY.key}"
    yield environ.get("FAL_KEY"), "the environment variable FAL_KEY"
    yield ":".join(pair) if all(pair) else None, "FAL_KEY_ID and FAL_KEY_SECRET"


def _header_safe(key: str, source: str) -> str:
    """Return the key. Raises ConfigurationError if it is no valid header value.

    The HTTP library would print such a key in its error.
    """
    if key.isascii() and key.isprintable() and " " not in key:
        return key
    raise ConfigurationError(
        f"The fal API key in {source} contains a space, a line break or another character that a "
        f"key can't have. Copy it again from {KEYS_PAGE}."
    )


def _api(environ: Environ, config: Config) -> str:
    api = (API.text(environ, config) or API.default).strip()
    if api not in ENDPOINTS:
        raise API.refusal(api, f"be {' or '.join(ENDPOINTS)}")
    return api


def _endpoint(environ: Environ, config: Config, api: str, api_key: str) -> str:
    endpoint = (ENDPOINT.text(environ, config) or ENDPOINTS[api]).strip()
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")  # as it is sent to DNS; not every name can be
    except ValueError:
        host, parts = "", urlsplit("")
    usable = (
        host
        and not (parts.username or parts.password or parts.query or parts.fragment)
        and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))
    )
    if not usable:
        shown = f"{parts.scheme}://{host}" if host and parts.scheme else _HIDDEN
        if _ADDRESS.fullmatch(endpoint):
            shown = endpoint
        if api_key.lower() in shown.lower():
            shown = _HIDDEN
        raise ConfigurationError(
            f"The endpoint ({shown}) can't be used: it must be https://HOST[:PORT][/PATH] without "
            "credentials or a query; plain http is allowed only for loopback addresses. Correct "
            "FAL_COMPUTE_ENDPOINT or fal:endpoint, or remove it to use the default, "
            f"{ENDPOINTS[api]}."
        )
    return endpoint.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _positive(option: Option[Any], environ: Environ, config: Config) -> float:
    text = option.text(environ, config) or str(option.default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise option.refusal(text, "be a positive number")
    return value


def prices(environ: Environ, config: Config) -> Mapping[str, float]:
    """Return what instance types cost an hour. Raises ConfigurationError."""
    found: dict[str, float] = {}
    for part in filter(None, PRICES.text(environ, config).split(",")):
        kind, _, price = map(str.strip, part.partition("="))
        if not (kind and re.fullmatch(r"\d+(\.\d+)?", price, re.ASCII)) or kind in found:
            raise PRICES.refusal(
                part,
                "have one price an hour for each instance type, such as "
                "gpu_1x_h100_sxm5=2.49,gpu_8x_h100_sxm5=19.90",
            )
        found[kind] = float(price)
    return found
