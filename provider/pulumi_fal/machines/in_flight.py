"""Which creates of this process have no machine on record yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InFlight:
    """The URNs of the creates in flight. Can be used from any thread."""

    def __init__(self) -> None:
        self._urns: set[str] = set()
        self._fewer = threading.Condition()

    def urns(self, wanted: Callable[[str], bool], seconds: float = 0.0) -> set[str]:
        """Return the wanted URNs, after a wait of up to `seconds` until there are none."""

        def found() -> set[str]:
            return set(filter(wanted, self._urns))

        with self._fewer:
            self._fewer.wait_for(lambda: not found(), seconds)
            return found()

    @contextmanager
    def counted(self, urn: str) -> Iterator[Callable[[], None]]:
        """Count the create of this resource as in flight until the block ends.

        The function that this yields ends that earlier, as soon as the machine is on record.
        """
        with self._fewer:
            self._urns.add(urn)
        try:
            yield lambda: self.discount(urn)
        finally:
            self.discount(urn)

    def discount(self, urn: str) -> None:
        """Count the create of this resource no longer."""
        with self._fewer:
            self._urns.discard(urn)
            self._fewer.notify_all()
