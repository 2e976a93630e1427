"""The native plugin on this computer: whether it is on PATH, starts, and which version it is."""

from __future__ import annotations

import shutil
import subprocess
import threading
from typing import Any

NAME = "pulumi-resource-fal"
_SECONDS = 20.0
"""For the plugin to start, and for its answer."""


def find() -> str | None:
    """Return the path of the plugin that Pulumi would find on PATH, or None."""
    return shutil.which(NAME)


def version(path: str) -> str:
    """Start the plugin as the engine does, and ask it. Raises OSError if it gives no answer."""
    import grpc
    from google.protobuf import empty_pb2
    from pulumi.runtime.proto import provider_pb2_grpc

    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen([path], stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        guard = threading.Timer(_SECONDS, process.kill)
        guard.start()
        try:
            port = process.stdout.readline().strip() if process.stdout else b""
            if not port.isdigit():
                raise OSError(f"{path} does not start")
            with grpc.insecure_channel(f"127.0.0.1:{port.decode()}") as channel:
                stub: Any = provider_pb2_grpc.ResourceProviderStub(channel)
                return str(stub.GetPluginInfo(empty_pb2.Empty(), timeout=_SECONDS).version)
        except grpc.RpcError as error:
            raise OSError(f"{path} starts, and does not say its version: {error}") from None
        finally:
            guard.cancel()
            process.kill()
