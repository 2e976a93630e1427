"""The plugin `pulumi-resource-fal`, which prints its port and serves the provider there."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from typing import NoReturn

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from pulumi_fal._version import __version__
from pulumi_fal.hosts import engine
from pulumi_fal.hosts.engine import ThreadPerCall
from pulumi_fal.native.servicer import FalProvider

_MAX_MESSAGE = 400 * 1024 * 1024
"""The maximum size of a message in bytes, which is the same in the engine."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Serve until a signal or the engine's death. The engine passes its address as an argument."""
    given = _parser().parse_args(args)
    # With the default handlers, a wait in the main thread would delay the effect of a signal.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: os._exit(0))
    provider = FalProvider(given.engine)
    server = serve(provider)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    engine.on_death(provider.end)
    while True:
        time.sleep(0.1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pulumi-resource-fal",
        description="The Pulumi plugin for fal Compute. `pulumi` starts it, so there is no need to "
        "run it by hand. It prints the port that it serves on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "engine", nargs="?", default="", type=_address, help="the engine's address, HOST:PORT"
    )
    parser.add_argument("--version", action="version", version=__version__)
    # With --logflow and --tracing, `pulumi` passes these on to every plugin.
    parser.add_argument("--logtostderr", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-v", metavar="LEVEL", help=argparse.SUPPRESS)
    parser.add_argument("--tracing", metavar="ENDPOINT", help=argparse.SUPPRESS)
    return parser


def _address(text: str) -> str:
    if text and not engine.is_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the address of a Pulumi engine")
    return text


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
