"""What must hold, whatever happens. The truth is known here: who made which machine, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import CapacityError, UnresolvedCreateError, VanishedError
from pulumi_fal.machines.journal import LATE_SECONDS, Entry, Phase
from pulumi_fal.machines.whose import ABANDONED_SECONDS, candidates
from pulumi_fal.resource import inputs
from pulumi_fal.resource.inputs import GONE, UNFINISHED

from . import journal
from .account import Owner
from .plugin import HOMES, KEY_OF, Call, Process
from .stacks import CLOUD, Inputs, Row, Stack, place, replacing

if TYPE_CHECKING:
    from .world import World


_NOT_KNOWN = "it is not known whether that is this stack"
"""What a create says that does not know whose an earlier one is."""
_MAY_APPEAR = "It is not known whether the earlier create made a machine as well"
"""What a command says of a create that another one has followed, where it can't look for more."""
_NOT_NAMED = (
    *("could not be asked", "the key of another account", "an earlier create of it is on"),
    "The key that was refused",
)
"""What a create says that can't name the machines of an earlier one."""
_NOT_REPEATED = {
    *("401", "403", "404", "no_room", "redirect", "unsent"),
    *("404_but_made", "no_room_but_made"),
}
"""Faults of a create that end it however long its key is kept: another attempt would not help."""
GONE_SECONDS = 60.0
"""For how long the API must lack a machine until it counts as gone."""
_LOOK_SECONDS = 20.0
"""The longest between two looks of a wait."""
_SHARED_SECONDS = 2.0
"""For how long creates share a list of the machines before their POSTs."""
_SEARCH_SECONDS = 200.0
"""The longest that a create looks for what earlier ones made, and for machines that are missing."""


