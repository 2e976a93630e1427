"""What Pulumi asks of a machine, as functions of a Call. Every host calls these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pulumi_fal.api.models import Instance, Status
from pulumi_fal.api.settings import Home
from pulumi_fal.errors import FalError, Interrupted, LifecycleError, NotReadyError, VanishedError
from pulumi_fal.machines.entry import Spec
from pulumi_fal.machines.machines import Machines
from pulumi_fal.resource import inputs, outputs
from pulumi_fal.resource.call import UNKNOWN, WARNING, Call, InitFailed
from pulumi_fal.resource.inputs import Failure
from pulumi_fal.resource.outputs import UNFINISHED

CREATE_TIMEOUT = 3600.0
"""Seconds until a machine must be ready, where `custom_timeouts` says nothing."""
DELETE_TIMEOUT = 1200.0
_PREVIEW_SECONDS = 5.0
"""How long a diff may take to find out whether an unfinished machine still exists."""

Properties = Mapping[str, Any]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """The inputs as state keeps them, and every problem with them."""

    inputs: dict[str, Any]
    failures: list[Failure]


@dataclass(frozen=True)
class Diff:
    """The inputs whose change replaces the machine.

    `changes` is None where the engine works it out from the inputs, so that `ignore_changes` is
    honoured, and True where there is work left although no input differs.
    """

    replaces: list[str]
    changes: bool | None = None


@dataclass(frozen=True)
class Created:
    """A machine that is the resource's; `undelivered` as in InitFailed."""

    id: str
    outputs: Outputs
    undelivered: Callable[[], None] = lambda: None


def check(call: Call, olds: Properties, news: Properties) -> Checked:
    """Every problem of the inputs at once, offline. A key with another comment stays the old one.

    `olds` are the old inputs, empty for a new resource and before a replacement.
    """
    checked = {name: news[name] for name in inputs.NAMES if news.get(name) is not None}
    if checked.get("wait") is True:
        del checked["wait"]  # the default, which must not differ from leaving it out
    failures = list(inputs.failures(news))
    if not failures and not inputs.replacements(
        {"ssh_key": olds.get("ssh_key")}, {"ssh_key": news["ssh_key"]}
    ):
        checked["ssh_key"] = olds.get("ssh_key") or news["ssh_key"]
    kind = checked.get("instance_type")
    if not failures and kind is not UNKNOWN and not inputs.is_known(kind):
        call.log(
            f"Instance type {kind} is not one that this version knows; the API decides.", WARNING
        )
    return Checked(checked, failures)


def diff(machines: Machines, call: Call, id_: str, olds: Properties, news: Properties) -> Diff:
    """Another type, key or sector replaces. `olds` are the old outputs, `news` the new inputs."""
    machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
    replaces = inputs.replacements(olds, news)
    if UNFINISHED not in olds:
        return Diff(replaces)
    # An unfinished machine has work left although no input differs. One that is gone, which no
    # wait would tell the engine, needs another.
    if not replaces and _has_vanished(machines, call, id_, olds):
        replaces = ["instance_type"]
    return Diff(replaces, changes=True)


def create(machines: Machines, call: Call, props: Properties) -> Created:
    """Rent a machine and wait until it is ready. InitFailed where that wait ends early."""
    if call.preview:
        return Created("", outputs.planned(props))
    account, origin = machines.account, machines.stacks.origin(call.urn, call.organization)
    undelivered = partial(account.launcher.mark_unreported, origin)
    spec = Spec(props["instance_type"], props["ssh_key"], props.get("sector"))
    with account.launcher.launch(spec, origin) as instance:
        wait = _Wait(machines, call, instance, props)
        try:
            outs = wait.until_ready() if inputs.waits(props) else wait.outputs
        except VanishedError as error:
            if error.was_listed:
                account.launcher.discard(origin)
            raise
        except InitFailed as failed:
            if call.is_heard():
                # On disk first: the engine may have it from the moment that the call ends.
                account.launcher.mark_reported(origin, seen=wait.was_seen)
                failed.undelivered = undelivered
            raise
        account.launcher.mark_reported(origin, seen=wait.was_seen)
    return Created(instance.id, outs, undelivered)


