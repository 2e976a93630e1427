"""What tests use in place of the real thing: the API, stacks, time, settings and keys."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

from pulumi_fal import errors
from pulumi_fal.api.client import error_type
from pulumi_fal.api.dialects import LEGACY, V1, Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.emulator.faults import Fault, Faults
from pulumi_fal.emulator.state import NoCapacityError, State, UnknownMachineError
from pulumi_fal.errors import APIError
from pulumi_fal.stacks.cache import Origin, Stacks
from pulumi_fal.stacks.state import Found, Stack, StackMachine

KEY = "s3cr3t-id:s3cr3t-half"
"""The API key. It is easily found wherever it leaks to."""
ID = "0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10"
ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::web"
HERE = Origin(URN, backend="file:///here")
"""The resource that most tests are about."""
DEV = "organization/shop/dev"


def blob(*fields: bytes) -> str:
    """The base64 part of a public key: each field with its length before it (RFC 4251, 5)."""
    wire = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return base64.b64encode(wire).decode()


ED25519 = "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(range(32)))
RSA = "ssh-rsa " + blob(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xc5" * 256)
ECDSA = "ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\4" + b"\x17" * 64)

LIST, GET = LEGACY.list_instances(), LEGACY.get_instance(ID)
CREATE, DELETE = LEGACY.create_instance(NewInstance(ONE, ED25519)), LEGACY.delete_instance(ID)

UNSENT = Fault("unsent", "the request never leaves", taken=False, status=None, body="")
"""A fault that no server can play."""


def settings(endpoint: str = "https://fal.test", **others: float | str) -> Settings:
    return Settings(endpoint, KEY, "the environment variable FAL_KEY", **others)  # type: ignore[arg-type]


class TurnedClock(Clock):
    """A clock that stands still until something waits, and then turns at once.

    Its time of day can be set, and goes on while a suspended computer stands still.
    """

    def __init__(self, time: float = 1000.0) -> None:
        super().__init__()
        self.time = self._started = time
        self.slept: list[float] = []
        self.set_by = 0.0
        """By how many seconds the time of day has been set, or has gone on alone."""
        self.suspended = 0.0
        """For how many seconds the computer is suspended during the next pause."""

    @property
    def passed(self) -> float:
        """How many seconds the clock has turned so far."""
        return self.time - self._started

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000 + self.time + self.set_by

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept.append(seconds)
        self.time += max(0.0, seconds)
        self.set_by += self.suspended
        self.suspended = 0.0

    def wait(self, condition: threading.Condition, seconds: float | None = None) -> None:
        if seconds is None:
            raise AssertionError("waits for another thread, and there is none")
        self.sleep(seconds)


class FakeApi:
    """The emulator's machines and faults behind a client's `send`, without HTTP.

    `before` and `after` are called with every request, before it is served and before its answer
    arrives. Either may raise the error that the client gets. `state.calls` counts the calls.
    """

    def __init__(
        self, now: Callable[[], float], provisioning: float = 0.0, deletion: float = 0.0
    ) -> None:
        self.now = now
        self.state = State(now, provisioning, deletion)
        self.faults = Faults()
        self.before: Callable[[Request[Any]], None] = lambda request: None
        self.after: Callable[[Request[Any]], None] = lambda request: None
        self.requests: list[Request[Any]] = []
        self.moments: list[float] = []
        """When every request was sent."""
        self.timeouts: list[float | None] = []
        """The timeout of every request."""

    @property
    def calls(self) -> list[str]:
        """The calls in their order, as in ["create", "list"]."""
        return [request.kind for request in self.requests]

    def asked(self, call: str) -> list[float]:
        sent = zip(self.calls, self.moments, strict=True)
        return [moment for made, moment in sent if made == call]

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the creates, each "" where it has none."""
        creates = [request for request in self.requests if request.creates]
        return [request.headers.get("Idempotency-Key", "") for request in creates]

    def send(self, request: Request[Any], timeout: float | None = None) -> Any:
        """What a client gives to its transport."""
        self.requests.append(request)
        self.moments.append(self.now())
        self.timeouts.append(timeout)
        with self.state.call(request.kind):
            self.before(request)
            fault = self.faults.take(request.kind)
            outcome = self.serve(request) if fault is None or fault.taken else None
            self.after(request)
        return arrived(request, fault, outcome)

    def serve(self, request: Request[Any], account: str | None = None) -> Any | APIError:
        """What the API does with a request, and its answer or its refusal."""
        body, instance_id = request.body or {}, request.instance_id or ""
        try:
            if request.kind == "list":
                machines = [dict(vars(machine)) for machine in self.state.list(account)]
                return listed(request, machines)
            if request.kind == "get":
                return dict(vars(self.state.get(instance_id, account)))
            if request.kind == "delete":
                self.state.delete(instance_id, account)
                return None
            kind, ssh_key, sector = body["instance_type"], body["ssh_key"], body.get("sector")
            key = request.headers.get("Idempotency-Key", "")
            return dict(vars(self.state.create(NewInstance(kind, ssh_key, sector), account, key)))
        except UnknownMachineError:
            return refusal(404, "no such machine", request)
        except NoCapacityError as error:
            return refusal(error.status, str(error), request)


