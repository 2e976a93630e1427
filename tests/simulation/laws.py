"""What must hold, whatever happens. The truth is known here: who made which machine, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import NoRoomError, UnresolvedCreateError
from pulumi_fal.machines.decision import LATE_SECONDS, candidates
from pulumi_fal.machines.entry import Phase

from . import disk
from .account import Owner
from .plugin import KEY_OF, Call, Process

if TYPE_CHECKING:
    from .world import World


_NOT_KNOWN = "it is not known whether it was made for this stack"
"""What a command says where it does not know its organization."""
_MAY_APPEAR = "It is not known whether the earlier create made a machine as well"
"""What a command says of a create that another one has followed, where it can't look for more."""
_NOT_REPEATED = {"401", "403", "404", "redirect", "unsent"}
"""Faults of a create that end it however long its key is kept: another attempt would not help."""


class Laws:
    """Watches creates and deletes as they happen, and the whole at every moment of rest.

    1. Every machine of ours that runs is in its stack's state or in the journal.
    2. No create makes a machine while another of its resource runs that state does not have,
       unless a warning names that one as late, or says that the API could not be asked for it, or
       no list of the command has shown it.
    3. No machine of somebody else, or of another resource, is claimed; none of another stack is
       deleted, nor any that the same process has just claimed.
    4. A create that replaces never ends with a machine that state has already.
    5. A create that fails names every machine of its resource that state does not have.
    6. A delete ends well only when the machine is gone.
    7. Under the v1 API, no create stops because of one that could have been sent again.
    8. When an error hook has the engine create again, and it forgets what the attempt before had
       told it, state has that machine in the end.
    9. `pending adopt` takes no machine that another stack of the backend has in state.
    10. No command asks which organization a stack is in where `pulumi` lists only one of its name.
    11. A create that ends while it waits for room leaves no record of its own.
    12. A command of Pulumi warns of each late machine of its stack, as long as it can ask the API:
        at its start, and at its end of those that a list has shown to its creates meanwhile.
    """

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self._world = world
        self._in_state: dict[Call, frozenset[str]] = {}
        self._on_record: dict[Call, set[float]] = {}
        self._unnoted: set[str] = set()
        self._given_up: set[str] = set()
        self._forgotten: list[tuple[Call, str]] = []

    def check(self) -> None:
        """Raise AssertionError with every law that was broken."""
        self.violations += self._lost()
        self.violations += self._untold()
        assert not self.violations, "\n".join(self.violations)

    def create_begins(self, call: Call) -> None:
        self._in_state[call] = self._world.stacks[call.owner.stack].ids()
        self._on_record[call] = self._records(call)

    def create_ended(self, call: Call, instance_id: str) -> None:
        """A create says that this is the resource's machine."""
        if self._world.disk.trouble != disk.NOTHING:
            self._unnoted.add(instance_id)
        call.process.claimed.add(instance_id)
        if self._world.account.made_by.get(instance_id) != call.owner:
            self.violations.append(f"{call.owner} claims {instance_id}, which it did not make")
        # Where the journal failed when Pulumi was told, and the stack can't be asked now, nothing
        # is left that tells a replacement from a create that was cut short.
        unknowable = instance_id in self._unnoted and not call.process.conditions.answers
        if instance_id in self._in_state[call] and not unknowable:
            self.violations.append(f"{call.owner} was to be another machine than {instance_id}")

    def call_forgotten(self, call: Call, instance_id: str) -> None:
        """The engine forgets the machine that it was told of, and calls again."""
        self._forgotten.append((call, instance_id))

    def adopted(self, call: Call, instance_id: str, held: Mapping[str, frozenset[str]]) -> None:
        """A machine was adopted. `held`: what other stacks of the backend had when that began."""
        for stack, ids in held.items():
            if instance_id in ids & self._world.stacks[stack].ids():
                self.violations.append(f"{call.owner} adopts {instance_id}, which {stack} has")

    def forgets(self, call: Call) -> None:
        """A person forgets a create, whose machine nobody could have named."""
        made = self._world.account.machines_of(call.owner)
        self._given_up |= made & self._world.account.not_made_yet()

    def said(self, process: Process, words: str) -> None:
        """A command has ended with these warnings, errors and output."""
        stack = self._world.stacks[process.stack]
        twins = [
            other
            for other in self._world.stacks.values()
            if (other.backend, other.title) == (stack.backend, stack.title)
        ]
        if len(twins) == 1 and process.conditions.answers and _NOT_KNOWN in words:
            self.violations.append(f"{stack.full_name} is the only one of its name, but: {words}")

    def create_failed(self, call: Call, error: Exception) -> None:
        """A create says what went wrong."""
        self._check_key(call, error)
        if isinstance(error, NoRoomError) or "nothing is pending" in str(error):
            self._check_records(call, error)
        nobody_knows = self._world.disk.trouble == disk.GONE or any(
            words in str(error)
            for words in ("could not be asked", "the key of another account", _NOT_KNOWN)
        )
        if not call.is_heard or nobody_knows:
            return
        # A machine that the API makes after the create has looked for it has no name to be told.
        unseen = self._world.account.not_made_yet(call.process.listed_at)
        unseen |= self._warned_of(call.process)
        self.violations.extend(
            f"{machine} of {call.owner} is not named: {type(error).__name__}: {error}"
            for machine in sorted(self._outside(call.owner) - unseen)
            if machine not in str(error)
        )

    def _check_records(self, call: Call, error: Exception) -> None:
        if self._world.disk.trouble != disk.NOTHING or call.process.is_dead:
            return
        if self._records(call) - self._on_record[call]:
            self.violations.append(f"{call.owner} is on record, but: {error}")

    def _records(self, call: Call) -> set[float]:
        """Return when the creates of a resource were started that are on record."""
        origins = self._world.stacks[call.owner.stack].origins(call.owner.name)
        if self._world.disk.trouble == disk.GONE:
            return set()
        with self._world.unwatched():
            entries = self._world.journal.readable()
        return {entry.started for entry in entries if any(map(entry.origin.may_be, origins))}

    def _check_key(self, call: Call, error: Exception) -> None:
        process, world = call.process, self._world
        faults = {fault for kind, fault in world.account.met if kind == "create"}
        is_undisturbed = not (
            faults & _NOT_REPEATED
            or process.clock.interrupted.is_set()
            or world.disk.trouble != disk.NOTHING
        )
        if not (isinstance(error, UnresolvedCreateError) and is_undisturbed):
            return
        if _NOT_KNOWN in str(error):
            return
        with world.unwatched():
            entry = world.journal.find(world.stacks[call.owner.stack].origin(call.owner.name))
        if entry is None or entry.phase is not Phase.REQUESTED or "answered 307" in str(error):
            return
        program = world.stacks[call.owner.stack].program[call.owner.name]
        spec = NewInstance(program["instance_type"], program["ssh_key"], program.get("sector"))
        is_same = entry.is_for(spec) and KEY_OF[entry.account] == process.conditions.key
        if is_same and entry.key_seconds_left(process.clock.wall()) > 90:
            self.violations.append(f"{call.owner} was not sent again with its key: {error}")

    def late_machines(self, call: Call) -> set[str]:
        """Return the late machines of the command's stack that it could know of now."""
        world, process = self._world, call.process
        stack = world.stacks[call.owner.stack]
        conditions = process.conditions
        if not (conditions.answers and conditions.knows_organization):
            return set()
        if world.disk.trouble != disk.NOTHING or conditions.key not in ("key", "rotated"):
            return set()
        with world.unwatched():
            late = [entry.origin for entry in world.journal.readable() if entry.is_late]
        return {
            instance_id
            for instance_id in world.account.late - world.account.not_made_yet() - stack.ids()
            if world.account.runs(instance_id)
            and world.account.made_by[instance_id].stack == stack.name
            and stack.origin(world.account.made_by[instance_id].name) in late
        }

    def reviewed(self, call: Call, before: set[str]) -> None:
        """A command has begun with a look for late machines, of which there were some before it."""
        if call.process.clock.interrupted.is_set():
            return
        self._check_late(call.process, before & self.late_machines(call))

    def command_ended(self, process: Process) -> None:
        """A command has ended. Its last create knew what the lists of all had shown."""
        if process.is_dead or not process.engine_lives or process.clock.interrupted.is_set():
            return
        for call in process.calls:
            if call.has_posted:
                self._check_late(process, call.shown & self.late_machines(call))

    def _check_late(self, process: Process, late: set[str]) -> None:
        self.violations.extend(
            f"{instance_id} is late, and a command of stack {process.stack} does not say so"
            for instance_id in sorted(late - self._warned_of(process))
        )

    def made(self, call: Call, instance_id: str) -> None:
        """The API has taken a create's POST."""
        others = self._world.account.machines_of(call.owner) - self._in_state[call]
        others -= (
            self._world.account.not_made_yet()
            | self._first_seen_late(call.process.clock.wall())
            | self._warned_of(call.process)
        ) - {instance_id}
        if others != {instance_id}:
            self.violations.append(f"{call.owner} was made twice: {sorted(others)}")

    def _warned_of(self, process: Process) -> set[str]:
        """Return the late machines that the command has warned of, by their names if it could.

        They come from a create that another one has followed, so they stop none and end none. If a
        list has lapsed, nobody can know of those that no other one has shown.
        """
        warnings = "\n".join(process.warnings)
        late = self._world.account.late
        unknown = late - process.shown if ("list", "lapse") in self._world.account.met else set()
        return unknown | {
            machine for machine in late if machine in warnings or _MAY_APPEAR in warnings
        }

    def _first_seen_late(self, now: float) -> set[str]:
        """Return the machines that were first seen so long after a POST that a warning names them.

        They most likely belong to somebody else, so they stop no create, and stay on record.
        """
        with self._world.unwatched():
            entries = [entry for entry in self._world.journal.readable() if entry.is_late]
        return {
            instance_id
            for entry in entries
            if now - entry.started > LATE_SECONDS
            for instance_id in entry.found
        }

    def deleting(self, call: Call, instance_id: str) -> None:
        """The API is asked to delete a machine."""
        made_by = self._world.account.made_by.get(instance_id)
        if made_by is None or made_by.stack != call.owner.stack:
            self.violations.append(f"{call.owner} deletes {instance_id} of {made_by}")
        if instance_id in call.process.claimed:
            self.violations.append(f"{call.owner} deletes {instance_id}, which it just took")

    def delete_ended(self, call: Call, instance_id: str) -> None:
        """A delete says that the machine is gone."""
        # A machine that is too new to be listed is not known to be there, and goes all the same.
        if instance_id in {machine.id for machine in self._world.account.state.list()}:
            self.violations.append(f"{call.owner} let go of {instance_id}, which was still there")

    def _lost(self) -> Iterator[str]:
        entries = self._world.journal.readable()
        known = frozenset(entry.instance_id for entry in entries if entry.instance_id)
        for owner in sorted(set(self._world.account.made_by.values()), key=str):
            origins = self._world.stacks[owner.stack].origins(owner.name)
            own = [entry for entry in entries if any(map(entry.origin.may_be, origins))]
            for instance_id in sorted(self._outside(owner) - self._given_up):
                machine = self._world.account.machine(instance_id)
                seen = machine.seen_at(self._world.account.state.now())
                if not any(
                    instance_id == entry.instance_id
                    or (entry.instance_id is None and candidates(entry, [seen], known))
                    for entry in own
                ):
                    yield f"{instance_id} of {owner} is neither in state nor in the journal"

    def _untold(self) -> Iterator[str]:
        for call, instance_id in self._forgotten:
            known = self._world.stacks[call.owner.stack].ids()
            if (
                call.process.records
                and self._world.account.runs(instance_id)
                and (instance_id not in known)
            ):
                yield f"{instance_id} of {call.owner} was told to the engine, which forgot it"

    def _outside(self, owner: Owner) -> set[str]:
        """Machines that a resource made and its state doesn't have."""
        return self._world.account.machines_of(owner) - self._world.stacks[owner.stack].ids()
