"""What a host hands to the functions of `operations`, and the one outcome that is an exception.

A host is whatever Pulumi calls: Python's dynamic provider, a native plugin, or a simulation in
tests. It builds a Call, translates its own unknown values to UNKNOWN, and puts InitFailed on the
wire. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from pulumi_fal.errors import LifecycleError

INFO, WARNING = 1, 2
"""The engine's severities."""


class _Unknown(Enum):
    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN
"""In inputs and outputs of a preview: a value that nobody knows yet."""


class Log(Protocol):
    """Says something on the resource's row. Ephemeral lines leave no trace on a terminal."""

    def __call__(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None: ...


def _silent(message: str, severity: int = INFO, *, ephemeral: bool = False) -> None: ...


@dataclass(frozen=True)
class Call:
    """One call of the engine."""

    urn: str
    organization: str = ""
    """ "" where nobody says."""
    timeout: float | None = None
    """Seconds, from `custom_timeouts`; None where none is set."""
    preview: bool = False
    """Whether nothing may be made or changed. It works offline and without a key."""
    log: Log = _silent
    is_heard: Callable[[], bool] = lambda: True
    """Whether the engine still waits for the answer; True where that can't be known."""


class InitFailed(LifecycleError):
    """The machine exists, and is not ready: the engine is to record it as it is, with the reason.

    `undelivered` is to be called where the engine did not take it in.
    """

    def __init__(self, instance_id: str, outputs: dict[str, Any], reason: str) -> None:
        super().__init__(instance_id, reason)
        self.outputs = outputs
        self.undelivered: Callable[[], None] = lambda: None

    @property
    def reason(self) -> str:
        """What ended the wait, and what becomes of the machine."""
        return str(self)
