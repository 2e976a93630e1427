"""A plugin process, as one more host of resource.operations: simulated wire, journal and clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.settings import Settings
from pulumi_fal.machines.account import Account
from pulumi_fal.resource import call as resource
from pulumi_fal.stacks.cache import Stacks

from .account import Hiding, Owner
from .journal import READ, Journal
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
    POWER = "the power fails, and all that runs on the computer ends"
    CANCEL = "Ctrl-C"
    ENGINE_DIES = "the engine is killed, and the plugin sees it"
    UNLOCKED = "somebody runs `pulumi cancel`, and the engine goes on"
    STATE_LOST = "the engine can't save state from here on"
    DISK_FULL = "the journal can't be written from here on"
    DISK_GONE = "the journal can't be read from here on"
    FOREIGN = "a machine of somebody else appears"
    VANISH = "one of our machines vanishes"
    GLITCH = "the API shows none of the machines that it has shown, for a while"
    STUCK = "our newest machine never becomes ready"
    AGAIN = "an error hook has the engine call again, once the call has failed"
    SLEEP = "the computer sleeps for an hour, which no monotonic clock counts"

    def __repr__(self) -> str:
        return f"Event.{self.name}"


WAITS = ("a sleep begins", "a wait begins")
MOMENTS = (
    "create is sent",
    "create is taken",
    "create is refused",
    "delete is taken",
    "a sync",
    "a rename",
    "a deletion",
    *WAITS,
    "a wait ends",
    "the engine is told",
)


HOMES = ("here", "elsewhere")
"""Computers, each with a journal of its own."""


@dataclass(frozen=True)
class Conditions:
    """Under what a command runs."""

    faults: tuple[tuple[str, str, int], ...] = ()
    """Kinds of calls, the fault that they meet, and how many do."""
    events: tuple[tuple[int | str, Event], ...] = ()
    """At which step what happens: its number, or the first of these MOMENTS."""
    schedule: tuple[int, ...] = ()
    """Who goes on where several could; empty: one resource after another."""
    glitch: tuple[float, tuple[Hiding, ...]] = (20.0, ("list", "get"))
    """For how many seconds a glitch lasts, and which calls lack the machines."""
    seams: bool = True
    """Whether partial state can be kept."""
    unread: str = ""
    """What `pulumi` can't read, one of UNREAD; "" if it can read everything."""
    timeout: float = 100.0
    """Seconds until a machine must be ready, or gone."""
    key: str = "key"
    """The API key, one of KEYS."""
    home: str = HOMES[0]
    """On which computer it runs, one of HOMES."""


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
        process = self.process
        return resource.Call(
            self.urn,
            process.conditions.timeout,
            was_checked=self.urn in process.checked,
            log=lambda message, severity=1, *, ephemeral=False: process.warnings.append(message),
            is_heard=lambda: process.engine_lives,
            aliases=process.world.stacks[process.stack].aliases(self.owner.name),
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


def _ids_in(listed: Any) -> set[str]:
    """The ids of the machines in the body of a list, in either dialect."""
    machines = listed.get("instances") if isinstance(listed, dict) else listed
    return {machine["id"] for machine in machines} if isinstance(machines, list) else set()


class Process:
    """One command's plugin, with nothing in memory but what it learns itself."""

    def __init__(self, world: World, stack: str, conditions: Conditions) -> None:
        self.world = world
        self.stack = stack
        self.conditions = conditions
        self.number = world.count_process()
        self.engine_lives = self.saves = self.has_lock = True
        self.is_dead = self.is_over = self.is_update = False
        self.checked: set[str] = set()
        """The URNs of the resources whose inputs it has checked, and their aliases."""
        self.program: frozenset[str] = frozenset()
        """The resources that it brings about, if it is an `up`."""
        self.is_plugin = True
        """Whether it has an engine, and is not a command of ours."""
        self.calls_again = False
        """Whether an error hook asks for another call after the next failure."""
        self.errors: dict[str, Exception] = {}
        self.warnings: list[str] = []
        self.output: list[str] = []
        """What a command of ours prints."""
        self.calls: list[Call] = []
        self.claimed: set[str] = set()
        """The machines that its creates said to be theirs."""
        self.shown: set[str] = set()
        """The machines that any of its lists has shown."""
        self.shown_first: set[str] | None = None
        """Those that the first one has shown. A later one only tells `audit` which are gone."""
        self.listed_at = inf
        """When it last asked for the list of machines; inf before it has done so."""
        self.beside: list[Callable[[], None]] = []
        """What its threads do beside a POST."""
        self.drawn = 0
        """How many tokens it has drawn."""
        self.steps, self.moment = 0, ""
        self._seen: set[str] = set()
        self.clock = SimulatedClock(world.turns, self.step)
        self.stacks = Stacks()
        self.journal = Journal(self)
        self.begin()

    def begin(self) -> None:
        stack = self.world.stacks[self.stack]
        self.backend, self.full_name = stack.backend, stack.full_name

    @cached_property
    def account(self) -> Account:
        """Made when the engine first calls, with what its host is told of the provider."""
        stack = self.world.stacks[self.stack]
        return Account(
            self.journal,
            self.stacks,
            self.clock,
            lambda: self.settings,
            send=self.send,
            warn=self.warnings.append,
            provider=stack.provider if stack.is_native and self.is_plugin else "",
        )

    @property
    def home(self) -> str:
        return self.conditions.home

    @property
    def records(self) -> bool:
        """Whether what a call answers reaches the state."""
        return self.engine_lives and self.saves and not self.is_dead

    def updates(self, stack: str) -> bool:
        """Whether it is an update of a stack, which still runs."""
        runs = self.is_update and self.engine_lives and not (self.is_over or self.is_dead)
        return runs and self.stack == stack

    @property
    def settings(self) -> Settings:
        return replace(
            SETTINGS,
            api_key=self.conditions.key,
            api=self.world.api,
            poll_interval=self.world.poll_interval,
        )

    def token(self) -> str:
        """What makes the name of a record's file unlike all others, and the same in each run."""
        self.drawn += 1
        return f"{self.number:04x}{self.drawn:04x}"

    def send(self, request: Request[Any], timeout: float | None = None) -> Any:
        if request.kind == "list":
            self.listed_at = self.world.account.state.now()
        answer = self.world.account.answer(request, self)
        if request.kind == "list":
            self.shown |= _ids_in(answer)
            if self.shown_first is None:
                self.shown_first = set(self.shown)
        return answer

    def step(self, moment: str, touched: str = "", how: str = READ) -> None:
        """Where others may go on, and anything may happen.

        `touched` names what other processes see or change, too, and `how` is READ or WRITTEN.
        """
        if self.is_dead:
            raise Died
        self.steps += 1
        self.moment = moment
        if self.world.watch is not None:
            self.world.watch(self, moment, touched, how)
        for at, event in self.conditions.events:
            if at == self.steps or (at == moment and moment not in self._seen):
                self.world.happen(event, self, moment)
        self._seen.add(moment)
        if moment in ("create is taken", "create is refused") and not self.is_dead:
            while self.beside:
                self.beside.pop()()
        if not self.is_dead:
            self.world.turns.pause()
        if self.is_dead:
            raise Died
