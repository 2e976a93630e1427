"""A plugin process, as one more host of resource.operations: simulated wire, disk and clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.machines import Machines
from pulumi_fal.resource import call as resource
from pulumi_fal.stacks.cache import Elsewhere
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from .account import Owner
from .turns import Died, SimulatedClock

if TYPE_CHECKING:
    from .world import World

SETTINGS = Settings("https://fal.test", "a-key", "a test", retry_budget=60.0, settle_seconds=20.0)


KEYS = ("key", "rotated", "other")
"""API keys: "rotated" is of the same account as "key", and "other" of another one."""
KEY_OF = {replace(SETTINGS, api_key=key).account: key for key in KEYS}
"""By the account that state and messages name."""


class Event(str, Enum):
    """What may happen at any step."""

    KILL = "the plugin is killed, alone or with the engine"
    POWER = "the power fails"
    CANCEL = "Ctrl-C"
    ENGINE_DIES = "the engine is killed, and the plugin sees it"
    STATE_LOST = "the engine can't save state from here on"
    DISK_FULL = "the journal can't be written from here on"
    DISK_GONE = "the journal can't be read from here on"
    FOREIGN = "a machine of somebody else appears"
    VANISH = "one of our machines vanishes"
    STUCK = "our newest machine never becomes ready"

    def __repr__(self) -> str:
        return f"Event.{self.name}"


MOMENTS = (
    "create is sent",
    "create is taken",
    "create is refused",
    "delete is taken",
    "a sync",
    "a rename",
    "a deletion",
    "a wait ends",
    "the engine is told",
)


@dataclass(frozen=True)
class Conditions:
    """Under what a command runs."""

    faults: tuple[tuple[str, str, int], ...] = ()
    """Kinds of calls, the fault that they meet, and how many do."""
    events: tuple[tuple[int | str, Event], ...] = ()
    """At which step what happens: its number, or the first of these MOMENTS."""
    schedule: tuple[int, ...] = ()
    """Who goes on where several could; empty: one resource after another."""
    seams: bool = True
    """Whether partial state can be kept."""
    answers: bool = True
    """Whether `pulumi stack export` works."""
    timeout: float = 100.0
    """Seconds until a machine must be ready, or gone."""
    synced: int = 0
    """How many renames reach the disk in spite of a power failure."""
    key: str = "key"
    """The API key, one of KEYS."""


@dataclass(eq=False)
class Call:
    """A call of the engine, and what becomes of its answer."""

    process: Process
    owner: Owner
    urn: str
    undelivered: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_heard(self) -> bool:
        return self.process.engine_lives

    def request(self) -> resource.Call:
        """What the functions of resource.operations are given."""
        timeout = self.process.conditions.timeout
        return resource.Call(
            self.urn, "organization", timeout, is_heard=lambda: self.process.engine_lives
        )

    def partial_state(self, error: Exception) -> dict[str, Any] | None:
        """The outputs that the engine records although the call failed, if there are any."""
        if not isinstance(error, resource.InitFailed):
            return None
        if not self.process.conditions.seams:
            error.undelivered()
            return None
        self.on_undelivered(error.undelivered)
        return error.outputs

    def on_undelivered(self, callback: Callable[[], None]) -> None:
        if self.is_heard:
            self.undelivered.append(callback)


class Stacks:
    """What the `pulumi` command says of stacks."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def origin(self, urn: str, organization: str) -> Origin:
        return Origin(urn, organization, self._process.world.stacks[self._process.stack].backend)

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        if not self._process.conditions.answers or not origin.is_certain:
            return None
        return tuple(
            StackMachine(row.id, "", AccountId.of(row.outputs))
            for row in self._process.world.stack_in(origin.backend).every_row()
        )

    def forget(self, origin: Origin) -> None:
        """It is read anew each time."""

    def ids(self, origin: Origin) -> frozenset[str] | None:
        held = self.machines(origin)
        return None if held is None else frozenset(each.id for each in held)

    def possible_machines(self, origin: Origin) -> tuple[StackMachine, ...]:
        return self.machines(origin) or ()

    def has(self, origin: Origin, instance_id: str) -> bool | None:
        ids = self.ids(origin)
        return None if ids is None else instance_id in ids

    def is_gone(self, origin: Origin) -> bool | None:
        if not self._process.conditions.answers:
            return None
        return self._process.world.stack_in(origin.backend).title != origin.stack

    def elsewhere(self, origin: Origin) -> Elsewhere:
        return Elsewhere({}, {})


class Process:
    """One command's plugin, with nothing in memory but what it learns itself."""

    def __init__(self, world: World, stack: str, conditions: Conditions) -> None:
        self.world = world
        self.stack = stack
        self.conditions = conditions
        self.engine_lives = self.saves = True
        self.is_dead = self.is_over = False
        self.errors: dict[str, Exception] = {}
        self.warnings: list[str] = []
        self.calls: list[Call] = []
        self.claimed: set[str] = set()
        """The machines that its creates said to be theirs."""
        self._steps = 0
        self._seen: set[str] = set()
        self.clock = SimulatedClock(world.turns, self.step)
        self.stacks = Stacks(self)
        self.journal = Journal(world.folder, self.stacks.ids)
        self.machines = Machines(self.journal, self.stacks, self._account, self.warnings.append)

    @property
    def records(self) -> bool:
        """Whether what a call answers reaches the state."""
        return self.engine_lives and self.saves and not self.is_dead

    def _account(self) -> Account:
        key = self.conditions.key
        return Account(
            replace(SETTINGS, api_key=key, api=self.world.api),
            self.clock,
            self.journal,
            self.stacks,
            send=self.world.account.wire(self.step, lambda: self.world.call().owner, key),
            warn=self.warnings.append,
        )

    def step(self, moment: str) -> None:
        """Where others may go on, and anything may happen."""
        if self.is_dead:
            raise Died
        self._steps += 1
        for at, event in self.conditions.events:
            if at == self._steps or (at == moment and moment not in self._seen):
                self.world.happen(event, self)
        self._seen.add(moment)
        if not self.is_dead:
            self.world.turns.pause()
        if self.is_dead:
            raise Died
