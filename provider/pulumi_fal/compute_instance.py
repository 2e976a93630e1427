"""The ComputeInstance resource that Pulumi programs declare."""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, overload

import pulumi
from pulumi import dynamic
from pulumi.output import Unknown

from pulumi_fal.api import models
from pulumi_fal.api.models import InstanceType, Sector, Status
from pulumi_fal.resource import inputs
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, SERIALIZED_PROVIDER, TYPE_TOKEN


@dataclass(kw_only=True)
class ComputeInstanceArgs:
    """The inputs of a ComputeInstance."""

    instance_type: pulumi.Input[str | InstanceType]
    """`gpu_1x_h100_sxm5` or `gpu_8x_h100_sxm5`. Changing it replaces the machine."""
    ssh_key: pulumi.Input[str]
    """The SSH public key that may log in: one line, as in `id_ed25519.pub`. Changing the key
    replaces the machine; changing only its comment does not."""
    sector: pulumi.Input[str | Sector | None] | None = None
    """`sector_1`, `sector_2` or `sector_3`: 8x machines of one sector share an InfiniBand network.
    By default the API chooses. Only a request for a sector that the machine is not in replaces
    it."""
    wait: pulumi.Input[bool | None] | None = None
    """Whether create waits until the machine is ready; True by default. With False, run
    `pulumi refresh` later to get ip and status. After a change to True, the next `pulumi up`
    waits."""
    wait_for_capacity: pulumi.Input[str | None] | None = None
    """For how long create is retried while the API has no capacity, such as `6h`, `30m` or
    `1h30m`, counted from the first refusal. By default it fails at once."""
    wait_for_ssh: pulumi.Input[bool | None] | None = None
    """Whether the machine counts as ready only when an SSH server answers on port 22 of its ip, so
    that you can log in; False by default. It needs `wait`. After a change to True, the next
    `pulumi up` waits."""
    max_age: pulumi.Input[str | None] | None = None
    """For how long the machine is meant to run, such as `12h` or `1d12h`, counted from when Pulumi
    recorded it. It doesn't end by itself: `pulumi-fal delete --expired` deletes machines that are
    older, and `pulumi-fal audit` finds them."""


_OUTPUTS = inputs.names(lambda field: field.is_output)


# Every URN and every state contains the keywords below, so they must never change.
class ComputeInstance(dynamic.Resource, module="fal", name="ComputeInstance"):
    """A machine with 1 or 8 NVIDIA H100 GPUs, rented from fal Compute and billed by the hour.

    Changing instance_type, ssh_key or sector replaces the machine. No other change does.
    """

    instance_type: pulumi.Output[str]
    """The machine's type."""
    ssh_key: pulumi.Output[str]
    """The public key that may log in."""
    sector: pulumi.Output[str | None]
    """The sector that the machine is in. If none was requested, the API chose it. 1x machines have
    none."""
    ip: pulumi.Output[str]
    """The public address: `ssh ubuntu@IP`."""
    status: pulumi.Output[str]
    """The machine's status: `ready` when create has waited for it. Status lists the known values;
    the API may add more."""
    region: pulumi.Output[str | None]
    """The region of the machine: `us-west`, `us-central`, `us-east`, `eu-north`, `eu-west` or
    `other`. Only the v1 API returns it."""
    creator_user_nickname: pulumi.Output[str | None]
    """The nickname of the user who created the machine. Only the v1 API returns it."""

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
        wait_for_capacity: pulumi.Input[str | None] | None = None,
        wait_for_ssh: pulumi.Input[bool | None] | None = None,
        max_age: pulumi.Input[str | None] | None = None,
    ) -> None: ...
    def __init__(self, resource_name: str, *positional: Any, **named: Any) -> None:
        """Declare a machine. ComputeInstanceArgs documents the inputs.

        `custom_timeouts` limit the waits. The defaults are 60 minutes for create and 20 minutes for
        delete. An update resumes the wait of a create that did not finish; it uses the timeout of
        create unless `custom_timeouts` sets one for update.
        """
        what = f"ComputeInstance {resource_name}"
        opts, inputs = parse(what, ComputeInstanceArgs, *positional, **named)
        inputs["ssh_key"] = _refuse_private_key(inputs["ssh_key"])
        if isinstance(inputs["sector"], pulumi.Output):
            inputs["sector"] = inputs["sector"].apply(_refuse_not_shown, True)
        opts = _with_update_timeout(what, opts)
        # The resource has only the outputs that are named here. Each of them costs the SDK time.
        given = {name: value for name, value in inputs.items() if value is not None}
        props = {**dict.fromkeys(_OUTPUTS), **given}
        if (opts is None or opts.id is None) and (aliases := _aliases(resource_name, opts)):
            props["__aliases"] = aliases
        if (opts is None or opts.id is None) and pulumi.runtime.is_dry_run():
            props["__preview"] = True  # as above: check() removes it again
        props["__provider"] = _provider(resource_name, inputs, opts)
        # Not dynamic.Resource's own constructor, which does no more: with one constructor less, the
        # SDK takes the line that declares the machine for its source position, and not this one.
        super(dynamic.Resource, self).__init__(TYPE_TOKEN, resource_name, props, opts)

    @staticmethod
    def get(
        resource_name: str,
        id: pulumi.Input[str],  # noqa: A002 - as in every Pulumi SDK
        opts: pulumi.ResourceOptions | None = None,
    ) -> ComputeInstance:
        """Read a machine that is managed elsewhere. Fails if the API does not know its id.

        The result has no ssh_key, because the API does not return it. Until the machine is ready,
        its sector may be unknown, even in an update.
        """
        named: dict[str, Any] = {
            "opts": pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=id))
        }
        machine = ComputeInstance(resource_name, **named)
        shown = pulumi.Output.all(machine.sector, machine.instance_type, machine.status)
        machine.sector = shown.apply(lambda values: _sector_or_unknown(*values))
        return machine


