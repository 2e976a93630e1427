"""The one rule for when a machine is gone, and which account can show that.

A list, and a GET, may come from a stale replica, and many machines may be missing for a while. So:

- A machine that the API has never shown is not gone: it may still appear.
- One that it has shown, and that we did not delete, is gone when it is missing in every look of a
  minute. Several that go missing at once are more suspicious, and need twice that. Time in which
  nobody could look, as in an outage of the API, does not count.
- One whose DELETE the API has accepted is gone when two lists in a row lack it, and a GET after
  that says 404.

What leaves state or a create by the second rule stays on record for an hour, and every command
names it if it comes back. Only the account that made a machine can show that it is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable
from types import TracebackType
from typing import Protocol

from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import ElsewhereError

_SEVERAL = 2.0
"""By how much longer machines must be missing of which several have gone at once."""
_LOOKS = 3
"""How many looks that time must have at least, after the first."""


class Absences:
    """How long each machine that a call waits for has been missing. Can be used from any thread."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """`seconds` is for how long a machine must be missing."""
        self.clock = clock
        self.seconds = seconds
        self._lock = threading.Lock()
        self._missing: list[str] = []

    def of(self, instance_id: str) -> Absence:
        """Return the absence of a machine, for one call, which closes it at its end."""
        return Absence(self, instance_id)

    def change(self, instance_id: str, *, is_missing: bool) -> None:
        """Note that a call misses a machine, or no longer does."""
        with self._lock:
            if is_missing:
                self._missing.append(instance_id)
            else:
                self._missing.remove(instance_id)

    @property
    def longest(self) -> float:
        """For how many seconds a machine must be missing at the most."""
        return self.seconds * _SEVERAL

    @property
    def needed(self) -> float:
        """For how many seconds a machine that is missing now must be."""
        with self._lock:
            several = len(set(self._missing)) > 1
        return self.seconds * (_SEVERAL if several else 1.0)


class Absence:
    """For how long one call has missed one machine."""

    def __init__(self, absences: Absences, instance_id: str) -> None:
        self._absences = absences
        self._id = instance_id
        self._looked_at: float | None = None
        self.seconds = 0.0
        """For how long the machine has been missing, as far as somebody looked."""

    def __enter__(self) -> Absence:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def is_missing(self) -> bool:
        """Whether the last look has missed the machine."""
        return self._looked_at is not None

    @property
    def is_over(self) -> bool:
        """Whether the machine has been missing for long enough to be gone."""
        return self.seconds >= self._absences.needed

    def missed(self) -> None:
        """Note that a look has missed the machine."""
        now = self._absences.clock.now()
        if self._looked_at is None:
            self._absences.change(self._id, is_missing=True)
        else:
            self.seconds += min(now - self._looked_at, self._absences.seconds / _LOOKS)
        self._looked_at = now

    def end(self) -> None:
        """Note that the API shows the machine, or that nobody looks for it any more."""
        if self._looked_at is not None:
            self._looked_at, self.seconds = None, 0.0
            self._absences.change(self._id, is_missing=False)


class Located(Protocol):
    """A machine, with the endpoint and the account that it was last seen with."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> AccountId: ...


class Ownership:
    """Knows which machines belong to the account of the current key, including its older keys."""

    def __init__(self, settings: Settings, listed: Callable[[], Container[str]]) -> None:
        """`listed` returns the ids of the machines that the key sees, possibly some seconds old."""
        self.account_id = settings.account_id
        self._settings = settings
        self._listed = listed
        self._own = self.account_id.own_keys

    def is_own(self, other: AccountId) -> bool:
        """Whether machines with that AccountId are known to belong to this account.

        An AccountId without account and endpoint counts as this account's.
        """
        return other.key in self._own

    def sees(self, other: AccountId, machines: Callable[[], Iterable[Located]]) -> bool:
        """Whether the key sees the machines with that AccountId: its own, or a rotated key's.

        Machine ids are unique, so if the key sees any of those `machines` that have the AccountId,
        both keys belong to the same account. That says nothing about another endpoint, which may
        use other ids.
        """
        is_here = other.endpoint in ("", self.account_id.endpoint)
        if is_here and not self.is_own(other):
            listed = self._listed()
            if any(
                machine.id in listed
                for machine in machines()
                if machine.account_id.key == other.key
            ):
                self._own.add(other.key)
        return self.is_own(other)

    def refuse_elsewhere(
        self, instance_id: str, other: AccountId, machines: Callable[[], Iterable[Located]]
    ) -> None:
        """Raise ElsewhereError if a machine that is not seen may belong to another account.

        `machines` returns the machines that can show that both keys belong to the same account.
        """
        if not self.sees(other, machines):
            raise self._elsewhere(instance_id, other)

    def _elsewhere(self, instance_id: str, other: AccountId) -> ElsewhereError:
        declared = self._settings.provider
        if other.endpoint not in ("", self.account_id.endpoint):
            way_out = (
                f"Give the provider {declared!r} in the program the endpoint where it was last "
                "seen, or the api that it was made with, and run `pulumi up`."
                if declared
                else "Set FAL_COMPUTE_ENDPOINT or fal:endpoint to the endpoint where it was last "
                "seen, or FAL_COMPUTE_API or fal:api to the API that it was made with."
            )
            return ElsewhereError(
                instance_id,
                f"Machine {instance_id} was last seen at {other.endpoint}, and the endpoint that "
                f"is set now, {self._settings.endpoint}, does not know it. It may still run and "
                f"bill, and it stays in state.\n{way_out}\nIf it no longer exists there, remove "
                "it from state with `pulumi state delete`.",
            )
        then = (
            ", and run `pulumi up`"
            if declared
            else "; `pulumi-fal doctor` prints the account of the key that is set"
        )
        return ElsewhereError(
            instance_id,
            f"Machine {instance_id} was last seen with the key of another account "
            f"({other.account}), and the key that is set now (account {self._settings.account}, "
            f"from {self._settings.key_source}) does not see it. It may still run and bill, and it "
            "stays in state.\nSet a key of the account that it was made with, "
            f"{self._settings.set_key}{then}.\nIf the machine no longer exists, remove it from "
            "state with `pulumi state delete`.",
        )
