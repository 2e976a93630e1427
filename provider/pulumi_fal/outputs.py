"""A resource's outputs, as state keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi_fal.models import Instance

ENDPOINT = "endpoint"
ACCOUNT = "account"
UNFINISHED = "unfinished"
"""Set only while a machine's wait for ready is incomplete."""


@dataclass(frozen=True)
class Home:
    """The endpoint and the account (a hash of its key) that a machine was last seen with.

    "" stands for what state doesn't say: releases before 0.2 kept no account.
    """

    endpoint: str = ""
    account: str = ""

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Home:
        """The home that a resource's outputs tell."""
        return cls(str(props.get(ENDPOINT) or ""), str(props.get(ACCOUNT) or ""))

    @property
    def key(self) -> str:
        """What tells one home from another: the account where it is known."""
        return self.account or self.endpoint


def of(instance: Instance, props: Mapping[str, Any], home: Home) -> dict[str, Any]:
    """What the API says of the machine, and what was requested.

    `props` are the resource's inputs, or its earlier outputs. `home`: who sees the machine.
    """
    observed = {
        "instance_type": instance.instance_type,
        # A new machine's sector shows late. Until then it is the requested one, if any.
        "sector": instance.sector or props.get("sector"),
        "ip": instance.ip,
        "status": instance.status,
        ENDPOINT: home.endpoint,
        ACCOUNT: home.account,
    }
    outs = {**observed, **requested(props)}
    return {name: value for name, value in outs.items() if value is not None}


def requested(props: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs among `props`, which are inputs or earlier outputs, as outputs keep them.

    Not the sector: outputs have the one that the machine is in.
    """
    return {name: props[name] for name in ("instance_type", "ssh_key", "wait") if name in props}
