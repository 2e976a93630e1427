"""The engine's calls on the native provider, in a process of its own or in the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import (
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from pulumi_fal.native.__main__ import serve
from pulumi_fal.native.servicer import FalProvider

from .harness import struct

URN = "urn:pulumi:dev::proj::fal:index:ComputeInstance::box"
PROVIDER_URN = "urn:pulumi:dev::proj::pulumi:providers:fal::"
LAUNCHER = ("-m", "pulumi_fal.native")
"""What `Plugin` runs, to be the native plugin."""
Properties = Mapping[str, Any]
NOTHING: Properties = MappingProxyType({})


class Provider:
    """The engine's side of a provider. Properties are plain values with the schema's names."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = provider_pb2_grpc.ResourceProviderStub(channel)

    def handshake(self, engine: str = "127.0.0.1:1") -> Any:
        return self.stub.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address=engine))

    def attach(self, engine: str) -> Any:
        return self.stub.Attach(plugin_pb2.PluginAttach(address=engine))

    def check_config(self, **config: object) -> list[tuple[str, str]]:
        """The failures: the property that each names, and its reason."""
        failures = self.checked_config(**config).failures
        return [(failure.property, failure.reason) for failure in failures]

    def checked_config(self, **config: object) -> Any:
        request = provider_pb2.CheckRequest(urn=f"{PROVIDER_URN}default", news=struct(config))
        return self.stub.CheckConfig(request)

    def diff_config(self, olds: Properties, news: Properties) -> Any:
        request = provider_pb2.DiffRequest(id="1", olds=struct(olds), news=struct(news))
        return self.stub.DiffConfig(request)

    def configure(self, name: str = "default", **config: object) -> Any:
        """Strings are secrets, as the engine sends a program's."""
        args = {
            key: secret(value) if isinstance(value, str) else value for key, value in config.items()
        }
        return self.stub.Configure(provider_pb2.ConfigureRequest(name=name, args=struct(args)))

    def check(self, news: Properties, olds: Properties = NOTHING, urn: str = URN) -> Any:
        request = provider_pb2.CheckRequest(urn=urn, olds=struct(olds), news=struct(news))
        return self.stub.Check(request)

    def diff(self, id_: str, before: Properties, olds: Properties, news: Properties) -> Any:
        """`before`: the old inputs."""
        return self.stub.Diff(
            provider_pb2.DiffRequest(
                id=id_, urn=URN, old_inputs=struct(before), olds=struct(olds), news=struct(news)
            )
        )

    def create(self, news: Properties, **fields: Any) -> Any:
        return self.create_later(news, **fields).result()

    def create_later(self, news: Properties, urn: str = URN, **fields: Any) -> Any:
        """Start a create; a gRPC future, which cancels the call when nothing refers to it."""
        request = provider_pb2.CreateRequest(urn=urn, properties=struct(news), **fields)
        return self.stub.Create.future(request)

    def read(self, id_: str, inputs: Properties = NOTHING, outputs: Properties = NOTHING) -> Any:
        return self.stub.Read(
            provider_pb2.ReadRequest(
                id=id_, urn=URN, inputs=struct(inputs), properties=struct(outputs)
            )
        )

    def import_(self, id_: str) -> Any:
        """Read the machine as for an import, which brings no properties at all."""
        return self.stub.Read(provider_pb2.ReadRequest(id=id_, urn=URN))

    def update(self, id_: str, olds: Properties, news: Properties, **fields: Any) -> Any:
        request = provider_pb2.UpdateRequest(
            id=id_, urn=URN, olds=struct(olds), news=struct(news), **fields
        )
        return self.stub.Update(request)

    def delete(self, id_: str, outputs: Properties, **fields: Any) -> None:
        request = provider_pb2.DeleteRequest(id=id_, urn=URN, properties=struct(outputs), **fields)
        self.stub.Delete(request)

    def construct(self, inputs: Properties, monitor: Any, **fields: Any) -> Any:
        """Construct the cluster `train`. `monitor`: what it registers with."""
        given = {
            "type": "fal:index:ComputeCluster",
            "name": "train",
            "project": "proj",
            "stack": "dev",
            "monitorEndpoint": monitor.address,
            "dryRun": monitor.preview,
            **fields,
        }
        return self.stub.Construct(provider_pb2.ConstructRequest(inputs=struct(inputs), **given))

    def invoke(self, function: str, **args: object) -> dict[str, Any]:
        request = provider_pb2.InvokeRequest(tok=f"fal:index:{function}", args=struct(args))
        return plain(getattr(self.stub.Invoke(request), "return"))

    def cancel(self) -> Any:
        return self.stub.Cancel(empty_pb2.Empty())


@contextmanager
def hosted() -> Iterator[Provider]:
    """A provider in this process, with this process's environment."""
    servicer = FalProvider()
    server = serve(servicer)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            provider = Provider(channel)
            yield provider
            provider.cancel()
    finally:
        server.stop(0).wait()


@contextmanager
def engine() -> Iterator[tuple[str, list[Any]]]:
    """The address of an engine, and a list of what is logged there."""
    logged: list[Any] = []

    class Engine(engine_pb2_grpc.EngineServicer):
        def Log(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            logged.append(request)
            return empty_pb2.Empty()

    server = grpc.server(futures.ThreadPoolExecutor(4))
    engine_pb2_grpc.add_EngineServicer_to_server(Engine(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", logged
    finally:
        server.stop(0).wait()


def secret(value: object) -> dict[str, object]:
    """A secret as the protocol wraps it."""
    return {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        "value": value,
    }


def plain(properties: struct_pb2.Struct) -> dict[str, Any]:
    """Properties that came back."""
    values: dict[str, Any] = json.loads(json_format.MessageToJson(properties))
    return values


def failure(call: Callable[[], object]) -> Any:
    """The error of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def kept(error: Any) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    """What the engine records of a call that failed: id, outputs, inputs and the reason."""
    failed = init_failed(error)
    (reason,) = failed.reasons
    return failed.id, plain(failed.properties), plain(failed.inputs), reason


def init_failed(error: Any) -> Any:
    """The partial state that a call failed with."""
    status = status_pb2.Status.FromString(
        dict(error.trailing_metadata())["grpc-status-details-bin"]
    )
    assert status.code == 2
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(failed)
    return failed