class Laws:
    """Watches creates and deletes as they happen, and the whole at every moment of rest.

    1. Every machine of ours that runs is in its stack's state or in the journal.
    2. No create makes a machine while another of its resource runs that state does not have, unless
       that one is on record as late, and was named or can't be seen by this key or yet, or the API
       has lacked it for a minute and still does, or it refused the create and lied, unless that was
       in the same call; or only the journal of another computer knows of it, and state does not
       tell that its create was cut off. It looks once for those of all earlier creates.
    3. No machine of somebody else, or of another resource, is claimed; none of another stack is
       deleted, nor any that the same process has just claimed.
    4. A create that replaces never ends with a machine that state has already.
    5. A create that fails names every machine of its resource that state does not have.
    6. A delete ends well only when the machine is gone, unless it was gone before.
    7. Under the v1 API, no create stops because of one that could have been sent again.
    8. When an error hook has the engine create again, and it forgets what the attempt before had
       told it, state has that machine in the end.
    9. No import and no `pending adopt` takes a machine that another stack has in state or that the
       create of another resource made, and `delete` ends none that anybody had when it was told to.
    10. Where the host tells the provider's id, no create says that it does not know whose an
        earlier one is if its stack can be read.
    11. A create that ends while it waits for capacity leaves no entry of its own.
    12. A command of Pulumi warns at its start of each late machine of its stack, if it can ask.
    13. What `audit` calls forgotten is nobody's, and no create ends with it later.
    14. `audit` does not exit with 0 while a machine runs that no stack has, whose create nobody
        works on, and whose stack is gone or that has been running for ten minutes.
    15. No machine that runs counts as gone, unless lists and GET have lacked it for a minute; or it
        is in state, the API has never shown it, and its record could not be written, or is on
        another computer, because then
        nothing tells that it is new. It is on record as gone then, and named if it appears.
    16. Whatever goes wrong is said in words, and not with a traceback.
    17. A machine that nobody asked to replace, and that the API shows, is not deleted by its
        replacement.
    18. What `up` replaces unasked, the preview of the same moment called a replacement.
    19. No command of Pulumi removes a record whose machine runs, unless another record names it, or
        a stack has it and the API has shown it.
    """

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self._world = world
        self._in_state: dict[Call, frozenset[str]] = {}
        self._on_record: dict[Call, list[Entry]] = {}
        self._began: dict[Call, float] = {}
        self._unnoted: set[str] = set()
        self.given_up: set[str] = set()
        """What a person has forgotten before anybody could have known of it, or has removed."""
        self._forgotten: list[tuple[Call, str]] = []
        self._taken: list[str] = []
        """What was imported or adopted."""
        self._had: dict[Call, Set[str]] = {}
        """What somebody had when a person answered the question of a command."""
        self._taken_before: dict[Call, int] = {}
        self._previews: dict[str, tuple[float, set[str]]] = {}
        """By stack, when it was previewed last, and what that has called a replacement."""
        self.unasked: set[str] = set()
        """The machines that were replaced, although no input has changed that replaces one."""
        self._made_at: dict[str, str] = {}
        """By machine, on which computer it was made."""
        self._lied: dict[str, Call] = {}
        """By the machine that was made nevertheless, the call that was refused."""
        self._found_gone: set[str] = set()
        self._nobodys: set[str] = set()
        """What `audit` has called forgotten."""

    def check(self) -> None:
        """Raise AssertionError with every law that was broken."""
        self.violations += self._lost()
        self.violations += self._untold()
        assert not self.violations, "\n".join(self.violations)

    # Creates.

    def create_begins(self, call: Call) -> None:
        self._in_state[call] = self._world.stacks[call.owner.stack].ids()
        self._on_record[call] = self._world.entries_of(call.owner, call.process.home)
        self._began[call] = self._world.time.now

    def create_ended(self, call: Call, instance_id: str) -> None:
        """A create says that this is the resource's machine."""
        if self._world.disk.trouble != journal.NOTHING:
            self._unnoted.add(instance_id)
        call.process.claimed.add(instance_id)
        # One that is sent again is answered as at first, although the machine may be gone since, as
        # part of the stack into which it was imported.
        is_over = instance_id in self._taken and not self._world.account.runs(instance_id)
        if self._world.account.made_by.get(instance_id) != call.owner and not is_over:
            self.violations.append(f"{call.owner} claims {instance_id}, which it did not make")
        if instance_id in self._nobodys - set(self._taken):
            self.violations.append(f"{call.owner} has {instance_id}, which was called forgotten")
        # Where the journal failed when Pulumi was told, and the stack can't be asked now, nothing
        # is left that tells a replacement from a create that was cut short.
        unknowable = instance_id in self._unnoted and call.process.conditions.unread
        if instance_id in self._in_state[call] and not unknowable:
            self.violations.append(f"{call.owner} was to be another machine than {instance_id}")

    def call_forgotten(self, call: Call, instance_id: str) -> None:
        """The engine forgets the machine that it was told of, and calls again."""
        self._forgotten.append((call, instance_id))

    def called_again(self, call: Call) -> None:
        """An error hook has the engine call Create again, after an error."""
        self._on_record[call] = self._world.entries_of(call.owner, call.process.home)

    def create_failed(self, call: Call, error: Exception) -> None:
        """A create says what went wrong."""
        world, process = self._world, call.process
        self._check_key(call, error)
        if isinstance(error, VanishedError):
            self.found_gone(call, error.instance_id)
        if isinstance(error, CapacityError) or "nothing is pending" in str(error):
            self._check_records(call, error)
        if _NOT_KNOWN in str(error) and self._is_known(call):
            self.violations.append(f"{call.owner} does not know its stack: {error}")
        nobody_knows = world.disk.trouble == journal.GONE or any(
            words in str(error) for words in _NOT_NAMED
        )
        if not call.is_heard or nobody_knows:
            return
        # A machine that the API makes after the create has looked for it has no name to be told.
        unseen = world.account.not_made_yet(process.listed_at) | self._followed(call.owner)
        unseen |= self._lacked() | self._elsewhere(call)
        # One that it took for gone, and that the API shows again, is named by the next command.
        unseen |= {entry.instance_id or "" for entry in world.entries_of(call.owner, late=True)}
        said = "\n".join([*process.warnings, str(error)])
        self.violations.extend(
            f"{machine} of {call.owner} is not named: {type(error).__name__}: {error}"
            for machine in sorted(self._outside(call.owner) - unseen)
            if machine not in said
        )

    def found_gone(self, call: Call, instance_id: str) -> None:
        """A create, an update or a refresh says that a machine is gone."""
        account = self._world.account
        self._found_gone.add(instance_id)
        is_unnoted = instance_id in self._unnoted | self._elsewhere(call)
        is_unnoted = is_unnoted and not account.shows(instance_id, _LOOK_SECONDS)
        is_lacked = account.lacked(instance_id) >= GONE_SECONDS
        if account.runs(instance_id) and not (is_lacked or is_unnoted):
            self.violations.append(f"{call.owner} takes {instance_id} for gone, which runs")
        if self._world.disk.trouble != journal.NOTHING:  # Pulumi's row of it is all that tells
            self.given_up.add(instance_id)

    # Replacements.

    def previewed(self, stack: str, replaced: set[str]) -> None:
        """A preview of a stack has ended."""
        self._previews[stack] = (self._world.time.now, replaced)

    def edited(self, stack: str) -> None:
        """A program has changed since its last preview."""
        self._previews.pop(stack, None)

    def preview_of(self, stack: str) -> set[str] | None:
        """Return what the preview of this moment has called a replacement, if there was one."""
        moment, replaced = self._previews.pop(stack, (-1.0, set[str]()))
        return replaced if moment == self._world.time.now else None

    def replaces(self, call: Call, row: Row, news: Inputs, previewed: set[str] | None) -> None:
        """An `up` replaces a machine because a diff says so."""
        if previewed is not None and call.owner.name not in previewed:
            self.violations.append(f"{call.owner} is replaced, which its preview did not say")
        self.unasked.discard(row.id)
        if all(news.get(name) == row.inputs.get(name) for name in inputs.REPLACING):
            self.unasked.add(row.id)

    def _elsewhere(self, call: Call) -> set[str]:
        """Return the machines that another computer has made, and that no create here names."""
        home = call.process.home
        made = {instance_id for instance_id, by in self._made_at.items() if by != home}
        entries = self._world.entries(home) if made else []
        return made - {entry.instance_id for entry in entries if not entry.is_late}

    def _cut_off(self, call: Call) -> set[str]:
        """Return the machines that a create may see, of which state says that it was cut off."""
        world, account, conditions = self._world, self._world.account, call.process.conditions
        stack, name = world.stacks[call.owner.stack], call.owner.name
        is_known = stack.is_native or not stack.backend.startswith("http")
        row, creates = stack.rows.get(name), stack.requests(name)
        with suppress(ValueError):
            creates.remove(replacing(stack.program[name]))  # this one
        told = [one for one in creates if row is None or one != row.requested]
        is_disturbed = account.met or conditions.schedule or conditions.unread
        is_on_record = any(
            entry.instance_id is None
            or not (entry.is_late or entry.instance_id in self._in_state[call])
            for entry in self._on_record[call]
        )
        if not is_known or is_disturbed or is_on_record:
            return set()
        asking = account.state.account_of(conditions.key)
        return {
            instance_id
            for instance_id in account.machines_of(call.owner)
            if account.machine(instance_id).hidden_until["list"] < self._began[call]
            and account.machine(instance_id).belongs_to(asking)
            and replacing(asdict(account.machine(instance_id).requested)) in told
        }

    def _lacked(self) -> set[str]:
        """Return the machines that count as gone, because the API has lacked them for a minute.

        Those that were rightly found gone, and were back only between two commands, are among them.
        """
        account = self._world.account
        return {
            instance_id
            for instance_id in account.made_by
            if account.lacked(instance_id) >= GONE_SECONDS or instance_id in self._found_gone
            if not account.shows(instance_id)
        }

    def _is_known(self, call: Call) -> bool:
        """Whether the ids tell of which stack each earlier create of the resource's name is."""
        world, process = self._world, call.process
        if process.conditions.unread or not world.stacks[call.owner.stack].is_native:
            return False
        ids = {(place(stack.backend), stack.provider) for stack in world.everywhere()}
        names = world.stacks[call.owner.stack].names.get(call.owner.name, ())
        return all(
            {(place(url), origin.provider) for url in (origin.backend, process.backend)} & ids
            for origin in (entry.origin for entry in world.entries(process.home))
            if origin.name in (call.owner.name, *names)
        )

    def _check_records(self, call: Call, error: Exception) -> None:
        if self._world.disk.trouble != journal.NOTHING or call.process.is_dead:
            return
        entries = self._world.entries_of(call.owner, call.process.home)
        files = {entry.file for entry in entries}
        if files - {entry.file for entry in self._on_record[call]}:
            self.violations.append(f"{call.owner} is on record, but: {error}")

    def _check_key(self, call: Call, error: Exception) -> None:
        process, world = call.process, self._world
        faults = {fault for kind, fault in world.account.met if kind == "create"}
        is_undisturbed = not (
            faults & _NOT_REPEATED
            or process.clock.interrupted.is_set()
            or process.conditions.unread
            or world.disk.trouble != journal.NOTHING
        )
        if not (isinstance(error, UnresolvedCreateError) and is_undisturbed):
            return
        if _NOT_KNOWN in str(error) or "answered 307" in str(error):
            return
        stack = world.stacks[call.owner.stack]
        backend = place(stack.backend)
        program = stack.program[call.owner.name]
        spec = NewInstance(program["instance_type"], program["ssh_key"], program.get("sector"))
        for entry in world.entries_of(call.owner, process.home):
            is_same = entry.is_for(spec) and KEY_OF[entry.account] == process.conditions.key
            provider, is_here = entry.origin.provider, place(entry.origin.backend) == backend
            is_known = provider == stack.provider if provider else is_here and backend != CLOUD
            is_kept = entry.key_seconds_left(process.clock.wall()) > 90
            if entry.phase is Phase.REQUESTED and is_same and is_known and is_kept:
                self.violations.append(f"{call.owner} was not sent again with its key: {error}")

    def made(self, call: Call, instance_id: str) -> None:
        """The API has taken a create's POST."""
        others = self._world.account.machines_of(call.owner) - self._in_state[call]
        self._made_at[instance_id] = call.process.home
        if instance_id in self._world.account.lied:
            self._lied[instance_id] = call
        others -= (
            self.given_up
            | (self._world.account.lied - self._refused(call))
            | self._world.account.not_made_yet()
            | self._followed(call.owner)
            | self._unseen_late(call)
            | self._warned_of(call.process)
            | self._lacked()
            | (self._elsewhere(call) - self._cut_off(call))
        ) - {instance_id}
        if others != {instance_id}:
            self.violations.append(f"{call.owner} was made twice: {sorted(others)}")
        seconds = self._world.time.now - self._began[call]
        account = self._world.account
        is_alone = not (account.met or account.has_glitches) and len(self._world.processes) == 1
        if is_alone and not call.process.conditions.events and seconds > _SEARCH_SECONDS:
            self.violations.append(f"{call.owner} was only created after {seconds:.0f} s")

    def _refused(self, call: Call) -> set[str]:
        """Return the machines that a call has made and was refused, as a list shows them."""
        world, account = self._world, self._world.account
        is_alone = len(world.processes) == 1 and not call.process.conditions.schedule
        if not is_alone or any(kind == "list" for kind, _ in account.met):
            return set()
        listed_since = world.account.state.now() - _SHARED_SECONDS
        return {
            instance_id
            for instance_id, by in self._lied.items()
            if by is call and account.machine(instance_id).hidden_until["list"] < listed_since
        }

    def _followed(self, owner: Owner) -> set[str]:
        """Return the machines of creates that others have followed: the next command names them.

        If they were first seen long after their POST, they most likely belong to somebody else. So
        do, as far as anybody can tell, those from before the stack was destroyed and renamed, or
        was moved and destroyed, if it is still where it was; and those without an id from before it
        was moved and renamed.
        """
        late, now = self._world.entries_of(owner, late=True), self._world.turns.wall()
        found = {
            instance_id
            for entry in late
            if now - entry.started > LATE_SECONDS
            for instance_id in entry.found
        }
        stack = self._world.stacks[owner.stack]
        unlinked = self._recorded(
            entry for entry in self._world.entries_of(owner) if self._is_unlinked(entry, stack)
        )
        # One whose stack was not known is not kept as late.
        unanswered = any(not entry.instance_id for entry in self._world.entries_of(owner))
        return found | unlinked | (self._world.account.late if late or unanswered else set())

    def _unseen_late(self, call: Call) -> set[str]:
        """Return the machines on record as late that no list with the key of a call shows now.

        They are another account's, or a person has forgotten their create before a list had them,
        or it was another computer that has found them gone.
        """
        account, late = self._world.account, self._world.entries_of(call.owner, late=True)
        asking = account.state.account_of(call.process.conditions.key)
        named, made = {entry.instance_id for entry in late}, account.machines_of(call.owner)
        here = self._world.entries_of(call.owner, call.process.home, late=True)
        elsewhere = named - {entry.instance_id for entry in here}
        return {
            instance_id
            for instance_id in (made if None in named else made & named)
            if account.is_new(instance_id)
            or not account.machine(instance_id).belongs_to(asking)
            or instance_id in elsewhere
        }

    def _is_unlinked(self, entry: Entry, stack: Stack) -> bool:
        """Whether nothing tells that an entry is of a stack, which was destroyed since."""
        behind = [other for other in self._world.left_behind if other.exists]
        if not entry.origin.provider:
            where = place(entry.origin.backend)
            is_renamed = entry.origin.stack != stack.title
            is_copied = where in {place(other.backend) for other in behind}
            return where != place(stack.backend) and (is_renamed or is_copied)
        has_other = entry.origin.provider != stack.provider
        is_behind = entry.origin.provider in {other.provider for other in behind}
        return has_other and (entry.origin.stack != stack.title or is_behind)

    # Records.

    def record_ends(self, call: Call, file: str) -> None:
        """A process removes a record."""
        world, entries = self._world, self._world.entries()
        ended = {entry.instance_id or "" for entry in entries if entry.file == file}
        kept = {entry.instance_id for entry in entries if entry.file != file} | self.given_up
        in_state = {id_ for stack in world.everywhere() for id_ in stack.ids()}
        for instance_id in ended & world.account.made_by.keys() - kept - self._lacked():
            is_proven = instance_id in in_state and world.account.was_shown(instance_id)
            if world.account.runs(instance_id) and call.process.is_plugin and not is_proven:
                self.violations.append(f"{call.owner} removes the record of {instance_id}")

    # Late machines.

    def late_machines(self, call: Call) -> set[str]:
        """Return the late machines of the command's stack that it could know of now."""
        world, conditions = self._world, call.process.conditions
        stack, account = world.stacks[call.owner.stack], world.account
        if conditions.unread or conditions.key not in ("key", "rotated"):
            return set()
        if world.disk.trouble != journal.NOTHING:
            return set()
        return {
            instance_id
            for instance_id in account.late - account.not_made_yet() - stack.ids()
            if account.runs(instance_id)
            and self._made_at.get(instance_id, HOMES[0]) == call.process.home
            and (owner := account.made_by[instance_id]).stack == stack.name
            and any(
                entry.instance_id in (None, instance_id) and not self._is_unlinked(entry, stack)
                for entry in world.entries_of(owner, call.process.home, late=True)
            )
        }

    def reviewed(self, call: Call, before: set[str]) -> None:
        """A command has begun with a look for late machines, of which there were some before it."""
        if call.process.clock.interrupted.is_set():
            return
        late = before & self.late_machines(call) - self._warned_of(call.process)
        self.violations.extend(
            f"{instance_id} is late, and a command of stack {call.owner.stack} does not say so"
            for instance_id in sorted(late)
        )

    def _warned_of(self, process: Process) -> set[str]:
        """Return the late machines that the command has warned of, by their names if it could.

        If a list has lapsed, nobody can know of those that no other one has shown.
        """
        warnings, late = "\n".join(process.warnings), self._world.account.late
        unknown = late - process.shown if ("list", "lapse") in self._world.account.met else set()
        return unknown | {
            machine for machine in late if machine in warnings or _MAY_APPEAR in warnings
        }

    # Who has what.

    def held_by_others(self, call: Call) -> Mapping[str, str]:
        """Return who else has each machine, as the process can find out.

        Those are the stacks of its backend, and the creates that are known to have made a machine.
        """
        world = self._world
        held = {
            instance_id: f"stack {stack.name}"
            for stack in world.stacks.values()
            if stack.name != call.owner.stack
            and place(stack.backend) == place(call.process.backend)
            for instance_id in stack.ids()
        }
        for entry in world.entries(call.process.home):
            owner = world.wrote[entry.file]
            if owner != call.owner and entry.instance_id:
                held[entry.instance_id] = f"the create of {owner}"
        return held

    def imported(self, call: Call, instance_id: str, held: Mapping[str, str]) -> None:
        """A machine was imported. `held`: what others had when that began."""
        self._check_taken(call, "imports", instance_id, held)
        self._taken.append(instance_id)
        self._world.account.made_by[instance_id] = call.owner

    def adopted(self, call: Call, instance_id: str, held: Mapping[str, str]) -> None:
        """A machine was adopted. `held`: what other stacks of the backend had when that began."""
        self._check_taken(call, "adopts", instance_id, held)
        self._taken.append(instance_id)

    def _check_taken(self, call: Call, does: str, id_: str, held: Mapping[str, str]) -> None:
        if id_ in held and self.held_by_others(call).get(id_) == held[id_]:
            self.violations.append(f"{call.owner} {does} {id_}, which {held[id_]} has")

    def forgets(self, call: Call) -> None:
        """A person forgets a create, whose machine nobody could have named."""
        made = self._world.account.machines_of(call.owner)
        self.given_up |= made & self._world.account.not_made_yet()

    def asked(self, call: Call) -> None:
        """A person answers the question of a command, and knows what the own create has left."""
        world, owner = self._world, call.owner
        left = world.account.machines_of(owner) - world.stacks[owner.stack].ids()
        self._had[call] = self._had_now(call) - left

    def deleting(self, call: Call, instance_id: str) -> None:
        """The API is asked to delete a machine."""
        made_by = self._world.account.made_by.get(instance_id)
        if instance_id in self._had.get(call, ()):
            self.violations.append(f"{call.owner} ends {instance_id}, which {made_by} has")
        if call.process.is_plugin and (made_by is None or made_by.stack != call.owner.stack):
            self.violations.append(f"{call.owner} deletes {instance_id} of {made_by}")
        if instance_id in call.process.claimed:
            self.violations.append(f"{call.owner} deletes {instance_id}, which it just took")
        is_replaced = instance_id in self.unasked and call.owner.name in call.process.program
        if is_replaced and self._world.account.shows(instance_id):
            self.violations.append(f"{call.owner} deletes {instance_id}, which is there again")

    def delete_ended(self, call: Call, row: Row) -> None:
        """A delete says that the machine is gone."""
        # One that was gone before stays, and is on record. One that is too new to be listed is not
        # known to be there, and goes all the same.
        was_gone = row.outputs.get(UNFINISHED) == GONE
        listed = {machine.id for machine in self._world.account.state.list()}
        if row.id in listed and not was_gone:
            self.violations.append(f"{call.owner} let go of {row.id}, which was still there")

    # What `audit` says.

    def audit_begins(self, call: Call) -> None:
        self._taken_before[call] = len(self._taken)

    def audited(self, call: Call, machines: Iterable[Mapping[str, Any]], code: int) -> None:
        """`audit` has said whose each machine is, and ended with this exit code."""
        had, taken = self._had_now(call), set(self._taken[self._taken_before[call] :])
        forgotten = {machine["id"] for machine in machines if machine["whose"] == "forgotten"}
        self.violations.extend(
            f"{instance_id} of {self._world.account.made_by.get(instance_id)} is called forgotten"
            for instance_id in sorted(forgotten & had - taken)
        )
        # One whose create was refused may yet be found, and adopted.
        self._nobodys |= forgotten - had - self._elsewhere(call) - self._world.account.lied
        if code == 0:
            self.violations.extend(
                f"{instance_id} is nobody's for ever, and called fine"
                for instance_id in sorted(self._abandoned() & (call.process.shown_first or set()))
            )

    def _had_now(self, call: Call) -> set[str]:
        """Return what the stacks of a command's backend have, and what is on record."""
        here = place(call.process.backend)
        stacks = [stack for stack in self._world.everywhere() if place(stack.backend) == here]
        in_state = {instance_id for stack in stacks for instance_id in stack.ids()}
        return in_state | self._recorded(self._world.entries(call.process.home))

    def _abandoned(self) -> set[str]:
        """Return the machines of ours that no stack has, and none will ever have."""
        world = self._world
        in_state = {id_ for stack in world.everywhere() for id_ in stack.ids()}
        at_work = {
            call.owner
            for process in world.processes
            if process.is_plugin and not (process.is_over or process.is_dead)
            for call in process.calls
        }
        return {
            instance_id
            for instance_id, owner in world.account.made_by.items()
            if world.account.runs(instance_id)
            and instance_id not in in_state
            and owner not in at_work
            and all(map(self._is_abandoned, world.entries_of(owner)))
        }

    def _is_abandoned(self, entry: Entry) -> bool:
        if self._world.turns.wall() - entry.started > ABANDONED_SECONDS:
            return True
        # A stack of that name in another organization may be the entry's, up again with another id.
        origin = entry.origin
        has_namesake = any(origin.is_in(other.full_name) for other in self._world.everywhere())
        is_gone = not self._world.stacks[self._world.wrote[entry.file].stack].exists
        return is_gone and bool(origin.backend) and not has_namesake

    # The whole.

    def _lost(self) -> Iterator[str]:
        entries = self._world.entries()
        recorded = self._recorded(entries)
        for instance_id, owner in self._world.account.made_by.items():
            if instance_id in self._outside(owner) - recorded:
                yield f"{instance_id} of {owner} is neither in state nor in the journal"

    def _recorded(self, entries: Iterable[Entry]) -> set[str]:
        """Return the machines whose create is on record, with or without the machine."""
        world, entries = self._world, list(entries)
        known = {entry.instance_id for entry in entries if entry.instance_id}
        found = set()
        for instance_id in set(world.account.made_by) - known:
            owner, machine = world.account.made_by[instance_id], world.account.machine(instance_id)
            seen = machine.seen_at(world.account.state.now())
            if any(
                candidates(entry, [seen], known)
                for entry in entries
                if entry.instance_id is None and world.wrote[entry.file] == owner
            ):
                found.add(instance_id)
        return found | known

    def _untold(self) -> Iterator[str]:
        for call, instance_id in self._forgotten:
            known = self._world.stacks[call.owner.stack].ids()
            # The API may show it only after its delete has ended.
            known |= {
                entry.instance_id or "" for entry in self._world.entries_of(call.owner, late=True)
            }
            if (
                call.process.records
                and call.process.has_lock  # else another engine may write its own state over it
                and self._world.account.runs(instance_id)
                and instance_id not in known | self.given_up | self._found_gone
            ):
                yield f"{instance_id} of {call.owner} was told to the engine, which forgot it"

    def _outside(self, owner: Owner) -> set[str]:
        """Machines that a resource made and its state doesn't have, though nobody gave them up.

        Of one whose create was refused, nobody can know.
        """
        in_state = self._world.stacks[owner.stack].ids()
        given_up = self.given_up | self._world.account.lied
        return self._world.account.machines_of(owner) - in_state - given_up
