"""The emulator's state: machines, time and accounts. It knows no HTTP."""

from __future__ import annotations

import ipaddress
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Literal

from pulumi_fal.api.models import Instance, InstanceType, NewInstance, Sector, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

STEPS = ((0.0, Status.PENDING), (0.1, Status.INIT), (0.3, Status.PROVISIONING), (1.0, Status.READY))
"""The fraction of the provisioning time from which a machine has each status."""
SECTOR_AT = 0.3
"""The fraction of the provisioning time from which the API's choice of a sector is shown."""
CAPACITY_ANSWERS = {
    400: "no capacity left {}",
    409: "machines are out of stock {}",
    422: "machines are not available {} at the moment",
    429: "no more machines {}, try again later",
    503: "insufficient resources {}",
}
"""What the API may say to a create for want of capacity, by status. fal documents none of them."""
CALLS = ("create", "list", "get", "delete")
"""The kinds of calls, as used by counters and faults."""
# RFC 2544 reserves these addresses for benchmarks, so they belong to no real machine.
NETWORK = ipaddress.IPv4Address("198.18.0.0")
_Kept = tuple[float, NewInstance, Instance]
"""The time until which an answer is kept, the arguments of the create, and the answer."""


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


class TurnedClock:
    """A clock in seconds that moves only when `advance` is called."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds`."""
        self.now += seconds