def read(machines: Machines, call: Call, id_: str, props: Properties) -> Outputs | None:
    """The machine's outputs now; None only where the account that has it really says it is gone.

    `props` are its outputs in state, without any where a program reads a machine by its id.
    InitFailed where it is still not ready: a plain answer would tell the engine that its create
    had succeeded after all.
    """
    account = machines.account
    in_state = "instance_type" in props
    instance = account.lifecycle.find(id_)
    if instance is None and not in_state:
        raise _not_known(id_)
    if instance is None:
        _refuse_elsewhere(machines, call, id_, props)
        if not account.launcher.may_still_appear(call.urn, id_):
            machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
            return None
        call.log(
            f"The API doesn't show machine {id_} yet, which was made a moment ago. It stays in "
            "state as it was; run `pulumi refresh` again in a minute.",
            WARNING,
        )
        return dict(props)
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)
    outs = outputs.from_instance(instance, props, account.home)
    if UNFINISHED in props and not instance.is_ready:
        reason = f"Machine {id_} is not ready yet: its status is {instance.status}."
        raise InitFailed(id_, {**outs, UNFINISHED: True}, reason)
    if instance.is_stopped:
        call.log(
            f"Machine {id_} is stopped: you can't log in, and it may still bill. Start it on the "
            "fal dashboard, or run `pulumi destroy` to delete it.",
            WARNING,
        )
    return outs


def import_(machines: Machines, id_: str, wanted: Properties) -> Outputs:
    """The outputs of a machine that a program imports.

    `wanted` are the inputs that the program gives. LifecycleError where the machine is not that.
    """
    instance = machines.account.lifecycle.find(id_)
    if instance is None:
        raise _not_known(id_)
    problems = "; ".join(each.reason for each in inputs.failures(wanted))
    if problems:
        raise LifecycleError(id_, f"Machine {id_} was not imported: {problems}")
    wrong = [
        f"{name} is {there} and the program says {wanted[name]}"
        for name, there in (("instance_type", instance.instance_type), ("sector", instance.sector))
        if wanted.get(name) not in (None, there)
    ]
    if wrong:
        raise LifecycleError(
            id_,
            f"Machine {id_} was not imported: its {'; its '.join(wrong)}. "
            "Make the program say what the machine is, or import another one.",
        )
    return outputs.from_instance(instance, wanted, machines.account.home)


def update(machines: Machines, call: Call, id_: str, olds: Properties, news: Properties) -> Outputs:
    """Record what needs no call; resume the wait for a machine that was never awaited to its end.

    `olds` are the old outputs, `news` the new inputs. InitFailed where the wait ends early.
    """
    machines.journal.drop_entry_for(call.urn, id_, is_proven=False)
    has_work = inputs.waits(news) and (UNFINISHED in olds or not inputs.waits(olds))
    if call.preview or not has_work:
        kept = {name: value for name, value in olds.items() if name not in ("wait", UNFINISHED)}
        return {**kept, **outputs.requested(news)}
    _refuse_another_account(machines, call, id_, olds)
    seen = Instance(
        id_,
        news["instance_type"],
        olds.get("sector"),
        olds.get("ip"),
        olds.get("status") or Status.UNKNOWN.value,
    )
    outs = _Wait(machines, call, seen, news).until_ready()
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)
    return outs


def delete(machines: Machines, call: Call, id_: str, props: Properties) -> None:
    """Delete the machine, and return when the API no longer knows it."""
    account = machines.account
    if id_ in account.launcher.resumed_ids:
        raise LifecycleError(
            id_,
            f"Machine {id_} was not deleted: it has just become another resource's. Run "
            "`pulumi refresh`, and `pulumi state delete` for the one that should not have it.",
        )
    _refuse_another_account(machines, call, id_, props)
    is_new = account.launcher.may_still_appear(call.urn, id_)
    try:
        account.lifecycle.delete(id_, call.timeout or DELETE_TIMEOUT, is_new=is_new)
    except Interrupted:
        raise LifecycleError(
            id_,
            f"The delete of machine {id_} was interrupted. It stays in state, and may still "
            "run and bill. Run the command again to go on.",
        ) from None
    machines.journal.drop_entry_for(call.urn, id_, is_proven=True)


