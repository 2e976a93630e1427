"""How the provider is serialized, which every state holds: the same on each version of Python."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider

PROTOCOL = 4
"""Pickle's default protocol up to Python 3.13."""


@contextmanager
def as_in_every_state() -> Iterator[None]:
    """Have the SDK serialize providers with the protocol that existing states have.

    It uses pickle's default, which is another one from Python 3.14 on. An `up` with another version
    of Python than the last one's would then show an update of every machine.
    """
    default = pickle.DEFAULT_PROTOCOL
    pickle.DEFAULT_PROTOCOL = PROTOCOL  # type: ignore[misc]
    try:
        yield
    finally:
        pickle.DEFAULT_PROTOCOL = default  # type: ignore[misc]


def serialized(provider: ResourceProvider) -> str:
    """Return the provider as states hold it."""
    with as_in_every_state():
        return str(serialize_provider(provider))
