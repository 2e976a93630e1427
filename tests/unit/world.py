"""The package on a fake of the API and of time; and with stacks and a journal on disk as well."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import Kind, Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.errors import FalError
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.fleet import Fleet
from pulumi_fal.machines.journal import Entry, Journal, Phase, new_file
from pulumi_fal.machines.lifecycle import Lifecycle
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import INFO, WARNING, Call, InitFailed
from pulumi_fal.stacks.cache import Origin

from ..fakes import ED25519, EIGHT, HERE, ONE, URN, FakeApi, FakeStacks, TurnedClock, settings

SPEC = NewInstance(ONE, ED25519)
INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519, "sector": "sector_1"}
CALL = Call(URN)
SETTLE_SECONDS, ABSENCE_SECONDS = 20.0, 60.0


class Log:
    """What a call says on the resource's row."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.severities: list[int] = []
        self.ephemeral: list[bool] = []

    def __call__(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        self.texts.append(message)
        self.severities.append(severity)
        self.ephemeral.append(ephemeral)

    @property
    def warning(self) -> str:
        """The only thing that was said, which has to be a warning."""
        ((text,), (severity,)) = self.texts, self.severities
        assert severity == WARNING
        return text


class ApiWorld:
    """The API, whose time is that of a clock which turns only where somebody waits.

    `fleet` and `lifecycle` read it without jitter; what they tell people is in `told`.
    """

    def __init__(
        self,
        *,
        provisioning: float = 0.0,
        deletion: float = 0.0,
        uniform: Callable[[float, float], float] = lambda low, high: 1.0,
    ) -> None:
        self.clock = TurnedClock()
        self.api = FakeApi(self.clock.now, provisioning, deletion)
        self.state = self.api.state
        self.uniform = uniform
        self.told: list[str] = []
        self.ssh_at = 0.0
        """When SSH servers begin to greet on all machines, in seconds from the beginning."""
        self.connected: list[tuple[str, float]] = []
        """The ip and the moment of each attempt to be greeted."""

    def greeting(self, ip: str) -> str | None:
        """Return why no SSH server greets there, as lifecycle.ssh_problem does."""
        self.connected.append((ip, round(self.passed, 6)))
        return None if self.passed >= self.ssh_at else "Connection refused"

    @property
    def passed(self) -> float:
        """How many seconds have passed so far."""
        return self.clock.passed

    @property
    def asked(self) -> list[float]:
        """The moments of the list calls, in seconds from the beginning."""
        began = self.clock.now() - self.passed
        return [round(moment - began, 6) for moment in self.api.asked("list")]

    def client(self, **others: Any) -> Client:
        """A client with these settings."""
        return Client(settings(**others), self.clock, send=self.api.send, notify=self.told.append)

    @cached_property
    def account(self) -> Account:
        """An account without stacks, whose journal nobody needs."""
        account = Account(
            Journal(Path("none")),
            FakeStacks(),
            self.clock,
            settings,
            notify=self.told.append,
            send=self.api.send,
            greeting=self.greeting,
        )
        vars(account).update(fleet=Fleet(account.client, self.clock, uniform=self.uniform))
        return account

    @property
    def fleet(self) -> Fleet:
        return self.account.fleet

    @property
    def lifecycle(self) -> Lifecycle:
        return self.account.lifecycle

    def made(self, instance_type: str = ONE) -> Instance:
        """A machine that is there, whoever made it."""
        return self.state.create(NewInstance(instance_type, ED25519))

    def hide(self, instance_id: str, seconds: float = inf) -> None:
        """Have the API show no trace of a machine, as to another account."""
        self.state.hide(instance_id, "list", seconds)
        self.state.hide(instance_id, "get", seconds)

    def at_post(self, act: Callable[[], object], *, answered: bool = False) -> None:
        """Do something whenever a create is sent, or before its answer arrives."""

        def look(request: Request[object]) -> None:
            if request.creates:
                act()

        if answered:
            self.api.after = look
        else:
            self.api.before = look

    def before_sleep(self, act: Callable[[], object]) -> None:
        """Do something before each pause, in which nothing else happens."""
        sleep = self.clock.sleep

        def act_and_sleep(seconds: float) -> None:
            act()
            sleep(seconds)

        vars(self.clock)["sleep"] = act_and_sleep

    def fail(self, kind: Kind, error: FalError, start: float = 0.0, end: float = inf) -> None:
        """Have those calls fail between two moments, beside what was to happen before."""
        before = self.api.before

        def fail(request: Request[object]) -> None:
            before(request)
            if request.kind == kind and start <= self.passed < end:
                raise error

        self.api.before = fail


class World(ApiWorld):
    """A process with stacks and a journal on disk: an account as a host gets it.

    What it tells people is in `warnings`.
    """

    def __init__(self, home: Path, used: Settings | None = None) -> None:
        super().__init__()
        self.stacks = FakeStacks()
        self.warnings: list[str] = []
        self.settings = used or settings(settle_seconds=SETTLE_SECONDS)
        self.used_settings: Callable[[], Settings] = lambda: self.settings
        """Returns the settings when the process first needs the API."""
        self.folder = home / "fal-compute" / "creates"
        self.restart()

    def restart(self, provider: str = "") -> None:
        """Begin a process that knows nothing but what is on disk, and the provider's id."""
        self.journal = Journal(self.folder)
        self.account = Account(
            self.journal,
            self.stacks,
            self.clock,
            lambda: self.used_settings(),
            send=self.api.send,
            warn=self.warnings.append,
            greeting=self.greeting,
            provider=provider,
        )

    @property
    def creates(self) -> Creates:
        return self.account.creates

    def create(self, call: Call = CALL, **changed: Any) -> operations.Created:
        """What a host calls for a resource with INPUTS, of which some may be others."""
        return operations.create(self.account, call, {**INPUTS, **changed})

    def create_fails(self, call: Call = CALL, **changed: Any) -> InitFailed:
        """What a create says that leaves partial state."""
        with pytest.raises(InitFailed) as caught:
            self.create(call, **changed)
        return caught.value

    def machine(self, instance_type: str = ONE) -> str:
        """The id of a machine that is there, whoever made it."""
        return self.made(instance_type).id

    def entry(self, origin: Origin = HERE) -> Entry | None:
        """What is on record about a create."""
        entries = [entry for entry in self.journal.of(origin) if not entry.is_late]
        return next((entry for entry in entries if entry.origin.urn == origin.urn), None)

    @property
    def record(self) -> Entry:
        """The record of the create, which there has to be."""
        entry = self.entry()
        assert entry is not None
        return entry

    def lock(self, of: Entry | Origin = HERE) -> AbstractContextManager[object]:
        """The lock of a create, which another process holds."""
        taken = Journal(self.folder).try_lock(of)
        assert taken is not None
        return taken

    def phase(self) -> Phase | None:
        """How far the create on record has come; None where there is no record."""
        entry = self.entry()
        return entry.phase if entry else None

    @property
    def late(self) -> list[Entry]:
        """The records of creates that another one has followed, or whose machine was gone."""
        return [entry for entry in self.journal.readable() if entry.is_late]

    def review(self, provider: str = "") -> list[str]:
        """The warnings of the next command, in a process of its own."""
        self.restart(provider)
        self.warnings.clear()
        for _ in range(2):  # the second resource of a process brings no second review
            self.account.review(f"{URN}-2")
        return list(self.warnings)

    def earlier(
        self, phase: Phase = Phase.REQUESTED, instance_id: str | None = None, **others: Any
    ) -> Entry:
        """The entry of a create that an earlier process left behind."""
        entry = Entry(
            origin=HERE,
            account=self.settings.account,
            endpoint=self.settings.endpoint,
            requested=SPEC.hashed(),
            before=(),
            started=self.clock.wall(),
            phase=phase,
            instance_id=instance_id,
            file=new_file(others.get("origin", HERE)),
        )
        entry = replace(entry, **others)
        self.journal.write(entry)
        return entry
