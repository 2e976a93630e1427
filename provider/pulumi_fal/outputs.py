"""A resource's outputs, as state keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.models import Instance

REQUESTED_SECTOR = "requested_sector"
"""What was asked for, apart from what the API chose; "" for no request."""
ENDPOINT = "endpoint"
"""Where the machine was seen; that another endpoint doesn't know it says nothing."""
UNFINISHED = "unfinished"
"""Only a machine has it whose wait for ready ended early."""


def of(instance: Instance, props: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """What the API says of the machine, and what was requested.

    `props` are the resource's inputs, or its earlier outputs.
    """
    observed = {
        "instance_type": instance.instance_type,
        "sector": instance.sector,
        "ip": instance.ip,
        "status": instance.status,
        ENDPOINT: endpoint,
    }
    outs = {**observed, **requested(props)}
    return {name: value for name, value in outs.items() if value is not None}


def requested(props: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs among `props`, which are inputs or earlier outputs, as outputs keep them."""
    kept = {name: props[name] for name in ("instance_type", "ssh_key", "wait") if name in props}
    sector = props.get(REQUESTED_SECTOR, props.get("sector") or "")
    return {**kept, REQUESTED_SECTOR: sector}
