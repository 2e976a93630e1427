"""The seams into the process that Pulumi runs dynamic providers in (pulumi/dynamic/__main__.py).

The SDK hands a provider its properties and nothing else. Whatever more is needed is reached from
here and only here. Each seam is a no-op where the SDK's internals have changed: what it adds is
then missing, and everything else goes on. tests/plugin/ says which seam an SDK has broken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from pulumi_fal.errors import FalError

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """The engine's call that this thread is serving."""

    urn: str = ""
    timeout: float = 0
    """Seconds, from `custom_timeouts`; 0 where none is set."""
    context: Any = None
    provider_key: str = ""
    """The serialized provider, which must be part of every state that is written."""

    def keep(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
        """Have the engine record the machine although this call is about to fail.

        The engine takes a resource's partial state from an ErrorResourceInitFailed among the
        details of the gRPC status. The context sends details as trailing metadata. True if they
        were set; the call must raise next.
        """
        try:
            from google.protobuf import any_pb2, struct_pb2
            from pulumi.runtime.proto import provider_pb2, status_pb2

            # Not through pulumi.runtime.rpc: it needs an event loop, and these are plain values.
            properties = struct_pb2.Struct()
            properties.update({**outputs, "__provider": self.provider_key})
            failure = provider_pb2.ErrorResourceInitFailed(
                id=instance_id, properties=properties, reasons=[reason]
            )
            detail = any_pb2.Any()
            detail.Pack(failure)
            status = status_pb2.Status(code=2, message=reason, details=[detail])
            self.context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
        except (ImportError, AttributeError, TypeError, ValueError):
            return False
        return True


def current_call() -> Call:
    """The call that led here: the servicer's method, further up the stack, has it as arguments."""
    for frame in _callers():
        request, context = frame.f_locals.get("request"), frame.f_locals.get("context")
        if hasattr(request, "urn") and hasattr(context, "set_trailing_metadata"):
            return Call(
                urn=str(request.urn),
                timeout=float(getattr(request, "timeout", 0) or 0),
                context=context,
                provider_key=_provider_key(request),
            )
    return Call()


def _callers() -> Iterable[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _provider_key(request: Any) -> str:
    for field in ("properties", "news"):
        properties = getattr(request, field, None)
        if properties is not None and "__provider" in properties:
            value = properties["__provider"]
            return value if isinstance(value, str) else str(value["value"])
    return ""


def clear_errors(method: Callable[..., T]) -> Callable[..., T]:
    """Let a provider's method fail with its message alone.

    The SDK sends the engine the whole traceback. What `traceback` prints of an exception whose
    class says it is a builtin, with the frames switched off, is `ClassName: message`. Bugs keep
    their traceback. No BaseException may pass: it would leave the engine waiting for ever.
    """

    def guarded(*args: Any) -> T:
        try:
            return method(*args)
        except FalError as error:
            sys.tracebacklimit = 0
            kind = type(type(error).__name__, (Exception,), {"__module__": "builtins"})
            raise kind(str(error)) from None
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"stopped by {type(error).__name__}") from None

    return guarded
