"""The provider: what the engine asks of a ComputeInstance, in terms of a machine's life.

State holds the class below by its module and name, so neither may ever change: existing stacks
could not even be destroyed. And it holds the instance's attributes, so there are none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pulumi import dynamic
from pulumi.output import Unknown
from pulumi.runtime import rpc

# What needs requests is imported where the plugin process first needs it: a program that only
# declares machines, and `import pulumi_fal` in it, should not pay for an HTTP client.
from pulumi_fal import inputs, plugin_host
from pulumi_fal.errors import NotReadyError, VanishedError
from pulumi_fal.models import Instance

if TYPE_CHECKING:
    from pulumi_fal.lifecycle import Lifecycle

CREATE_TIMEOUT = 3600.0
"""Seconds until a machine must be ready, where `custom_timeouts` says nothing."""
DELETE_TIMEOUT = 1200.0
UNFINISHED = "unfinished"
"""An output that only a machine has whose wait for ready ended early."""


class _Session:
    """What a plugin process has once: the config, and from the first API call on a lifecycle."""

    def __init__(self) -> None:
        self.config: Callable[[str], Any] = {}.get
        self._lifecycle: Lifecycle | None = None
        self._lock = threading.Lock()

    @property
    def lifecycle(self) -> Lifecycle:
        """ConfigurationError where no key is set, or the endpoint can't be one."""
        from pulumi_fal import settings
        from pulumi_fal.client import Client
        from pulumi_fal.clock import Clock
        from pulumi_fal.fleet import Fleet
        from pulumi_fal.lifecycle import Lifecycle

        with self._lock:
            if self._lifecycle is None:
                resolved = settings.resolve(os.environ, self.config)
                clock = Clock()
                client = Client(resolved, clock)
                fleet = Fleet(client, clock, resolved.poll_interval)
                self._lifecycle = Lifecycle(client, fleet, clock)
            return self._lifecycle


_session = _Session()


class ComputeInstanceProvider(dynamic.ResourceProvider):
    """Creates, reads, updates, compares and deletes machines of fal Compute."""

    def configure(self, req: dynamic.ConfigureRequest) -> None:
        """Keep the config; the key in it is looked for when the API is first called."""
        _session.config = req.config.get

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """Every problem of the inputs at once. A key with another comment stays the old one."""
        checked = {name: news[name] for name in inputs.NAMES if news.get(name) is not None}
        # Without a property's name, since the engine would print its value beside the reason.
        failures = [dynamic.CheckFailure("", each) for each in inputs.problems(news, _is_unknown)]
        if not failures and not inputs.replacements(
            {"ssh_key": _olds.get("ssh_key")}, {"ssh_key": news["ssh_key"]}, _is_unknown
        ):
            checked["ssh_key"] = _olds.get("ssh_key") or news["ssh_key"]
        return dynamic.CheckResult(checked, failures)

    @plugin_host.clear_errors
    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """A changed type, key or sector replaces. The engine works out the rest from the inputs."""
        replaces = inputs.replacements(_olds, _news, _is_unknown)
        # An unfinished machine has work left although no input differs.
        return dynamic.DiffResult(changes=True if UNFINISHED in _olds else None, replaces=replaces)

    @plugin_host.clear_errors
    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Rent a machine and wait until it is ready."""
        from pulumi_fal.lifecycle import Spec

        spec = Spec(props["instance_type"], props["ssh_key"], props.get("sector"))
        instance = _session.lifecycle.launch(spec)
        return dynamic.CreateResult(
            instance.id, _finish(plugin_host.current_call(), instance, props)
        )

    @plugin_host.clear_errors
    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """The machine as it is; gone only where the API really says so."""
        instance = _session.lifecycle.find(id_)
        if instance is None:
            return dynamic.ReadResult("", {})
        outputs = _outputs(instance, props)
        if UNFINISHED in props and not instance.is_ready:
            # A plain answer would tell the engine that the create had succeeded after all.
            reason = f"Machine {id_} is not ready yet: its status is {instance.status}."
            if plugin_host.current_call().keep(id_, {**outputs, UNFINISHED: True}, reason):
                raise NotReadyError(id_, reason)
            outputs[UNFINISHED] = True
        return dynamic.ReadResult(id_, outputs)

    @plugin_host.clear_errors
    def update(
        self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]
    ) -> dynamic.UpdateResult:
        """Record what needs no call, and go on waiting for a machine that was never ready."""
        if UNFINISHED not in _olds:
            return dynamic.UpdateResult({**_olds, **_requested(_news)})
        seen = Instance(_id, _news["instance_type"], _olds.get("sector"))
        return dynamic.UpdateResult(_finish(plugin_host.current_call(), seen, _news))

    @plugin_host.clear_errors
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete the machine, and return when the API no longer knows it."""
        _session.lifecycle.delete(_id, plugin_host.current_call().timeout or DELETE_TIMEOUT)


def _finish(call: plugin_host.Call, instance: Instance, props: Mapping[str, Any]) -> dict[str, Any]:
    """Wait until the machine is ready; if that goes wrong, have the engine record it as it is."""
    last = instance

    def observe(seen: Instance) -> None:
        nonlocal last
        last = seen

    try:
        timeout = call.timeout or CREATE_TIMEOUT
        ready = _session.lifecycle.wait_until_ready(instance, timeout, observe)
    except VanishedError:
        raise
    except Exception as error:
        call.keep(instance.id, {**_outputs(last, props), UNFINISHED: True}, str(error))
        raise
    return _outputs(ready, props)


def _outputs(instance: Instance, props: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs: what was requested, and what the API says of the machine."""
    observed = {
        "instance_type": instance.instance_type,
        "sector": instance.sector,
        "ip": instance.ip,
        "status": instance.status,
    }
    return {
        name: value
        for name, value in {**observed, **_requested(props)}.items()
        if value is not None
    }


def _requested(props: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs among `props`, which are inputs or earlier outputs, as outputs keep them."""
    kept = {name: props[name] for name in ("instance_type", "ssh_key") if name in props}
    if inputs.REQUESTED_SECTOR in props:
        return {**kept, inputs.REQUESTED_SECTOR: props[inputs.REQUESTED_SECTOR]}
    return {**kept, inputs.REQUESTED_SECTOR: props.get("sector") or ""}


def _is_unknown(value: object) -> bool:
    return isinstance(value, Unknown) or value == rpc.UNKNOWN
