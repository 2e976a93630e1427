"""Names that are part of every URN and every state, so they can never change."""

from __future__ import annotations

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
IMPORT_TYPE_TOKEN = "pulumi-python:fal:ComputeInstanceImport"  # noqa: S105
"""The helper resource that precedes an import; see compute_instance.py."""


def is_ours(urn: str, token: str = TYPE_TOKEN) -> bool:
    """Whether the URN is of a ComputeInstance, or of the other type that is given."""
    types = urn.split("::")[2:3]
    return bool(types) and types[0].split("$")[-1] == token
