"""What this process knows of its creates, in memory and in the journal.

The engine may call Create again in the same step, if a hook of the program says so. It then forgets
the result of the first call, even if that had the machine's id. So the outcome of a create belongs
to the process until the step is over, even if the journal has become unreadable meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.decision import as_gone
from pulumi_fal.machines.journal import Entry, Journal, Phase
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

    def __init__(
        self,
        journal: Journal,
        stacks: Stacks,
        warn: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall` returns the time of day in seconds since the epoch."""
        self._journal = journal
        self._stacks = stacks
        self._warn = warn
        self._wall = wall
        self._lock = threading.Lock()
        self._unwritten: dict[str, Entry] = {}
        """By file, what could not be written, as while the disk is full for a moment."""
        self._claims: dict[str, str] = {}
        # The others are by URN.
        self._numbers: dict[str, int] = {}
        self._since_success: dict[str, int] = {}
        self._requested: dict[str, NewInstance] = {}
        self._made: dict[str, Made] = {}
        self._reported: dict[str, Entry] = {}

    # In memory.

    def begin(self, origin: Origin, requested: NewInstance) -> None:
        """Begin a create, and forget the machine of the last one unless this one repeats it.

        A create with other inputs repeats none, and neither does one whose machine is in state:
        that one replaces the machine.
        """
        with self._lock:
            self._numbers[origin.urn] = self._numbers.get(origin.urn, 0) + 1
            self._since_success[origin.urn] = self.count(origin) + 1
            self._requested[origin.urn] = requested
        if self._numbers[origin.urn] > 1:
            self._stacks.forget(origin)  # the step before may have put the machine into state
        made = self._made.get(origin.urn)
        if made is None:
            return
        if made.requested != requested or made.machine.id in (self._stacks.ids(origin) or ()):
            del self._made[origin.urn]

    def made(self, origin: Origin) -> Made | None:
        """Return the machine of the resource's create, or None if none is known."""
        return self._made.get(origin.urn)

    def machines(self) -> dict[str, str]:
        """Return the ids of the machines of all creates, by the URN of the resource."""
        return {urn: made.machine.id for urn, made in list(self._made.items())}

    def remember(self, origin: Origin, entry: Entry, machine: Instance) -> None:
        """Remember the machine that the resource's present create works on."""
        self._made[origin.urn] = Made(self._requested[origin.urn], entry, machine)

    def saw(self, origin: Origin, machine: Instance, *, seen: bool) -> None:
        """Remember how the machine looks now, and with `seen` that the API has shown it."""
        made = self._made.get(origin.urn)
        if made is not None:
            entry = replace(made.entry, seen=made.entry.seen or seen)
            self._made[origin.urn] = replace(made, entry=entry, machine=machine)

    def succeed(self, origin: Origin) -> None:
        """End a create that the engine has no reason to repeat."""
        self._since_success[origin.urn] = 0

    def count(self, origin: Origin) -> int:
        """Return how often a create of the resource was begun since one succeeded."""
        return self._since_success.get(origin.urn, 0)

    def has_only(self, origin: Origin, instance_id: str) -> bool:
        """Whether the machine is of the resource's last create, and in state only once, as its."""
        made = self._made.get(origin.urn)
        if made is None or made.machine.id != instance_id:
            return False
        self._stacks.forget(origin)
        in_state = self._stacks.machines(origin) or ()
        return [machine.urn for machine in in_state if machine.id == instance_id] == [origin.urn]

    # In the journal. The caller holds the lock of the create, unless a docstring says otherwise.

    def begin_post(self, entry: Entry) -> None:
        """Put the entry of a create on disk, before its POST. Raises JournalError."""
        self._journal.write(entry)
        self._catch_up()

    def write(self, entry: Entry) -> None:
        """Put the entry on disk, or do it with the next write if that fails."""
        with self._warning(entry.instance_id or "a machine whose id is not known"):
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        with self._lock:
            self._unwritten.pop(entry.file, None)
        try:
            self._journal.write(entry)
        except JournalError:
            with self._lock:
                self._unwritten[entry.file] = entry
            raise
        self._catch_up()

    def _catch_up(self) -> None:
        """Write what could not be written. Nobody else has a newer version of it meanwhile."""
        with self._lock, suppress(JournalError):
            for entry in list(self._unwritten.values()):
                self._journal.write(entry)
                del self._unwritten[entry.file]

    def claim(self, urn: str, instance_id: str) -> bool:
        """Whether no other resource of this process, and no earlier create, has the machine.

        An answer may be that to another create's request, as from a cache on the way.
        """
        with self._lock:
            is_first = self._claims.setdefault(instance_id, urn) == urn
        return is_first and not self._journal.has_earlier(urn, instance_id)

    def drop(self, entry: Entry) -> None:
        """Remove the entry."""
        with self._warning(entry.origin.urn):
            with self._lock:
                self._unwritten.pop(entry.file, None)
            self._journal.drop(entry)

    def amend(self, entry: Entry) -> None:
        """Write an earlier create's entry, which may be another stack's."""
        with self._warning(entry.origin.urn):
            self._journal.write(entry)

    def note_gone(self, entry: Entry) -> None:
        """Put the machine of a late entry on record, as which an earlier entry of it is kept.

        It needs no lock.
        """
        with self._warning(entry.origin.urn):
            for earlier in self._journal.readable():
                if earlier.instance_id == entry.instance_id:
                    self._journal.exchange(earlier, as_gone(earlier, entry.started))
                    return
            self._journal.write(entry)

    def let_go(self, origin: Origin, now: float) -> None:
        """Forget the resource's machine, which is gone, and keep its entry as a late one."""
        made = self._made.pop(origin.urn, None)
        if made is not None:
            self.write(as_gone(made.entry, now))

    def mark_reported(self, origin: Origin, *, seen: bool, has_lock: bool = True) -> None:
        """Record that the machine is about to be reported to Pulumi.

        `seen` says whether the API has shown the machine since the POST. Without the lock, an entry
        that another process changes is left to that process.
        """
        made = self._made.get(origin.urn)
        if made is None:
            return
        with self._warning(origin.urn):
            entry = self._journal.current(made.entry)
            if entry is None:
                return
            reported = replace(
                entry,
                phase=Phase.REPORTED,
                started=self._wall(),  # state has the machine a moment after this
                instance_id=made.machine.id,
                problem="",
                seen=seen or entry.seen,
            )
            if replace(reported, started=entry.started) != entry:
                if has_lock:
                    self._put(reported)
                elif not self._journal.exchange(entry, reported):
                    return
            self._reported[origin.urn] = reported

    def note_imported(self, origin: Origin, instance_id: str) -> None:
        """Record that Pulumi is told of a machine because the program imports it.

        Else the next replacement would take it for that of a create that Pulumi was not told of.
        """
        with self._warning(origin.urn):
            for entry in self._journal.of(origin):
                if entry.instance_id == instance_id and not entry.is_late:
                    told = replace(entry, phase=Phase.REPORTED, started=self._wall(), seen=True)
                    self._journal.exchange(entry, told)

    def undelivered(self, origin: Origin) -> Callable[[], None]:
        """Return what is to be called if the report of the present create did not reach Pulumi.

        It needs no lock. gRPC may report the end of a call late: once the engine has called Create
        again, it must have received the result of the call before, and this does nothing.
        """
        number = self._numbers.get(origin.urn)

        def undelivered() -> None:
            with self._lock:
                if self._numbers.get(origin.urn) == number:
                    self.mark_unreported(origin)

        return undelivered

    def mark_unreported(self, origin: Origin) -> None:
        """Take back what `mark_reported` recorded, unless another process has changed it since.

        It needs no lock.
        """
        with self._warning(origin.urn):
            reported = self._reported.pop(origin.urn, None)
            if reported is not None:
                self._journal.exchange(reported, replace(reported, phase=Phase.CREATED))

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")
