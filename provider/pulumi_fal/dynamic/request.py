"""The engine's request that a thread is serving: what the SDK keeps from a dynamic provider."""

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
    """One request of the engine; empty where it can't be found."""

    urn: str = ""
    timeout: float | None = None
    """Seconds, from `custom_timeouts`; None where none is set."""
    context: Any = None
    provider_key: str = ""
    """The serialized provider, which has to be part of every state that is written."""

    def is_heard(self) -> bool:
        """Whether the engine still waits for the answer. True where that can't be known."""
        # gRPC takes a while to notice that the engine has died.
        return not engine_died.is_set() and (self.context is None or bool(self.context.is_active()))

    def keep_partial_state(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
        """Have the engine record the machine although this call is about to fail.

        The engine takes a resource's partial state from an ErrorResourceInitFailed among the
        details of a gRPC status, and gRPC sends details as trailing metadata. True if they were
        set; the call must raise next. They replace the error's own text.
        """
        if self.context is None or not self.provider_key:
            return False
        try:
            # The SDK's own Status: googleapis registers another of the same name.
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
        """Call back if the engine ends the call before the answer has reached it.

        Only gRPC's own state tells; its public callback doesn't say how the call ended.
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
        """Say something on the resource's row. Ephemeral lines leave no trace on a terminal."""
        engine = _engine()
        if engine is not None:
            engine(message=message, severity=severity, urn=self.urn, ephemeral=ephemeral)


def current() -> Request:
    """The request that led here, which the servicer's method up the stack has as an argument."""
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
    """The frames from here up to the thread's first."""
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
    """The engine's log, whose address is the plugin's last argument; None where it is not."""
    try:
        import grpc
        from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

        if not re.fullmatch(r"[\w.\[\]:-]+:\d+", sys.argv[-1]):
            return None
        stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(sys.argv[-1]))
    except (ImportError, AttributeError):
        return None

    def log(**fields: Any) -> None:
        # An engine that is gone has nobody left to tell.
        with contextlib.suppress(grpc.RpcError, ValueError):
            stub.Log(engine_pb2.LogRequest(**fields), timeout=5)

    return log
