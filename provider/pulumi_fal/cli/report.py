"""The result of `pulumi-fal audit`, and its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import ages
from pulumi_fal.cli.claims import Claim, Claims, Whose

CLEAN, FOUND, CANT_TELL = 0, 1, 2


@dataclass(frozen=True)
class Report:
    """The result of an audit."""

    claims: Claims
    machines: list[tuple[Instance, Whose, Claim | None]]
    gone: list[Claim]
    other_account: list[Claim]
    """Resources whose machine the API doesn't know, but was seen by another account or endpoint."""
    now: float
    max_age: int | None
    """The most seconds that a machine in a stack may run; None if there is no limit."""

    @property
    def exit_code(self) -> int:
        counts = self.counts
        if self.gone or self.too_old or counts[Whose.FORGOTTEN]:
            return FOUND
        unknown = self.claims.unreadable or self.other_account or counts[Whose.UNKNOWN]
        return CANT_TELL if unknown or self.ageless else CLEAN

    @property
    def counts(self) -> Mapping[Whose, int]:
        return Counter(whose for _, whose, _ in self.machines)

    @property
    def too_old(self) -> list[tuple[Instance, Claim, int]]:
        """The machines in stacks that exceed the limit, each with its age in seconds."""
        return [
            (instance, claim, age)
            for instance, claim, age in self._ages
            if age is not None and self.max_age is not None and age > self.max_age
        ]

    @property
    def ageless(self) -> list[Claim]:
        """The resources whose machine may exceed the limit, because its age is unknown."""
        return [claim for _, claim, age in self._ages if age is None and self.max_age is not None]

    @property
    def _ages(self) -> Iterator[tuple[Instance, Claim, int | None]]:
        created = self.claims.created
        for instance, whose, claim in self.machines:
            if whose is Whose.STACK and claim is not None:
                moment = created.get(instance.id)
                yield instance, claim, None if moment is None else ages.age(moment, self.now)
