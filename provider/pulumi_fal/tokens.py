"""The resource type tokens. Every URN and every state contains them, so they can never change."""

from __future__ import annotations

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
IMPORT_TYPE_TOKEN = "pulumi-python:fal:ComputeInstanceImport"  # noqa: S105
"""The type of the helper resource that precedes an import; see compute_instance.py."""


def is_ours(urn: str, token: str = TYPE_TOKEN) -> bool:
    """Whether the URN belongs to a resource of the given type, a ComputeInstance by default."""
    types = urn.split("::")[2:3]
    return bool(types) and types[0].split("$")[-1] == token
