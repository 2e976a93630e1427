"""Asks a plugin process which of this package's patches apply with the installed SDK.

The process is the one that the engine starts for dynamic providers. It loads `Probe` instead of the
real provider, applies every patch as that one does, and answers which of them applied.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import struct_pb2
from pulumi import dynamic
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from pulumi_fal import engine
from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.errors import FalError

WITHOUT = {
    "a create knows its resource's URN": "no machine can be created",
    "more than four machines at a time": "machines are created four at a time",
    "a machine is in state although its create failed": "only the journal has such a machine",
    "progress and warnings on the resource's row": "waits show no progress",
    "errors without a traceback": "errors are printed with a traceback",
    "`import` as a resource option": "only `pulumi-fal import-file` can import machines",
    "Ctrl-C ends waits at once": "you have to press Ctrl-C twice, then run `pulumi cancel`",
    "the plugin ends when the engine is killed": "it keeps running, and you have to end it",
}
"""Each feature, and the consequence if it is missing."""

_URN = "urn:pulumi:doctor::doctor::pulumi-python:dynamic/fal:Probe::probe"
_HOST = ("-m", "pulumi.dynamic")
"""What Python runs to be the plugin process."""
_NO_ENGINE = "127.0.0.1:1"
"""The address that the plugin process gets as its engine's. Nothing listens there."""
_SECONDS = 20.0
"""The timeout for the start of the plugin, and for each of its answers."""


class Probe(dynamic.ResourceProvider):
    """Patches its process as ComputeInstanceProvider does, and answers which patches applied."""

    serialize_as_secret_always = False

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        current = request.current()
        engine.on_death(lambda: None)
        applied = (
            current.urn == _URN,
            patches.raise_concurrency(5),
            current.keep_partial_state("probe", {}, "probe"),
            current.log("probe"),
            patches.without_traceback(FalError),
            patches.route_imports(lambda urn: True, current.provider_key),
            lifetime.on_cancel(lambda: None),
        )
        return dynamic.ReadResult(id_, dict(zip(WITHOUT, applied, strict=False)))


def applied_patches() -> dict[str, bool]:
    """Return whether each feature works, by its name in WITHOUT.

    Raises OSError if the plugin process does not start.
    """
    properties = struct_pb2.Struct()
    properties.update({"__provider": serialize_provider(Probe())})
    with _plugin() as (process, stub):
        try:
            asked = provider_pb2.ReadRequest(id="probe", urn=_URN, properties=properties)
            applied = dict(stub.Read(asked, timeout=_SECONDS).properties)
        except grpc.RpcError:
            applied = {}
        *by_patches, of_death = WITHOUT
        found = {name: bool(applied.get(name)) for name in by_patches}
        return {**found, of_death: bool(applied) and _ends_with_stdin(process)}


def _ends_with_stdin(process: subprocess.Popen[bytes]) -> bool:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _plugin() -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """Start the process that runs dynamic providers; yields it and a stub to call it with."""
    command = [sys.executable, "-u", *_HOST, _NO_ENGINE]
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
