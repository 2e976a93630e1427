"""The interface between a host and the functions of `operations`.

A host is what Pulumi calls: Python's dynamic provider, a native plugin, or a simulation in tests.
It builds a Call, translates its own unknown values to UNKNOWN, and reports InitFailed to the engine
as partial state. It makes no decisions.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from pulumi_fal.errors import LifecycleError

if TYPE_CHECKING:
    # A program that declares machines imports this module, and bills nothing.
    from pulumi_fal.resource.bill import Bill

INFO, WARNING = 1, 2
"""Log severities, with the engine's values."""


class _Unknown(Enum):
    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN
"""Stands for a value that is not known yet, in the inputs and outputs of a preview."""


class Log(Protocol):
    """Shows a message on the resource's row. An ephemeral message disappears with the next one."""

    def __call__(
        self, message: str, severity: int = INFO, *, ephemeral: bool = False
    ) -> object: ...


def _silent(message: str, severity: int = INFO, *, ephemeral: bool = False) -> None: ...


def _no_bill() -> Bill:
    """Return a bill without prices, which tells nothing."""
    from pulumi_fal.resource.bill import Bill

    return Bill()


@dataclass(frozen=True)
class Call:
    """One call of the engine."""

    urn: str
    timeout: float | None = None
    """The timeout in seconds from `custom_timeouts`, or None if it is not set."""
    preview: bool = False
    """Whether this is a preview, which changes nothing and works offline and without a key."""
    was_checked: bool = True
    """Whether this command has checked the resource's inputs before. If a diff comes first, Pulumi
    asks whether the replacement of another resource replaces this one, too. Each input that depends
    on that one is unknown then, and a diff with the values follows once they are known."""
    aliases: tuple[str, ...] = ()
    """The URNs that the resource of a create may have had before, as far as the program tells."""
    log: Log = _silent
    is_heard: Callable[[], bool] = lambda: True
    """Returns whether the engine still waits for the answer; True if that is not known."""
    warned: dict[str, object] = field(default_factory=dict)
    """The warnings that this process has shown once and for all. All its calls share it."""
    bill: Bill = field(default_factory=_no_bill)
    """What this process begins and ends to bill. All its calls share it, too."""

    def to_delete(self, what: str) -> str:
        """Return the command that deletes the resource's machines, and none of the stack's others.

        `what` names them.
        """
        return f"To delete {what}:\n  pulumi destroy --target {shlex.quote(self.urn)}"

    def warn_once(self, message: str) -> None:
        """Show a warning, unless another call of this process has shown the same one."""
        this = object()
        if self.warned.setdefault(message, this) is this:  # threads don't get in between
            self.log(message, WARNING)


class InitFailed(LifecycleError):
    """The machine exists but is not ready, so the engine has to record it as partial state.

    The host must call `undelivered` if this result did not reach the engine.
    """

    def __init__(self, instance_id: str, outputs: dict[str, Any], reason: str) -> None:
        super().__init__(instance_id, reason)
        self.outputs = outputs
        self.undelivered: Callable[[], None] = lambda: None

    @property
    def reason(self) -> str:
        """What ended the wait, and what happens to the machine."""
        return str(self)
