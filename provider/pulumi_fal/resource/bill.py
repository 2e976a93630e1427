"""What a command begins and ends to bill, by the prices that are set."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping

from pulumi_fal.api.models import Instance
from pulumi_fal.machines.costs import Costs


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
