"""The engine's request that a thread is serving, which the SDK does not pass to a provider."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pulumi_fal.dynamic.lifetime import engine_died, in_progress
from pulumi_fal.resource.call import INFO


@dataclass(frozen=True)
class Request:
    """One request of the engine. All fields are empty if the request could not be found."""

    urn: str = ""
    timeout: float | None = None
    """The timeout in seconds from `custom_timeouts`, or None if it is not set."""
    context: Any = None
    """The gRPC context of the request."""
    provider_key: str = ""
    """The serialized provider, which every state must contain as `__provider`."""

    def is_heard(self) -> bool:
        """Whether the engine still waits for the answer; True if that is not known."""
        # gRPC takes a while to notice that the engine has died.
        return not engine_died.is_set() and (self.context is None or bool(self.context.is_active()))

    def keep_partial_state(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
        """Make the engine record the machine although this call is about to fail.

        The engine reads partial state from an ErrorResourceInitFailed in the details of the gRPC
        status, which gRPC sends as trailing metadata. Returns whether the metadata was set. If so,
        the caller must raise next, and `reason` replaces the text of that exception.
        """
        if self.context is None or not self.provider_key:
            return False
        try:
            # This must be the SDK's Status, because googleapis registers another of that name.
            from google.protobuf import any_pb2, struct_pb2
            from pulumi.runtime.proto import provider_pb2, status_pb2

            properties = struct_pb2.Struct()
            properties.update({**outputs, "__provider": self.provider_key})
            detail = any_pb2.Any()
            detail.Pack(
                provider_pb2.ErrorResourceInitFailed(
                    id=instance_id, properties=properties, reasons=[reason]
                )
            )
            status = status_pb2.Status(code=2, message=reason, details=[detail])
            metadata = (("grpc-status-details-bin", status.SerializeToString()),)
            self.context.set_trailing_metadata(metadata)
        except (ImportError, AttributeError, TypeError, ValueError):
            return False
        return True

    def on_undelivered(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the engine ends the call before it has received the answer.

        This reads gRPC's private state, because the public callback doesn't say how a call ended.
        """

        def ended() -> None:
            try:
                if getattr(getattr(self.context, "_state", None), "client", None) == "cancelled":
                    callback()
            finally:
                in_progress.leave()

        if self.context is not None:
            in_progress.enter()
            if not self.context.add_callback(ended):
                ended()  # the call is over already

    def log(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        """Show a message on the resource's row. An ephemeral one disappears with the next."""
        engine = _engine()
        if engine is not None:
            engine(message=message, severity=severity, urn=self.urn, ephemeral=ephemeral)


def current() -> Request:
    """Return the current request, from the arguments of the SDK's method up the call stack."""
    for frame in callers():
        request, context = frame.f_locals.get("request"), frame.f_locals.get("context")
        if request is not None and hasattr(request, "urn") and hasattr(context, "is_active"):
            return Request(
                urn=str(request.urn),
                timeout=float(getattr(request, "timeout", 0)) or None,
                context=context,
                provider_key=_provider_key(request),
            )
    return Request()


def callers() -> Iterator[FrameType]:
    """Yield the frames of the call stack, from the caller up to the thread's first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _provider_key(request: Any) -> str:
    for field in ("properties", "news", "inputs"):
        properties = getattr(request, field, None)
        if properties is not None and "__provider" in properties:
            value = properties["__provider"]
            return value if isinstance(value, str) else str(value["value"])
    return ""


@functools.cache
def _engine() -> Callable[..., None] | None:
    """Return a function that calls the engine's log, or None if there is no engine.

    The engine's address is the plugin's last command line argument.
    """
    try:
        import grpc
        from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

        if not re.fullmatch(r"[\w.\[\]:-]+:\d+", sys.argv[-1]):
            return None
        stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(sys.argv[-1]))
    except (ImportError, AttributeError):
        return None

    def log(**fields: Any) -> None:
        # If the engine is gone, nobody can see the message.
        with contextlib.suppress(grpc.RpcError, ValueError):
            stub.Log(engine_pb2.LogRequest(**fields), timeout=5)

    return log
