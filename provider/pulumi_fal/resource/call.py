"""The interface between a host and the functions of `operations`, and what a host tells of bills.

A host is what Pulumi calls: Python's dynamic provider, a native plugin, or a simulation in tests.
It builds a Call, translates its own unknown values to UNKNOWN, and reports InitFailed to the engine
as partial state. It makes no decisions.
"""

from __future__ import annotations

import functools
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import LifecycleError

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


def only_changes(show: Callable[[str], object], last: str = "") -> Callable[[str], None]:
    """Return a function that shows a text unless it was the last one."""

    def change(text: str) -> None:
        nonlocal last
        is_same, last = text == last, text
        if not is_same:
            show(text)

    return change


def _silent(message: str, severity: int = INFO, *, ephemeral: bool = False) -> None: ...


@dataclass(frozen=True)
class Call:
    """One call of the engine."""

    urn: str
    timeout: float | None = None
    """The timeout in seconds from `custom_timeouts`, or None if it is not set."""
    preview: bool = False
    """Whether this is a preview, which changes nothing and works offline and without a key."""
    was_checked: bool = True
    """Whether this command has checked the resource's inputs before: it has not at a delete, if the
    command is a destroy, or the program no longer has the resource. If a diff comes first, Pulumi
    asks whether the replacement of another resource replaces this one, too. Each input that depends
    on that one is unknown then, and a diff with the values follows once they are known."""
    aliases: tuple[str, ...] = ()
    """The URNs that the resource of a create may have had before, as far as the program tells."""
    log: Log = _silent
    is_heard: Callable[[], bool] = lambda: True
    """Returns whether the engine still waits for the answer; True if that is not known."""
    is_new: Callable[[str], bool] = lambda warning: True
    """Returns whether this process has not shown a warning before."""
    bill: Bill = field(default_factory=lambda: Bill())
    """What this process begins and ends to bill. All its calls share it."""

    def to_delete(self, what: str) -> str:
        """Return the command that deletes the resource's machines, and none of the stack's others.

        `what` names them.
        """
        return f"To delete {what}:\n  pulumi destroy --target {shlex.quote(self.urn)}"

    def warn_once(self, message: str) -> None:
        """Show a warning, unless another call of this process has shown the same one."""
        if self.is_new(message):
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


@dataclass(frozen=True)
class Costs:
    """The prices of types an hour, and the ages of machines in seconds, by their ids."""

    prices: Mapping[str, float]
    ages: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the cells below."""
        return ("AN HOUR", "COST")[: bool(self.prices) + bool(self.prices and self.ages)]

    def cells(self, instance: Instance) -> list[str]:
        """Return a machine's price an hour, and what it has cost, as far as both are known."""
        known = (self._price(instance), self.cost(instance))
        return ["" if value is None else f"{value:.2f}" for value in known[: len(self.columns)]]

    def as_json(self, *instances: Instance) -> dict[str, float | None]:
        """Return the same for JSON, of several machines the sums."""
        if not self.prices:
            return {}
        return {
            "price_per_hour": _sum(map(self._price, instances)),
            "cost": _sum(map(self.cost, instances)),
        }

    def in_words(self, instances: Sequence[Instance], what: str = "Together:") -> str:
        """Return the sums of `what`, and what they lack; "" without prices or machines."""
        if not self.prices or not instances:
            return ""
        hour, cost = (value or 0 for value in self.as_json(*instances).values())
        said = f"{what} {hour:.2f} an hour"
        if self.ages:
            them = "it" if len(instances) == 1 else "them"
            said += f", at a cost of {cost:.2f} since Pulumi recorded {them}"
        priceless = sum(self._price(instance) is None for instance in instances)
        ageless = sum(instance.id not in self.ages for instance in instances) if self.ages else 0
        lacks = {"price": priceless, "age": ageless}
        missing = [f"the {what} of {count}" for what, count in lacks.items() if count]
        return f"{said}. Not known: {' and '.join(missing)}." if missing else f"{said}."

    def _price(self, instance: Instance) -> float | None:
        return self.prices.get(instance.instance_type)

    def cost(self, instance: Instance) -> float | None:
        """Return what a machine has cost; None if that is not known."""
        price, age = self._price(instance), self.ages.get(instance.id)
        return None if price is None or age is None else price * age / 3600


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 2) if known else None


class Bill:
    """The machines of one process whose billing begins or ends. All its calls share it."""

    def __init__(self, prices: Callable[[], Mapping[str, float]] = dict) -> None:
        """`prices` may raise ConfigurationError. Without any, nothing is told."""
        self._prices = prices
        self._lock = threading.Lock()
        self._recorded: Mapping[str, float] | None = None
        self._ages: dict[str, int] = {}
        self.planned: dict[str, Instance] = {}
        """The machines that an update would create, by URN. Only a preview plans any."""
        self.replaced: dict[str, Instance] = {}
        """The machines that a diff replaces. A preview is told of no others that are deleted."""
        self.began: dict[str, Instance] = {}
        self.ended: dict[str, Instance] = {}

    @functools.cached_property
    def prices(self) -> Mapping[str, float]:
        """What instance types cost an hour."""
        return self._prices()

    def end(
        self, instance: Instance, now: float, recorded: Callable[[], Mapping[str, float]]
    ) -> float | None:
        """Add a machine that is deleted, and return what it has cost; None if that is not known.

        `recorded` returns when Pulumi recorded the machines. Only the first one asks it, for all.
        """
        with self._lock:
            if self._recorded is None:
                self._recorded = recorded()
        if instance.id in self._recorded:
            self._ages[instance.id] = int(now - self._recorded[instance.id])
        self.ended[instance.id] = instance
        return Costs(self.prices, self._ages).cost(instance)

    def told(self) -> str:
        """Return what began and ended, in words, and forget it, so that it is told once."""
        if self.planned:
            begins = _words("Starts", self.planned, Costs(self.prices))
            ends = _words("Stops", self.replaced, Costs(self.prices), " replaced")
        else:
            begins = _words("Started", self.began, Costs(self.prices))
            ends = _words("Stopped", self.ended, Costs(self.prices, self._ages))
        for told in (self.planned, self.replaced, self.began, self.ended):
            told.clear()
        return " ".join(filter(None, (begins, ends)))


def _words(verb: str, instances: Mapping[str, Instance], costs: Costs, which: str = "") -> str:
    what = f"{verb} billing {len(instances)}{which} machine{'s' * (len(instances) > 1)},"
    return costs.in_words([*instances.values()], what)
