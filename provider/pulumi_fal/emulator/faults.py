"""What may go wrong with a call, as data. Nothing here knows how a fault is played."""

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

_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """One outcome of a call; `fault()` makes one by its name.

    Attributes:
        name: as in `OUTCOMES`, never changes.
        says: what happens, in words.
        taken: whether the request does its work before it fails.
        status: the HTTP status that the caller sees; None when no answer reaches it.
        body: the body in place of the right one; None when the right one is sent.
        detail: the message of an error in the API's own shape, sent in place of any other body.
        seconds: how late the answer is sent, after the work is done.
        retry_after: Retry-After in seconds.
        retry_at: Retry-After as an HTTP date, so many seconds from then.
        held: whether the answer waits, after the work is done, for `Faults.release`.
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
        """The headers that belong to it."""
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


def _gateway(status: int, says: str) -> Fault:
    page = _PAGE.format(f"{status} {says}")
    return Fault(str(status), f"{status} and a gateway's HTML page", False, status, page)


OUTCOMES = {
    outcome.name: outcome
    for outcome in (
        Fault("ok", "no fault: the right answer, to let calls of a script pass", True, 200),
        Fault("slow", "the right answer, some seconds late", True, 200, seconds=1.0),
        Fault("late", "the right answer, after the caller gave up", True, None, seconds=60.0),
        Fault("hold", "the right answer, once it is released", True, 200, held=True),
        _refusal(401, "Invalid credentials"),
        _refusal(403, "The key has not the scope that this call needs"),
        _refusal(404, "Not Found"),
        _refusal(409, "The machine is in a state that does not allow this"),
        _refusal(429, "Too many requests"),
        _refusal(500, "Internal Server Error"),
        _gateway(502, "Bad Gateway"),
        _gateway(503, "Service Unavailable"),
        _gateway(504, "Gateway Time-out"),
        _gateway(522, "Connection timed out"),
        Fault("500_after", "500, after the work", True, 500, detail="Internal Error"),
        Fault("reset_before", "the connection is reset before the work", False, None, ""),
        Fault("reset_after", "the connection is reset after the work", True, None, ""),
        Fault("html", "200 and an HTML page", False, 200, _PAGE.format("Sign in")),
        Fault("html_after", "200 and an HTML page, after the work", True, 200, _PAGE.format("Hi")),
        Fault("truncated", "200 and a part of JSON", True, 200, '[{"id": "0e4'),
        Fault("wrong_shape", "200 and JSON of another shape", True, 200, '{"result": {}}'),
        Fault("lapse", "200 and an empty list, as of a replica that is behind", False, 200, "[]"),
        Fault("empty", "200 and an empty body", True, 200, ""),
        Fault("redirect", "307 to another host", False, 307, ""),
    )
}
"""Every fault by its name, as it is when nothing else is said."""


def fault(
    name: str,
    *,
    seconds: float | None = None,
    retry_after: int | None = None,
    retry_at: int | None = None,
) -> Fault:
    """The fault of that name. ValueError lists the names when there is none."""
    if name not in OUTCOMES:
        raise ValueError(f"there is no fault {name!r}; the faults are {', '.join(OUTCOMES)}")
    known = OUTCOMES[name]
    seconds = known.seconds if seconds is None else seconds
    return replace(known, seconds=seconds, retry_after=retry_after, retry_at=retry_at)


_SETTINGS = {"seconds": float, "retry_after": int, "retry_at": int}


class Faults:
    """A script for each kind of call: faults in the order in which the next calls meet them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Future[None]] = []
        self.clear()

    def add(self, kind: str, outcome: Fault | str, times: float = 1) -> None:
        """Let the next calls of that kind (after those scripted so far) meet a fault.

        Args:
            kind: create, list, get or delete.
            outcome: a fault, or the name of one.
            times: how many calls; math.inf for all.
        """
        if kind not in CALLS:
            raise ValueError(f"there is no call {kind!r}; the calls are {', '.join(CALLS)}")
        if isinstance(outcome, str):
            outcome = fault(outcome)
        with self._lock:
            self._scripts[kind].append((outcome, times))

    def script(self, line: str) -> None:
        """Add a fault written as `CALL=FAULT[:SETTING=VALUE,...]`.

        The settings are those of `fault` and `times` (a number or `forever`), as in
        `list=429:retry_after=2,times=3`. ValueError says what is wrong with the line.
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
        """What the next call of that kind meets; None when nothing is scripted."""
        with self._lock:
            script = self._scripts[kind]
            if not script:
                return None
            outcome, times = script.popleft()
            if times > 1:
                script.appendleft((outcome, times - 1))
            return outcome

    def left(self) -> dict[str, list[str]]:
        """The names of the scripted faults that no call has met yet, by kind of call."""
        with self._lock:
            return {
                kind: [f"{outcome.name} x {times}" for outcome, times in script]
                for kind, script in self._scripts.items()
                if script
            }

    def hold(self) -> Future[None]:
        """Hold a call: what is returned is done at the next `release`, from whichever thread."""
        held: Future[None] = Future()
        with self._lock:
            self._held.append(held)
        return held

    @property
    def held(self) -> int:
        """How many calls wait for `release` now. One whose work can be seen is among them."""
        with self._lock:
            return sum(not each.done() for each in self._held)

    def release(self) -> None:
        """Let all calls go that are held now. One that is held later waits for the next release."""
        with self._lock:
            held, self._held = self._held, []
        for each in held:
            # Nobody waits for it any more where the server has ended.
            if each.set_running_or_notify_cancel():
                each.set_result(None)

    def clear(self) -> None:
        """Forget all that is scripted. Calls that are held stay so."""
        with self._lock:
            self._scripts: dict[str, deque[tuple[Fault, float]]] = {k: deque() for k in CALLS}
