"""The provider: what the engine asks of a ComputeInstance, in terms of a machine's life.

State holds the class below by its module and name, so neither may ever change: existing stacks
could not even be destroyed. And it holds the instance's attributes, so there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pulumi import dynamic
from pulumi.output import Unknown
from pulumi.runtime import rpc

from pulumi_fal.api.models import Instance, Status
from pulumi_fal.api.settings import Home
from pulumi_fal.dynamic import plugin_host
from pulumi_fal.dynamic.session import Session
from pulumi_fal.errors import FalError, Interrupted, LifecycleError, NotReadyError, VanishedError
from pulumi_fal.resource import inputs, outputs
from pulumi_fal.resource.outputs import UNFINISHED
from pulumi_fal.stack import Origin
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, is_ours

CREATE_TIMEOUT = 3600.0
"""Seconds until a machine must be ready, where `custom_timeouts` says nothing."""
DELETE_TIMEOUT = 1200.0
_PREVIEW_SECONDS = 5.0
"""How long a preview may take to find out whether an unfinished machine is still there."""

_session = Session()


class ComputeInstanceProvider(dynamic.ResourceProvider):
    """Creates, reads, updates, compares and deletes machines of fal Compute."""

    # What is serialized is this class's name. As a secret it would differ from what an import
    # brings, and ask for the passphrase.
    serialize_as_secret_always = False

    @plugin_host.guarded
    def configure(self, req: dynamic.ConfigureRequest) -> None:
        """Keep the config; the key in it is looked for when the API is first called."""
        _session.configure(req.config.get)

    @plugin_host.guarded
    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """Every problem of the inputs at once. A key with another comment stays the old one."""
        checked = {name: news[name] for name in inputs.NAMES if news.get(name) is not None}
        if checked.get("wait") is True:
            del checked["wait"]  # the default, and no difference to leaving it out
        # Without a property's name, since the engine would print its value beside the reason.
        failures = [dynamic.CheckFailure("", each) for each in inputs.problems(news, _is_unknown)]
        if not failures and not inputs.replacements(
            {"ssh_key": _olds.get("ssh_key")}, {"ssh_key": news["ssh_key"]}, _is_unknown
        ):
            checked["ssh_key"] = _olds.get("ssh_key") or news["ssh_key"]
        kind = checked.get("instance_type")
        if isinstance(kind, str) and not (failures or _is_unknown(kind) or inputs.is_known(kind)):
            plugin_host.current_call().log(
                f"Instance type {kind} is not one that this version knows; the API decides.",
                plugin_host.WARNING,
            )
        _session.introduce(_known(news.get("__urn")), _known(news.get("__organization")), checked)
        return dynamic.CheckResult(checked, failures)

    @plugin_host.guarded
    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """A changed type, key or sector replaces. The engine works out the rest from the inputs."""
        _session.journal.settle(plugin_host.current_call().urn, _id, is_proven=False)
        replaces = inputs.replacements(_olds, _news, _is_unknown)
        if UNFINISHED not in _olds:
            return dynamic.DiffResult(replaces=replaces)
        # An unfinished machine has work left although no input differs. One that is gone, which no
        # wait would tell the engine, needs another.
        if not replaces and _has_vanished(plugin_host.current_call().urn, _id, _olds):
            replaces = ["instance_type"]
        return dynamic.DiffResult(changes=True, replaces=replaces)

    @plugin_host.guarded
    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Rent a machine and wait until it is ready."""
        from pulumi_fal.machines.launcher import Spec

        call = plugin_host.current_call()
        origin = _session.origin(call, props)
        spec = Spec(props["instance_type"], props["ssh_key"], props.get("sector"))
        with _session.launcher.launch(spec, origin) as instance:
            if inputs.waits(props):
                outs = _finish(call, instance, props, origin)
            else:
                outs = outputs.of(instance, props, _session.home)
                _session.launcher.hand_over(origin, seen=False)
        call.when_unheard(lambda: _session.launcher.take_back(origin))
        return dynamic.CreateResult(instance.id, outs)

    @plugin_host.guarded
    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """The machine as it is; gone only where the account that has it really says so."""
        call = plugin_host.current_call()
        if is_ours(call.urn, IMPORT_TYPE_TOKEN):
            _session.wanted[id_] = {k: v for k, v in props.items() if k in inputs.NAMES}
            return dynamic.ReadResult(id_, {})
        in_state = "instance_type" in props  # and not merely an id in a program
        instance = _session.lifecycle.find(id_)
        if instance is None and not in_state:
            raise LifecycleError(
                id_,
                f"Machine {id_} can't be read: the API doesn't know it. `pulumi-fal ls` lists the "
                "machines that there are.",
            )
        if instance is None:
            _session.refuse_elsewhere(call, id_, props)
            if not _session.launcher.may_still_appear(call.urn, id_):
                _session.journal.settle(call.urn, id_, is_proven=False)
                return dynamic.ReadResult("", {})
            call.log(
                f"The API doesn't show machine {id_} yet, which was made a moment ago. It stays in "
                "state as it was; run `pulumi refresh` again in a minute.",
                plugin_host.WARNING,
            )
            return dynamic.ReadResult(id_, {k: v for k, v in props.items() if k != "__provider"})
        _session.journal.settle(call.urn, id_, is_proven=True)
        if not call.provider_key and id_ in _session.wanted:  # only an import has no provider
            return _imported(instance, _session.wanted[id_])
        outs = outputs.of(instance, props, _session.home)
        if UNFINISHED in props and not instance.is_ready:
            # A plain answer would tell the engine that the create had succeeded after all.
            reason = f"Machine {id_} is not ready yet: its status is {instance.status}."
            outs[UNFINISHED] = True
            if call.keep(id_, outs, reason):
                raise NotReadyError(id_, reason)
        return dynamic.ReadResult(id_, outs)

    @plugin_host.guarded
    def update(
        self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]
    ) -> dynamic.UpdateResult:
        """Record what needs no call; go on waiting for a machine that was never waited for."""
        call = plugin_host.current_call()
        _session.journal.settle(call.urn, _id, is_proven=False)
        if not inputs.waits(_news) or (inputs.waits(_olds) and UNFINISHED not in _olds):
            kept = {k: v for k, v in _olds.items() if k not in ("wait", UNFINISHED)}
            return dynamic.UpdateResult({**kept, **outputs.requested(_news)})
        if not _session.accounts.is_own(Home.of(_olds)) and not _session.lifecycle.find(_id):
            _session.refuse_elsewhere(call, _id, _olds)
        seen = Instance(
            _id,
            _news["instance_type"],
            _olds.get("sector"),
            _olds.get("ip"),
            _olds.get("status") or Status.UNKNOWN.value,
        )
        outs = _finish(call, seen, _news)
        _session.journal.settle(call.urn, _id, is_proven=True)
        return dynamic.UpdateResult(outs)

    @plugin_host.guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete the machine, and return when the API no longer knows it."""
        if _id in _session.launcher.taken_over:
            raise LifecycleError(
                _id,
                f"Machine {_id} was not deleted: it has just become another resource's. Run "
                "`pulumi refresh`, and `pulumi state delete` for the one that should not have it.",
            )
        call = plugin_host.current_call()
        if not _session.accounts.is_own(Home.of(_props)) and not _session.lifecycle.find(_id):
            _session.refuse_elsewhere(call, _id, _props)
        is_new = _session.launcher.may_still_appear(call.urn, _id)
        try:
            _session.lifecycle.delete(_id, call.timeout or DELETE_TIMEOUT, is_new=is_new)
        except Interrupted:
            raise LifecycleError(
                _id,
                f"The delete of machine {_id} was interrupted. It stays in state, and may still "
                "run and bill. Run the command again to go on.",
            ) from None
        _session.journal.settle(call.urn, _id, is_proven=True)


def _imported(instance: Instance, wanted: Mapping[str, Any]) -> dynamic.ReadResult:
    """A machine that a program imports; LifecycleError where it is not what the program says."""
    problems = "; ".join(inputs.problems(wanted, _is_unknown))
    if problems:
        raise LifecycleError(instance.id, f"Machine {instance.id} was not imported: {problems}")
    wrong = [
        f"{name} is {there} and the program says {wanted[name]}"
        for name, there in (("instance_type", instance.instance_type), ("sector", instance.sector))
        if wanted.get(name) not in (None, there)
    ]
    if wrong:
        raise LifecycleError(
            instance.id,
            f"Machine {instance.id} was not imported: its {'; its '.join(wrong)}. "
            "Make the program say what the machine is, or import another one.",
        )
    return dynamic.ReadResult(
        instance.id, outputs.of(instance, wanted, _session.home), dict(wanted)
    )


def _finish(
    call: plugin_host.Call,
    instance: Instance,
    props: Mapping[str, Any],
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Wait until the machine is ready; if that goes wrong, have the engine record it as it is.

    With `origin` it is a create, whose machine the engine does not know yet.
    """
    last, seen = instance, False

    def observe(shown: Instance) -> None:
        nonlocal last, seen
        if (shown.status, shown.ip) != (last.status, last.ip):
            call.log(_progress(shown), ephemeral=True)
        last, seen = shown, True

    try:
        timeout = call.timeout or CREATE_TIMEOUT
        ready = _session.lifecycle.wait_until_ready(instance, timeout, observe)
    except VanishedError as error:
        if origin is not None and error.was_listed:
            _session.launcher.give_up(origin)
        raise
    except Exception as error:
        if call.is_heard:
            if origin is not None:
                # On disk first: the engine may have it from the moment that the call ends.
                _session.launcher.hand_over(origin, seen=seen)
            kept = call.keep(
                last.id,
                {**outputs.of(last, props, _session.home), UNFINISHED: True},
                _reason(last, error),
            )
            if origin is not None:
                back = partial(_session.launcher.take_back, origin)
                call.when_unheard(back) if kept else back()
        if isinstance(error, FalError):
            raise LifecycleError(last.id, _reason(last, error)) from error
        raise
    if origin is not None:
        _session.launcher.hand_over(origin, seen=True)
    return outputs.of(ready, props, _session.home)


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


def _has_vanished(urn: str, instance_id: str, olds: Mapping[str, Any]) -> bool:
    """False also where the API can't be asked: a preview works without a key and offline."""
    try:
        is_own = _session.accounts.is_own(Home.of(olds))
        if not is_own or _session.launcher.may_still_appear(urn, instance_id):
            return False
        return _session.lifecycle.find(instance_id, _PREVIEW_SECONDS) is None
    except (FalError, TimeoutError):
        return False


def _known(value: object) -> str:
    return value if isinstance(value, str) and not _is_unknown(value) else ""


def _is_unknown(value: object) -> bool:
    return isinstance(value, Unknown) or value == rpc.UNKNOWN
