"""What surrounds a create: a cluster's sector, the waits, and what errors say is billed.

A machine's URN shows that it is one of a cluster, because the type of its parent is in it. The
machines of a cluster differ only in the number at the end of their names. A create waits for
capacity, and for the machine to become ready. If the second wait fails, the machine is left in
state as unfinished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pulumi_fal import clock
from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance, InstanceType, NewInstance, Status
from pulumi_fal.errors import (
    APIError,
    CapacityError,
    ConflictError,
    FalError,
    IncompleteClusterError,
    Interrupted,
    InvalidRequestError,
    JournalError,
    NotReadyError,
    NotReplacedError,
    VanishedError,
)
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.capacity import Patience, Waited, no_capacity
from pulumi_fal.resource import inputs
from pulumi_fal.resource.call import WARNING, Call, InitFailed, only_changes
from pulumi_fal.resource.inputs import UNFINISHED
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, TYPE_TOKEN

CREATE_TIMEOUT = 3600.0
"""Seconds that create waits for a ready machine, unless `custom_timeouts` sets another timeout."""


def sector(account: Account, call: Call, new: NewInstance) -> str | None:
    """Return the sector that the cluster's other machines are in, or else the machine itself was.

    None if it is not part of a cluster, or the first machine of one, or if its type has no sector.
    A machine that replaces another, or one that is gone, must not end up in another sector than the
    rest. So this raises IncompleteClusterError if the first machine is to tell it, but has no
    result.
    """
    if not _is_in_cluster(call.urn) or not InstanceType.has_sector(new.instance_type):
        return None
    in_state, first = _in_state(account, call), _first(call)
    exist = {*account.records.machines(), *(machine.urn for machine in in_state or ())}
    # Without a first machine, a program has given the component a child with such a name.
    has_to_follow = follows(call) and (in_state is None or first in exist)
    if has_to_follow:
        in_state = [machine for machine in in_state or () if machine.urn != first]
    elif in_state is None:
        call.log(
            "The stack's state can't be read, so the API chooses this machine's sector. If it is "
            "not that of the cluster's other machines, set `sector` on the cluster.",
            WARNING,
        )
    # The best witness is another machine that stays, the last one the machine itself.
    witness = min(
        (machine for machine in in_state or () if machine.sector),
        key=lambda machine: (machine.urn == call.urn, machine.is_replaced),
        default=None,
    )
    if witness is None and has_to_follow:
        first, name = _name(first), _name(call.urn)
        raise IncompleteClusterError(
            f"Machine {name} was not created: it is to be in the sector of {first}, which has no "
            "result in this run, or whose sector the API does not show.\n"
            f"Run `pulumi up` again, for {first} as well, or set `sector` on the cluster."
        )
    return witness.sector if witness else None


def follows(call: Call) -> bool:
    """Whether the machine is one of a cluster that are created after its first machine."""
    return _is_in_cluster(call.urn) and call.urn != _first(call)


def without_machine(
    account: Account, call: Call, origin: Origin, new: NewInstance, error: Exception
) -> Exception:
    """Return the error of a create that has no machine, with what is billed or may exist."""
    if isinstance(error, APIError) and retry.lacks_capacity(error):
        error = no_capacity(origin.name, new, error)
    if isinstance(error, InvalidRequestError | ConflictError | CapacityError):
        refusal = _refused(account, call, error)
        refusal.is_awaited = error.is_awaited
        return refusal
    if not isinstance(error, Interrupted):
        return error
    # An interrupt after the POST is not the error here: the machine, or what may exist, is named.
    happened = f"The create of machine {origin.name} ({new.instance_type}) was interrupted."
    try:
        # Late ones are named by every command.
        is_on_record = any(not entry.is_late for entry in account.journal.of(origin))
    except JournalError:  # an entry that can't be read may be of this resource
        is_on_record = True
    if is_on_record:
        return Interrupted(
            f"{happened} It made no machine, but an earlier create of it is on record.\n"
            "To see what may exist:\n  pulumi-fal pending ls\n"
            "Run the command again to continue."
        )
    return Interrupted(
        f"{happened} No machine was created, and nothing is pending.\n"
        "Run the command again to create it."
    )


def _refused(account: Account, call: Call, refusal: FalError) -> FalError:
    """Return the error of a create that the API refuses, with what is billed nevertheless.

    That is the machine that was to be replaced, the others of the cluster, or those of this `up`.
    """
    name = _name(call.urn)
    happened = f"Machine {name} was not created: {refusal}"
    if isinstance(refusal, CapacityError):  # its advice is for a machine that is alone
        happened = f"{refusal.happened}\nNothing was made, and nothing is billed for it."
    if kept := _of_replaced(account, call):
        return NotReplacedError(f"{happened}\n{kept}")
    if _is_in_cluster(call.urn):
        return IncompleteClusterError(
            f"{happened}\n"
            "If there is no capacity, run `pulumi up` again when there is.\n"
            f"Other machines of cluster {_cluster(name)} may exist, and are billed. To list them:\n"
            "  pulumi-fal ls"
        )
    if isinstance(refusal, CapacityError):
        return CapacityError(f"{happened}{_others(account, call)}", refusal.what_to_do)
    return refusal


def _in_state(account: Account, call: Call) -> list[StackMachine] | None:
    """Return the cluster's machines in state; None if the state can't be read.

    All have URNs with the type of this one. In a stack that moves to the native plugin, each has
    the dynamic provider's until its own turn comes.
    """
    in_stack = account.stacks.machines(account.origin(call.urn))
    if in_stack is None:
        return None
    cluster, type_ = _cluster(call.urn), call.urn.rpartition("::")[0].rpartition("$")[2]
    named = [
        replace(machine, urn=machine.urn.replace(f"${TYPE_TOKEN}::", f"${type_}::"))
        for machine in in_stack
    ]
    return [machine for machine in named if _cluster(machine.urn) == cluster]


def _first(call: Call) -> str:
    return f"{_cluster(call.urn)}-0"


def _is_in_cluster(urn: str) -> bool:
    """Whether the URN is that of a cluster's machine.

    A program may give the component other children, whose names need not end in a number.
    """
    types = "".join(urn.split("::")[2:3]).split("$")
    return types[-2:-1] == [CLUSTER_TYPE_TOKEN] and urn.rpartition("-")[2].isdecimal()


def _cluster(urn: str) -> str:
    """Return the part of a URN, or of a name, that the machines of a cluster have in common."""
    return urn.rpartition("-")[0]


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def also_billed(account: Account, call: Call, id_: str) -> str:
    """Return what else is billed while the machine is not ready, and how to delete all of it.

    Reading the state takes a moment, so this returns nothing if the engine has gone.
    """
    if not call.is_heard():
        return ""
    deleted, shown = account.creates.deleted_ids, account.fleet.latest()
    others = [
        machine.id
        for machine in _of_resource(account, call)
        if machine.id in shown and machine.id not in {id_, *deleted}
    ]
    if not others:
        return call.to_delete("it")
    return (
        "Until it is ready, what it replaces is billed as well: machine "
        f"{' and machine '.join(others)}.\n{call.to_delete('all of them')}"
    )


def _of_replaced(account: Account, call: Call) -> str | None:
    """Return what the refusal of a create means for the machine that was to be replaced, if any."""
    # What this process has read of the state before may be of machines that are deleted by now.
    account.stacks.forget(account.origin(call.urn))
    in_state, deleted = _of_resource(account, call), account.creates.deleted_ids
    for machine in in_state:
        if not machine.is_replaced and machine.id not in deleted:
            return (
                f"Machine {machine.id} was not replaced. It stays, and is billed.\n"
                "Run `pulumi up` again to replace it."
            )
    for machine in in_state:
        if machine.id in deleted:
            return (
                f"Machine {machine.id} was deleted first, so the resource has no machine now.\n"
                "Run `pulumi up` again to create one."
            )
    return None


def _others(account: Account, call: Call) -> str:
    """Return how many machines the other creates of this process have, if any."""
    made = {id_ for urn, id_ in account.records.machines().items() if urn != call.urn}
    made -= account.creates.deleted_ids
    if not made:
        return ""
    return f" Other machines of this `up` exist, and are billed: {len(made)} so far."


def _of_resource(account: Account, call: Call) -> list[StackMachine]:
    """Return the machines of the resource in state; none if that can't be read."""
    in_stack = account.stacks.machines(account.origin(call.urn))
    return [machine for machine in in_stack or () if machine.urn == call.urn]


