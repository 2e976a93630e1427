"""Reads and validates the config of a provider, and combines it with the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from pulumi_fal.api import settings
from pulumi_fal.api.settings import OPTIONS
from pulumi_fal.errors import ConfigurationError

_VARIABLES = {option.name: option.variable for option in OPTIONS}
"""The environment variable for each name in the provider's config."""


def is_default(name: str) -> bool:
    """Whether this is the name of the default provider, which uses the stack's config.

    The engine calls it `default`, with the version and the download URL of the plugin if the
    program's SDK sets them. Old engines send no name.
    """
    return not name or re.fullmatch(r"default(_\d+_\d+_\d+.*|_\w+_/.*)?", name) is not None


def parse(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the config as text, without values that a preview does not know yet."""
    return {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in args.items()
        if isinstance(value, str | int | float) and name != "version"
    }


def problem(config: Mapping[str, str]) -> str | None:
    """Return what is wrong with the config or with the environment, or None."""
    environ = environment(config, is_default=False)
    return settings.problem(environ, lambda key: config.get(key.removeprefix("fal:")))


def unused(config: Mapping[str, str]) -> list[str]:
    """Return the names of the stack's settings that a declared provider with this config ignores.

    They are those that say where machines are, and that neither the provider's arguments nor the
    environment overrides. The engine passes the stack's config in PULUMI_CONFIG.
    """
    try:
        stack = json.loads(os.environ.get("PULUMI_CONFIG") or "{}")
        own = settings.resolve(
            {"FAL_KEY": "none", **environment(config, is_default=False)},
            lambda key: config.get(key.removeprefix("fal:")),
        )
    except (ValueError, ConfigurationError):
        return []  # the first call of the API reports what is wrong
    values = {"api": own.api, "endpoint": own.endpoint}
    return [
        name
        for name, value in values.items()
        if not (name in config or os.environ.get(_VARIABLES[name]))
        and stack.get(name, value).rstrip("/") != value
    ]


def environment(config: Mapping[str, str], *, is_default: bool) -> dict[str, str]:
    """Return the environment without the variables that a declared provider's config overrides.

    Environment variables override the stack's config, as in the dynamic provider. But the arguments
    of a provider that the program declares override environment variables, because the program may
    declare providers for several accounts.
    """
    hidden = set() if is_default else {_VARIABLES[name] for name in config if name in _VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in hidden}
