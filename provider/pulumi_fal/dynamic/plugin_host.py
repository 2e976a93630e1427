"""The seams into the process that Pulumi runs dynamic providers in (pulumi/dynamic/__main__.py).

The SDK hands a provider its properties and nothing else. Whatever more is needed is reached from
here and only here. Each seam is a no-op where the SDK's internals have changed: what it adds is
then missing, and everything else goes on. tests/plugin/ says which seam an SDK has broken.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

INFO, WARNING = 1, 2
"""The engine's severities."""
_LAST_SECONDS = 5.0
"""How long calls are given to end when the engine has died."""


class _Count:
    """How many calls, and ends of calls, are under way."""

    def __init__(self) -> None:
        self._number = 0
        self._condition = threading.Condition()

    def enter(self) -> None:
        with self._condition:
            self._number += 1

    def leave(self) -> None:
        with self._condition:
            self._number -= 1
            self._condition.notify_all()

    def wait_until_none(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._number <= 0, seconds)


_under_way = _Count()
_dead = threading.Event()
"""The engine has died."""


@dataclass(frozen=True)
class Call:
    """The engine's call that a thread is serving; empty where it can't be found."""

    urn: str = ""
    timeout: float = 0
    """Seconds, from `custom_timeouts`; 0 where none is set."""
    context: Any = None
    provider_key: str = ""
    """The serialized provider, which has to be part of every state that is written."""

    @property
    def is_heard(self) -> bool:
        """Whether the engine still waits for the answer. True where that can't be known."""
        # gRPC takes a while to notice that the engine has died.
        return not _dead.is_set() and (self.context is None or bool(self.context.is_active()))

    def keep(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
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

    def when_unheard(self, callback: Callable[[], None]) -> None:
        """Call back if the engine ends the call before the answer has reached it.

        Only gRPC's own state tells; its public callback doesn't say how the call ended.
        """

        def ended() -> None:
            try:
                if getattr(getattr(self.context, "_state", None), "client", None) == "cancelled":
                    callback()
            finally:
                _under_way.leave()

        if self.context is not None:
            _under_way.enter()
            if not self.context.add_callback(ended):
                ended()  # the call is over already

    def log(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        """Say something on the resource's row. Ephemeral lines leave no trace on a terminal."""
        engine = _engine()
        if engine is not None:
            engine(message=message, severity=severity, urn=self.urn, ephemeral=ephemeral)


def current_call() -> Call:
    """The call that led here: the servicer's method, further up the stack, has it as arguments."""
    for frame in _callers():
        request, context = frame.f_locals.get("request"), frame.f_locals.get("context")
        if request is not None and hasattr(request, "urn") and hasattr(context, "is_active"):
            return Call(
                urn=str(request.urn),
                timeout=float(getattr(request, "timeout", 0) or 0),
                context=context,
                provider_key=_provider_key(request),
            )
    return Call()


def widen(limit: int) -> None:
    """Serve up to `limit` calls at a time; the SDK's pool has 4 threads and no option.

    A worker's outermost frame holds the executor. What is queued already would still be left to
    the old threads: one no-op for each makes the executor start threads for them. And the executor
    counts threads as idle that are not (Python 3.10, 3.11): a call that came then would wait for
    another machine. So none counts as idle, and each call brings a thread until there are `limit`,
    and one more: Cancel is served by the same pool, and must be heard while all others wait.
    """
    for frame in _callers():
        executor = frame.f_locals.get("executor_reference", lambda: None)
        executor = executor() if callable(executor) else None
        if executor is not None and isinstance(getattr(executor, "_max_workers", None), int):
            executor._max_workers = max(limit, executor._max_workers) + 1
            executor._idle_semaphore = _NoneIdle()
            for _ in range(min(limit, executor._work_queue.qsize())):
                executor.submit(int)
            return


class _NoneIdle:
    """In the place of an executor's count of its idle threads."""

    def acquire(self, timeout: float | None = None) -> bool:
        return False

    def release(self) -> None:
        pass


def supply_provider(is_ours: Callable[[str], bool], provider_key: str) -> None:
    """Have an import's read reach us, which the SDK fails for want of a `__provider`.

    Every method asks get_provider with the properties that it was sent, and an import is sent none.
    Once our code is loaded, ours is filled in where the request's URN is one of ours.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "get_provider", None)
    if original is None or hasattr(original, "supplies_fal"):
        return

    def get_provider(props: dict[str, Any], config: Any) -> Any:
        if "__provider" not in props and is_ours(current_call().urn):
            props["__provider"] = provider_key
        return original(props, config)

    get_provider.supplies_fal = True  # type: ignore[attr-defined]
    main.get_provider = get_provider  # type: ignore[attr-defined]


_ends: list[Callable[[], None]] = []


def on_cancel(callback: Callable[[], None]) -> None:
    """Call back when the engine sends Cancel: Ctrl-C, `pulumi cancel`, and every normal shutdown.

    The servicer's method does nothing, and gRPC has bound it when the server started; so its code
    is replaced, and not the method.
    """
    _ends.append(callback)
    servicer = getattr(sys.modules["__main__"], "DynamicResourceProviderServicer", None)
    cancel = getattr(servicer, "Cancel", None)
    if cancel is not None and not getattr(cancel.__code__, "co_freevars", True):
        cancel.__code__ = _cancel.__code__


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
    # It runs with the SDK's module as its globals, so it brings what it needs.
    from google.protobuf import empty_pb2

    from pulumi_fal.dynamic import plugin_host

    for callback in plugin_host._ends:
        callback()
    return empty_pb2.Empty()


def on_engine_death(callback: Callable[[], None]) -> None:
    """Call back, from a thread of its own, when the engine has died, and then end the process.

    Our standard input is a pipe from the engine that it never writes to and that hangs up when it
    dies; in a normal shutdown we are ended first. Without this, plugins outlive a killed engine.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        _dead.set()
        callback()
        # Calls learn now that nobody hears them, and put that on disk.
        _under_way.wait_until_none(_LAST_SECONDS)
        os._exit(1)

    try:
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=watch, name="engine-death", daemon=True).start()
    except OSError:
        return


def hide_tracebacks(of: type[Exception]) -> None:
    """Have errors of this family reach the engine as `ClassName: message`.

    The SDK sends the whole traceback as an error's text, and asks the module `traceback` for it.
    Bugs, and errors of other providers in this process, keep theirs.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "traceback", None)
    if callable(getattr(original, "format_exc", None)) and not isinstance(original, _Traceback):
        main.traceback = _Traceback(original, of)  # type: ignore[attr-defined]


class _Traceback:
    """In the place of the module `traceback` in the SDK's own module."""

    def __init__(self, original: Any, hidden: type[Exception]) -> None:
        self._original = original
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def format_exc(self, *args: Any, **kwargs: Any) -> str:
        error = sys.exc_info()[1]
        if isinstance(error, self._hidden):
            return f"{type(error).__name__}: {error}"
        return str(self._original.format_exc(*args, **kwargs))


def guarded(method: Callable[..., T]) -> Callable[..., T]:
    """A provider's method, counted while it runs; no BaseException may pass.

    One would leave the engine waiting for ever.
    """

    @functools.wraps(method)
    def guard(*args: Any) -> T:
        _under_way.enter()
        try:
            return method(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"stopped by {type(error).__name__}") from None
        finally:
            _under_way.leave()

    return guard


def _callers() -> Iterator[FrameType]:
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
