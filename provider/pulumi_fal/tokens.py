"""Names that are part of every URN and every state, so they can never change."""

from __future__ import annotations

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
"""A machine that Python's dynamic provider manages."""
NATIVE_TYPE_TOKEN = "fal:index:ComputeInstance"  # noqa: S105
"""A machine that the native plugin manages."""
IMPORT_TYPE_TOKEN = "pulumi-python:fal:ComputeInstanceImport"  # noqa: S105
"""The helper resource that precedes an import; see compute_instance.py."""

MACHINES = (TYPE_TOKEN, NATIVE_TYPE_TOKEN)


def is_ours(urn: str, tokens: tuple[str, ...] = MACHINES) -> bool:
    """Whether the URN is of a ComputeInstance, or of one of the types that are given."""
    types = urn.split("::")[2:3]
    return bool(types) and types[0].split("$")[-1] in tokens