@dataclass(eq=False)
class State:
    """The state of the emulated service. Can be used from any thread.

    Args:
        clock: returns the time in seconds; use a `TurnedClock` to control the time.
        provisioning: the seconds from a machine's creation until it is ready.
        deletion: the seconds for which a deleted machine still exists and is shown.

    The arguments are also attributes, as are `ip_at` (the fraction of the provisioning time after
    which the ip is shown, 0 to 1), `list_lag` (the seconds before a new machine is listed),
    `capacity` (the maximum number of machines, None for no limit), `sector_capacity` (the same for
    each sector), `capacity_status` (one of CAPACITY_ANSWERS, for creates beyond these), `page_size`
    (the number of machines on a page of the v1 API's list) and `key_seconds` (for how long the
    answer to a create is kept for its idempotency key). Changes apply to later events.

    A machine belongs to the account that created it, and other accounts don't see it. `account_of`
    returns the account of a key. Without an account, a caller sees every machine, and a machine
    that it creates is visible to every account.
    """

    clock: Callable[[], float] = time.monotonic
    provisioning: float = 0.0
    deletion: float = 0.0
    ip_at: float = 0.8
    list_lag: float = 0.0
    capacity: int | None = None
    sector_capacity: int | None = None
    capacity_status: int = 400
    page_size: int = 50
    key_seconds: float = 600.0

    def __post_init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.calls: Counter[str] = Counter(dict.fromkeys(CALLS, 0))
        self.deletions = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._ahead = 0.0
        self._accounts: dict[str, str] = {}
        self._kept: dict[tuple[str | None, str], _Kept] = {}
        self._lock = threading.RLock()

    # The operations of the API.

    def create(
        self,
        new: NewInstance,
        account: str | None = None,
        idempotency_key: str = "",
    ) -> Instance:
        """Create a machine, or return the answer that was kept for the idempotency key.

        Raises NoCapacityError if all accounts together have `capacity`, or `sector_capacity` in the
        sector, and KeyReusedError if the key was used for a different create.
        """
        with self._lock:
            until, before, answer = self._kept.get((account, idempotency_key), (-inf, new, None))
            if idempotency_key and answer is not None and self.now() < until:
                if before != new:
                    raise KeyReusedError("the idempotency key came with another create before")
                return answer
            if self.capacity is not None and len(self.existing()) >= self.capacity:
                raise NoCapacityError(f"for {new.instance_type}", self.capacity_status)
            number, now = len(self.machines), self.now()
            kind = InstanceType.known(new.instance_type)
            has_sector = kind is not None and kind.has_infiniband
            chosen = self._sector_with_capacity(number, new.sector) if has_sector else None
            machine = Machine(
                id=_new_id(),
                requested=new,
                chosen_sector=chosen,
                ip=str(NETWORK + number + 1),
                created=now,
                provisioning=self.provisioning,
                ip_at=self.ip_at,
                hidden_until={"list": now + self.list_lag},
                account=account,
            )
            self.machines[machine.id] = machine
            answer = machine.seen_at(now)
            if idempotency_key:
                until = now + self.key_seconds
                self._kept[account, idempotency_key] = (until, new, answer)
            return answer

    def get(self, instance_id: str, account: str | None = None) -> Instance:
        """Return one machine. Raises UnknownMachineError if it is gone, hidden, or not visible."""
        with self._lock:
            machine, now = self._existing(instance_id, account), self.now()
            if now < machine.hidden_until.get("get", -inf):
                raise UnknownMachineError(instance_id)
            return machine.seen_at(now)

    def list(self, account: str | None = None) -> Sequence[Instance]:
        """Return the account's machines, oldest first, without those hidden from the list."""
        with self._lock:
            now = self.now()
            return [
                machine.seen_at(now)
                for machine in self.machines.values()
                if machine.belongs_to(account)
                and machine.hidden_until["list"] <= now < machine.gone_at
            ]

    def delete(self, instance_id: str, account: str | None = None) -> None:
        """Start the deletion of a machine, even of a hidden one. A second call has no effect.

        Raises UnknownMachineError if it is gone, or belongs to another account.
        """
        with self._lock:
            machine = self._existing(instance_id, account)
            if machine.gone_at == inf:
                machine.gone_at = self.now() + self.deletion
                self.deletions += 1

    def account_of(self, key: str) -> str:
        """Return the account of a key. Each key has its own unless `same_account` was called.

        The account is a hash, because the key may be a real one and should not be stored.
        """
        own = _digest(key)
        return self._accounts.get(own, own)

    # Changes to accounts, machines and time, for tests.

    def same_account(self, key: str, other_key: str) -> None:
        """Make `other_key` a key of the account of `key`, as when a key is rotated.

        Each key sees the machines that the other creates, and the old one keeps working.
        """
        with self._lock:
            self._accounts[_digest(other_key)] = self.account_of(key)

    def stuck(self, instance_id: str) -> None:
        """Stop a machine's progress: its status, ip and sector never change again."""
        with self._lock:
            self._existing(instance_id).stuck_at = self.now()

    def kill(self, instance_id: str) -> None:
        """Make a machine disappear at once, without a call to the API."""
        with self._lock:
            self._existing(instance_id).gone_at = self.now()

    def set_status(self, instance_id: str, status: str) -> None:
        """Set a machine's status to any text. Its ip and sector still change over time."""
        with self._lock:
            self._existing(instance_id).status = status

    def hide(self, instance_id: str, call: Literal["list", "get"], seconds: float = inf) -> None:
        """Omit a machine from the list, or return 404 for it, for the next `seconds`."""
        with self._lock:
            self._existing(instance_id).hidden_until[call] = self.now() + seconds

    def advance(self, seconds: float) -> None:
        """Move the machines' time forward by `seconds`, with any clock."""
        with self._lock:
            self._ahead += seconds

    def now(self) -> float:
        """Return the machines' time in seconds."""
        return self.clock() + self._ahead

    # Reports, for tests.

    @property
    def creations(self) -> int:
        """The number of machines that were ever created."""
        return len(self.machines)

    def existing(self) -> Sequence[Machine]:
        """Return all machines that exist, oldest first, including those hidden or being deleted."""
        with self._lock:
            now = self.now()
            return [machine for machine in self.machines.values() if now < machine.gone_at]

    def alive(self) -> set[str]:
        """Return the ids of `existing` machines."""
        return {machine.id for machine in self.existing()}

    def unclaimed(self, known_ids: Iterable[str]) -> set[str]:
        """Return the ids of machines that exist and aren't among the known ones."""
        return self.alive().difference(known_ids)

    def cost(self, prices: Mapping[str, float]) -> dict[str, float]:
        """Return what all machines have cost so far, and what those that exist cost an hour.

        `prices` has the price of each type an hour. Types without one are counted as
        `without_price`, of the machines that exist.
        """
        with self._lock:
            now, kinds = self.now(), [each.requested.instance_type for each in self.existing()]
            billed = (
                prices.get(machine.requested.instance_type, 0)
                * (min(now, machine.gone_at) - machine.created)
                for machine in self.machines.values()
            )
            return {
                "total": sum(billed) / 3600,
                "per_hour": sum(prices.get(kind, 0) for kind in kinds),
                "without_price": sum(kind not in prices for kind in kinds),
            }

    @contextmanager
    def call(self, kind: str) -> Iterator[None]:
        """Count a call, which is in flight while the block runs."""
        with self._lock:
            self.calls[kind] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def _sector_with_capacity(self, number: int, requested: str | None) -> str:
        """Return a machine's sector: the requested one, or the next that has capacity."""
        taken = Counter(machine.sector for machine in self.existing())
        sectors, turn = [sector.value for sector in Sector], number % len(Sector)
        for sector in [requested] if requested else sectors[turn:] + sectors[:turn]:
            if self.sector_capacity is None or taken[sector] < self.sector_capacity:
                return sector
        raise NoCapacityError(f"in {requested or 'any sector'}", self.capacity_status)

    def _existing(self, instance_id: str, account: str | None = None) -> Machine:
        machine = self.machines.get(instance_id)
        if machine is None or self.now() >= machine.gone_at or not machine.belongs_to(account):
            raise UnknownMachineError(instance_id)
        return machine


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:16]


def _new_id() -> str:
    # The ids come from `random`, so that a simulation can reproduce them with a seed.
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


class UnknownMachineError(LookupError):
    """The account sees no machine with this id."""


class NoCapacityError(Exception):
    """The number of machines that `State.capacity` allows already exists."""

    def __init__(self, missing: str, status: int) -> None:
        """`missing` says what there is no capacity for, as in "for gpu_1x_h100_sxm5"."""
        super().__init__(CAPACITY_ANSWERS[status].format(missing))
        self.status = status


class KeyReusedError(Exception):
    """An idempotency key was used again for a different create."""
