"""Answers Diff: which inputs differ, and which of these changes replace the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi.runtime.proto import provider_pb2

from pulumi_fal.native.properties import camel
from pulumi_fal.resource import inputs
from pulumi_fal.resource.operations import Diff

_SOME, _NONE = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
_Kind = provider_pb2.PropertyDiff

Properties = Mapping[str, Any]


def compare(
    found: Diff, before: Properties, news: Properties, *, is_import: bool, is_outdated: bool
) -> provider_pb2.DiffResponse:
    """Return the answer, given which changes replace the machine, and the old and new inputs.

    `is_import` says whether the engine is importing the machine, and compares it with the program.
    `is_outdated` says whether the state has to be written again although no input differs.
    """
    changed = {name for name in inputs.NAMES if before.get(name) != news.get(name)}
    if is_import:  # what the API does not return can't differ from the program
        changed = {name for name in changed if name in before or name in found.replaces}
    replaces = found.replaces
    details = {
        camel(name): provider_pb2.PropertyDiff(
            kind=_kind(name, before, news, name in replaces), inputDiff=name in changed
        )
        for name in inputs.NAMES
        if name in changed or name in replaces
    }
    return provider_pb2.DiffResponse(
        changes=_SOME if details or found.changes or is_outdated else _NONE,
        replaces=[camel(name) for name in replaces],
        diffs=list(details),
        detailedDiff=details,
        hasDetailedDiff=bool(details),
    )


def _kind(name: str, before: Properties, news: Properties, replaces: bool) -> Any:
    if name in news and name not in before:
        return _Kind.ADD_REPLACE if replaces else _Kind.ADD
    if name in before and name not in news:
        return _Kind.DELETE_REPLACE if replaces else _Kind.DELETE
    return _Kind.UPDATE_REPLACE if replaces else _Kind.UPDATE
