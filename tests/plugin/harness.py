"""The real plugin process, started as the engine starts it, and the engine's calls to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

URN = "urn:pulumi:dev::proj::pulumi-python:dynamic/fal:ComputeInstance::box"
PROVIDER = (
    "gASVNgAAAAAAAACME3B1bHVtaV9mYWwucHJvdmlkZXKUjBdDb21wdXRlSW5zdGFuY2VQcm92aWRlcpSTlCmBlC4="
)
"""What every stack holds as `__provider`: a promise to all of them, see test_provider_string.py."""


class Plugin:
    """A plugin process; it is ready when this returns.

    Args:
        folder: of its own; the stack, and everything that is kept on disk, goes there.
        environ: is added to a plain environment without any key.
        engine: the address of an engine, the plugin's only argument.
        launcher: what runs in place of the SDK's own module.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        engine: str = "127.0.0.1:1",
        launcher: Sequence[str] = ("-m", "pulumi.dynamic"),
        stdin: int = subprocess.PIPE,
    ) -> None:
        self.engine = engine
        self.errors = folder / "stderr"
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("FAL_", "PULUMI_"))}
        project = {
            "PULUMI_PROJECT": "proj",
            "PULUMI_CONFIG": "{}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder.as_posix()}",
            "FAL_COMPUTE_POLL_INTERVAL": "0.05",
            "FAL_COMPUTE_RETRY_BUDGET": "0.2",
            "FAL_COMPUTE_SETTLE": "0.2",
            "FAL_COMPUTE_ABSENCE": "0.2",
        }
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *launcher, engine],
                cwd=folder,
                env={**plain, **project, **environ},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        port = self.process.stdout.readline().decode().strip()
        assert port, self.stderr
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self.channel)

    @property
    def stderr(self) -> str:
        """What it has printed so far, and others in the same folder before it."""
        return self.errors.read_text()

    def stop(self) -> None:
        """End it as the engine does, with Cancel first; by force where that takes too long."""
        with contextlib.suppress(grpc.RpcError):
            self.cancel(timeout=2)
        self.channel.close()
        # On Windows a process gets no signals, and the engine ends it.
        self.process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def kill(self) -> None:
        """End it between two instructions."""
        self.process.kill()
        self.process.wait()

    def cancel(self, timeout: float | None = None) -> None:
        """What the engine sends at Ctrl-C, and at every normal end."""
        self.stub.Cancel(empty_pb2.Empty(), timeout=timeout)

    def configure(self, **config: str) -> None:
        """Give it the stack's config: `fal_apiKey` is `fal:apiKey`."""
        values = {key.replace("_", ":"): value for key, value in config.items()}
        self.stub.Configure(provider_pb2.ConfigureRequest(args=struct(values)))

    def check(self, news: Mapping[str, Any], olds: Mapping[str, Any] = {}) -> Any:
        request = provider_pb2.CheckRequest(urn=URN, olds=struct(olds), news=sent(news))
        return self.stub.Check(request)

    def diff(self, id_: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> Any:
        request = provider_pb2.DiffRequest(id=id_, urn=URN, olds=sent(olds), news=sent(news))
        return self.stub.Diff(request)

    def create(self, news: Mapping[str, Any], timeout: float = 0, urn: str = URN) -> Any:
        return self.create_later(news, timeout, urn).result()

    def create_later(self, news: Mapping[str, Any], timeout: float = 0, urn: str = URN) -> Any:
        """A create under way: a gRPC future."""
        request = provider_pb2.CreateRequest(urn=urn, properties=sent(news), timeout=timeout)
        return self.stub.Create.future(request)

    def read(self, id_: str, outputs: Mapping[str, Any]) -> Any:
        return self.stub.Read(provider_pb2.ReadRequest(id=id_, urn=URN, properties=sent(outputs)))

    def update(
        self, id_: str, olds: Mapping[str, Any], news: Mapping[str, Any], timeout: float = 0
    ) -> Any:
        return self.stub.Update(
            provider_pb2.UpdateRequest(
                id=id_, urn=URN, olds=sent(olds), news=sent(news), timeout=timeout
            )
        )

    def delete(self, id_: str, outputs: Mapping[str, Any], timeout: float = 0) -> None:
        self.stub.Delete(
            provider_pb2.DeleteRequest(id=id_, urn=URN, properties=sent(outputs), timeout=timeout)
        )


def account(emulator: EmulatorServer) -> str:
    """What outputs call the account of the emulator's key."""
    return Settings(emulator.url, emulator.env["FAL_ADMIN_API_KEY"], "").account


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Properties as the engine sends them."""
    return json_format.Parse(json.dumps(dict(values)), struct_pb2.Struct())


def sent(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """The properties of a resource of ours."""
    return struct({**values, "__provider": PROVIDER})


def plain(properties: struct_pb2.Struct) -> dict[str, Any]:
    """Properties that came back, without the `__provider` that has to be among them."""
    values = json_format.MessageToDict(properties)
    assert values.pop("__provider") == PROVIDER
    return values


def partial_state(error: grpc.RpcError) -> tuple[str, dict[str, Any], list[str]] | None:
    """What the engine records of a resource although a call failed: id, outputs and reasons."""
    metadata: Any = error.trailing_metadata()
    details = dict(metadata).get("grpc-status-details-bin")
    if details is None:
        return None
    status = status_pb2.Status.FromString(details)
    assert status.code == 2
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(failed)
    return failed.id, plain(failed.properties), list(failed.reasons)
