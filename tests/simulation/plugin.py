"""A plugin process: the real provider on the simulated wire, disk and clock, until it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from unittest import mock

from pulumi_fal import provider
from pulumi_fal.api.client import Client
from pulumi_fal.api.settings import Home, Settings
from pulumi_fal.dynamic import plugin_host
from pulumi_fal.machines import journal
from pulumi_fal.machines.accounts import Accounts
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.launcher import Launcher
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.stack import Elsewhere, Origin, StackMachine

from .account import Owner
from .turns import Died, Locks, SimulatedClock

if TYPE_CHECKING:
    from .world import World

SETTINGS = Settings("https://fal.test", "a-key", "a test", retry_budget=60.0, settle=20.0)


KEYS = ("key", "rotated", "other")
"""API keys: "rotated" is of the same account as "key", and "other" of another one."""


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
    """What the provider sees of the engine's call."""

    process: Process
    owner: Owner
    urn: str
    provider_key: str = "provider"
    kept: tuple[str, dict[str, Any]] | None = None
    when_lost: list[Callable[[], None]] = field(default_factory=list)

    @property
    def timeout(self) -> float:
        return self.process.conditions.timeout

    @property
    def is_heard(self) -> bool:
        return self.process.engine_lives

    def keep(self, instance_id: str, outputs: Mapping[str, Any], reason: str) -> bool:
        if self.process.conditions.seams:
            self.kept = instance_id, dict(outputs)
        return self.process.conditions.seams

    def when_unheard(self, callback: Callable[[], None]) -> None:
        if self.is_heard:
            self.when_lost.append(callback)

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Nobody reads it."""


class Stacks:
    """What the `pulumi` command says of stacks."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        if not self._process.conditions.answers or not origin.is_certain:
            return None
        return tuple(
            StackMachine(row.id, "", str(row.outputs["account"]), str(row.outputs["endpoint"]))
            for row in self._process.world.stack_in(origin.backend).every_row()
        )

    def ids(self, origin: Origin) -> frozenset[str] | None:
        held = self.machines(origin)
        return None if held is None else frozenset(each.id for each in held)

    def is_gone(self, origin: Origin) -> bool | None:
        if not self._process.conditions.answers:
            return None
        return self._process.world.stack_in(origin.backend).title != origin.stack

    def elsewhere(self, origin: Origin) -> Elsewhere:
        return Elsewhere(frozenset(), {})


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
        wire = world.account.wire(self.step, lambda: world.call().owner, conditions.key)
        client = Client(SETTINGS, self.clock, send=wire)
        fleet = Fleet(client, self.clock, SETTINGS.poll_interval)
        self.lifecycle = Lifecycle(client, fleet, self.clock)
        self.stacks = Stacks(self)
        self.journal = Journal(world.folder, self.stacks.ids)
        self.home = Home(SETTINGS.endpoint, conditions.key)
        self.accounts = Accounts(self.home, "a test", fleet)
        self.launcher = Launcher(
            client,
            fleet,
            self.lifecycle,
            self.journal,
            self.clock,
            accounts=self.accounts,
            settle_seconds=SETTINGS.settle,
            stacks=self.stacks,
            warn=self.warnings.append,
        )
        self.wanted: dict[str, Any] = {}

    @property
    def records(self) -> bool:
        """Whether what a call answers reaches the state."""
        return self.engine_lives and self.saves and not self.is_dead

    def origin(self, call: Call, props: Mapping[str, Any]) -> Origin:
        return self.world.stacks[self.stack].origin(call.owner.name)

    def refuse_elsewhere(self, call: Call, instance_id: str, props: Mapping[str, Any]) -> None:
        """As session.py has it."""
        origin = self.origin(call, props)
        self.accounts.refuse_elsewhere(
            instance_id, Home.of(props), lambda: self.stacks.machines(origin) or ()
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


class _Session:
    """The session of whoever's turn it is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.call().process, name)


@contextmanager
def in_place(world: World) -> Iterator[None]:
    """The real provider serves this world's calls."""
    locks = Locks(world.turns, lambda moment: world.call().process.step(moment))
    with (
        mock.patch.object(provider, "_session", _Session(world)),
        mock.patch.object(plugin_host, "current_call", world.call),
        mock.patch.object(journal, "threading", locks),
    ):
        yield


def plain(method: str) -> Callable[..., Any]:
    """A provider's method with its errors as they are raised, before the host makes texts."""
    guarded = getattr(provider.ComputeInstanceProvider, method)
    found: Callable[..., Any] = getattr(guarded, "__wrapped__", guarded)
    return lambda *args: found(provider.ComputeInstanceProvider(), *args)
