"""The servicer's methods for machines. They translate; `resource` decides."""

from __future__ import annotations

import functools
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from pulumi_fal import engine
from pulumi_fal.native import lookups
from pulumi_fal.native.base import ConfigurableProvider, answered
from pulumi_fal.native.comparison import compare
from pulumi_fal.native.properties import DYNAMIC_PROVIDER, camel, camel_words, received, sent
from pulumi_fal.resource import moves, operations
from pulumi_fal.resource.call import INFO, Call, InitFailed


class FalProvider(ConfigurableProvider):
    """The provider, with its one resource and its functions."""

    def __init__(self, engine_address: str = "") -> None:
        super().__init__(engine_address)
        self._imported: set[str] = set()
        """The URNs that were read without state, as for an import."""

    @answered
    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names the methods
        call, news = self._call(request, context), received(request.news)
        checked = operations.check(call, received(request.olds), news)
        # The API does not return the SSH key of a machine, so an import has none.
        is_import = request.urn in self._imported and "ssh_key" not in news
        failures = [
            provider_pb2.CheckFailure(
                # With a property's name, the engine would print the value, which may be a secret.
                property="" if failure.property in news else camel(failure.property),
                reason=camel_words(failure.reason),
            )
            for failure in checked.failures
            if not (is_import and failure.property == "ssh_key")
        ]
        return provider_pb2.CheckResponse(inputs=sent(checked.inputs), failures=failures)

    @answered
    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        call, news = self._call(request, context), received(request.news)
        machines, id_, outputs = self.session.machines, request.id, received(request.olds)
        if self._took_over or self.session.is_declared:
            moves.refuse(machines, call, id_, outputs, took_over=self._took_over)
        return compare(
            lambda olds: operations.diff(machines, call, id_, olds, news),
            received(request.old_inputs),
            outputs,
            news,
            is_import=request.urn in self._imported,
            is_foreign=DYNAMIC_PROVIDER in request.olds,
        )

    @answered
    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        call, news = self._call(request, context), received(request.properties)
        with self.session.slots:
            try:
                created = operations.create(self.session.machines, call, news)
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
        with self.session.slots:
            try:
                outs = operations.read(self.session.machines, call, request.id, state)
            except InitFailed as failed:
                self._abort_partial(context, failed, request.inputs)
        if outs is None:
            return provider_pb2.ReadResponse()
        # An imported machine has the inputs that the API returns and that programs require.
        given = request.inputs if is_in_state else sent({"instance_type": outs["instance_type"]})
        return provider_pb2.ReadResponse(id=request.id, properties=sent(outs), inputs=given)

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
        call, state = self._call(request, context), received(request.properties)
        with self.session.slots:
            operations.delete(self.session.machines, call, request.id, state)
        return empty_pb2.Empty()

    @answered
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = lookups.invoke(request.tok, received(request.args), self.session.client)
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
