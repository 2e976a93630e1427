"""The component ComputeCluster, which declares its machines for programs in any language.

The SDK's server for components runs here once for each component, in the thread of its call. It
keeps everything that belongs to a component in context variables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.provider import ConstructResult, Provider
from pulumi.provider.server import ProviderServicer
from pulumi.resource import DependencyProviderResource

from pulumi_fal.api.models import InstanceType
from pulumi_fal.hosts import nodes
from pulumi_fal.native.properties import camel, camel_words
from pulumi_fal.resource import inputs
from pulumi_fal.resource.inputs import NAMES
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

_OUTPUTS = [camel(name) for name in inputs.names(lambda field: field.is_output)]
_INPUTS = {camel(name): name for name in (*NAMES, "size")}
_PACKAGE = NATIVE_TYPE_TOKEN.partition(":")[0]
_OTHER_THREADS = 16
"""Threads for what is not a machine: the component itself, and messages."""


class _Node(pulumi.CustomResource):
    """A machine of a cluster. Its outputs have the names of the schema."""

    ip: Any
    sector: Any

    def __init__(self, name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        # The resource has only the outputs that are named here.
        super().__init__(NATIVE_TYPE_TOKEN, name, {**dict.fromkeys(_OUTPUTS), **inputs}, opts)
        self.instance_type: Any = pulumi.get(self, "instanceType")


def _declare(name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions) -> ConstructResult:
    """Declare the component and its machines. `inputs` have the names of the schema."""
    given = {_INPUTS[input_]: value for input_, value in inputs.items() if input_ in _INPUTS}
    size = nodes.checked_size(_whole(given.pop("size", None)))
    if given.get("instance_type") is None:
        given["instance_type"] = InstanceType.GPU_8X_H100_SXM5.value
    cluster = pulumi.ComponentResource(CLUSTER_TYPE_TOKEN, name, {}, opts)

    def new(node: str, node_inputs: dict[str, Any], opts: pulumi.ResourceOptions) -> _Node:
        # A stack of the Python package continues with the same machines.
        opts.aliases = [pulumi.Alias(type_=TYPE_TOKEN)]
        return _Node(node, {camel(input_): value for input_, value in node_inputs.items()}, opts)

    machines = nodes.declare(cluster, name, size, given, opts, new)
    shown = nodes.outputs(cluster, name, machines, given.get("sector"))
    outputs: dict[str, Any] = {camel(output): value for output, value in shown.items()}
    outputs["machines"] = machines
    cluster.register_outputs(outputs)
    return ConstructResult(cluster.urn, outputs)


class _Components(Provider):
    """What the SDK's server calls for one request."""

    def __init__(self, request: Any, reference: str) -> None:
        super().__init__("", "{}")
        self._request = request
        self._reference = reference

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Any,
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        if resource_type != CLUSTER_TYPE_TOKEN:
            raise pulumi.RunError(f"There is no component {resource_type}.")
        opts = options or pulumi.ResourceOptions()
        self._complete(opts)
        return _declare(name, inputs, opts)

    def _complete(self, opts: pulumi.ResourceOptions) -> None:
        """Add the options that the SDK loses, and the provider.

        Without it, the machines would have a default provider of their own, in another process, if
        the program's SDK asks for a version of the plugin.
        """
        if self._reference:
            opts.providers = {_PACKAGE: DependencyProviderResource(self._reference)}
        if self._request.HasField("deleteBeforeReplace"):
            opts.delete_before_replace = self._request.deleteBeforeReplace
        if self._request.HasField("customTimeouts"):
            timeouts = self._request.customTimeouts
            opts.custom_timeouts = pulumi.CustomTimeouts(
                create=timeouts.create or None,
                update=timeouts.update or None,
                delete=timeouts.delete or None,
            )


def construct(request: Any, engine_address: str, reference: str) -> Any:
    """Answer the call for a component: declare it and its machines, and return its outputs.

    `reference` names the provider, or is "" if it is not known. Raises RunError if an input is
    wrong.
    """
    servicer = ProviderServicer(_Components(request, reference), [], engine_address)

    async def answer() -> Any:
        # Each machine that is being created blocks a thread until it is ready.
        pool = futures.ThreadPoolExecutor(nodes.LARGEST + _OTHER_THREADS)
        asyncio.get_running_loop().set_default_executor(pool)
        return await servicer.Construct(request, None)

    try:
        return asyncio.run(answer())
    except pulumi.RunError as error:
        raise pulumi.RunError(camel_words(str(error))) from None


def _whole(size: Any) -> Any:
    """Return the size as an int if it is whole: the protocol has no other numbers than floats."""
    if isinstance(size, Unknown):
        return pulumi.Output.from_input(size)
    return int(size) if isinstance(size, float) and size.is_integer() else size
