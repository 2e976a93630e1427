"""The faults of calls and the scripts that assign them, as data; calls.py applies them."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from email.utils import formatdate
from math import inf
from typing import Any

from pulumi_fal.emulator.state import CALLS


@dataclass(frozen=True)
class Fault:
    """The outcome of a call. Use `fault()` to get one by its name.

    Attributes:
        name: the key in `OUTCOMES`.
        says: a description of what happens.
        taken: whether the request takes effect before it fails.
        status: the HTTP status that the caller sees, or None if it gets no answer.
        body: the body to send, or None to send the normal one.
        detail: the message of an error in the API's own format, which replaces any body.
        seconds: the delay of the answer in seconds, after the request has taken effect.
        retry_after: the seconds for a Retry-After header.
        retry_at: the seconds from now for a Retry-After header with an HTTP date.
        held: whether the answer is held until `Faults.release`, after the request has taken effect.
    """

    name: str
    says: str
    taken: bool
    status: int | None
    body: str | None = None
    detail: str | None = None
    seconds: float = 0.0
    retry_after: int | None = None
    retry_at: int | None = None
    held: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send with the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.retry_at is not None:
            headers["Retry-After"] = formatdate(time.time() + self.retry_at, usegmt=True)
        if self.name == "redirect":
            headers["Location"] = "https://elsewhere.invalid/"
        return headers


def _refusal(status: int, detail: str) -> Fault:
    return Fault(str(status), f"{status}: {detail}", False, status, detail=detail)


def _page(title: str) -> str:
    return f"<!DOCTYPE html><html><title>{title}</title><body><h1>{title}</h1></body></html>"


def _gateway(status: int, says: str) -> Fault:
    page = _page(f"{status} {says}")
    return Fault(str(status), f"{status} and a gateway's HTML page", False, status, page)


OUTCOMES = {
    outcome.name: outcome
    for outcome in (
        Fault("ok", "no fault: the normal answer, to let calls of a script pass", True, 200),
        Fault("slow", "the normal answer, some seconds late", True, 200, seconds=1.0),
        Fault("late", "the normal answer, after the caller gave up", True, None, seconds=60.0),
        Fault("hold", "the normal answer, once it is released", True, 200, held=True),
        _refusal(401, "Invalid credentials"),
        _refusal(403, "The key does not have the scope that this call needs"),
        _refusal(404, "Not Found"),
        _refusal(409, "The machine is in a state that does not allow this"),
        replace(_refusal(409, "No machine of this type is available"), name="no_room"),
        _refusal(429, "Too many requests"),
        _refusal(500, "Internal Server Error"),
        _gateway(502, "Bad Gateway"),
        _gateway(503, "Service Unavailable"),
        _gateway(504, "Gateway Time-out"),
        _gateway(522, "Connection timed out"),
        Fault("500_after", "500, after it took effect", True, 500, detail="Internal Error"),
        Fault("reset_before", "a reset of the connection before it takes effect", False, None, ""),
        Fault("reset_after", "a reset of the connection after it took effect", True, None, ""),
        Fault("html", "200 and an HTML page", False, 200, _page("Sign in")),
        Fault("html_after", "200 and an HTML page, after it took effect", True, 200, _page("Hi")),
        Fault("truncated", "200 and truncated JSON", True, 200, '[{"id": "0e4'),
        Fault("wrong_shape", "200 and JSON with the wrong fields", True, 200, '{"result": {}}'),
        Fault("lapse", "200 and an empty list, as from a stale replica", False, 200, "[]"),
        Fault("empty", "200 and an empty body", True, 200, ""),
        Fault("redirect", "307 to another host", False, 307, ""),
    )
}
"""Every fault by its name, with default settings."""


def fault(
    name: str,
    *,
    seconds: float | None = None,
    retry_after: int | None = None,
    retry_at: int | None = None,
) -> Fault:
    """Return the fault with that name and these settings. Raises ValueError for an unknown name."""
    if name not in OUTCOMES:
        raise ValueError(f"there is no fault {name!r}; the faults are {', '.join(OUTCOMES)}")
    known = OUTCOMES[name]
    seconds = known.seconds if seconds is None else seconds
    return replace(known, seconds=seconds, retry_after=retry_after, retry_at=retry_at)


_SETTINGS = {"seconds": float, "retry_after": int, "retry_at": int}


class Faults:
    """A script for each kind of call, with the faults of the next calls in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Future[None]] = []
        self.clear()

    def add(self, kind: str, outcome: Fault | str, times: float = 1) -> None:
        """Append a fault to the script of a kind of call. Raises ValueError for unknown names.

        Args:
            kind: create, list, get or delete.
            outcome: a fault, or the name of one.
            times: how many calls get the fault; math.inf for all.
        """
        if kind not in CALLS:
            raise ValueError(f"there is no call {kind!r}; the calls are {', '.join(CALLS)}")
        if isinstance(outcome, str):
            outcome = fault(outcome)
        with self._lock:
            self._scripts[kind].append((outcome, times))

    def script(self, line: str) -> None:
        """Add a fault written as `CALL=FAULT[:SETTING=VALUE,...]`.

        The settings are those of `fault`, and `times` (a number or `forever`), as in
        `list=429:retry_after=2,times=3`. Raises ValueError if the line is wrong.
        """
        kind, _, outcome = line.partition("=")
        name, _, rest = outcome.partition(":")
        settings = dict(part.partition("=")[::2] for part in rest.split(",") if part)
        times = settings.pop("times", "1")
        try:
            values: dict[str, Any] = {key: _SETTINGS[key](text) for key, text in settings.items()}
            self.add(kind, fault(name, **values), inf if times == "forever" else int(times))
        except KeyError as error:
            known = ", ".join(("times", *_SETTINGS))
            raise ValueError(f"{line}: there is no setting {error}; they are {known}") from None
        except ValueError as error:
            raise ValueError(f"{line}: {error}") from None

    def take(self, kind: str) -> Fault | None:
        """Remove and return the fault of the next call of that kind, or None if there is none."""
        with self._lock:
            script = self._scripts[kind]
            if not script:
                return None
            outcome, times = script.popleft()
            if times > 1:
                script.appendleft((outcome, times - 1))
            return outcome

    def left(self) -> dict[str, list[str]]:
        """Return the remaining faults with their number of calls, by kind of call."""
        with self._lock:
            return {
                kind: [f"{outcome.name} x {times}" for outcome, times in script]
                for kind, script in self._scripts.items()
                if script
            }

    def hold(self) -> Future[None]:
        """Count a call as held. The returned future is done at the next `release`."""
        held: Future[None] = Future()
        with self._lock:
            self._held.append(held)
        return held

    @property
    def held(self) -> int:
        """The number of calls that wait for `release`, once their requests have taken effect."""
        with self._lock:
            return sum(not future.done() for future in self._held)

    def release(self) -> None:
        """Answer all calls that are held now. Later ones wait for the next release."""
        with self._lock:
            held, self._held = self._held, []
        for future in held:
            # If the server has ended, the future is cancelled.
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def clear(self) -> None:
        """Remove all scripts. Calls that are held stay held."""
        with self._lock:
            self._scripts: dict[str, deque[tuple[Fault, float]]] = {k: deque() for k in CALLS}
