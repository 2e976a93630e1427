"""What a Pulumi program writes: the ComputeInstance resource."""

from __future__ import annotations

import asyncio
import copy
import inspect
from dataclasses import dataclass, fields
from typing import Any, overload

import pulumi
from pulumi import dynamic
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.resource import create_urn

from pulumi_fal.api import ssh_keys
from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, TYPE_TOKEN


@dataclass(kw_only=True)
class ComputeInstanceArgs:
    """The inputs of a ComputeInstance."""

    instance_type: pulumi.Input[str | InstanceType]
    """`gpu_1x_h100_sxm5` or `gpu_8x_h100_sxm5`. Another type replaces the machine."""
    ssh_key: pulumi.Input[str]
    """The SSH public key that may log in: one line, as in `id_ed25519.pub`. Another key replaces
    the machine; another comment does not."""
    sector: pulumi.Input[str | Sector | None] | None = None
    """`sector_1`, `sector_2` or `sector_3`: 8x machines of one sector share an InfiniBand network.
    By default the API chooses. Requesting a sector that the machine is not in replaces the machine;
    requesting the one that it is in, or none any more, changes nothing."""
    wait: pulumi.Input[bool | None] | None = None
    """Whether create waits until the machine is ready, which is the default. With False, ip and
    status arrive with `pulumi refresh`. A change replaces nothing; with True the next `pulumi up`
    waits."""


_OUTPUTS = ("ip", "status", "region", "creator_user_nickname")


# The keywords are part of every URN and of every state: they must never change.
class ComputeInstance(dynamic.Resource, module="fal", name="ComputeInstance"):
    """A machine with 1 or 8 NVIDIA H100, rented from fal Compute and billed by the hour.

    Another instance_type, ssh_key or sector replaces the machine; nothing else does.
    """

    instance_type: pulumi.Output[str]
    """The machine's type."""
    ssh_key: pulumi.Output[str]
    """The public key that may log in."""
    sector: pulumi.Output[str | None]
    """The sector that the machine is in. If none was requested, the API chose it. None for 1x
    machines."""
    ip: pulumi.Output[str]
    """The public address: `ssh ubuntu@IP`."""
    status: pulumi.Output[str]
    """`ready` after create. Status lists the others, and the API may add more."""
    region: pulumi.Output[str | None]
    """Where the machine is: `us-west`, `us-central`, `us-east`, `eu-north`, `eu-west` or `other`.
    None under the legacy API."""
    creator_user_nickname: pulumi.Output[str | None]
    """Who made the machine. None under the legacy API."""

    @overload
    def __init__(
        self,
        resource_name: str,
        args: ComputeInstanceArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        resource_name: str,
        opts: pulumi.ResourceOptions | None = None,
        *,
        instance_type: pulumi.Input[str | InstanceType],
        ssh_key: pulumi.Input[str],
        sector: pulumi.Input[str | Sector | None] | None = None,
        wait: pulumi.Input[bool | None] | None = None,
    ) -> None: ...
    def __init__(self, resource_name: str, *positional: Any, **named: Any) -> None:
        """Declare a machine; ComputeInstanceArgs says what the inputs mean.

        `custom_timeouts` limit the waits. The defaults are 60 minutes for create and 20 for delete.
        An update resumes the wait of a create that did not finish; unless it has a timeout of its
        own, it gets that of create.
        """
        opts, inputs = _arguments(*positional, **named)
        opts = _with_update_timeout(opts)
        # An output that isn't named would not exist on the resource.
        props = {**inputs, **dict.fromkeys(_OUTPUTS)}
        if opts is None or opts.id is None:
            props.update(_identity(resource_name, inputs, opts))
        super().__init__(ComputeInstanceProvider(), resource_name, props, opts)

    @staticmethod
    def get(
        resource_name: str,
        id: pulumi.Input[str],  # noqa: A002 - as in every Pulumi SDK
        opts: pulumi.ResourceOptions | None = None,
    ) -> ComputeInstance:
        """A machine that something else manages, read only; an error if the API doesn't know it.

        Its ssh_key is not known, since the API doesn't return it.
        """
        named: dict[str, Any] = {
            "opts": pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=id))
        }
        return ComputeInstance(resource_name, **named)