class _NotShown(Unknown):
    """Stands for a sector that the API does not show yet."""


def _sector_or_unknown(sector: str | None, instance_type: str, status: str) -> Any:
    has_none = status == Status.READY or not InstanceType.has_sector(instance_type)
    return sector if sector or has_none else _NotShown()  # type: ignore[no-untyped-call]


def _with_update_timeout(
    what: str, opts: pulumi.ResourceOptions | None
) -> pulumi.ResourceOptions | None:
    """Return the options, with the timeout of create also set for update if update has none.

    The engine does not pass the timeout of create to the provider when it calls update. Raises
    RunError for a timeout that the engine could not read, which it would not say of which resource.
    """
    if opts is None or opts.custom_timeouts is None:
        return opts
    timeouts: Any = copy.copy(opts.custom_timeouts)
    given = vars(timeouts) if isinstance(timeouts, pulumi.CustomTimeouts) else {"": timeouts}
    for name, value in given.items():
        if value is not None and not (name and _is_duration(value)):
            raise pulumi.RunError(
                f"{what}: custom_timeouts must be like pulumi.CustomTimeouts(create='90m'), with "
                f"durations such as '90m' or '1h30m', not {value!r}."
            )
    if timeouts.update is None:
        timeouts.update = timeouts.create
        opts = copy.copy(opts)
        opts.custom_timeouts = timeouts
    return opts


def _is_duration(value: object) -> bool:
    """Whether the engine reads this as a duration, as Go's time.ParseDuration does."""
    return isinstance(value, str) and bool(
        re.fullmatch(r"((\d+\.?\d*|\.\d+)(ns|us|µs|ms|[smh]))+", value)
    )


def _aliases(name: str, opts: pulumi.ResourceOptions | None) -> list[pulumi.Input[str]]:
    """Return the URNs that the resource may have had, also by the aliases of its parents.

    The engine does not tell the provider. check() removes them again.
    """
    try:
        from pulumi.runtime.resource import all_aliases
    except ImportError:  # an older SDK: a create of another name is then only warned of
        return []
    return all_aliases(opts.aliases, name, TYPE_TOKEN, opts.parent) if opts else []


