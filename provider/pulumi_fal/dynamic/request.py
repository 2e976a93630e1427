"""The engine's request that a thread is serving, which the SDK does not pass to a provider."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pulumi_fal import engine
from pulumi_fal.resource.call import INFO


@dataclass(frozen=True)
class EngineRequest:
    """One request of the engine. All fields are empty if the request could not be found."""

    urn: str = ""
    timeout: float | None = None
    """The timeout in seconds from `custom_timeouts`, or None if it is not set."""
    context: Any = None
    """The gRPC context of the request."""
    provider_key: str = ""
    """The serialized provider, which every state must contain as `__provider`."""
    old_inputs: Any = None
    """The resource's inputs in state, which the SDK does not pass on; None if they are not sent."""

    def is_heard(self) -> bool:
        """Whether the engine still waits for the answer; True if that is not known."""
        if self.context is None:
            return not engine.died.is_set()
        return engine.is_heard(self.context)

    def keep_partial_state(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
        """Make the engine record the machine although this call is about to fail.

        Returns whether the host lets that be done. If so, the caller must raise next, and `reason`
        replaces the text of that exception.
        """
        if self.context is None or not self.provider_key:
            return False
        try:
            from google.protobuf import struct_pb2

            properties = struct_pb2.Struct()
            properties.update({**outputs, "__provider": self.provider_key})
            self.context.set_trailing_metadata(
                engine.partial_state(instance_id, properties, reason)
            )
        except (ImportError, AttributeError, TypeError, ValueError):
            return False
        return True

    def on_undelivered(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the engine ends the call before it has received the answer."""
        if self.context is not None:
            engine.on_undelivered(self.context, callback)

    def log(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> bool:
        """Show a message on the resource's row. An ephemeral one disappears with the next.

        Returns whether there is an engine to send it to.
        """
        send = _logger()
        if send is None:
            return False
        send(message=message, severity=severity, urn=self.urn, ephemeral=ephemeral)
        return True


def current() -> EngineRequest:
    """Return the current request, from the arguments of the SDK's method up the call stack."""
    for frame in callers():
        request, context = frame.f_locals.get("request"), frame.f_locals.get("context")
        if request is not None and hasattr(request, "urn") and hasattr(context, "is_active"):
            return EngineRequest(
                urn=str(request.urn),
                timeout=float(getattr(request, "timeout", 0)) or None,
                context=context,
                provider_key=_provider_key(request),
                old_inputs=getattr(request, "old_inputs", None) or None,
            )
    return EngineRequest()


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
def _logger() -> Callable[..., None] | None:
    """Return a function that calls the engine's log, or None if there is no engine.

    The engine's address is the plugin's last command line argument.
    """
    if not engine.is_address(sys.argv[-1]):
        return None
    try:
        return engine.logger(sys.argv[-1])
    except (ImportError, AttributeError):
        return None