def _not_known(id_: str) -> LifecycleError:
    return LifecycleError(
        id_,
        f"Machine {id_} can't be read: the API doesn't know it. `pulumi-fal ls` lists the "
        "machines that there are.",
    )


class _Wait:
    """The wait for one machine, and the machine as it was last seen."""

    def __init__(
        self, machines: Machines, call: Call, instance: Instance, props: Properties
    ) -> None:
        self._account = machines.account
        self._call = call
        self._last = instance
        self._props = props
        self.was_seen = False
        """Whether the API has shown the machine, in a list or when asked for it."""

    @property
    def outputs(self) -> Outputs:
        return outputs.from_instance(self._last, self._props, self._account.home)

    def until_ready(self) -> Outputs:
        """The outputs of the ready machine. VanishedError where it is gone, else InitFailed."""
        timeout = self._call.timeout or CREATE_TIMEOUT
        try:
            self._last = self._account.lifecycle.wait_until_ready(
                self._last, timeout, self._observe
            )
        except VanishedError:
            raise
        except Exception as error:
            outs = {**self.outputs, UNFINISHED: True}
            raise InitFailed(self._last.id, outs, _reason(self._last, error)) from error
        self.was_seen = True
        return self.outputs

    def _observe(self, shown: Instance) -> None:
        if (shown.status, shown.ip) != (self._last.status, self._last.ip):
            self._call.log(_progress(shown), ephemeral=True)
        self._last, self.was_seen = shown, True


def _progress(instance: Instance) -> str:
    """The status, and what is waited for; the engine shows the time beside it.

    Never the ip: a program may have said that it is secret, which a provider isn't told.
    """
    if instance.is_ready:
        return "ready"
    if instance.ip is None:
        return f"{instance.status}, waiting for an ip"
    return f"{instance.status}, has an ip, waiting for ready"


def _reason(instance: Instance, error: Exception) -> str:
    """What ended the wait, and what becomes of the machine."""
    if isinstance(error, NotReadyError):
        return str(error)
    what = "was interrupted" if isinstance(error, Interrupted) else f"failed: {error}".rstrip(".")
    return (
        f"The wait for machine {instance.id} ({instance.instance_type}) {what}. The machine runs "
        f"and bills; its status was {instance.status}. Run `pulumi up` again to go on with the "
        "same machine, or `pulumi destroy` to delete it."
    )


def _has_vanished(machines: Machines, call: Call, id_: str, olds: Properties) -> bool:
    """False also where the API can't be asked: a preview works without a key and offline."""
    try:
        account = machines.account
        if not account.ownership.is_own(Home.of(olds)):
            return False
        if account.launcher.may_still_appear(call.urn, id_):
            return False
        return account.lifecycle.find(id_, _PREVIEW_SECONDS) is None
    except (FalError, TimeoutError):
        return False


def _refuse_another_account(machines: Machines, call: Call, id_: str, props: Properties) -> None:
    """Before a machine that state has is awaited or deleted: only its own account can tell."""
    account = machines.account
    if not account.ownership.is_own(Home.of(props)) and not account.lifecycle.find(id_):
        _refuse_elsewhere(machines, call, id_, props)


def _refuse_elsewhere(machines: Machines, call: Call, id_: str, props: Properties) -> None:
    """Raise ElsewhereError where a machine that isn't seen may be another account's."""
    machines.account.ownership.refuse_elsewhere(
        id_,
        Home.of(props),
        lambda: machines.stacks.machines(machines.stacks.origin(call.urn, call.organization)) or (),
    )
