"""The plugin processes of both hosts, started as the engine starts them, and the engine's calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.native.__main__ import serve
from pulumi_fal.native.properties import NAMES, camel
from pulumi_fal.native.servicer import FalProvider

from ..fakes import KEY

PROVIDER = (
    "gASVNgAAAAAAAACME3B1bHVtaV9mYWwucHJvdmlkZXKUjBdDb21wdXRlSW5zdGFuY2VQcm92aWRlcpSTlCmBlC4="
)
"""What every stack holds as `__provider`: a promise to all of them, see test_hosts.py."""
PROVIDER_URN = "urn:pulumi:dev::proj::pulumi:providers:fal::"
PACE = {
    "FAL_COMPUTE_POLL_INTERVAL": "0.05",
    "FAL_COMPUTE_RETRY_BUDGET": "0.2",
    "FAL_COMPUTE_SETTLE": "0.2",
    "FAL_COMPUTE_ABSENCE": "0.2",
}
"""Settings with which nothing takes long."""
Properties = Mapping[str, Any]
NOTHING: Properties = MappingProxyType({})


class Plugin:
    """A plugin process; it is ready when this returns.

    Args:
        folder: of its own; the stack, and everything that is kept on disk, goes there.
        environ: is added to a plain environment without any key.
        launcher: the arguments of Python that run the host.
        engine: the address of an engine, the plugin's last argument.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        launcher: Sequence[str],
        *,
        engine: str = "127.0.0.1:1",
        stdin: int = subprocess.PIPE,
    ) -> None:
        self.errors = folder / "stderr"
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("FAL_", "PULUMI_"))}
        project = {"PULUMI_PROJECT": "proj", "PULUMI_CONFIG": "{}", **backend(folder), **PACE}
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

    @property
    def stderr(self) -> str:
        """What the process has printed so far, and others in the same folder before it."""
        return self.errors.read_text()

    def hang_up(self) -> None:
        """Close its standard input, as the death of the engine does."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        """End it between two instructions."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as the engine does, with Cancel first; by force where that takes too long."""
        with contextlib.suppress(grpc.RpcError):
            Client(self.channel).cancel(timeout=2)
        self.channel.close()
        # On Windows a process gets no signals, and the engine ends it.
        self.process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Kept(NamedTuple):
    """What the engine records of a resource although a call failed."""

    id: str
    outputs: dict[str, Any]
    inputs: dict[str, Any]
    reason: str


class Client:
    """The engine's side of a provider. Each call returns the provider's answer as it is."""

    urn = ""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = provider_pb2_grpc.ResourceProviderStub(channel)

    def sent(self, values: Properties) -> struct_pb2.Struct:
        """The properties of a resource, as the engine sends them to this host."""
        return struct(values)

    def received(self, properties: struct_pb2.Struct) -> dict[str, Any]:
        return plain(properties)

    def name(self, name: str) -> str:
        """What this host calls a property that Python calls so."""
        return name

    def check(self, news: Properties, olds: Properties = NOTHING, urn: str = "") -> Any:
        # A resource that is new has no old inputs at all.
        before = self.sent(olds) if olds else None
        request = provider_pb2.CheckRequest(urn=urn or self.urn, olds=before, news=self.sent(news))
        return self.stub.Check(request)

    def diff(self, id_: str, before: Properties, olds: Properties, news: Properties) -> Any:
        """`before`: the old inputs."""
        return self.stub.Diff(
            provider_pb2.DiffRequest(
                id=id_,
                urn=self.urn,
                old_inputs=self.sent(before),
                olds=self.sent(olds),
                news=self.sent(news),
            )
        )

    def create(self, news: Properties, **fields: Any) -> Any:
        return self.create_later(news, **fields).result()

    def create_later(self, news: Properties, urn: str = "", **fields: Any) -> Any:
        """Start a create; a gRPC future, which cancels the call when nothing refers to it."""
        request = provider_pb2.CreateRequest(
            urn=urn or self.urn, properties=self.sent(news), **fields
        )
        return self.stub.Create.future(request)

    def read(self, id_: str, inputs: Properties = NOTHING, outputs: Properties = NOTHING) -> Any:
        request = provider_pb2.ReadRequest(
            id=id_, urn=self.urn, inputs=self.sent(inputs), properties=self.sent(outputs)
        )
        return self.stub.Read(request)

    def update(self, id_: str, olds: Properties, news: Properties, **fields: Any) -> Any:
        request = provider_pb2.UpdateRequest(
            id=id_, urn=self.urn, olds=self.sent(olds), news=self.sent(news), **fields
        )
        return self.stub.Update(request)

    def delete(self, id_: str, outputs: Properties, urn: str = "", **fields: Any) -> None:
        sent = self.sent(outputs)
        self.stub.Delete(
            provider_pb2.DeleteRequest(id=id_, urn=urn or self.urn, properties=sent, **fields)
        )

    def configure(self, name: str = "default", **config: object) -> Any:
        """Give it the provider's config, with strings as secrets, as the engine sends them."""
        args = {
            key: secret(value) if isinstance(value, str) else value for key, value in config.items()
        }
        return self.stub.Configure(provider_pb2.ConfigureRequest(name=name, args=struct(args)))

    def cancel(self, timeout: float | None = None) -> None:
        """What the engine sends at Ctrl-C, and at every normal end."""
        self.stub.Cancel(empty_pb2.Empty(), timeout=timeout)

    def kept(self, call: Callable[[], object]) -> Kept:
        """What the engine records of a call that fails."""
        failed = init_failed(failure(call))
        assert failed is not None
        (reason,) = failed.reasons
        inputs = plain(failed.inputs)
        return Kept(failed.id, self.received(failed.properties), inputs, reason)


