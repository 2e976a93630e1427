"""One machine of the emulator, and how it looks over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from pulumi_fal.api.models import Instance, NewInstance, Status

STEPS = ((0.0, Status.PENDING), (0.1, Status.INIT), (0.3, Status.PROVISIONING), (1.0, Status.READY))
"""The fraction of the provisioning time from which a machine has each status."""
SECTOR_AT = 0.3
"""The fraction of the provisioning time from which the API's choice of a sector is shown."""


@dataclass
class Machine:
    """One machine, also after it is gone. All times are in seconds of the state's clock.

    `account` is the account that created it, as returned by `State.account_of`. A machine with None
    is visible to all accounts.
    """

    id: str
    requested: NewInstance
    chosen_sector: str | None
    ip: str
    created: float
    provisioning: float
    ip_at: float
    gone_at: float = inf
    stuck_at: float = inf
    status: str | None = None
    hidden_until: dict[str, float] = field(default_factory=dict)
    account: str | None = None
    region: str = "us-west"
    creator_user_nickname: str = "emulator"

    @property
    def sector(self) -> str | None:
        """The sector that the machine is in, even before the API shows it."""
        return self.requested.sector or self.chosen_sector

    def belongs_to(self, account: str | None) -> bool:
        """Whether the account sees the machine. None sees every machine."""
        return None in (account, self.account) or account == self.account

    def seen_at(self, now: float) -> Instance:
        """Return the machine as the API shows it at that time."""
        age = min(now, self.stuck_at) - self.created
        progress = age / self.provisioning if self.provisioning > 0 else 1.0
        status = next(status for start, status in reversed(STEPS) if progress >= start)
        chosen = self.chosen_sector if progress >= SECTOR_AT else None
        return Instance(
            id=self.id,
            instance_type=self.requested.instance_type,
            sector=self.requested.sector or chosen,
            ip=self.ip if progress >= self.ip_at else None,
            status=self.status or status.value,
        )
