"""What machines cost, by the prices that are set. Where none are, nothing is shown of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pulumi_fal.api.models import Instance


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
