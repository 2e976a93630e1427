"""What every URN and state contains, and so can never change: the types, and the provider."""

from __future__ import annotations

TYPE_TOKEN = "pulumi-python:dynamic/fal:ComputeInstance"  # noqa: S105 - not a password
"""The type of a machine that the dynamic provider of Python manages."""
NATIVE_TYPE_TOKEN = "fal:index:ComputeInstance"  # noqa: S105
"""The type of a machine that the native plugin manages."""
CLUSTER_TYPE_TOKEN = "fal:index:ComputeCluster"  # noqa: S105
"""The type of a component whose machines are in one sector."""
IMPORT_TYPE_TOKEN = "pulumi-python:fal:ComputeInstanceImport"  # noqa: S105
"""The type of the helper resource that precedes an import; see compute_instance.py."""

SERIALIZED_PROVIDER = (
    "gASVNgAAAAAAAACME3B1bHVtaV9mYWwucHJvdmlkZXKUjBdDb21wdXRlSW5zdGFuY2VQcm92aWRlcpSTlCmBlC4="
)
"""The provider as every state has it, by which the SDK finds provider.ComputeInstanceProvider.

It is pickled with protocol 4, in base64. The SDK's own function uses pickle's default protocol,
which is another one from Python 3.14 on, so that an `up` on another version of Python than the last
one's would show an update of every machine. A program that has only this text need not load the
provider."""

PROVIDER_TYPES = ("pulumi:providers:pulumi-python", "pulumi:providers:fal")
"""The types of the provider resources that stand in state for the two hosts."""
MACHINES = (TYPE_TOKEN, NATIVE_TYPE_TOKEN)
"""The types of all machines."""


def is_ours(urn: str, tokens: tuple[str, ...] = MACHINES) -> bool:
    """Whether the URN belongs to a resource of one of the given types, by default a machine."""
    types = urn.split("::")[2:3]
    return bool(types) and types[0].split("$")[-1] in tokens