class Dynamic(Client):
    """The engine's calls on the dynamic host, whose every answer has to have the provider."""

    urn = "urn:pulumi:dev::proj::pulumi-python:dynamic/fal:ComputeInstance::box"

    def sent(self, values: Properties) -> struct_pb2.Struct:
        return struct({**values, "__provider": PROVIDER})

    def received(self, properties: struct_pb2.Struct) -> dict[str, Any]:
        values = plain(properties)
        assert values.pop("__provider") == PROVIDER
        return values

    def configure(self, name: str = "default", **config: object) -> Any:
        """Give it the config of the stack."""
        args = struct({f"fal:{key}": value for key, value in config.items()})
        return self.stub.Configure(provider_pb2.ConfigureRequest(args=args))


class Native(Client):
    """The engine's calls on the native provider, with the schema's names."""

    urn = "urn:pulumi:dev::proj::fal:index:ComputeInstance::box"

    def handshake(self, engine: str = "127.0.0.1:1") -> Any:
        return self.stub.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address=engine))

    def check_config(self, provider: str = "second", /, **config: object) -> Any:
        urn = f"{PROVIDER_URN}{provider}" if provider else ""
        request = provider_pb2.CheckRequest(urn=urn, name=provider, news=struct(config))
        return self.stub.CheckConfig(request)

    def diff_config(self, olds: Properties, news: Properties) -> Any:
        request = provider_pb2.DiffRequest(id="1", olds=struct(olds), news=struct(news))
        return self.stub.DiffConfig(request)

    def import_(self, id_: str) -> Any:
        """Read the machine as for an import. A program's `get` may be the same request."""
        request = provider_pb2.ReadRequest(id=id_, urn=self.urn, properties=struct({}))
        return self.stub.Read(request)

    def invoke(self, function: str, **args: object) -> dict[str, Any]:
        request = provider_pb2.InvokeRequest(tok=f"fal:index:{function}", args=struct(args))
        return plain(getattr(self.stub.Invoke(request), "return"))


class InPython(Native):
    """The native provider for tests of both hosts: properties have the names of Python."""

    def sent(self, values: Properties) -> struct_pb2.Struct:
        return struct({camel(name): value for name, value in values.items()})

    def name(self, name: str) -> str:
        return camel(name)

    def received(self, properties: struct_pb2.Struct) -> dict[str, Any]:
        names = {theirs: ours for ours, theirs in NAMES.items()}
        return {names.get(name, name): value for name, value in plain(properties).items()}


MODULES = {"dynamic": "pulumi.dynamic", "native": "pulumi_fal.native"}
CLIENTS: dict[str, type[Client]] = {"dynamic": Dynamic, "native": InPython}


class Host:
    """Plugin processes of one host, all for the same stack.

    `start` takes variables of the environment, where None takes one away, and options of Plugin.
    `before` is Python that runs in the process before the host does.
    """

    def __init__(self, name: str, emulator: EmulatorServer, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._environ = emulator.env
        self.plugins: list[Plugin] = []

    def start(self, before: str = "", **given: Any) -> Client:
        module = MODULES[self.name]
        run = f"import runpy\nrunpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        launcher = given.pop("launcher", ("-c", f"{before}\n{run}") if before else ("-m", module))
        changed = {name: given.pop(name) for name in list(given) if name.isupper()}
        environ = {k: v for k, v in {**self._environ, **changed}.items() if v is not None}
        self.plugins.append(Plugin(self.folder, environ, launcher, **given))
        return CLIENTS[self.name](self.plugin.channel)

    @property
    def plugin(self) -> Plugin:
        return self.plugins[-1]

    def records(self) -> list[Path]:
        return list((self.folder / "home" / "fal-compute" / "creates").glob("*.json"))

    def stop(self) -> None:
        """End all processes. None of them has printed a key or a traceback."""
        for plugin in self.plugins:
            plugin.stop()
            assert KEY not in plugin.stderr
            assert "Traceback" not in plugin.stderr


def only(name: str) -> pytest.MarkDecorator:
    """The mark of a test that is about one of the hosts."""
    return pytest.mark.parametrize("host", [name], indirect=True)


@contextlib.contextmanager
def hosted() -> Iterator[Native]:
    """A native provider in this process, with this process's environment."""
    server = serve(FalProvider())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            provider = Native(channel)
            yield provider
            provider.cancel()
    finally:
        server.stop(0).wait()


@contextlib.contextmanager
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


def backend(folder: Path) -> dict[str, str]:
    return {
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": f"file://{folder.as_posix()}",
    }


def struct(values: Properties) -> struct_pb2.Struct:
    return json_format.Parse(json.dumps(dict(values)), struct_pb2.Struct())


def plain(properties: struct_pb2.Struct) -> dict[str, Any]:
    return json_format.MessageToDict(properties)


def secret(value: object) -> dict[str, object]:
    """A secret as the protocol wraps it."""
    return {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": value}


def failure(call: Callable[[], object]) -> Any:
    """The error of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def init_failed(error: Any) -> Any:
    """The partial state that a call failed with, or None."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    if details is None:
        return None
    status = status_pb2.Status.FromString(details)
    assert status.code == 2
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(failed)
    return failed
