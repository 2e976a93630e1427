"""What every host needs in its process, and its communication with Pulumi's engine.

That is logs, partial state, undelivered answers and the engine's death. It needs only the published
protocol (`pulumi.runtime.proto`) and gRPC. A session has the clock, the stacks and the account.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulumi_fal.api import settings
from pulumi_fal.api.settings import Config, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ConfigurationError, StackError, runnable
from pulumi_fal.machines import lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.resource.call import INFO, WARNING, Bill, Call
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import Stacks

if TYPE_CHECKING:
    from google.protobuf import struct_pb2

_FIRST_WITH_AWAIT = (3, 276)
"""The version of `pulumi` from which the engine knows an AwaitError."""
_CALL_SECONDS = 1.0
"""Seconds that calls have to end after Cancel, so that its answer is about them as well."""
_LAST_SECONDS = 5.0
"""Seconds that calls have to end after the engine has died."""
_LOOK_SECONDS = 0.5
"""Seconds between two looks at the number of the parent."""


class _Count:
    """A thread-safe count of the calls in progress, including their completion callbacks."""

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

    def wait_until_none(self, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._number <= 0, seconds)


class ThreadPerCall(futures.Executor):
    """Starts each call at once. In a pool, calls could wait until other machines are ready."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in a new thread, and return a future for its result."""
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future


in_progress = _Count()
died = threading.Event()
"""Set when the engine has died."""


@dataclass(frozen=True)
class Request:
    """One request of the engine. All fields are empty if the request could not be found."""

    urn: str = ""
    timeout: float | None = None
    """The timeout in seconds from `custom_timeouts`, or None if it is not set."""
    context: Any = None
    """The gRPC context of the request."""
    send: Callable[..., object] = lambda **fields: None
    """Sends a LogRequest with the given fields to the engine."""

    def is_heard(self) -> bool:
        """Whether the engine still waits for the answer; True if that is not known."""
        # gRPC notices the death of the engine only after a while.
        return not died.is_set() and (self.context is None or bool(self.context.is_active()))

    def log(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        """Show a message on the resource's row. An ephemeral one disappears with the next."""
        self.send(message=message, severity=severity, urn=self.urn, ephemeral=ephemeral)

    def on_undelivered(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the engine ends the call before it has received the answer.

        This reads gRPC's private state, because the public callback does not tell how a call ended.
        """
        context = self.context

        def ended() -> None:
            try:
                if getattr(getattr(context, "_state", None), "client", None) == "cancelled":
                    callback()
            finally:
                in_progress.leave()

        in_progress.enter()
        if not context.add_callback(ended):
            ended()  # the call is over already

    def keep(
        self, instance_id: str, properties: struct_pb2.Struct, reason: str, **others: Any
    ) -> None:
        """Make the engine record a resource although its call is about to fail.

        The engine reads partial state from an ErrorResourceInitFailed in the details of the gRPC
        status. `reason` replaces the call's own error text.
        """
        from pulumi.runtime.proto import provider_pb2

        reason = runnable(reason)
        failed = provider_pb2.ErrorResourceInitFailed(
            id=instance_id, properties=properties, reasons=[reason], **others
        )
        self._send_details(failed, reason)

    def ask_for_another_run(self, reason: str) -> bool:
        """Make the engine go on with the others although this call is about to fail, if it can.

        `pulumi` ends with exit code 10 then. The engine shows its own words in place of `reason`,
        so this logs it. Returns whether the engine and the SDK are new enough for that.
        """
        if self.context is None or not _knows_await():
            return False
        from pulumi.runtime.proto import provider_pb2

        self._send_details(provider_pb2.ErrorResourceAwaitFailed(), runnable(reason))
        self.log(reason, WARNING)
        return True

    def _send_details(self, detail: Any, reason: str) -> None:
        """Send a detail of the gRPC status, as which gRPC takes trailing metadata."""
        # This must be the SDK's Status, because googleapis registers another of that name.
        from google.protobuf import any_pb2
        from pulumi.runtime.proto import status_pb2

        packed = any_pb2.Any()
        packed.Pack(detail)
        status = status_pb2.Status(code=2, message=reason, details=[packed])
        details = ("grpc-status-details-bin", status.SerializeToString())
        self.context.set_trailing_metadata((details,))


@functools.cache
def _knows_await() -> bool:
    from pulumi.runtime.proto import provider_pb2

    if not hasattr(provider_pb2, "ErrorResourceAwaitFailed"):
        return False
    try:
        version = re.match(r"v?(\d+)\.(\d+)", state.pulumi("version"))
    except StackError:
        return False
    return version is not None and tuple(map(int, version.groups())) >= _FIRST_WITH_AWAIT


def is_address(text: str) -> bool:
    """Whether the text is an engine's address, HOST:PORT."""
    return re.fullmatch(r"[\w.\[\]:-]+:\d+", text) is not None


def logger(address: str) -> Callable[..., None]:
    """Return a function that sends a LogRequest with the given fields to the engine."""
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))

    def log(message: str, **fields: Any) -> None:
        fields["message"] = runnable(message)
        # If the engine is gone, nobody can receive the message.
        with contextlib.suppress(grpc.RpcError, ValueError):
            stub.Log(engine_pb2.LogRequest(**fields), timeout=5)

    return log


