"""The waits of a create: for capacity, and for the machine to become ready.

If the second one fails, the machine is left in state as unfinished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pulumi_fal import clock
from pulumi_fal.api.models import Instance, Status
from pulumi_fal.errors import Interrupted, NotReadyError, VanishedError
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.capacity import Patience, Waited
from pulumi_fal.resource import cluster, inputs, outputs
from pulumi_fal.resource.call import Call, InitFailed
from pulumi_fal.resource.outputs import UNFINISHED

CREATE_TIMEOUT = 3600.0
"""Seconds that create waits for a ready machine, unless `custom_timeouts` sets another timeout."""


class Wait:
    """The wait for one machine. It keeps the machine as it was last seen."""

    def __init__(
        self,
        account: Account,
        call: Call,
        instance: Instance,
        props: Mapping[str, Any],
        *,
        was_seen: bool,
    ) -> None:
        """`was_seen` says whether the API has shown the machine before."""
        self._account = account
        self._call = call
        self._last = instance
        self._props = props
        self._silence = ""
        self.was_seen = was_seen
        """Whether the API has shown the machine, in a list or in response to a GET."""

    @property
    def instance(self) -> Instance:
        """The machine as it was last seen."""
        return self._last

    @property
    def outputs(self) -> dict[str, Any]:
        return outputs.from_instance(self._last, self._props, self._account.id)

    def until_ready(self) -> dict[str, Any]:
        """Wait, and return the outputs of the ready machine.

        Raises VanishedError if the machine is gone, and InitFailed if the wait fails otherwise.
        """
        timeout = self._call.timeout or CREATE_TIMEOUT
        on_silence = self._show_silence if inputs.waits_for_ssh(self._props) else None
        try:
            self._last = self._account.lifecycle.wait_until_ready(
                self._last, timeout, self._observe, on_silence, was_shown=self.was_seen
            )
        except VanishedError:
            raise
        except Exception as error:
            raise unfinished(self._account, self._call, self._last, self._props, error) from error
        self.was_seen = True
        return self.outputs

    def _observe(self, shown: Instance) -> None:
        if (shown.status, shown.ip) != (self._last.status, self._last.ip):
            self._call.log(progress(shown), ephemeral=True)
        self._last, self.was_seen = shown, True

    def _show_silence(self, reason: str) -> None:
        if reason != self._silence:
            self._silence = reason
            self._call.log(silent(reason), ephemeral=True)


def unfinished(
    account: Account, call: Call, instance: Instance, props: Mapping[str, Any], error: Exception
) -> InitFailed:
    """Return the partial state of a machine whose create or update ended with `error`."""
    outs = {**outputs.from_instance(instance, props, account.id), UNFINISHED: True}
    advice = cluster.also_billed(account, call, instance.id)
    return InitFailed(instance.id, outs, f"{_reason(instance, error)}\n{advice}".rstrip())


def has_to_wait(olds: Mapping[str, Any], news: Mapping[str, Any]) -> bool:
    """Whether an update has to wait until the machine is ready."""
    # The engine drops the outputs of an update that it repeated too often.
    is_unfinished = UNFINISHED in olds or "status" not in olds or not inputs.waits(olds)
    is_new_wait = inputs.waits_for_ssh(news) and not inputs.waits_for_ssh(olds)
    return inputs.waits(news) and (is_unfinished or is_new_wait)


def not_up(account: Account, instance: Instance, props: Mapping[str, Any]) -> str | None:
    """Return what the create of an unfinished machine still waits for, or None if nothing."""
    lacks = None
    if not instance.is_ready:
        lacks = f"its status is {instance.status}"
    elif inputs.waits_for_ssh(props) and (silence := account.lifecycle.silence(instance)):
        lacks = f"no SSH server greets on port 22 ({silence})"
    return f"Machine {instance.id} is billed, but not ready yet: {lacks}." if lacks else None


def recorded(id_: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> Instance:
    """Return the machine as state has it."""
    return Instance(
        id_,
        news["instance_type"],
        olds.get("sector"),
        olds.get("ip"),
        olds.get("status") or Status.UNKNOWN.value,
    )


def progress(instance: Instance) -> str:
    """Return the status and what is still missing. The engine shows the elapsed time beside it.

    The text never contains the ip, because a program may treat it as a secret.
    """
    if instance.is_ready:
        return "ready"  # the engine shows the last text beside "created"
    if instance.ip is None:
        return f"{instance.status}, waiting for an ip"
    return f"{instance.status}, has an ip, waiting for ready"


def silent(reason: str) -> str:
    """Return why one can't log in to a ready machine yet."""
    return f"ready, waiting for SSH on port 22: {reason}"


def _reason(instance: Instance, error: Exception) -> str:
    """Say what ended the wait, and how to go on."""
    if isinstance(error, NotReadyError):
        return str(error)
    what = "was interrupted" if isinstance(error, Interrupted) else f"failed: {error}".rstrip(".")
    return (
        f"The wait for machine {instance.id} ({instance.instance_type}) {what}.\n"
        f"The machine is billed; its status was {instance.status}.\n"
        "Run `pulumi up` again to continue with the same machine."
    )


def patience(call: Call, props: Mapping[str, Any]) -> Patience | None:
    """Return for how long the create waits for capacity; None if it fails at once."""
    text = props.get("wait_for_capacity")
    if text is None:
        return None
    shown = ""

    def show(waited: Waited) -> None:
        nonlocal shown
        message = _no_capacity_yet(waited)
        if message != shown:
            call.log(message, ephemeral=True)
            shown = message

    return Patience(text, clock.parse_duration(text) or 0.0, show)


def _no_capacity_yet(waited: Waited) -> str:
    # The request id of each answer differs, and a log gets a line for each text.
    said = re.sub(r"\s\(request\sid\s[^)]*\)", "", waited.error.happened)
    passed = clock.rounded_duration(waited.seconds)
    since = f"for {clock.shown_duration(passed)}" if passed else "yet"
    until = clock.time_of_day(waited.until, waited.now)
    return f"no capacity {since}, asking until {until}: {said}."
