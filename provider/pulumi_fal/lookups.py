"""Look up machines from a Pulumi program without managing them.

These functions run in the program itself, so a preview needs a key too. `get_instance_output` and
`get_instances_output` take and return Outputs, for arguments that are not known yet.
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
    """Return one machine. Fails if the API does not know its id.

    Raises pulumi.RunError in that case, or if the call fails.
    """
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
    """Return the account's machines that match all given arguments, or all of its machines.

    The legacy API returns no regions, so none of its machines matches a region. Raises
    pulumi.RunError if the call fails.
    """
    wanted = {"instance_type": instance_type, "sector": sector, "status": status, "region": region}
    try:
        return _client().matching_instances(wanted)
    except FalError as error:
        raise pulumi.RunError(str(error)) from None


def get_instance_output(instance_id: pulumi.Input[str]) -> pulumi.Output[Instance]:
    """Like `get_instance`, for an id that may not be known yet."""
    return pulumi.Output.from_input(instance_id).apply(get_instance)


def get_instances_output(
    *,
    instance_type: pulumi.Input[str | InstanceType | None] | None = None,
    sector: pulumi.Input[str | Sector | None] | None = None,
    status: pulumi.Input[str | Status | None] | None = None,
    region: pulumi.Input[str | None] | None = None,
) -> pulumi.Output[list[Instance]]:
    """Like `get_instances`, for arguments that may not be known yet."""
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
    """One client per key: a program of the Automation API may run stacks with different keys."""
    from pulumi_fal.api.client import Client

    return Client(resolved)
