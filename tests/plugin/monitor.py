"""The engine's side of a component: what it registers, and what the engine answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import resource_pb2, resource_pb2_grpc

from .harness import struct
from .native import plain

STACK = "urn:pulumi:dev::proj::pulumi:pulumi:Stack::proj-dev"


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
        self.sectors: dict[str, str | None] = {}
        """The sectors that machines turn out to be in, where they are not the usual ones."""
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
        shown["sector"] = self.sectors.get(request.name, shown["sector"])
        return resource_pb2.RegisterResourceResponse(
            urn=self.urn(request.name),
            id="" if self.preview else f"{request.name}-id",
            object=struct({name: value for name, value in shown.items() if value is not None}),
        )

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.outputs = plain(request.outputs)
        return empty_pb2.Empty()

    def machines(self) -> dict[str, dict[str, Any]]:
        """The inputs of the machines, by name."""
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
    """A monitor at an address of its own."""
    monitor = Monitor()
    server = grpc.server(futures.ThreadPoolExecutor(200))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    monitor.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield monitor
    finally:
        server.stop(0).wait()
