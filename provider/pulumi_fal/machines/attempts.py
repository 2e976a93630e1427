"""Remembers what the creates of this process made, because the engine may repeat a create.

A hook of the program can have the engine call Create again in the same step. The engine then
forgets the result of the first call, even if it contained the machine's id.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.clock import Clock
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.facts import FactFinder
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.stacks import Stacks
from pulumi_fal.stacks.origin import Origin


@dataclass(frozen=True)
class Made:
    """The machine of a create, as it was last seen."""

    requested: NewInstance
    """What the program requested. The sector in the entry may be that of the cluster instead."""
    entry: Entry
    """The entry, as that of a machine that was not reported."""
    machine: Instance


class Attempts:
    """The creates of this process: the last one of each resource, and its machine.

    What is known here does not depend on the journal, which may have become unreadable since.
    """

    def __init__(self, facts: FactFinder, records: Records, stacks: Stacks, clock: Clock) -> None:
        self._facts = facts
        self._records = records
        self._stacks = stacks
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers: dict[Origin, int] = {}
        self._since_success: dict[Origin, int] = {}
        self._requested: dict[Origin, NewInstance] = {}
        self._made: dict[Origin, Made] = {}

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

    def repeat(self, origin: Origin) -> Instance | None:
        """Return the machine of the create that the present one repeats; None if there is none.

        Its entry is written again, because the engine has forgotten the report of the machine. It
        is dropped if the machine is gone.
        """
        made = self._made.get(origin)
        if made is None:
            return None
        found = self._facts.find(made.entry)
        if found is None and not made.entry.is_new(self._clock.wall()):
            self.discard(origin)
            return None
        entry = replace(made.entry, seen=made.entry.seen or found is not None)
        self.remember(entry, found or made.machine)
        self._records.write(entry)
        return found or Instance(made.machine.id, entry.instance_type, entry.requested.sector)

    def made(self, origin: Origin) -> Made | None:
        """Return the machine of the resource's create, or None if none is known."""
        return self._made.get(origin)

    def remember(self, entry: Entry, machine: Instance) -> None:
        """Remember the machine that the present create of the entry's resource works on."""
        self._made[entry.origin] = Made(self._requested[entry.origin], entry, machine)

    def saw(self, origin: Origin, machine: Instance, *, seen: bool) -> None:
        """Remember how the machine looks now, and with `seen` that the API has shown it."""
        made = self._made.get(origin)
        if made is not None:
            entry = replace(made.entry, seen=made.entry.seen or seen)
            self._made[origin] = replace(made, entry=entry, machine=machine)

    def discard(self, origin: Origin) -> None:
        """Forget the machine, and drop its entry, because it is gone."""
        self._made.pop(origin, None)
        self._records.discard(origin)

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

    def if_last(self, origin: Origin, action: Callable[[], None]) -> Callable[[], None]:
        """Return a callback that runs `action`, unless another create of the resource has begun.

        gRPC may report the end of a call late. Once the engine has called Create again, it must
        have received the result of the call before.
        """
        number = self._numbers.get(origin)

        def run() -> None:
            with self._lock:
                if self._numbers.get(origin) == number:
                    action()

        return run