def listed(request: Request[Any], machines: list[Any]) -> Any:
    return {"instances": machines} if request.dialect is V1 else machines


def arrived(request: Request[Any], fault: Fault | None, outcome: Any | APIError) -> Any:
    """What a client gets for an outcome of `serve` that met a fault. Raises what it gets raised."""
    if fault is not None and fault.status is None:
        raise unanswered(request, sent=fault.name != UNSENT.name)
    if fault is not None and fault.status != 200:
        raise refusal(fault.status or 0, fault.detail or fault.says, request, fault.retry_after)
    if fault is not None and fault.name == "lapse" and request.kind == "list":
        return listed(request, [])
    if fault is not None and fault.body is not None:
        if request.kind == "delete" and not fault.body.startswith("<"):
            return None
        try:
            return json.loads(fault.body)
        except ValueError:
            raise request.error(errors.UnusableAnswerError, "not JSON", status=200) from None
    if isinstance(outcome, APIError):
        raise outcome
    return outcome


class FakeStacks(Stacks):
    """What stacks hold: the tested one `in_state`, and others in `others`."""

    backend = HERE.backend

    def __init__(self, *ids: str, answers: bool = True) -> None:
        super().__init__()
        self.in_state = set(ids) if answers else None
        """None where the stack can't be read."""
        self.siblings: list[StackMachine] = []
        """More machines in the tested stack, under URNs of their own."""
        self.account_id = AccountId()
        """Where the machines in state were last seen."""
        self.providers: dict[str, str] = {}
        """The ids of the tested stack's providers, with their types."""
        self.creating: tuple[str | StackMachine, ...] = ()
        """The tested stack's pending creates, or their URNs."""
        self.asked = inf
        """When the tested stack was read: by default since any create began."""
        self.others: dict[str, Stack | set[str] | str] = {}
        """By full name, another stack, the ids of its machines, or why it can't be read."""
        self.forgotten = 0
        """How often the stack was to be read again."""
        self.on_read: Callable[[], None] = lambda: None

    def all(self, seconds: float = 0.0, backend: str = "") -> Found:
        return self._in(backend or self.backend, lambda name: True)

    def forget(self, origin: Origin, asked_before: float | None = None) -> None:
        self.forgotten += 1

    def _named(self, origin: Origin, backend: str) -> Found:
        return self._in(backend or self.backend, origin.is_in)

    def _in(self, backend: str, is_meant: Callable[[str], bool]) -> Found:
        self.on_read()
        own = [StackMachine(id_, URN, self.account_id) for id_ in self.in_state or ()]
        tested = Stack(
            DEV,
            HERE.backend,
            (*own, *self.siblings),
            self.providers,
            tuple(StackMachine("", one) if isinstance(one, str) else one for one in self.creating),
            asked=self.asked,
        )
        held = {DEV: "no answer" if self.in_state is None else tested, **self.others}
        unread = {name: why for name, why in held.items() if isinstance(why, str)}
        read = [
            Stack(name, HERE.backend, tuple(StackMachine(id_, "") for id_ in stack))
            if isinstance(stack, set)
            else stack
            for name, stack in held.items()
            if not isinstance(stack, str)
        ]
        return Found(
            tuple(stack for stack in read if stack.backend == backend and is_meant(stack.name)),
            {name: why for name, why in unread.items() if is_meant(name)}
            if backend == HERE.backend
            else {},
        )


def refusal(
    status: int, detail: str = "no", request: Request[Any] = LIST, retry_after: float | None = None
) -> APIError:
    """The error that a client gets for an answer with a status other than 2xx."""
    kind = error_type(status)
    return request.error(kind, detail, status=status, retry_after=retry_after)


def unanswered(request: Request[Any] = LIST, *, sent: bool = True) -> APIError:
    """The error that a client gets where there is no answer."""
    detail = "reset" if sent else "connection refused"
    return request.error(errors.UnreachableError, detail, sent=sent)


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return as soon as the condition holds; TimeoutError if it does not in time.

    `pulumi` may take seconds to start, on Windows more than elsewhere.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds} s: {condition}")
        time.sleep(0.005)
