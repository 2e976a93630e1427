"""What the process in which Pulumi runs dynamic providers needs, and does not pass to a provider.

The SDK (pulumi/dynamic/__main__.py) passes a provider nothing but its properties, runs four calls
at a time, and sends errors with tracebacks. If an SDK's internals differ from what a patch expects,
the patch does nothing: its feature is missing, and everything else works. Each patch returns
whether it applied; DynamicSession warns of those that did not. tests/plugin/ shows which patch a
new SDK breaks.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar

from pulumi_fal.api import settings
from pulumi_fal.errors import ConfigurationError, FalError, runnable
from pulumi_fal.hosts import engine
from pulumi_fal.hosts.engine import Request, Session, in_progress
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.tokens import is_ours

T = TypeVar("T")


@dataclass(frozen=True)
class EngineRequest(Request):
    """One request of the engine, with what the SDK does not pass on."""

    provider_key: str = ""
    """The serialized provider, which every state must contain as `__provider`."""
    old_inputs: Any = None
    """The resource's inputs in state; None if they are not sent."""

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
            self.keep(instance_id, properties, reason)
        except (ImportError, AttributeError, TypeError, ValueError):
            return False
        return True


def current_request() -> EngineRequest:
    """Return the current request, from the arguments of the SDK's method up the call stack."""
    for frame in callers():
        request, context = frame.f_locals.get("request"), frame.f_locals.get("context")
        if request is not None and hasattr(request, "urn") and hasattr(context, "is_active"):
            return EngineRequest(
                urn=str(request.urn),
                timeout=float(getattr(request, "timeout", 0)) or None,
                context=context,
                send=_send,
                provider_key=_provider_key(request),
                old_inputs=getattr(request, "old_inputs", None) or None,
            )
    return EngineRequest(send=_send)


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


def _send(**fields: Any) -> None:
    _logger()(**fields)


@functools.cache
def _logger() -> Callable[..., None]:
    """Return a function that calls the engine's log, or does nothing if there is no engine.

    The engine's address is the plugin's last command line argument.
    """
    if engine.is_address(sys.argv[-1]):
        with contextlib.suppress(ImportError, AttributeError):
            return engine.logger(sys.argv[-1])
    return lambda **fields: None


def raise_concurrency(limit: int) -> bool:
    """Serve up to `limit` calls at a time, because the SDK's pool has 4 threads and no option.

    The executor is found in the outermost frame of a worker thread. Calls that are already queued
    would still wait for the old threads, so one no-op per queued call makes the executor start more
    threads. In Python 3.10 and 3.11 the executor can count busy threads as idle, and a new call
    would then wait for another machine. Therefore no thread counts as idle, and every call starts a
    thread up to the limit. One thread is added for Cancel, which uses the same pool and has to be
    served while all others wait.
    """
    for frame in callers():
        executor = frame.f_locals.get("executor_reference", lambda: None)
        executor = executor() if callable(executor) else None
        if executor is not None and isinstance(getattr(executor, "_max_workers", None), int):
            executor._max_workers = max(limit, executor._max_workers) + 1
            executor._idle_semaphore = SimpleNamespace(acquire=_none_idle, release=_none_idle)
            for _ in range(min(limit, executor._work_queue.qsize())):
                executor.submit(int)
            return True
    return False


def _none_idle(*_: Any, **__: Any) -> bool:
    return False


