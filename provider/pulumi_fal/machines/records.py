"""What this process knows of its creates, in memory and in the journal.

The engine may call Create again in the same step, if a hook of the program says so. It then forgets
the result of the first call, even if that had the machine's id. So the outcome of a create belongs
to the process until the step is over, even if the journal has become unreadable meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import Origin


@dataclass(frozen=True)
class Made:
    """The machine of a create, as it was last seen."""

    requested: NewInstance
    """What the program requested. The sector in the entry may be that of the cluster instead."""
    entry: Entry
    """The entry, as that of a machine that was not reported."""
    machine: Instance


class Records:
    """The creates of this process: the last one of each resource, its machine, and its entry.

    After the POST, an error of the journal must not hide the machine or the error of the POST, so
    it becomes a warning.
    """

    def __init__(self, journal: Journal, stacks: Stacks, warn: Callable[[str], None]) -> None:
        self._journal = journal
        self._stacks = stacks
        self._warn = warn
        self._lock = threading.Lock()
        self._numbers: dict[Origin, int] = {}
        self._since_success: dict[Origin, int] = {}
        self._requested: dict[Origin, NewInstance] = {}
        self._made: dict[Origin, Made] = {}
        self._reported: dict[Origin, Entry] = {}

    # In memory.

    def begin(self, origin: Origin, requested: NewInstance) -> None:
        """Begin a create, and forget the machine of the last one unless this one repeats it.

        A create with other inputs repeats none, and neither does one whose machine is in state:
        that one replaces the machine.
        """
        with self._lock:
            self._numbers[origin] = self._numbers.get(origin, 0) + 1
            self._since_success[origin] = self.count(origin) + 1
            self._requested[origin] = requested
        made = self._made.get(origin)
        if made is None:
            return
        self._stacks.forget(origin)  # the step before may have put the machine into state
        if made.requested != requested or made.machine.id in (self._stacks.ids(origin) or ()):
            del self._made[origin]

    def made(self, origin: Origin) -> Made | None:
        """Return the machine of the resource's create, or None if none is known."""
        return self._made.get(origin)

    def machines(self) -> dict[str, str]:
        """Return the ids of the machines of all creates, by the URN of the resource."""
        return {origin.urn: made.machine.id for origin, made in list(self._made.items())}

    def remember(self, entry: Entry, machine: Instance) -> None:
        """Remember the machine that the present create of the entry's resource works on."""
        self._made[entry.origin] = Made(self._requested[entry.origin], entry, machine)

    def saw(self, origin: Origin, machine: Instance, *, seen: bool) -> None:
        """Remember how the machine looks now, and with `seen` that the API has shown it."""
        made = self._made.get(origin)
        if made is not None:
            entry = replace(made.entry, seen=made.entry.seen or seen)
            self._made[origin] = replace(made, entry=entry, machine=machine)

    def succeed(self, origin: Origin) -> None:
        """End a create that the engine has no reason to repeat."""
        self._since_success[origin] = 0

    def count(self, origin: Origin) -> int:
        """Return how often a create of the resource was begun since one succeeded."""
        return self._since_success.get(origin, 0)

    def has_only(self, origin: Origin, instance_id: str) -> bool:
        """Whether the machine is of the resource's last create, and in state only once, as its."""
        made = self._made.get(origin)
        if made is None or made.machine.id != instance_id:
            return False
        self._stacks.forget(origin)
        in_state = self._stacks.machines(origin) or ()
        return [machine.urn for machine in in_state if machine.id == instance_id] == [origin.urn]

    # In the journal. The caller holds the lock of the create, unless a docstring says otherwise.

    def write(self, entry: Entry) -> None:
        """Put the entry on disk."""
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._journal.write(entry)

    def drop(self, entry: Entry) -> None:
        """Remove the entry."""
        with self._warning(entry.origin.urn):
            self._journal.drop(entry)

    def exchange(self, read: Entry, new: Entry | None) -> None:
        """Replace or drop an entry whose lock this process does not hold, if it is unchanged."""
        with self._warning(read.origin.urn):
            self._journal.exchange(read, new)

    def discard(self, origin: Origin) -> None:
        """Forget the resource's machine, which is gone, and drop its entry."""
        self._made.pop(origin, None)
        with self._warning(origin.urn):
            entry = self._find(origin)
            if entry is not None:
                self._journal.drop(entry)

    def put_back(self, late: Entry) -> None:
        """Make a late entry the entry of its resource again, because it got no other machine."""
        with self._warning(late.origin.urn):
            self._journal.write(replace(late, phase=Phase.REQUESTED, found=()))
            self._journal.drop(late)

    def mark_reported(self, origin: Origin, *, seen: bool, has_lock: bool = True) -> None:
        """Record that the machine is about to be reported to Pulumi.

        `seen` says whether the API has shown the machine since the POST. Without the lock, an entry
        that another process changes is left to that process.
        """
        with self._warning(origin.urn):
            entry = self._find(origin)
            if entry is None:
                return
            reported = replace(entry, phase=Phase.REPORTED, seen=seen or entry.seen)
            if reported != entry:
                if has_lock:
                    self._journal.write(reported)
                elif not self._journal.exchange(entry, reported):
                    return
            self._reported[origin] = reported

    def undelivered(self, origin: Origin) -> Callable[[], None]:
        """Return what is to be called if the report of the present create did not reach Pulumi.

        It needs no lock. gRPC may report the end of a call late: once the engine has called Create
        again, it must have received the result of the call before, and this does nothing.
        """
        number = self._numbers.get(origin)

        def undelivered() -> None:
            with self._lock:
                if self._numbers.get(origin) == number:
                    self.mark_unreported(origin)

        return undelivered

    def mark_unreported(self, origin: Origin) -> None:
        """Take back what `mark_reported` recorded, unless another process has changed it since.

        It needs no lock.
        """
        with self._warning(origin.urn):
            reported = self._reported.pop(origin, None)
            if reported is not None:
                self._journal.exchange(reported, replace(reported, phase=Phase.CREATED))

    def _find(self, origin: Origin) -> Entry | None:
        entry = self._journal.find(origin)
        return entry if entry is not None and entry.origin == origin else None

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")
