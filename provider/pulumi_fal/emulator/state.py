"""What the API's other side knows: machines, their time, and what was called. No HTTP."""

from __future__ import annotations

import ipaddress
import random
import threading
import time
import uuid
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Literal

from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.emulator.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pulumi_fal.api.models import Instance

CALLS = ("create", "list", "get", "delete")
"""The kinds of calls, as counters and faults name them."""

# Reserved for benchmarks, so that nobody's machine is ever meant (RFC 2544).
NETWORK = ipaddress.IPv4Address("198.18.0.0")


class UnknownMachineError(LookupError):
    """No machine has this id, or none that may be seen now, or that the account may see."""


class NoCapacityError(Exception):
    """As many machines exist as `State.capacity` allows."""


class KeyReusedError(Exception):
    """An idempotency key came again, with another create."""


_Kept = tuple[float, tuple[str | None, ...], "Instance"]
"""Until when an answer is kept, what was requested, and the answer."""


class TurnedClock:
    """A clock in seconds that stands still until it is turned."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by so many seconds."""
        self.now += seconds


@dataclass(frozen=True)
class Call:
    """A line of the request log. `at` is seconds since the epoch; no status: no answer was sent."""

    at: float
    method: str
    path: str
    status: int | None
    ms: int
    fault: str | None = None
    api: str | None = None
    """The dialect of the API that the request used; None for a path of neither."""


