"""Tests which of this package's additions to the plugin host work with the installed SDK.

It starts a plugin process as the engine does, with a small server in place of the engine.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc

from pulumi_fal.dynamic import probe

URN = "urn:pulumi:doctor::doctor::pulumi-python:dynamic/fal:Probe::probe"
_SECONDS = 20.0
"""The timeout for the start of the plugin, and for each of its answers."""
_TOGETHER_SECONDS = 2.0
"""How long the concurrent calls wait for each other."""

WITHOUT = {
    "a create knows its resource's URN": "identical resources of a stack can't be distinguished",
    f"more than {probe.CALLS - 1} machines at a time": "machines are created four at a time",
    "a machine is in state although its create failed": "only the journal has such a machine",
    "progress and warnings on the resource's row": "waits show no progress",
    "errors without a traceback": "errors are printed with a traceback",
    "`import` as a resource option": "only `pulumi-fal import-file` can import machines",
    "Ctrl-C ends waits at once": "you have to press Ctrl-C twice, then run `pulumi cancel`",
    "the plugin ends when the engine is killed": "it keeps running, and you have to end it",
}
"""Each feature, and the consequence if it is missing."""


def probe_all() -> dict[str, bool]:
    """Return whether each feature works, by its name in WITHOUT.

    Raises OSError if the plugin process does not start.
    """
    logged: list[Any] = []
    with _engine(logged) as address, _plugin(address) as (process, stub):
        checks = [
            lambda: _read(stub)["urn"] == URN,
            lambda: _serves_concurrently(stub),
            lambda: _sends_partial_state(stub),
            lambda: [(request.urn, request.message) for request in logged] == [(URN, probe.TEXT)],
            lambda: _has_no_traceback(_error_of(stub)),
            lambda: bool(_read(stub, with_provider=False)),
            lambda: _receives_cancel(stub),
            lambda: _ends_with_stdin(process),
        ]
        return {name: _works(check) for name, check in zip(WITHOUT, checks, strict=True)}


def _works(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (grpc.RpcError, KeyError):
        return False


def _read(stub: Any, *, with_provider: bool = True) -> dict[str, Any]:
    properties = _properties() if with_provider else struct_pb2.Struct()
    request = provider_pb2.ReadRequest(id="probe", urn=URN, properties=properties)
    return dict(stub.Read(request, timeout=_SECONDS).properties)


def _serves_concurrently(stub: Any) -> bool:
    request = provider_pb2.CheckRequest(urn=URN, news=_properties(seconds=_TOGETHER_SECONDS))
    calls = [stub.Check.future(request, timeout=_SECONDS) for _ in range(probe.CALLS)]
    return all(call.result().inputs["together"] for call in calls)


def _sends_partial_state(stub: Any) -> bool:
    try:
        stub.Create(provider_pb2.CreateRequest(urn=URN, properties=_properties()), timeout=_SECONDS)
    except grpc.RpcError as error:
        metadata = {item.key: item.value for item in error.trailing_metadata()}
        return probe.REASON.encode() in metadata.get("grpc-status-details-bin", b"")
    return False


def _error_of(stub: Any) -> str:
    request = provider_pb2.DeleteRequest(id="probe", urn=URN, properties=_properties())
    try:
        stub.Delete(request, timeout=_SECONDS)
    except grpc.RpcError as error:
        return str(error.details()).strip()
    return ""


def _has_no_traceback(error: str) -> bool:
    """Whether the error is one line; SDKs before 3.260 put some of gRPC's text before it."""
    return error.endswith(probe.TEXT) and len(error.splitlines()) == 1


def _receives_cancel(stub: Any) -> bool:
    stub.Cancel(empty_pb2.Empty(), timeout=_SECONDS)
    return bool(_read(stub)["cancelled"])


def _ends_with_stdin(process: subprocess.Popen[bytes]) -> bool:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _properties(**others: float) -> struct_pb2.Struct:
    properties = struct_pb2.Struct()
    properties.update({"__provider": serialize_provider(probe.Probe()), **others})
    return properties


@contextmanager
def _engine(logged: list[Any]) -> Iterator[str]:
    """Serve the part of the engine that a plugin calls; yields its address.

    The plugin's log requests are appended to `logged`.
    """

    class Engine(engine_pb2_grpc.EngineServicer):
        def Log(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            logged.append(request)
            return empty_pb2.Empty()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    engine_pb2_grpc.add_EngineServicer_to_server(Engine(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@contextmanager
def _plugin(engine: str) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """Start the process that runs dynamic providers; yields it and a stub to call it with."""
    command = [sys.executable, "-u", "-m", "pulumi.dynamic", engine]
    pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=devnull) as process:
        timeout = threading.Timer(_SECONDS, process.kill)
        timeout.start()
        try:
            port = process.stdout.readline().strip() if process.stdout else b""
            timeout.cancel()
            if not port.isdigit():
                raise OSError("the plugin process of the `pulumi` package did not start")
            with grpc.insecure_channel(f"127.0.0.1:{port.decode()}") as channel:
                stub: Any = provider_pb2_grpc.ResourceProviderStub(channel)
                stub.Configure(provider_pb2.ConfigureRequest(), timeout=_SECONDS)
                yield process, stub
        finally:
            timeout.cancel()
            process.kill()