class _Import(pulumi.CustomResource):
    """Goes ahead of a machine that is imported, and tells the plugin what the program says of it.

    The SDK has no import for dynamic resources: the engine sends an import's read without inputs,
    so also without the provider that every call of the SDK is looked up by. Reading this one, which
    has both, loads the provider into the plugin; the import's read then finds it (see
    dynamic.patches.route_imports) and compares the machine with these inputs.
    """

    def __init__(self, name: str, inputs: dict[str, Any], opts: pulumi.ResourceOptions) -> None:
        props = {**inputs, "__provider": serialize_provider(ComputeInstanceProvider())}
        ahead = pulumi.ResourceOptions(id=opts.import_, parent=opts.parent)
        super().__init__(IMPORT_TYPE_TOKEN, name, props, ahead)


def _with_update_timeout(opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions | None:
    """The options with the timeout of create for update as well, if update has none of its own.

    The engine tells a provider nothing of a create's timeout when it calls update.
    """
    timeouts = copy.copy(opts.custom_timeouts) if opts is not None else None
    if isinstance(timeouts, pulumi.CustomTimeouts) and timeouts.update is None:
        timeouts.update = timeouts.create
        opts = copy.copy(opts)
        opts.custom_timeouts = timeouts  # type: ignore[union-attr]
    return opts


def _identity(
    name: str, inputs: dict[str, Any], opts: pulumi.ResourceOptions | None
) -> dict[str, pulumi.Input[str]]:
    """What a provider isn't told. check() takes it out again, so it is in no state."""
    urn: pulumi.Input[str] = create_urn(name, TYPE_TOKEN, opts.parent if opts else None)
    if opts is not None and opts.import_ is not None:
        urn = _after(_Import(name, inputs, opts), urn)
    return {"__urn": urn, "__organization": pulumi.get_organization()}


def _after(resource: pulumi.Resource, value: pulumi.Input[str]) -> pulumi.Output[str]:
    """The value, once the resource is registered; and no dependency, which would be in state."""

    async def wait() -> Any:
        await resource.urn.future()
        return value

    return pulumi.Output.from_input(asyncio.ensure_future(wait()))


def _arguments(
    *positional: Any, **named: Any
) -> tuple[pulumi.ResourceOptions | None, dict[str, Any]]:
    """Options and inputs, from either form of the constructor."""
    given = list(positional)
    inputs = dict.fromkeys((each.name for each in fields(ComputeInstanceArgs)), None)
    args = given.pop(0) if given and not _is_options(given[0]) else named.pop("args", None)
    opts = given.pop(0) if given else named.pop("opts", None)
    if args is not None and not isinstance(args, ComputeInstanceArgs):
        raise TypeError(f"expected ComputeInstanceArgs or ResourceOptions, not {type(args)}")
    if given or named.keys() - inputs.keys() or (args is not None and named):
        surplus = ", ".join([*map(repr, given), *named])
        raise TypeError(f"ComputeInstance got arguments that it doesn't know: {surplus}")
    inputs.update(vars(args) if args is not None else named)
    return opts, {**inputs, "ssh_key": _public(inputs["ssh_key"])}


def _public(ssh_key: Any) -> Any:
    """The key, unless it is a private one: that must not even reach the engine and its logs."""
    if isinstance(ssh_key, pulumi.Output) or inspect.isawaitable(ssh_key):
        return pulumi.Output.from_input(ssh_key).apply(_public)
    if isinstance(ssh_key, str) and ssh_keys.is_private(ssh_key):
        raise pulumi.RunError(f"ssh_key {ssh_keys.PRIVATE}")
    return ssh_key


def _is_options(value: object) -> bool:
    return value is None or isinstance(value, pulumi.ResourceOptions)
