"""What a refresh says about a machine that was ready, and is not as it was."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.models import Instance, InstanceType, Status
from pulumi_fal.resource import inputs
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.outputs import IMPORTED

_COMING_UP = (Status.PENDING, Status.INIT, Status.PROVISIONING, Status.UNKNOWN)


def warning(call: Call, instance: Instance, props: Mapping[str, Any]) -> str | None:
    """Return what a person has to know of the machine that was read, or None if nothing.

    `props` are its outputs in state. Those of a machine that a program reads by its id have no key,
    and Pulumi neither replaces nor deletes that one.
    """
    is_managed = "ssh_key" in props or IMPORTED in props
    if instance.is_stopped:
        advice = f"\n{call.to_delete('it')}" if is_managed else ""
        return (
            f"Machine {instance.id} is stopped, so you can't log in. It may still be billed.\n"
            f"Start it on the fal dashboard.{advice}"
        )
    if not is_managed:
        return _without_sector(instance)
    was_ready = inputs.waits(props) or props.get("status") == Status.READY
    if not instance.is_ready and (was_ready or instance.status not in _COMING_UP):
        lacks = "" if instance.ip else ", and it has no ip"
        return (
            f"Machine {instance.id} is not ready: its status is {instance.status}{lacks}. It may "
            "still be billed.\nIf it does not recover, replace it:\n"
            f"  pulumi up --target-replace {shlex.quote(call.urn)}"
        )
    if instance.ip and props.get("ip") not in (None, instance.ip):  # the ip may be a secret
        return (
            f"Machine {instance.id} has another ip than before.\n"
            "Run `pulumi up` to update what uses it."
        )
    return None


def _without_sector(instance: Instance) -> str | None:
    known = InstanceType.known(instance.instance_type)
    if instance.sector or instance.is_ready or (known and not known.has_infiniband):
        return None
    return (
        f"Machine {instance.id} is not ready, and the API does not show its sector yet. A machine "
        "that is to be created in its sector now may end up in another one.\n"
        "Run the command again when the machine is ready."
    )
