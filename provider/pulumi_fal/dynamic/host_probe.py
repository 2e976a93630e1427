"""Which seams into the plugin process the installed SDK has, found by trying each.

A plugin process is started as the engine starts one, with a server in the engine's place.
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
"""For the plugin to start, and for each of its answers."""
_TOGETHER_SECONDS = 2.0

WITHOUT = {
    "a create knows its resource's URN": "equal resources of a stack can't be told apart",
    f"more than {probe.CALLS - 1} machines at a time": "machines are made four at a time",
    "a machine is in state although its create failed": "only the journal remembers such a machine",
    "progress and warnings on the resource's row": "waits are silent",
    "errors without a traceback": "errors are printed with one",
    "`import` as a resource option": "only `pulumi-fal import-file` imports",
    "Ctrl-C ends waits at once": "a second Ctrl-C is needed, and `pulumi cancel` after it",
    "the plugin ends when the engine is killed": "it stays behind, and has to be ended by hand",
}
"""Each seam in words, and what is so without it."""


def probe_all() -> dict[str, bool]:
    """Whether each seam applies, by its name in WITHOUT. OSError where no plugin can be started."""
    said: list[Any] = []
    with _engine(said) as address, _plugin(address) as (process, stub):
        applies = [
            lambda: _read(stub)["urn"] == URN,
            lambda: _together(stub),
            lambda: _keeps(stub),
            lambda: [(each.urn, each.message) for each in said] == [(URN, probe.SAID)],
            lambda: _is_clear(_error_of(stub)),
            lambda: bool(_read(stub, named=False)),
            lambda: _hears_of_cancel(stub),
            lambda: _ends_with_stdin(process),
        ]
        return {name: _holds(seam) for name, seam in zip(WITHOUT, applies, strict=True)}


def _holds(seam: Callable[[], bool]) -> bool:
    try:
        return seam()
    except (grpc.RpcError, KeyError):
        return False


def _read(stub: Any, *, named: bool = True) -> dict[str, Any]:
    properties = _properties() if named else struct_pb2.Struct()
    request = provider_pb2.ReadRequest(id="probe", urn=URN, properties=properties)
    return dict(stub.Read(request, timeout=_SECONDS).properties)


def _together(stub: Any) -> bool:
    request = provider_pb2.CheckRequest(urn=URN, news=_properties(seconds=_TOGETHER_SECONDS))
    calls = [stub.Check.future(request, timeout=_SECONDS) for _ in range(probe.CALLS)]
    return all(call.result().inputs["together"] for call in calls)


def _keeps(stub: Any) -> bool:
    try:
        stub.Create(provider_pb2.CreateRequest(urn=URN, properties=_properties()), timeout=_SECONDS)
    except grpc.RpcError as error:
        sent = {each.key: each.value for each in error.trailing_metadata()}
        return probe.REASON.encode() in sent.get("grpc-status-details-bin", b"")
    return False


def _error_of(stub: Any) -> str:
    request = provider_pb2.DeleteRequest(id="probe", urn=URN, properties=_properties())
    try:
        stub.Delete(request, timeout=_SECONDS)
    except grpc.RpcError as error:
        return str(error.details()).strip()
    return ""


def _is_clear(error: str) -> bool:
    """SDKs before 3.260 send no traceback, and a few words of gRPC before the message."""
    return error.endswith(probe.SAID) and len(error.splitlines()) == 1


def _hears_of_cancel(stub: Any) -> bool:
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
def _engine(said: list[Any]) -> Iterator[str]:
    """The engine as far as a plugin talks to it: what it logs is kept."""

    class Engine(engine_pb2_grpc.EngineServicer):
        def Log(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            said.append(request)
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
    """The process in which Pulumi runs dynamic providers, and the way to call it."""
    command = [sys.executable, "-u", "-m", "pulumi.dynamic", engine]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        guard = threading.Timer(_SECONDS, process.kill)
        guard.start()
        try:
            port = process.stdout.readline().strip() if process.stdout else b""
            guard.cancel()
            if not port.isdigit():
                raise OSError("the plugin process of the `pulumi` package did not start")
            with grpc.insecure_channel(f"127.0.0.1:{port.decode()}") as channel:
                stub: Any = provider_pb2_grpc.ResourceProviderStub(channel)
                stub.Configure(provider_pb2.ConfigureRequest(), timeout=_SECONDS)
                yield process, stub
        finally:
            guard.cancel()
            process.kill()
