"""The component ComputeCluster of the native plugin: what it registers for a request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import plugin_pb2, provider_pb2, resource_pb2, resource_pb2_grpc

from pulumi_fal.hosts import access
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519
from .harness import PROVIDER_URN, Native, engine, failure, plain, secret, struct

INPUTS = {"size": 3, "sshKey": ED25519}
STACK = "urn:pulumi:dev::proj::pulumi:pulumi:Stack::proj-dev"
NAMES = ["train-0", "train-1", "train-2"]


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Registers resources, and answers for machines as fal would. The address is set by `served`.

    Without a requested sector, each machine is in the third.
    """

    def __init__(self) -> None:
        self.address = ""
        self.preview = False
        self.registered: dict[str, Any] = {}
        """The requests, by the resource's name."""
        self.outputs: dict[str, Any] = {}
        """What the component has registered as its outputs."""
        self.together: threading.Barrier | None = None
        """If it is set, no machine is ready until as many are being created."""

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return resource_pb2.SupportsFeatureResponse(hasSupport=True)

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.registered[request.name] = request
        if not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=self.urn(request.name))
        if self.together is not None:
            self.together.wait(30)
        inputs = plain(request.object)
        number = request.name.rpartition("-")[2]
        shown: dict[str, Any] = {"sector": "sector_3", "ip": f"198.18.0.{number}"}
        if self.preview:
            shown = dict.fromkeys(shown, rpc.UNKNOWN)
        shown |= inputs
        return resource_pb2.RegisterResourceResponse(
            urn=self.urn(request.name),
            id="" if self.preview else f"{request.name}-id",
            object=struct({name: value for name, value in shown.items() if value is not None}),
        )

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.outputs = plain(request.outputs)
        return empty_pb2.Empty()

    def machines(self) -> dict[str, dict[str, Any]]:
        return {
            name: plain(request.object)
            for name, request in sorted(self.registered.items())
            if request.custom
        }

    @staticmethod
    def urn(name: str) -> str:
        return f"urn:pulumi:dev::proj::a:b:C::{name}"


@contextmanager
def served() -> Iterator[Monitor]:
    monitor = Monitor()
    server = grpc.server(futures.ThreadPoolExecutor(200))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    monitor.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield monitor
    finally:
        server.stop(0).wait()


def construct(provider: Native, inputs: dict[str, Any], monitor: Monitor, **fields: Any) -> Any:
    """Construct the cluster `train`. `monitor`: what it registers with."""
    given = {
        "type": CLUSTER_TYPE_TOKEN,
        "name": "train",
        "project": "proj",
        "stack": "dev",
        "monitorEndpoint": monitor.address,
        "dryRun": monitor.preview,
        **fields,
    }
    return provider.stub.Construct(provider_pb2.ConstructRequest(inputs=struct(inputs), **given))


@pytest.fixture
def logged(provider: Native) -> Iterator[list[Any]]:
    with engine() as (address, logged):
        provider.stub.Attach(plugin_pb2.PluginAttach(address=address))
        yield logged


@pytest.fixture
def monitor(logged: list[Any]) -> Iterator[Monitor]:
    with served() as monitor:
        yield monitor


def test_registers(provider: Native, monitor: Monitor) -> None:
    """The machines are its children, of the plugin's own type, all in the requested sector.

    Each has a default of its own for the options, which a value of the component would replace.
    """
    inputs = {"sshKey": ED25519, "sector": "sector_2", "wait": False, "instanceType": "gpu_8x_b200"}
    construct(provider, {**inputs, "size": 3}, monitor, parent=STACK)
    component = monitor.registered.pop("train")
    assert (component.type, component.parent) == (CLUSTER_TYPE_TOKEN, STACK)
    assert not component.custom
    assert plain(component.object) == {}
    assert list(monitor.machines()) == NAMES
    for name, given in monitor.machines().items():
        machine = monitor.registered[name]
        assert given == inputs
        assert (machine.type, machine.parent) == (NATIVE_TYPE_TOKEN, Monitor.urn("train"))
        assert not machine.HasField("customTimeouts")
        assert not machine.deleteBeforeReplaceDefined


def test_outputs(provider: Native, monitor: Monitor) -> None:
    """The program and state get the same, under the schema's names, without what is secret."""
    answer = construct(provider, {**INPUTS, "size": 2, "sshKey": secret(ED25519)}, monitor)
    assert [row["sshKey"] for row in monitor.machines().values()] == [secret(ED25519)] * 2
    assert answer.urn == Monitor.urn("train")
    outputs = plain(answer.state)
    assert outputs == monitor.outputs
    machines = [machine["urn"] for machine in outputs.pop("machines")]
    assert machines == [Monitor.urn("train-0"), Monitor.urn("train-1")]
    ips = ["198.18.0.0", "198.18.0.1"]
    by_name = dict(zip(NAMES, ips, strict=False))
    ids = {name: f"{name}-id" for name in by_name}
    torchrun = "--nnodes=2 --nproc-per-node=8 --node-rank=%d --rdzv-endpoint=198.18.0.0:29500"
    assert outputs == {
        "ips": ips,
        "mainIp": "198.18.0.0",
        "sector": "sector_3",
        "hostfile": "198.18.0.0 slots=8\n198.18.0.1 slots=8\n",
        "torchrun": [torchrun % 0, torchrun % 1],
        "sshConfig": access.ssh_config(by_name, ids),
        "inventory": access.inventory("train", by_name),
        "skypilot": access.skypilot("train", ips),
        "dstack": access.dstack("train", ips, ["sector_3"]),
    }


