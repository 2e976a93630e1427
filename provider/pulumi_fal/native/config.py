"""A provider's config: how the engine sends it, what is wrong with it, and what wins over it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from pulumi_fal.api import settings
from pulumi_fal.errors import ConfigurationError

_VARIABLES = {
    "apiKey": "FAL_ADMIN_API_KEY",
    "api": "FAL_COMPUTE_API",
    "endpoint": "FAL_COMPUTE_ENDPOINT",
    "pollInterval": "FAL_COMPUTE_POLL_INTERVAL",
    "retryBudget": "FAL_COMPUTE_RETRY_BUDGET",
    "settle": "FAL_COMPUTE_SETTLE",
    "parallel": "FAL_COMPUTE_PARALLEL",
}
"""By the names of the provider's config: the environment variables for the same settings."""


def is_default(name: str) -> bool:
    """Whether the engine made the provider of this name because the program declares none.

    Then its config is the stack's. The engine calls it `default`, with the version and the download
    URL of the plugin where the program's SDK gives them. Old engines send no name.
    """
    return not name or re.fullmatch(r"default(_\d+_\d+_\d+.*|_\w+_/.*)?", name) is not None


def parse(args: Mapping[str, Any]) -> dict[str, str]:
    """The config as text, without values that a preview doesn't know yet."""
    return {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in args.items()
        if isinstance(value, str | int | float) and name != "version"
    }


def problems(config: Mapping[str, str]) -> list[str]:
    """What is wrong with the config or with the environment. A missing key is no problem here.

    A preview needs none. No message repeats a key.
    """
    environ = {"FAL_KEY": "none", **environment(config, is_default=False)}
    try:
        settings.resolve(environ, lambda key: config.get(key.removeprefix("fal:")))
    except ConfigurationError as error:
        return [str(error)]
    return []


def environment(config: Mapping[str, str], *, is_default: bool) -> dict[str, str]:
    """The environment, without the variables that the config of a declared provider replaces.

    Variables win over the stack's config, as with the dynamic provider. The config of a provider
    that a program declares wins over every variable, because it may be one of several accounts.
    """
    hidden = set() if is_default else {_VARIABLES[name] for name in config if name in _VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in hidden}
