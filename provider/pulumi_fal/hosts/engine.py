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
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import StackError, runnable
from pulumi_fal.stacks import state

if TYPE_CHECKING:
    from google.protobuf import struct_pb2
from collections.abc import Mapping

from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.machines import lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.resource.call import Bill, Call
from pulumi_fal.stacks.cache import Stacks

_LAST_SECONDS = 5.0
"""Seconds that calls have to end after the engine has died."""


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


def is_heard(context: Any) -> bool:
    """Whether the engine is still waiting for the answer to the call of this gRPC context."""
    # gRPC notices the death of the engine only after a while.
    return not died.is_set() and bool(context.is_active())


def on_undelivered(context: Any, callback: Callable[[], None]) -> None:
    """Call `callback` if the engine ends the call before it has received the answer.

    This reads gRPC's private state, because the public callback does not tell how a call ended.
    """

    def ended() -> None:
        try:
            if getattr(getattr(context, "_state", None), "client", None) == "cancelled":
                callback()
        finally:
            in_progress.leave()

    in_progress.enter()
    if not context.add_callback(ended):
        ended()  # the call is over already


def partial_state(
    instance_id: str, properties: struct_pb2.Struct, reason: str, **others: Any
) -> tuple[tuple[str, bytes]]:
    """The trailing metadata that makes the engine record a resource although its call fails.

    The engine reads partial state from an ErrorResourceInitFailed in the details of the gRPC
    status, which gRPC sends as trailing metadata. `reason` replaces the call's own error text.
    """
    from pulumi.runtime.proto import provider_pb2

    reason = runnable(reason)
    failed = provider_pb2.ErrorResourceInitFailed(
        id=instance_id, properties=properties, reasons=[reason], **others
    )
    return _details(failed, reason)


def awaited(reason: str) -> tuple[tuple[str, bytes]] | None:
    """The trailing metadata by which a create asks for another run, without failing this one.

    The engine goes on with the other resources, and `pulumi` ends with exit code 10. It shows its
    own words in place of `reason`, which has to be logged. None if the engine or the SDK is too old
    for that.
    """
    if not _knows_await():
        return None
    from pulumi.runtime.proto import provider_pb2

    return _details(provider_pb2.ErrorResourceAwaitFailed(), runnable(reason))


_FIRST_WITH_AWAIT = (3, 276)
"""The version of `pulumi` from which the engine knows an AwaitError."""


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


def _details(detail: Any, reason: str) -> tuple[tuple[str, bytes]]:
    # This must be the SDK's Status, because googleapis registers another of that name.
    from google.protobuf import any_pb2
    from pulumi.runtime.proto import status_pb2

    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(code=2, message=reason, details=[packed])
    return (("grpc-status-details-bin", status.SerializeToString()),)


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


_LOOK_SECONDS = 0.5
"""Seconds between two looks at the number of the parent."""

# psutil would replace what follows, but every installation would get a compiled package for it, and
# a plugin that the engine starts itself has a pipe to watch.

if sys.platform == "win32":
    import ctypes
    import threading
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


_POST_SECONDS = 200.0
"""Seconds that a POST in flight has to end after the engine has died."""
_CALL_SECONDS = 1.0
"""Seconds that calls have to end after Cancel, so that its answer is about them as well."""


class Session:
    """The objects of a host's process. Each host has a subclass, which adds what only it needs."""

    provider = ""
    """The id of the provider resource in the stack's state; "" if the host does not tell it."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        prices: Callable[[], Mapping[str, float]] = dict,
        notify: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """`settings` is called when the API is first needed. It and `prices` may raise
        ConfigurationError.

        `notify` gets transient messages, in the thread that waits. `warn` gets warnings that stop
        nothing.
        """
        self.clock = Clock()
        self.checked: set[str] = set()
        """The URNs of the resources whose inputs this process has checked."""
        self.aliases: dict[str, tuple[str, ...]] = {}
        """The URNs that a resource may have had, by its own, as far as the program tells."""
        self.bill = Bill(prices)
        self._settings = settings
        self._notify = notify
        self._warn = warn
        self._account: Account | None = None
        self._lock = threading.Lock()

    @property
    def account(self) -> Account:
        """The account that this process works with, and what it makes there."""
        with self._lock:  # a second Account would not know what the first one creates
            if self._account is None:
                self._account = Account(
                    Journal(default_folder(os.environ)),
                    Stacks(),
                    self.clock,
                    self._settings,
                    notify=self._notify,
                    warn=self._warn,
                    greeting=lifecycle.chosen_greeting(os.environ),
                    provider=self.provider,
                )
            return self._account

    def register(self, urn: str, aliases: object = None) -> None:
        """Remember that a resource's inputs are checked, and what only its program tells."""
        if isinstance(aliases, list):
            self.aliases[urn] = tuple(map(str, aliases))
        self.checked.add(urn)

    def call(self, urn: str, **told: Any) -> Call:
        """Return the Call for a request. The first one warns about unresolved creates."""
        self.account.review(urn)
        aliases = self.aliases.get(urn, ())
        return Call(urn, aliases=aliases, is_new=self.account.is_new, bill=self.bill, **told)

    def cancel(self) -> str:
        """End all waits, and return what began and ended to bill, unless calls still run.

        The engine sends Cancel at Ctrl-C, and at the end of every command.
        """
        self.clock.interrupt()
        try:
            is_over = self.bill.prices and in_progress.wait_until_none(_CALL_SECONDS)
        except ConfigurationError:  # the first check has refused the settings
            return ""
        return self.bill.told() if is_over else ""

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        self.clock.interrupt()
        self.account.wait_until_quiet(_POST_SECONDS)
