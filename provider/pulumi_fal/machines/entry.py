"""The journal's entry for one create, and how it is stored on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.stacks.origin import Origin, without_user

VERSION = 5
"""The version of the format. Earlier versions, which lack some fields, can be read as well."""
KEY_SECONDS = 540.0
"""Seconds after the first POST for which a create may be sent again with its idempotency key. This
is less than the time for which the API keeps the key (api.dialects.KEPT_SECONDS), to allow for late
answers and for clocks that differ.
"""


class Phase(str, Enum):
    """The progress of a create. The values are stored on disk."""

    REQUESTED = "asked"
    """There is no answer to the POST yet, or it was lost."""
    CREATED = "waiting"
    """The machine's id is known, but was not reported to Pulumi."""
    REPORTED = "returned"
    """The machine was reported to Pulumi, but may not be in state."""
    ADOPTED = "adopted"
    """A person assigned a machine to the create."""
    LATE = "late"
    """There was no answer, or the machine is gone, and another create may have followed since. The
    machine may still appear, or come back."""


@dataclass(frozen=True)
class Entry:
    """The record of one create."""

    origin: Origin
    """The resource that the machine was requested for."""
    account: str
    """A hash of the endpoint and the API key that the create was made with."""
    requested: NewInstance
    """What the create requested, with a hash in place of the SSH key."""
    before: tuple[str, ...]
    """The ids of the account's machines before the POST."""
    started: float
    """When the POST was sent, or when it ended once that is known; in seconds since the epoch."""
    phase: Phase = Phase.REQUESTED
    instance_id: str | None = None
    problem: str = ""
    """The error of the POST if its answer had no machine id, else ""."""
    seen: bool = False
    """Whether the API has shown the machine since the POST, in a list or in response to a GET."""
    idempotency_key: str = ""
    """The idempotency key of the POST; "" with the legacy API, which does not support keys."""
    first_sent: float = 0.0
    """When the create was first sent with that key, in seconds since the epoch."""
    endpoint: str = ""
    """The endpoint that the create was sent to; "" in entries of version 2 and earlier."""
    searched: bool = False
    """Whether a search, after the machine had time to appear, found no candidate."""
    found: tuple[str, ...] = ()
    """The ids of the machines that appeared after another create had been started, in the phase
    LATE. Each may be the machine of this create."""
    file: str = field(default="", compare=False)
    """The name of its file in the journal."""

    @property
    def id(self) -> str:
        """What `pulumi-fal pending` calls the entry: the last part of its file's name."""
        return self.file.removesuffix(".json").rpartition("-")[2][:8]

    @property
    def is_late(self) -> bool:
        """Whether another create has been started for the resource since."""
        return self.phase is Phase.LATE

    def key_seconds_left(self, now: float) -> float:
        """Return for how long the create may still be sent again with its key; 0 if it may not.

        If the create was first sent in the future, a clock was set back, and it is not known how
        much time has passed.
        """
        if not self.idempotency_key or now < self.first_sent:
            return 0.0
        return max(0.0, self.first_sent + KEY_SECONDS - now)

    @property
    def instance_type(self) -> str:
        """The type of the machine that was requested."""
        return self.requested.instance_type

    def is_for(self, new: NewInstance) -> bool:
        """Whether this create requested the same."""
        return self.requested == new.hashed()

    def as_created(self, instance_id: str) -> Entry:
        """Return the entry with the machine's id from the answer to the POST."""
        return replace(self, phase=Phase.CREATED, instance_id=instance_id, problem="")

    def as_json(self) -> dict[str, Any]:
        """Return the entry in the format that is stored on disk, which has no nested request."""
        values = {**vars(self), "origin": vars(self.origin)}
        del values["file"]
        return {"version": VERSION, **vars(values.pop("requested")), **values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: str = "") -> Entry:
        """Return the entry for the output of `as_json`, which the journal has in that file.

        Raises ValueError, KeyError or TypeError if the format is wrong.
        """
        requested = NewInstance.of(data)
        origin = {name: value for name, value in data["origin"].items() if name != "organization"}
        origin["backend"] = without_user(origin.get("backend", ""))
        values = {
            **{name: value for name, value in data.items() if name not in vars(requested)},
            "origin": Origin(**origin),
            "requested": requested,
            "before": tuple(data["before"]),
            "found": tuple(data.get("found", ())),
            "phase": Phase(data["phase"]),
        }
        del values["version"]
        return cls(**values, file=file)
