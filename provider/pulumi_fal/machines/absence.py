"""The one rule for when a machine is gone.

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
from types import TracebackType

from pulumi_fal.clock import Clock

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
