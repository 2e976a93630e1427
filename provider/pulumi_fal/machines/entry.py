"""One create, as the journal records it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from pulumi_fal.api import ssh_keys
from pulumi_fal.stack import Origin

VERSION = 3
"""The format that is written. Earlier ones, which lacked some fields, are read as well."""
KEY_SECONDS = 540.0
"""How long after a create was first sent it may be sent again with its idempotency key: as long as
the API keeps the key (api.v1.KEY_SECONDS), less a margin for clocks and for answers that are late.
"""

GRACE_SECONDS = 30.0
"""How long a new machine may be missing from the API's answers before its absence counts."""


class Phase(str, Enum):
    """How far a create has come. The values are on disk."""

    REQUESTED = "asked"
    """Before the POST's answer, or the answer was lost."""
    CREATED = "waiting"
    """The machine is known, and Pulumi has not been told of it."""
    REPORTED = "returned"
    """Pulumi was told of the machine; whether state has it is not known."""
    ADOPTED = "adopted"
    """A person said which machine it is."""


@dataclass(frozen=True)
class Spec:
    """What is requested of the API: a type, a public key, and a sector for 8x machines or None."""

    instance_type: str
    ssh_key: str
    sector: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identifies the public key, so that the journal need not hold it."""
        return hashlib.sha256(ssh_keys.canonical(self.ssh_key).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """One create."""

    origin: Origin
    account: str
    """Tells one endpoint and key from another, without telling the key."""
    instance_type: str
    ssh_key: str
    """The public key's fingerprint."""
    sector: str | None
    before: tuple[str, ...]
    """The account's machines before the POST."""
    started: float
    """Seconds since the epoch: when the POST was sent; once it has ended, when that was."""
    phase: Phase = Phase.REQUESTED
    instance_id: str | None = None
    problem: str = ""
    """What the POST ended with, where it brought no machine's id."""
    seen: bool = False
    """Whether the API has shown the machine since, in a list or when asked for it."""
    idempotency_key: str = ""
    """What the create was sent with; "" under the legacy API, which has none."""
    first_sent: float = 0.0
    """Seconds since the epoch: when the create was first sent with that key."""
    endpoint: str = ""
    """Where the create was sent; "" in entries of version 2 and earlier."""
    searched: bool = False
    """Whether a look found no machine that the POST may have made, once there was time for one."""

    def is_new(self, now: float) -> bool:
        """Whether its machine is too new for its absence to mean anything."""
        return not self.seen and now - self.started < GRACE_SECONDS

    def key_seconds_left(self, now: float) -> float:
        """For how long the create may still be sent again with its key; 0 where it may not."""
        if not self.idempotency_key:
            return 0.0
        return max(0.0, self.first_sent + KEY_SECONDS - max(now, self.first_sent))

    def is_for(self, spec: Spec) -> bool:
        """Whether this create requested the same."""
        requested = (self.instance_type, self.ssh_key, self.sector)
        return requested == (spec.instance_type, spec.fingerprint, spec.sector)

    def as_created(self, instance_id: str) -> Entry:
        """The entry once the POST's answer has named the machine."""
        return replace(self, phase=Phase.CREATED, instance_id=instance_id, problem="")

    def as_json(self) -> dict[str, Any]:
        """What is on disk."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """The entry that `as_json` gave; ValueError, KeyError or TypeError where it is another."""
        fields = {
            **data,
            "origin": Origin(**data["origin"]),
            "before": tuple(data["before"]),
            "phase": Phase(data["phase"]),
        }
        del fields["version"]
        return cls(**fields)