def test_preview(provider: Native, monitor: Monitor) -> None:
    """Inputs that come from a resource that doesn't exist yet are unknown, too."""
    monitor.preview = True
    unknown = {"sshKey": rpc.UNKNOWN, "sector": rpc.UNKNOWN}
    answer = construct(provider, {**INPUTS, **unknown}, monitor)
    outputs = plain(answer.state)
    assert list(monitor.machines()) == NAMES
    assert {inputs["sshKey"] for inputs in monitor.machines().values()} == {rpc.UNKNOWN}
    assert (outputs["mainIp"], outputs["hostfile"]) == (rpc.UNKNOWN, rpc.UNKNOWN)


def test_options(provider: Native, monitor: Monitor) -> None:
    """A stack of the Python package continues, because its type is an alias of each machine."""
    other = "urn:pulumi:dev::proj::a:b:C::other"
    theirs = "urn:pulumi:dev::proj::pulumi:providers:fal::theirs::an-id"
    given: dict[str, Any] = {
        "customTimeouts": provider_pb2.ConstructRequest.CustomTimeouts(create="2h"),
        "deleteBeforeReplace": True,
        "dependencies": [other],
        "retainOnDelete": True,
        "protect": True,
        "resource_hooks": provider_pb2.ConstructRequest.ResourceHooksBinding(after_create=["tell"]),
        "providers": {"fal": theirs},
    }
    construct(provider, INPUTS, monitor, **given)
    for name in NAMES:
        machine = monitor.registered[name]
        assert (machine.customTimeouts.create, machine.customTimeouts.update) == ("2h", "")
        assert machine.deleteBeforeReplaceDefined
        assert machine.deleteBeforeReplace
        assert machine.retainOnDelete
        assert machine.protect
        assert list(machine.dependencies) == [other]
        assert list(machine.hooks.after_create) == ["tell"]
        assert machine.provider == theirs
        assert [alias.spec.type for alias in machine.aliases] == [TYPE_TOKEN]
    ignored = [list(monitor.registered[name].ignoreChanges) for name in NAMES]
    assert ignored == [[], ["sector"], ["sector"]]


def test_provider(provider: Native, monitor: Monitor) -> None:
    """An SDK asks for a version. Without one, there would be another default provider."""
    urn = f"{PROVIDER_URN}default_0_1_0"
    named = provider_pb2.ConfigureRequest(name="default_0_1_0", urn=urn, id="an-id")
    provider.stub.Configure(named)
    construct(provider, INPUTS, monitor)
    providers = {monitor.registered[name].provider for name in NAMES}
    assert providers == {f"{urn}::an-id"}


NO_SIZE, NO_OUTPUT = "size must be a whole number of 1 or more, not ", "size can't be an Output"
DEPENDS = provider_pb2.ConstructRequest.PropertyDependencies(urns=[Monitor.urn("other")])


@pytest.mark.parametrize(
    "size, fields, said",
    [
        (2.5, {}, f"{NO_SIZE}2.5."),
        ("2", {}, f"{NO_SIZE}'2'."),
        (True, {}, f"{NO_SIZE}true."),
        (1e300, {}, "size must be 1000 or less."),
        (rpc.UNKNOWN, {}, NO_OUTPUT),
        (secret(rpc.UNKNOWN), {}, NO_OUTPUT),
        (3, {"inputDependencies": {"size": DEPENDS}}, NO_OUTPUT),
        (3, {"type": "fal:index:Network"}, "There is no component fal:index:Network."),
    ],
)
def test_refused(
    provider: Native, monitor: Monitor, size: Any, fields: dict[str, Any], said: str
) -> None:
    """The message is that of Python, has no value that is a secret, and comes before a machine.

    A size of a resource may be known now, but not before.
    """
    error = failure(lambda: construct(provider, {**INPUTS, "size": size}, monitor, **fields))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details().startswith(said)
    assert monitor.machines() == {}


def test_many_at_once(provider: Native, monitor: Monitor) -> None:
    """No machine waits for another one to be ready, and no cluster has the settings of another."""
    monitor.together = threading.Barrier(120)
    with futures.ThreadPoolExecutor() as threads, served() as another:
        another.together = monitor.together
        given = {**INPUTS, "size": 60, "sector": "sector_1"}
        for answer in threads.map(lambda of: construct(provider, given, of), (monitor, another)):
            assert len(plain(answer.state)["ips"]) == 60
        assert len(monitor.machines()) == len(another.machines()) == 60
