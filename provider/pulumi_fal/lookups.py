"""Looking machines up from a program, without managing them.

These run in the program itself, so a preview needs a key as well. The `_output` forms take and
return Outputs, for arguments that are known only later.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import pulumi

from pulumi_fal.api import settings
from pulumi_fal.api.models import Instance, InstanceType, Sector, Status
from pulumi_fal.errors import FalError

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client


def get_instance(instance_id: str) -> Instance:
    """One machine; pulumi.RunError if the API doesn't know it, or can't be asked."""
    try:
        return _client().get_instance(instance_id)
    except FalError as error:
        raise pulumi.RunError(str(error)) from None


def get_instances(
    *,
    instance_type: str | InstanceType | None = None,
    sector: str | Sector | None = None,
    status: str | Status | None = None,
    region: str | None = None,
) -> list[Instance]:
    """The account's matching machines; pulumi.RunError if the API can't be asked.

    The legacy API tells no region, so that none of its machines matches one.
    """
    try:
        found = _client().list_instances()
    except FalError as error:
        raise pulumi.RunError(str(error)) from None
    return [
        machine
        for machine in found
        if instance_type in (None, machine.instance_type)
        and sector in (None, machine.sector)
        and status in (None, machine.status)
        and region in (None, machine.region)
    ]


def get_instance_output(instance_id: pulumi.Input[str]) -> pulumi.Output[Instance]:
    """`get_instance` for an id that may be known only later."""
    return pulumi.Output.from_input(instance_id).apply(get_instance)


def get_instances_output(
    *,
    instance_type: pulumi.Input[str | InstanceType | None] | None = None,
    sector: pulumi.Input[str | Sector | None] | None = None,
    status: pulumi.Input[str | Status | None] | None = None,
    region: pulumi.Input[str | None] | None = None,
) -> pulumi.Output[list[Instance]]:
    """`get_instances` for arguments that may be known only later."""
    return pulumi.Output.all(
        instance_type=instance_type, sector=sector, status=status, region=region
    ).apply(lambda known: get_instances(**known))


def _client() -> Client:
    def config(key: str) -> str | None:
        namespace, _, name = key.partition(":")
        return pulumi.Config(namespace).get(name)

    return _client_with(settings.resolve(os.environ, config))


@functools.cache
def _client_with(resolved: settings.Settings) -> Client:
    """One for each key: a process of the Automation API may run stacks that have different ones."""
    from pulumi_fal.api.client import Client

    return Client(resolved)
