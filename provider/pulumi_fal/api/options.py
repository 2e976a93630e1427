"""What users can set, in one table: names, defaults, and what each is for.

`settings` reads the values. The config of the native plugin and its schema have the same options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


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

    def text(self, environ: Mapping[str, str], config: Callable[[str], str | None]) -> str | None:
        """Return the value that is set. The variable takes precedence over the config."""
        return environ.get(self.variable) or config(self.key)


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
OPTIONS: tuple[Option[Any], ...] = (
    API_KEY,
    API,
    ENDPOINT,
    PARALLEL,
    POLL_INTERVAL,
    RETRY_BUDGET,
    SETTLE,
    ABSENCE,
)