class State:
    """Everything that the API's other side knows. Safe to use from several threads.

    Args:
        clock: returns seconds; give a `TurnedClock` to turn the time by hand.
        provisioning: seconds from a machine's creation until it is ready.
        deletion: seconds for which a deleted machine still exists and is shown.

    The arguments and `ip_at` (the part of the provisioning time after which the ip is shown, 0 to
    1), `list_lag` (seconds before a new machine is listed), `capacity` (how many machines may
    exist, None for any number), `page_size` (machines on a page of the v1 API's list) and
    `key_seconds` (for which the answer to a create is kept for its idempotency key) are attributes
    that count for whatever happens after they are set.

    A machine belongs to the account that made it, and to any other account it is as if it didn't
    exist. `account_of` says which account a key is of. Where no account is given, as by a test that
    has no use for them, every machine is seen, and what is made is seen by every account.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        provisioning: float = 0.0,
        deletion: float = 0.0,
    ) -> None:
        self.clock = clock
        self.provisioning = provisioning
        self.deletion = deletion
        self.ip_at = 0.8
        self.list_lag = 0.0
        self.capacity: int | None = None
        self.page_size = 50
        self.key_seconds = 600.0
        self.machines: dict[str, Machine] = {}
        self.calls: Counter[str] = Counter(dict.fromkeys(CALLS, 0))
        self.deletions = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.log: deque[Call] = deque(maxlen=10_000)
        self.requests = 0
        self._ahead = 0.0
        self._accounts: dict[str, str] = {}
        self._kept: dict[tuple[str | None, str], _Kept] = {}
        self._lock = threading.RLock()

    # What the API does.

    def create(
        self,
        instance_type: str,
        ssh_key: str,
        sector: str | None = None,
        account: str | None = None,
        idempotency_key: str = "",
    ) -> Instance:
        """Start a machine, or give the answer that is kept for an idempotency key.

        NoCapacityError when there are as many as may exist, of all accounts. KeyReusedError when
        the key came with another create before.
        """
        with self._lock:
            asked = (instance_type, ssh_key, sector)
            until, before, answer = self._kept.get((account, idempotency_key), (-inf, asked, None))
            if idempotency_key and answer is not None and self.now() < until:
                if before != asked:
                    raise KeyReusedError("the idempotency key came with another create before")
                return answer
            if self.capacity is not None and len(self.existing()) >= self.capacity:
                raise NoCapacityError(f"no capacity left for {instance_type}")
            number, now = len(self.machines), self.now()
            is_8x = instance_type == InstanceType.GPU_8X_H100_SXM5
            machine = Machine(
                id=_new_id(),
                instance_type=instance_type,
                ssh_key=ssh_key,
                requested_sector=sector,
                chosen_sector=list(Sector)[number % len(Sector)].value if is_8x else None,
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
                self._kept[account, idempotency_key] = (until, asked, answer)
            return answer

    def get(self, instance_id: str, account: str | None = None) -> Instance:
        """One machine. UnknownMachineError when it is gone, hidden, or not of this account."""
        with self._lock:
            machine, now = self._existing(instance_id, account), self.now()
            if now < machine.hidden_until.get("get", -inf):
                raise UnknownMachineError(instance_id)
            return machine.seen_at(now)

    def list(self, account: str | None = None) -> Sequence[Instance]:
        """The account's machines that exist and aren't hidden from the list, the oldest first."""
        with self._lock:
            now = self.now()
            return [
                machine.seen_at(now)
                for machine in self.machines.values()
                if machine.belongs_to(account)
                and machine.hidden_until["list"] <= now < machine.gone_at
            ]

    def delete(self, instance_id: str, account: str | None = None) -> None:
        """Begin a machine's end, hidden or not; twice is as once.

        UnknownMachineError when it is gone, or not of this account.
        """
        with self._lock:
            machine = self._existing(instance_id, account)
            if machine.gone_at == inf:
                machine.gone_at = self.now() + self.deletion
                self.deletions += 1

    def account_of(self, key: str) -> str:
        """The account that a key is of: one of its own, unless `same_account` says otherwise.

        Its name is a digest: the key may be a real one, and is not kept.
        """
        own = _digest(key)
        return self._accounts.get(own, own)

    # What a test does to accounts, machines and time.

    def same_account(self, key: str, other_key: str) -> None:
        """From now on `other_key` is a key of the account that `key` is of.

        This is how a key is rotated: both see what either makes, and the old one goes on working.
        """
        with self._lock:
            self._accounts[_digest(other_key)] = self.account_of(key)

    def stuck(self, instance_id: str) -> None:
        """Stop a machine's progress for ever: status, ip and sector stay as they are."""
        with self._lock:
            self._existing(instance_id).stuck_at = self.now()

    def kill(self, instance_id: str) -> None:
        """Let a machine vanish at once, as nobody asked for."""
        with self._lock:
            self._existing(instance_id).gone_at = self.now()

    def set_status(self, instance_id: str, status: str) -> None:
        """Show any text as a machine's status from now on; its ip and sector go on as before."""
        with self._lock:
            self._existing(instance_id).status = status

    def hide(self, instance_id: str, call: Literal["list", "get"], seconds: float = inf) -> None:
        """Leave a machine out of the list, or answer GET as if it didn't exist."""
        with self._lock:
            self._existing(instance_id).hidden_until[call] = self.now() + seconds

    def advance(self, seconds: float) -> None:
        """Let that much time pass at once, whatever the clock."""
        with self._lock:
            self._ahead += seconds

    def now(self) -> float:
        """The machines' time in seconds."""
        return self.clock() + self._ahead

    # What happened.

    @property
    def creations(self) -> int:
        """How many machines were ever started."""
        return len(self.machines)

    def existing(self) -> Sequence[Machine]:
        """All machines that exist, hidden ones and those being deleted included, oldest first."""
        with self._lock:
            now = self.now()
            return [one for one in self.machines.values() if now < one.gone_at]

    def alive(self) -> set[str]:
        """The ids of all machines that exist, hidden ones and those being deleted included."""
        return {one.id for one in self.existing()}

    def unclaimed(self, known_ids: Iterable[str]) -> set[str]:
        """The ids of machines that exist and aren't among the known ones."""
        return self.alive().difference(known_ids)

    def write_down(self, call: Call) -> None:
        """Add a line to the log, which forgets its oldest ones; `requests` counts them all."""
        self.log.append(call)
        self.requests += 1

    @contextmanager
    def call(self, kind: str) -> Iterator[None]:
        """Count a call, and that it is in flight for as long as the block runs."""
        with self._lock:
            self.calls[kind] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def _existing(self, instance_id: str, account: str | None = None) -> Machine:
        machine = self.machines.get(instance_id)
        if machine is None or self.now() >= machine.gone_at or not machine.belongs_to(account):
            raise UnknownMachineError(instance_id)
        return machine


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:16]


def _new_id() -> str:
    # From `random`, so that a simulation which seeds it meets the same ids again.
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
