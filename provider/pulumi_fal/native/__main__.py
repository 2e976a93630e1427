"""The plugin `pulumi-resource-fal`, which prints its port and serves the provider there."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import NoReturn

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from pulumi_fal import engine
from pulumi_fal.native.servicer import FalProvider
from pulumi_fal.native.threads import ThreadPerCall

_MAX_MESSAGE = 400 * 1024 * 1024
"""The maximum size of a message in bytes, which is the same in the engine."""


def main() -> NoReturn:
    """Serve until a signal or the engine's death. The engine passes its address as an argument."""
    # With the default handlers, a wait in the main thread would delay the effect of a signal.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: os._exit(0))
    is_address = len(sys.argv) > 1 and re.fullmatch(r"[\w.\[\]:-]+:\d+", sys.argv[-1])
    provider = FalProvider(sys.argv[-1] if is_address else "")
    server = serve(provider)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    engine.on_death(provider.end)
    while True:
        time.sleep(0.1)


def serve(provider: FalProvider) -> grpc.Server:
    """Return a gRPC server for the provider. It has no port yet."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
    ]
    server: grpc.Server = grpc.server(ThreadPerCall(), options=options)  # type: ignore[arg-type]
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    return server


if __name__ == "__main__":
    main()
