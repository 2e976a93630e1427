"""The provider's gRPC methods, which translate the engine's calls to resource/operations.py."""

from __future__ import annotations

import functools
import json
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from pulumi_fal import engine
from pulumi_fal._version import __version__
from pulumi_fal.errors import FalError
from pulumi_fal.native import lookups
from pulumi_fal.native.properties import DYNAMIC_PROVIDER, camel, received, sent
from pulumi_fal.native.session import Session
from pulumi_fal.resource import inputs, operations
from pulumi_fal.resource.call import INFO, WARNING, Call, InitFailed

T = TypeVar("T")

_SOME, _NONE = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
_UPDATE = provider_pb2.PropertyDiff.UPDATE
_UPDATE_REPLACE = provider_pb2.PropertyDiff.UPDATE_REPLACE


def answered(method: Callable[[Any, Any, Any], T]) -> Callable[[Any, Any, Any], T]:
    """Decorate a method of the servicer so that its errors reach the engine as text."""

    @functools.wraps(method)
    def answer(self: Any, request: Any, context: Any) -> T:
        engine.in_progress.enter()
        try:
            return method(self, request, context)
        except FalError as error:
            # With UNKNOWN, the engine would report that the machine's state may be corrupt.
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{type(error).__name__}: {error}")
        except Exception:
            if context.code() is None:  # otherwise the method has already called abort
                context.abort(grpc.StatusCode.INTERNAL, traceback.format_exc())
            raise
        finally:
            engine.in_progress.leave()
        raise AssertionError("abort raises")

    return answer


class FalProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The provider, which the engine configures once per process."""

    def __init__(self, engine_address: str = "") -> None:
        self._log: Callable[..., None] = lambda **fields: None
        self._session: Session | None = None
        self._imported: set[str] = set()
        self._lock = threading.Lock()
        if engine_address:
            self._log = engine.logger(engine_address)

    @property
    def session(self) -> Session:
        """The session from Configure. Before that, calls get one without config."""
        with self._lock:
            if self._session is None:
                self._session = Session({}, is_default=True, warn=self._warn)
            return self._session

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        if self._session is not None:
            self._session.clock.interrupt()
            self._session.machines.wait_until_quiet(_POST_SECONDS)

    # The provider itself.

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names the methods
        self._log = engine.logger(request.engine_address)
        # The answer does not accept secrets, so the engine sends plain values, and marks properties
        # of the same names as secret again. From here on, previews call Create and Update.
        return provider_pb2.ProviderHandshakeResponse()

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._log = engine.logger(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        from pulumi.runtime.proto import plugin_pb2

        return plugin_pb2.PluginInfo(version=__version__)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.GetSchemaResponse(schema=schema())

    @answered
    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Validate the config.

        Failures name no property, because the engine would print its value, which may be the key.
        """
        config = _config(received(request.news))
        failures = [provider_pb2.CheckFailure(reason=reason) for reason in _problems(config)]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    @answered
    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Report whether the config changed, which replaces no machine.

        If another key or endpoint does not see the machines, a refresh shows it.
        """
        same = received(request.olds) == received(request.news)
        return provider_pb2.DiffResponse(changes=_NONE if same else _SOME)

    @answered
    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        is_default = not request.name or request.name.split("_")[0] == "default"
        config = _config(received(request.args))
        with self._lock:
            self._session = Session(config, is_default=is_default, warn=self._warn)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._session is not None:
            self._session.clock.interrupt()
        return empty_pb2.Empty()

    # Machines.

    @answered
    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        call = self._call(request, context)
        news = received(request.news)
        checked = operations.check(call, received(request.olds), news)
        # The API does not return the SSH key of a machine, so an import has none.
        is_import = request.urn in self._imported and "ssh_key" not in news
        failures = [
            provider_pb2.CheckFailure(
                # With a property's name, the engine would print the value, which may be a secret.
                property="" if failure.property in news else camel(failure.property),
                reason=failure.reason,
            )
            for failure in checked.failures
            if not (is_import and failure.property == "ssh_key")
        ]
        return provider_pb2.CheckResponse(inputs=sent(checked.inputs), failures=failures)

    @answered
    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        olds, news, before = map(received, (request.olds, request.news, request.old_inputs))
        found = operations.diff(
            self.session.machines, self._call(request, context), request.id, olds, news
        )
        changed = {
            name
            for name in {*before, *news} & set(inputs.NAMES)
            if before.get(name) != news.get(name)
            # The API does not return the SSH key, so its absence after an import is no change.
            and not (request.urn in self._imported and name not in before)
        }
        is_some = bool(found.changes or changed or found.replaces)
        details = {
            camel(name): provider_pb2.PropertyDiff(
                kind=_UPDATE_REPLACE if name in found.replaces else _UPDATE, inputDiff=True
            )
            for name in changed | set(found.replaces)
        }
        return provider_pb2.DiffResponse(
            changes=_SOME if is_some or DYNAMIC_PROVIDER in request.olds else _NONE,
            replaces=[camel(name) for name in found.replaces],
            diffs=list(details),
            detailedDiff=details,
            hasDetailedDiff=bool(details),
        )

    @answered
    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        call = self._call(request, context)
        with self.session.slots:
            try:
                created = operations.create(
                    self.session.machines, call, received(request.properties)
                )
            except InitFailed as failed:
                self._abort_partial(context, failed, request.properties)
        engine.on_undelivered(context, created.undelivered)
        return provider_pb2.CreateResponse(id=created.id, properties=sent(created.outputs))

    @answered
    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        call, state = self._call(request, context), received(request.properties)
        is_in_state = "instance_type" in state
        if not is_in_state:
            self._imported.add(request.urn)
        try:
            with self.session.slots:
                outs = operations.read(self.session.machines, call, request.id, state)
        except InitFailed as failed:
            self._abort_partial(context, failed, request.inputs)
        if outs is None:
            return provider_pb2.ReadResponse()
        known = request.inputs if is_in_state else sent(_importable(outs))
        return provider_pb2.ReadResponse(id=request.id, properties=sent(outs), inputs=known)

    @answered
    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        call = self._call(request, context)
        olds, news = received(request.olds), received(request.news)
        with self.session.slots:
            try:
                outs = operations.update(self.session.machines, call, request.id, olds, news)
            except InitFailed as failed:
                self._abort_partial(context, failed, request.news)
        return provider_pb2.UpdateResponse(properties=sent(outs))

    @answered
    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        call = self._call(request, context)
        with self.session.slots:
            operations.delete(self.session.machines, call, request.id, received(request.properties))
        return empty_pb2.Empty()

    @answered
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = lookups.invoke(request.tok, received(request.args), self.session.settings)
        result: dict[str, Any] = {"return": sent(found)}  # `return` is a keyword in Python
        return provider_pb2.InvokeResponse(**result)

    def _call(self, request: Any, context: Any) -> Call:
        def log(message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
            self._log(message=message, severity=severity, urn=request.urn, ephemeral=ephemeral)

        session = self.session
        session.notify_through(functools.partial(log, ephemeral=True))
        session.machines.review(request.urn)
        return Call(
            request.urn,
            timeout=float(getattr(request, "timeout", 0)) or None,
            preview=bool(getattr(request, "preview", False)),
            log=log,
            is_heard=functools.partial(engine.is_heard, context),
        )

    def _abort_partial(self, context: Any, failed: InitFailed, given: Any) -> None:
        """Abort the call, which raises, so that the engine records the machine as it is."""
        engine.on_undelivered(context, failed.undelivered)
        metadata = engine.partial_state(
            failed.instance_id, sent(failed.outputs), failed.reason, inputs=given
        )
        context.set_trailing_metadata(metadata)
        context.abort(grpc.StatusCode.UNKNOWN, failed.reason)

    def _warn(self, message: str) -> None:
        """Show a warning for the whole stack, because its resource may not be part of this run."""
        self._log(message=message, severity=WARNING, urn="", ephemeral=False)


_POST_SECONDS = 200.0
"""Seconds that a POST in flight has to end after the engine has died."""


@functools.cache
def schema() -> str:
    """Return the schema of the package as JSON, with the version that generated SDKs require."""
    text = resources.files("pulumi_fal.native").joinpath("schema.json").read_text("utf-8")
    return json.dumps({**json.loads(text), "version": __version__})


def _config(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the provider's config as text. The engine sends values of other types as JSON."""
    return {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in args.items()
        if isinstance(value, str | int | float) and name != "version"
    }


def _problems(config: Mapping[str, str]) -> list[str]:
    from pulumi_fal.api import settings
    from pulumi_fal.native.session import environment

    # A preview needs no key, so a missing key is not reported here.
    environ = {"FAL_KEY": "none", **environment(config, is_default=False)}
    try:
        settings.resolve(environ, lambda key: config.get(key.removeprefix("fal:")))
    except FalError as error:
        return [str(error)]
    return []


def _importable(outs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of an imported machine: those that the API returns and programs require."""
    return {"instance_type": outs["instance_type"]}