def route_imports(is_ours: Callable[[str], bool], provider_key: str) -> bool:
    """Let the read of an import find this provider. The SDK fails without the key `__provider`.

    Every method of the SDK passes its properties to get_provider, and an import has none. If the
    URN of the request is one of ours, the patched function adds `provider_key` to the properties.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "get_provider", None)
    if original is None:
        return False
    if hasattr(original, "supplies_fal"):
        return True

    def get_provider(props: dict[str, Any], config: Any) -> Any:
        if "__provider" not in props and is_ours(current_request().urn):
            props["__provider"] = provider_key
        return original(props, config)

    get_provider.supplies_fal = True  # type: ignore[attr-defined]
    main.get_provider = get_provider  # type: ignore[attr-defined]
    return True


def without_traceback(base: type[Exception]) -> bool:
    """Send exceptions derived from `base` to the engine as `ClassName: message`.

    The SDK sends the whole traceback, which it gets from the module `traceback`. Other exceptions,
    such as bugs or errors of other providers in this process, keep their traceback.
    """
    main = sys.modules["__main__"]
    original = getattr(main, "traceback", None)
    if not callable(getattr(original, "format_exc", None)):
        return False
    if hasattr(original, "hides_fal"):
        return True

    def format_exc(*args: Any, **kwargs: Any) -> str:
        error = sys.exc_info()[1]
        if isinstance(error, base):
            return f"{type(error).__name__}: {runnable(str(error))}"
        return str(traceback.format_exc(*args, **kwargs))

    main.traceback = SimpleNamespace(  # type: ignore[attr-defined]
        **{**vars(traceback), "format_exc": format_exc, "hides_fal": True}
    )
    return True


def guarded(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate a provider's method to count it while it runs, and to contain BaseExceptions.

    After a BaseException the SDK would send no answer, and the engine would wait for ever.
    """

    @functools.wraps(method)
    def guard(*args: Any) -> T:
        in_progress.enter()
        try:
            return method(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(type(error).__name__) from None
        finally:
            in_progress.leave()

    return guard


_cancel_callbacks: list[Callable[[], None]] = []


def on_cancel(callback: Callable[[], None]) -> bool:
    """Call `callback` when the engine sends Cancel: on Ctrl-C, `pulumi cancel` and normal shutdown.

    The SDK's method for Cancel does nothing, and gRPC bound it when the server started. Therefore
    this replaces the code of the method instead of the method. Returns whether that was possible.
    """
    _cancel_callbacks.append(callback)
    servicer = getattr(sys.modules["__main__"], "DynamicResourceProviderServicer", None)
    cancel = getattr(servicer, "Cancel", None)
    if cancel is None or getattr(cancel.__code__, "co_freevars", True):
        return False
    cancel.__code__ = _cancel.__code__
    return True


def _cancel(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
    # This code runs with the globals of the SDK's module, so it has to import all that it uses.
    from google.protobuf import empty_pb2

    from pulumi_fal.hosts import dynamic

    for callback in dynamic._cancel_callbacks:
        callback()
    return empty_pb2.Empty()


class DynamicSession(Session):
    """The objects of the plugin process. Other processes create it too, but never configure it."""

    def __init__(self) -> None:
        super().__init__(os.environ, lambda key: None, _send)
        self._was_checked = False
        self._missing: list[str] = []
        """The consequences of the patches that did not apply, until a warning has named them."""
        self.import_inputs: dict[str, Mapping[str, Any]] = {}
        """What the helper of each import was read with, by the machine's id."""

    def configure(self, config: Callable[[str], Any]) -> None:
        """Store the config, and patch this process, and watch for the engine's death."""
        self.config = config
        applied = {  # the first one also serves the error of a wrong setting in the second
            "Errors have a traceback.": without_traceback(FalError),
            "Only four machines are worked on at a time.": raise_concurrency(
                settings.parallel(self.environ, config)
            ),
            "To end a wait, press Ctrl-C twice, then run `pulumi cancel`.": on_cancel(self.cancel),
            "`import_` fails; use `pulumi-fal import-file`.": route_imports(
                is_ours, current_request().provider_key
            ),
        }
        self._missing = [without for without, is_applied in applied.items() if not is_applied]
        engine.on_death(self.end)
        # The engine waits until this process has ended. Before that, Python would look through all
        # objects for cycles, for a tenth of a second; without it, the system frees the memory.
        atexit.register(gc.freeze)

    def warn_of_missing(self) -> None:
        """Warn of what this version of the SDK does not allow, before the first call that needs it.

        Checks and diffs need none of it, so a preview does not warn.
        """
        missing, self._missing = self._missing, []
        if missing:
            lines = "\n".join(missing)
            self.stack.log(
                "This version of the `pulumi` package does not allow all that pulumi-fal adds to "
                f"it:\n{lines}\nTo see which versions were tested:\n  pulumi-fal doctor",
                WARNING,
            )

    def problem(self) -> str | None:
        """Return what is wrong with the settings, or None. Only the first call can return it.

        Every resource would show the same problem, and one that fails stops the command.
        """
        was_checked, self._was_checked = self._was_checked, True
        return None if was_checked else settings.problem(self.environ, self.config)

    def create_call(self, current: Request) -> Call:
        """Return the Call for a create. Raises ConfigurationError if the SDK hides the URN.

        Without its URN, the create could not be recorded.
        """
        if not current.urn:
            raise ConfigurationError(
                "This version of the `pulumi` package hides from pulumi-fal which resource it "
                "creates, so the create can't be recorded, and no machine is created. Install a "
                "version of `pulumi` that `pulumi-fal doctor` names as tested."
            )
        self.warn_of_missing()
        return self.call(current)
