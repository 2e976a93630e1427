"""A machine's life once it exists: find it, wait until it is ready, delete it. No Pulumi in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pulumi_fal.client import Client
from pulumi_fal.clock import Clock
from pulumi_fal.errors import (
    ConflictError,
    NotFoundError,
    NotReadyError,
    StillThereError,
    VanishedError,
)
from pulumi_fal.fleet import Fleet, Instances
from pulumi_fal.models import Instance

GRACE_SECONDS = 30.0
"""How long a new machine may be missing from the list before its absence means anything."""


class Lifecycle:
    """The life of machines, on one client and one shared poll."""

    def __init__(self, client: Client, fleet: Fleet, clock: Clock) -> None:
        self._client = client
        self._fleet = fleet
        self._clock = clock
        self._spot_check = threading.Lock()
        self._checked: Instances | None = None
        self._list_is_right = False

    def find(self, instance_id: str) -> Instance | None:
        """The machine, or None where the list lacks it and asking for it gives 404."""
        return self._fleet.fresh().get(instance_id) or self._get(instance_id)

    def wait_until_ready(
        self,
        instance: Instance,
        seconds: float,
        observe: Callable[[Instance], None] = lambda instance: None,
    ) -> Instance:
        """The machine once it is ready and has an ip. `observe` is shown every change on the way.

        NotReadyError after `seconds`; VanishedError when it is gone.
        """
        started = self._clock.now()
        misses, listed = 0, False
        for instances in () if instance.is_ready else self._fleet.watch(seconds):
            found = instances.get(instance.id)
            listed = listed or found is not None
            if found is None and (listed or self._clock.now() - started >= GRACE_SECONDS):
                found = self._get(instance.id)
                misses += 1
            if found is not None:
                misses = 0
            if misses == 2:  # twice in a row: one answer alone may be a lapse
                raise VanishedError(
                    instance.id,
                    f"Machine {instance.id} ({instance.instance_type}) is gone: it was "
                    f"{instance.status} when last seen, and the API no longer knows it. "
                    "Run `pulumi up` again to make a new one.",
                )
            if found is not None and found != instance:
                instance = found
                observe(instance)
            if instance.is_ready:
                break
        if not instance.is_ready:
            raise NotReadyError(
                instance.id,
                f"Machine {instance.id} ({instance.instance_type}) runs and bills, but was not "
                f"ready after {seconds:.0f} s: its status is {instance.status}, its ip "
                f"{instance.ip or 'not assigned'}. Run `pulumi up` again to go on waiting for the "
                "same machine, or `pulumi destroy` to delete it.",
            )
        return instance

    def delete(self, instance_id: str, seconds: float) -> None:
        """Delete the machine and wait until the API no longer knows it.

        A machine that is gone already is a success. StillThereError after `seconds`.
        """
        accepted, said = self._ask_to_delete(instance_id)
        if not accepted and self.find(instance_id) is None:
            return
        for instances in self._fleet.watch(seconds):
            if instance_id not in instances and self._is_gone(instance_id, instances, accepted):
                return
            if not accepted:
                accepted, said = self._ask_to_delete(instance_id)
        raise StillThereError(
            instance_id,
            f"Machine {instance_id} was still there {seconds:.0f} s after it was to be deleted "
            f"({said}). It stays in state, and it bills. Run the command again to go on.",
        )

    def _ask_to_delete(self, instance_id: str) -> tuple[bool, str]:
        """Whether the API took it, and its word. 404 and 409 are for the list to settle."""
        try:
            self._client.delete_instance(instance_id)
        except (ConflictError, NotFoundError) as error:
            return False, f"the API answered {error.status}: {error.detail}"
        return True, "the API had accepted it"

    def _is_gone(self, instance_id: str, instances: Instances, accepted: bool) -> bool:
        """Whether a machine that a list lacks is gone: asking for it gives 404.

        Where many DELETEs were accepted, it is enough to ask for one of those that a list lacks: it
        shows whether this API takes machines off the list before they are gone.
        """
        if accepted:
            with self._spot_check:
                if self._checked is not instances:
                    self._checked, self._list_is_right = instances, self._get(instance_id) is None
                if self._list_is_right:
                    return True
        return self._get(instance_id) is None

    def _get(self, instance_id: str) -> Instance | None:
        try:
            return self._client.get_instance(instance_id)
        except NotFoundError:
            return None
