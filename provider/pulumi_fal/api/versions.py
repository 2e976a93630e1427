"""Recognizes the answers of the other version of the API than the one that is selected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.api import options

_NO_SUCH_PATH = ("Not Found", "Method Not Allowed")
"""What the legacy API's web framework answers for a path or a method that it does not have."""


def mismatch(api: str, body: Any) -> str:
    """Return what shows that the answer is not from the selected version, or "" if nothing does.

    `body` is the decoded JSON of an answer. What is returned continues a sentence.
    """
    other = _version_of(body)
    if other in ("", api):
        return ""
    setting = f"{options.API.variable} (or {options.API.key})"
    return f"as the {other} API answers, although {setting} is {api}"


def _version_of(body: Any) -> str:
    if isinstance(body, list):
        return "legacy"
    if not isinstance(body, Mapping):
        return ""
    if isinstance(body.get("instances"), list):
        return "v1"
    return "legacy" if body.get("detail") in _NO_SUCH_PATH else ""