@dataclass
class Wait:
    """The wait for one machine."""

    account: Account
    call: Call
    instance: Instance
    """The machine as it was last seen."""
    props: Mapping[str, Any]
    seen: bool
    """Whether the API has shown the machine, in a list or in response to a GET."""

    @property
    def outputs(self) -> dict[str, Any]:
        return inputs.outputs_of(self.instance, self.props, self.account.id)

    def until_ready(self) -> dict[str, Any]:
        """Wait, and return the outputs of the ready machine.

        Raises VanishedError if the machine is gone, and InitFailed if the wait fails otherwise.
        """
        timeout = self.call.timeout or CREATE_TIMEOUT
        show = only_changes(partial(self.call.log, ephemeral=True), progress(self.instance))

        def observe(shown: Instance) -> None:
            show(progress(shown))
            self.instance, self.seen = shown, True

        def on_no_ssh(reason: str) -> None:
            show(silent(reason))

        try:
            self.instance = self.account.lifecycle.wait_until_ready(
                self.instance,
                timeout,
                observe,
                on_no_ssh if inputs.waits_for_ssh(self.props) else None,
                seen=self.seen,
            )
        except VanishedError:
            raise
        except Exception as error:
            raise unfinished(self.account, self.call, self.instance, self.props, error) from error
        self.seen = True
        return self.outputs


def unfinished(
    account: Account, call: Call, instance: Instance, props: Mapping[str, Any], error: Exception
) -> InitFailed:
    """Return the partial state of a machine whose create or update ended with `error`."""
    outs = {**inputs.outputs_of(instance, props, account.id), UNFINISHED: True}
    advice = also_billed(account, call, instance.id)
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
    elif inputs.waits_for_ssh(props) and (reason := account.greeting(instance.ip or "")):
        lacks = f"no SSH server greets on port 22 ({reason})"
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
    show = only_changes(partial(call.log, ephemeral=True))
    return Patience(
        text, clock.parse_duration(text) or 0.0, lambda waited: show(_no_capacity_yet(waited))
    )


def _no_capacity_yet(waited: Waited) -> str:
    # The request id of each answer differs, and a log gets a line for each text.
    said = re.sub(r"\s\(request\sid\s[^)]*\)", "", waited.error.happened)
    passed = clock.rounded_duration(waited.seconds)
    since = f"for {clock.shown_duration(passed)}" if passed else "yet"
    until = clock.time_of_day(waited.until, waited.now)
    return f"no capacity {since}, asking until {until}: {said}."