def _provider(
    name: str, inputs: dict[str, Any], opts: pulumi.ResourceOptions | None
) -> pulumi.Input[str]:
    """Return the serialized provider, and for an import only once a helper resource is read.

    The SDK does not support imports of dynamic resources. The engine sends the read of an import
    without inputs, and therefore without the serialized provider by which the SDK finds the code to
    call. The helper has both: reading it loads the provider into the plugin. The import's read then
    finds it (see hosts.dynamic.route_imports) and compares the machine with the inputs.
    """
    if opts is None or opts.import_ is None:
        return SERIALIZED_PROVIDER
    # The engine takes the mark off what is secret before a dynamic provider gets it, and puts it on
    # again in every answer but that of an import.
    is_secret = pulumi.Output.from_input(inputs["ssh_key"]).is_secret()
    props = {
        **{key: pulumi.Output.from_input(inputs[key]).apply(_or_none, True) for key in inputs},
        "__is_known": pulumi.Output.all(*inputs.values()).is_known(),
        "__is_secret": is_secret,
        "__provider": SERIALIZED_PROVIDER,
    }
    read_opts = pulumi.ResourceOptions(id=opts.import_, parent=opts.parent)
    helper = pulumi.CustomResource(IMPORT_TYPE_TOKEN, name, props, read_opts)

    async def wait() -> str:
        await helper.urn.future()
        return SERIALIZED_PROVIDER

    # An Output of the helper would make the resource depend on it, in state too.
    return pulumi.Output.from_input(asyncio.ensure_future(wait()))


def _or_none(value: Any) -> Any:
    """Return None for what is not known yet: the engine reads nothing with an unknown input."""
    return None if isinstance(value, Unknown) else value


def _refuse_not_shown(sector: Any) -> Any:
    """Return the sector. Raises RunError in an update if the API does not show it yet."""
    if isinstance(sector, _NotShown) and not pulumi.runtime.is_dry_run():
        raise pulumi.RunError(
            "sector is that of a machine whose sector the API does not show yet. Run the command "
            "again when that machine is ready."
        )
    return sector


def _refuse_private_key(ssh_key: Any) -> Any:
    """Return the key. Raises RunError for a private key, so that it never reaches the engine."""
    if isinstance(ssh_key, pulumi.Output) or inspect.isawaitable(ssh_key):
        return pulumi.Output.from_input(ssh_key).apply(_refuse_private_key)
    if isinstance(ssh_key, str) and models.is_private_key(ssh_key):
        raise pulumi.RunError(f"ssh_key {models.PRIVATE}")
    return ssh_key


def parse(
    resource: str, args_type: type, *positional: Any, **named: Any
) -> tuple[pulumi.ResourceOptions | None, dict[str, Any]]:
    """Return the options and the inputs, from an object of `args_type` or from named inputs.

    An input that is not given has the default of `args_type`, or else is None. Raises RunError for
    unexpected arguments, which Pulumi shows without a traceback. `resource` is its type and name.
    """
    remaining = list(positional)
    inputs = {
        field.name: None if field.default is MISSING else field.default
        for field in fields(args_type)
    }
    has_args = bool(remaining) and not _is_options(remaining[0])
    args = remaining.pop(0) if has_args else named.pop("args", None)
    opts = remaining.pop(0) if remaining else named.pop("opts", None)
    is_wrong = (args is not None and not isinstance(args, args_type)) or not _is_options(opts)
    if is_wrong or remaining:
        raise pulumi.RunError(
            f"{resource}: pass the inputs by name, such as {next(iter(inputs))}=..., or as one "
            f"{args_type.__name__}."
        )
    if (
        unknown := named
        if args is not None
        else {k: v for k, v in named.items() if k not in inputs}
    ):
        raise pulumi.RunError(f"{resource}: {_unexpected(unknown, [*inputs, 'opts'])}")
    inputs.update(vars(args) if args is not None else named)
    return opts, inputs


def _unexpected(unknown: dict[str, Any], known: list[str]) -> str:
    import difflib  # most programs make no such mistake

    said = []
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        said.append(f"{name} (did you mean {near[0]}?)" if near and near[0] != name else name)
    return f"unexpected argument{'s' * (len(said) > 1)} {', '.join(said)}."


def _is_options(value: object) -> bool:
    return value is None or isinstance(value, pulumi.ResourceOptions)
