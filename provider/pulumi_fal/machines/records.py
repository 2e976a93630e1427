"""What one process knows of its creates, in memory and in the journal."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import JournalError
from pulumi_fal.machines.journal import Entry, Phase, new_file
from pulumi_fal.stacks.cache import Origin

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account


@dataclass(frozen=True)
class Made:
    """The machine of a create, as it was last seen."""

    requested: NewInstance
    """What the program requested. The sector in the entry may be that of the cluster instead."""
    entry: Entry
    """The entry, as that of a machine that was not reported."""
    instance: Instance


class Records:
    """The creates of this process: the last one of each resource, its machine, and its entry.

    The engine may call Create again in the same step, if a hook of the program says so. It then
    forgets the result of the first call, even if that had the machine's id. So the outcome of a
    create belongs to the process until the step is over, even if the journal has become unreadable
    meanwhile. After the POST, an error of the journal must not hide the machine or the error of the
    POST, so it becomes a warning.
    """

    def __init__(self, account: Account) -> None:
        self._journal = account.journal
        self._stacks = account.stacks
        self._warn = account.warn
        self._wall = account.clock.wall
        self._lock = threading.Lock()
        self._reading_earlier = threading.Lock()
        self._earlier: defaultdict[str, list[Entry]] | None = None
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
        if made.requested != requested or made.instance.id in (self._stacks.ids(origin) or ()):
            del self._made[origin.urn]

    def made(self, origin: Origin) -> Made | None:
        """Return the machine of the resource's create, or None if none is known."""
        return self._made.get(origin.urn)

    def machines(self) -> dict[str, str]:
        """Return the ids of the machines of all creates, by the URN of the resource."""
        return {urn: made.instance.id for urn, made in list(self._made.items())}

    def remember(self, origin: Origin, entry: Entry, instance: Instance) -> None:
        """Remember the machine that the resource's present create works on."""
        self._made[origin.urn] = Made(self._requested[origin.urn], entry, instance)

    def saw(self, origin: Origin, instance: Instance, *, seen: bool) -> None:
        """Remember how the machine looks now, and with `seen` that the API has shown it."""
        made = self._made.get(origin.urn)
        if made is not None:
            entry = replace(made.entry, seen=made.entry.seen or seen)
            self._made[origin.urn] = replace(made, entry=entry, instance=instance)

    def succeed(self, origin: Origin) -> None:
        """End a create that the engine has no reason to repeat."""
        self._since_success[origin.urn] = 0

    def count(self, origin: Origin) -> int:
        """Return how often a create of the resource was begun since one succeeded."""
        return self._since_success.get(origin.urn, 0)

    def has_only(self, origin: Origin, instance_id: str) -> bool:
        """Whether the machine is of the resource's last create, and in state only once, as its."""
        made = self._made.get(origin.urn)
        if made is None or made.instance.id != instance_id:
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
        earlier = self._earlier_entries.get(instance_id, ())
        return is_first and all(entry.origin.path == Origin(urn).path for entry in earlier)

    def drop(self, entry: Entry) -> None:
        """Remove the entry."""
        with self._warning(entry.origin.urn):
            with self._lock:
                self._unwritten.pop(entry.file, None)
            self._journal.drop(entry)

    def amend(self, entry: Entry) -> None:
        """Write an earlier create's entry, which may be another stack's.

        Unlike with `write`, it is not written later if that fails.
        """
        with self._warning(entry.origin.urn):
            self._journal.write(entry)

    def settle(self, urn: str, instance_id: str, *, is_proven: bool) -> None:
        """Drop an earlier process's entry for a machine that is in state under this URN.

        `is_proven` says whether the API has just shown the machine, or has shown that it is gone.
        Otherwise the entry is dropped only if the machine was seen before. The entry is kept if the
        stack does not have the machine: a program may only read it, or a preview may import it. It
        needs no lock.
        """
        origin = Origin(urn)
        # Errors are ignored: they were reported at the start, and the next create checks the stack.
        with suppress(OSError, JournalError):
            for earlier in self._earlier_entries.get(instance_id, ()):
                entry = self._journal.current(earlier)
                # A late one's machine may be leaving state just now.
                if entry is None or entry.is_late or not (is_proven or entry.seen):
                    continue
                is_in_state = self._stacks.has(origin, instance_id)
                if is_in_state is None:  # another resource may only read it
                    is_in_state = entry.origin.path == origin.path
                if not is_in_state:
                    return
                self._journal.exchange(entry, None)

    @property
    def _earlier_entries(self) -> Mapping[str, list[Entry]]:
        """The entries of earlier processes, by machine id: the resource may have another name now.

        The folder is read only once, because a refresh asks for hundreds of machines at the same
        time. Entries that this process writes later are not needed.
        """
        with self._reading_earlier:
            if self._earlier is None:
                self._earlier = defaultdict(list)
                with suppress(JournalError):
                    for entry in self._journal.readable():
                        if entry.instance_id:
                            self._earlier[entry.instance_id].append(entry)
            return self._earlier

    def note_gone(self, origin: Origin, instance_id: str, props: Mapping[str, Any]) -> None:
        """Put a machine on record that leaves state because it is gone, as it may come back.

        `props` are its outputs in state. An earlier entry of it is kept as a late one. It needs no
        lock.
        """
        account_id, now = AccountId.of(props), self._wall()
        with self._warning(origin.urn):
            for entry in self._journal.readable():
                if entry.instance_id == instance_id:
                    self._journal.exchange(entry, entry.as_gone(now))
                    return
            gone = Entry(
                origin=origin,
                account=account_id.account,
                endpoint=account_id.endpoint,
                requested=NewInstance.of({"instance_type": "", "ssh_key": "", **props}).hashed(),
                before=(),
                started=now,
                instance_id=instance_id,
                file=new_file(origin),
            )
            self._journal.write(gone.as_gone(now))

    def was_never_shown(self, urn: str, instance_id: str) -> bool:
        """Whether the API may never have shown a machine in state, as far as is on record."""
        try:  # the resource may have had another name
            entries = [*self._journal.of(Origin(urn)), *self._journal.readable()]
        except JournalError:  # it was reported at the start
            return True
        return any(
            entry.instance_id == instance_id and not (entry.seen or entry.is_late)
            for entry in entries
        )

    def forget(self, origin: Origin) -> None:
        """Forget the resource's machine, which may be another stack's."""
        self._made.pop(origin.urn, None)

    def let_go(self, origin: Origin) -> None:
        """Forget the resource's machine, which is gone, and keep its entry as a late one."""
        made = self._made.pop(origin.urn, None)
        if made is not None:
            self.write(made.entry.as_gone(self._wall()))

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
                instance_id=made.instance.id,
                problem="",
                seen=seen or entry.seen,
            )
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
        """Return what takes back the report of the present create, if it did not reach Pulumi.

        It needs no lock. gRPC may report the end of a call late: once the engine has called Create
        again, it must have received the result of the call before, and this does nothing.
        """
        number = self._numbers.get(origin.urn)

        def undelivered() -> None:
            with self._lock, self._warning(origin.urn):
                if self._numbers.get(origin.urn) == number:
                    reported = self._reported.pop(origin.urn, None)
                    if reported is not None:
                        self._journal.exchange(reported, replace(reported, phase=Phase.CREATED))

        return undelivered

    @contextmanager
    def _warning(self, about: str) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            self._warn(f"{error} (This is about {about}.)")