def on_death(callback: Callable[[], None]) -> None:
    """Call `callback` from a thread of its own when the engine has died, then end the process.

    Standard input is a pipe from the engine, which never writes to it. The pipe closes when the
    engine dies; in a normal shutdown the process ends first. If standard input is not a pipe, a
    process between the engine and this one started it, and that process ends with the engine.
    Without this, plugins would outlive a killed engine.
    """
    parent = os.getppid()

    def watch() -> None:
        if _has_pipe():
            while os.read(0, 4096):
                pass
        else:
            wait_for_end(parent)
        died.set()
        callback()
        # Calls notice now that the engine will not get their answers, and record that.
        in_progress.wait_until_none(_LAST_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="engine-death", daemon=True).start()


def _has_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(0).st_mode)
    except OSError:
        return False


# psutil would replace what follows, but every installation would get a compiled package for it, and
# a plugin that the engine starts itself has a pipe to watch.

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _QUERY_LIMITED_INFORMATION = 0x1000
    _SYNCHRONIZE = 0x100000
    _INVALID_PARAMETER = 87
    _INFINITE = 0xFFFFFFFF

    def wait_for_end(parent: int) -> None:
        """Return when that process has ended. If it may not be watched, never return.

        Nobody adopts a process on Windows, so the number of its parent never changes. The
        python.exe of a virtual environment starts the real one and ends after it, so the process
        that started the former is watched too.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        watched: list[int] = []
        for _ in range(1 if sys.prefix == sys.base_prefix else 2):
            handle = kernel.OpenProcess(_SYNCHRONIZE | _QUERY_LIMITED_INFORMATION, False, parent)
            if handle is None and ctypes.get_last_error() == _INVALID_PARAMETER:
                return  # there is no such process any more
            if handle is None:
                break
            watched.append(handle)
            parent = _parent_of(handle)
        if watched:
            handles = (wintypes.HANDLE * len(watched))(*watched)
            kernel.WaitForMultipleObjects(len(watched), handles, False, _INFINITE)
        else:
            threading.Event().wait()

    def _parent_of(handle: int) -> int:
        information = (ctypes.c_size_t * 6)()  # a PROCESS_BASIC_INFORMATION, which ends with it
        ctypes.WinDLL("ntdll").NtQueryInformationProcess(
            wintypes.HANDLE(handle), 0, information, ctypes.sizeof(information), None
        )
        return information[5]

else:

    def wait_for_end(parent: int) -> None:
        """Return when that process has ended, so that another one has adopted this one."""
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)


class Session:
    """The objects of a host's process. Each host has a subclass, which adds what only it needs."""

    provider = ""
    """The id of the provider resource in the stack's state; "" if the host does not tell it."""
    is_stateless = False
    """Whether no stack has what this process works on, so that URNs mean nothing."""

    def __init__(
        self, environ: Mapping[str, str], config: Config, send: Callable[..., object]
    ) -> None:
        """The settings are in `environ` and in `config`. `send` is that of Request."""
        self.environ = environ
        self.config = config
        self.stack = Request(send=send)
        """What logs on the stack's row: of resources that may not be part of this run."""
        self.clock = Clock()
        self.checked: set[str] = set()
        """The URNs of the resources whose inputs this process has checked, and their aliases: the
        engine deletes what it has replaced under the name that this had."""
        self.aliases: dict[str, tuple[str, ...]] = {}
        """The URNs that a resource may have had, by its own, as far as the program tells."""
        self.bill = Bill(lambda: settings.prices(self.environ, self.config))
        self._account: Account | None = None
        self._lock = threading.Lock()
        self._served = threading.local()
        """The request that each thread serves."""

    def settings(self) -> Settings:
        """Return the settings. Raises ConfigurationError if one of them is unusable."""
        return settings.resolve(self.environ, self.config)

    @property
    def account(self) -> Account:
        """The account that this process works with, and what it makes there."""
        with self._lock:  # a second Account would not know what the first one creates
            if self._account is None:
                self._account = Account(
                    Journal(default_folder(os.environ)),
                    Stacks(),
                    self.clock,
                    self.settings,
                    notify=self._notify,
                    warn=lambda message: self.stack.log(message, WARNING),
                    greeting=lifecycle.chosen_greeting(os.environ),
                    provider=self.provider,
                )
            return self._account

    def register(self, urn: str, aliases: object = None) -> None:
        """Remember that a resource's inputs are checked, and what only its program tells."""
        if isinstance(aliases, list):
            self.aliases[urn] = tuple(map(str, aliases))
        self.checked.update((urn, *self.aliases.get(urn, ())))

    def call(self, request: Request, *, preview: bool = False) -> Call:
        """Return the Call for a request. The first one warns about unresolved creates."""
        self._served.request = request
        urn = "" if self.is_stateless else request.urn
        self.account.review(urn)
        return Call(
            urn,
            timeout=request.timeout,
            preview=preview,
            was_checked=request.urn in self.checked,
            aliases=self.aliases.get(urn, ()),
            log=request.log,
            is_heard=request.is_heard,
            is_new=self.account.is_new,
            bill=self.bill,
        )

    def _notify(self, message: str) -> None:
        """Show an ephemeral message on the row of the resource that this thread serves."""
        if request := getattr(self._served, "request", None):
            request.log(message, ephemeral=True)

    def cancel(self) -> None:
        """End all waits, and tell what began and ended to bill, unless calls still run.

        The engine sends Cancel at Ctrl-C, and at the end of every command.
        """
        self.clock.interrupt()
        with contextlib.suppress(ConfigurationError):  # the first check has refused the settings
            is_over = self.bill.prices and in_progress.wait_until_none(_CALL_SECONDS)
            if is_over and (told := self.bill.told()):
                self.stack.log(told)

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        self.clock.interrupt()
        self.account.wait_until_quiet()
