"""The servicer's methods for everything but resources: schema, config, component and functions."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, TypeVar

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from pulumi_fal._version import __version__
from pulumi_fal.errors import FalError, runnable
from pulumi_fal.hosts import engine
from pulumi_fal.native import lookups, session
from pulumi_fal.native.properties import received, secret, secrets_in, sent
from pulumi_fal.native.session import NativeSession
from pulumi_fal.resource.call import INFO, WARNING
from pulumi_fal.stacks.origin import UNKNOWN_ID

T = TypeVar("T")


def answered(method: Callable[[Any, Any, Any], T]) -> Callable[[Any, Any, Any], T]:
    """Decorate a method of the servicer so that its errors reach the engine.

    A FalError is sent as its text, and any other error with its traceback. The method may also
    abort the call itself.
    """

    @functools.wraps(method)
    def answer(self: Any, request: Any, context: Any) -> T:
        engine.in_progress.enter()
        try:
            return method(self, request, context)
        except FalError as error:
            # UNKNOWN would make the engine call the state of a machine "maybe corrupt".
            said = f"{type(error).__name__}: {runnable(str(error))}"
            if error.is_awaited and (metadata := engine.awaited(said)):
                self._log(message=said, severity=WARNING, urn=request.urn, ephemeral=False)
                context.set_trailing_metadata(metadata)
                context.abort(grpc.StatusCode.UNKNOWN, said)
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, said)
        except Exception:
            if context.code() is None:
                context.abort(grpc.StatusCode.INTERNAL, traceback.format_exc())
            raise
        finally:
            engine.in_progress.leave()
        raise AssertionError  # abort has raised

    return answer


class ConfigurableProvider(provider_pb2_grpc.ResourceProviderServicer):
    """One provider instance. The engine configures it once."""

    def __init__(self, engine_address: str = "") -> None:
        self._engine_address = ""
        self._log: Callable[..., None] = lambda **fields: None
        self._reference = ""
        """How resources name this provider, URN::ID. Empty if the engine is too old to tell it."""
        self._session: NativeSession | None = None
        self._took_over = False
        """Whether a resource had another provider before this one."""
        self._lock = threading.Lock()
        if engine_address:
            self._connect(engine_address)

    @property
    def session(self) -> NativeSession:
        """The session from Configure. Before that, calls get one without config."""
        with self._lock:
            if self._session is None:
                self._session = NativeSession({}, declared="", warn=self._warn)
            return self._session

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        if self._session is not None:
            self._session.end()

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names the methods
        # Components need a provider that accepts secrets. The engine then leaves it to the provider
        # to mark them in its answers. From here on, previews call Create and Update.
        self._connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._connect(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=__version__)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.GetSchemaResponse(schema=schema())

    @answered
    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Validate the config, and mark the key as a secret, even if the program does not.

        Failures name no property, because the engine would print its value, which may be the key.
        """
        problem = session.problem(session.parse(received(request.news)))
        failures = [provider_pb2.CheckFailure(reason=problem)] if problem else []
        checked = secret(request.news, "apiKey")
        return provider_pb2.CheckResponse(inputs=checked, failures=failures)

    @answered
    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Report whether the config changed, which replaces no machine: a key may be a rotated one.

        The engine also asks a configured provider, for each resource that had another provider in
        state. Diff then compares the machine's account.
        """
        self._took_over |= self._session is not None
        is_same = received(request.olds) == received(request.news)
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=none if is_same else some)

    @answered
    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = session.parse(received(request.args))
        declared = "" if session.is_default(request.name) else request.name
        configured = NativeSession(
            config,
            declared=declared,
            is_stateless=_is_stateless(request),
            warn=self._warn,
            provider=_id(request),
        )
        with self._lock:
            self._session = configured
        if request.urn and request.id:
            self._reference = f"{request.urn}::{request.id}"
        for name in session.unused(config) if declared else ():
            self._warn(
                f"The provider {declared!r} in the program does not use the fal:{name} of the "
                "stack's config, which is only for the default provider. To use it, pass "
                f"`{name}` to the provider."
            )
        return provider_pb2.ConfigureResponse(
            supportsPreview=True, acceptSecrets=True, acceptResources=True
        )

    @answered
    def Construct(self, request: Any, context: Any) -> Any:  # noqa: N802
        # It needs the SDK's server for components, and most programs have none.
        from pulumi_fal.native import components

        try:
            return components.construct(request, self._engine_address, self._reference)
        except pulumi.RunError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    @answered
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = lookups.invoke(request.tok, received(request.args), self.session.client)
        # Whatever is found with the help of a secret may tell it.
        secrets = found if secrets_in(request.args) else ()
        result: dict[str, Any] = {"return": sent(found, secrets)}  # `return` is Python's keyword
        return provider_pb2.InvokeResponse(**result)

    @answered
    def List(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """Return all machines in one page, because `pulumi do` stops after the first.

        All are found before the first is sent, so that an error reaches the engine as any other.
        """
        response = provider_pb2.ListResponse
        ids = lookups.list_ids(
            request.token, received(request.query), request.limit, self.session.client
        )
        if ids is None:
            return iter([response(computed=response.Computed())])
        return iter([response(result=response.Result(id=id_)) for id_ in ids])

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._session is not None and (said := self._session.cancel()):
            self._log(message=said, severity=INFO, urn="", ephemeral=False)
        return empty_pb2.Empty()

    def _connect(self, engine_address: str) -> None:
        self._engine_address = engine_address
        self._log = engine.logger(engine_address)

    def _warn(self, message: str) -> None:
        """Show a warning for the whole stack, because its resource may not be part of this run."""
        self._log(message=message, severity=WARNING, urn="", ephemeral=False)


def _id(request: Any) -> str:
    """Return the id of the provider resource; "" if the engine is too old to tell it.

    A preview of a stack that has none yet gets the engine's mark for what is unknown.
    """
    return "" if request.id == UNKNOWN_ID else str(request.id)


def _is_stateless(request: Any) -> bool:
    """Whether `pulumi do` configures the provider for calls without a stack.

    Its provider has a URN without a name. The engine gives it a name, and old engines neither.
    """
    return bool(request.urn) and not request.name


@functools.cache
def schema() -> str:
    """Return the schema of the package as JSON. `make generate` writes it from the declarations."""
    return resources.files("pulumi_fal.native").joinpath("schema.json").read_text("utf-8")
