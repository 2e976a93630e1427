"""One process on fakes of the API, of stacks and of time, and a journal on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pulumi_fal.machines.account import Account
from pulumi_fal.machines.entry import Entry, Phase, Spec
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.launcher import Launcher
from pulumi_fal.machines.machines import Machines
from pulumi_fal.stacks.origin import Origin

from ..fakes import ED25519, HERE, ONE, FakeApi, FakeStacks, TurnedClock, settings

SPEC = Spec(ONE, ED25519)
APPEAR_SECONDS = 20.0


class World:
    """Machines as a host gets them; what they tell people is in `warnings`."""

    def __init__(self, home: Path) -> None:
        self.clock = TurnedClock()
        self.api = FakeApi(self.clock.now)
        self.state = self.api.state
        self.stacks = FakeStacks()
        self.warnings: list[str] = []
        self.settings = settings(appear_seconds=APPEAR_SECONDS)
        self.folder = home / "fal-compute" / "creates"
        self.open_account: Callable[[], Account] = self._open_account
        self.restart()

    def restart(self) -> None:
        """Begin a process that knows nothing but what is on disk."""
        self.journal = Journal(self.folder, self.stacks.ids)
        self.machines = Machines(self.journal, self.stacks, self.open_account, self.warnings.append)

    def _open_account(self) -> Account:
        return Account(
            self.settings,
            self.clock,
            self.journal,
            self.stacks,
            send=self.api.send,
            warn=self.warnings.append,
        )

    @property
    def launcher(self) -> Launcher:
        return self.machines.account.launcher

    def machine(self, instance_type: str = ONE) -> str:
        """The id of a machine that is there, whoever made it."""
        return self.state.create(instance_type, ED25519).id

    def hide(self, instance_id: str, seconds: float = float("inf")) -> None:
        """Have the API show no trace of a machine, as to another account."""
        self.state.hide(instance_id, "list", seconds)
        self.state.hide(instance_id, "get", seconds)

    def entry(self, origin: Origin = HERE) -> Entry | None:
        """What is on record about a create."""
        return self.journal.find(origin)

    def earlier(self, phase: Phase, instance_id: str | None = None, **others: Any) -> Entry:
        """The entry of a create that an earlier process left behind."""
        entry = Entry(
            origin=HERE,
            account=self.settings.account,
            instance_type=ONE,
            ssh_key=SPEC.fingerprint,
            sector=None,
            before=(),
            started=self.clock.wall(),
            phase=phase,
            instance_id=instance_id,
        )
        entry = replace(entry, **others)
        self.journal.write(entry)
        return entry
