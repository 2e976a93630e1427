"""The provider class that every state names, as Python's dynamic providers are called.

State holds the class below by its module and name, so neither may ever change: existing stacks
could not even be destroyed. And it holds the instance's attributes, so there are none. What Pulumi
asks for is done in resource/operations.py; here its values are translated, and nothing decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pulumi import dynamic
from pulumi.output import Unknown
from pulumi.runtime import rpc

from pulumi_fal.dynamic import request
from pulumi_fal.dynamic.lifetime import guarded
from pulumi_fal.dynamic.session import Session
from pulumi_fal.resource import inputs, operations
from pulumi_fal.resource.call import UNKNOWN, InitFailed
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, is_ours

_session = Session()


class ComputeInstanceProvider(dynamic.ResourceProvider):
    """Creates, reads, updates, compares and deletes machines of fal Compute."""

    # What is serialized is this class's name. As a secret it would differ from what an import
    # brings, and ask for the passphrase.
    serialize_as_secret_always = False

    @guarded
    def configure(self, req: dynamic.ConfigureRequest) -> None:
        """Keep the config; the key in it is looked for when the API is first called."""
        _session.configure(req.config.get)

    @guarded
    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """The inputs, and their problems. Without a property's name: the engine would print its
        value beside the reason."""
        known = _settled(news)
        checked = operations.check(_session.call(request.current()), _settled(_olds), known)
        failures = [dynamic.CheckFailure("", each.reason) for each in checked.failures]
        urn, organization = known.get("__urn"), known.get("__organization")
        _session.introduce(_text(urn), _text(organization), checked.inputs)
        return dynamic.CheckResult(_sent(checked.inputs, news), failures)

    @guarded
    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Which changes replace the machine."""
        call = _session.call(request.current())
        found = operations.diff(_session.machines, call, _id, _settled(_olds), _settled(_news))
        return dynamic.DiffResult(changes=found.changes, replaces=found.replaces)

    @guarded
    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Rent a machine and wait until it is ready."""
        sent, known = request.current(), _settled(props)
        call = _session.create_call(sent, known)
        with _partial_state(sent):
            created = operations.create(_session.machines, call, known)
        sent.on_undelivered(created.undelivered)
        return dynamic.CreateResult(created.id, created.outputs)

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """The machine as it is now."""
        sent, known = request.current(), _settled(props)
        if is_ours(sent.urn, (IMPORT_TYPE_TOKEN,)):
            _session.wanted[id_] = {k: v for k, v in known.items() if k in inputs.NAMES}
            return dynamic.ReadResult(id_, {})
        if not sent.provider_key and id_ in _session.wanted:  # only an import has no provider
            wanted = _session.wanted[id_]
            outs = operations.import_(_session.machines, id_, wanted)
            return dynamic.ReadResult(id_, outs, dict(wanted))
        try:
            found = operations.read(_session.machines, _session.call(sent), id_, known)
        except InitFailed as failed:
            if sent.keep_partial_state(id_, failed.outputs, failed.reason):
                raise
            found = failed.outputs
        return dynamic.ReadResult("", {}) if found is None else dynamic.ReadResult(id_, found)

    @guarded
    def update(
        self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]
    ) -> dynamic.UpdateResult:
        """Record a change that needs no call, or resume a wait."""
        sent = request.current()
        olds, news = _settled(_olds), _settled(_news)
        with _partial_state(sent):
            outs = operations.update(_session.machines, _session.call(sent), _id, olds, news)
        return dynamic.UpdateResult(outs)

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete the machine, and return when the API no longer knows it."""
        call = _session.call(request.current())
        operations.delete(_session.machines, call, _id, _settled(_props))


@contextmanager
def _partial_state(sent: request.Request) -> Iterator[None]:
    """Have the engine record a machine that isn't ready, although the call fails."""
    try:
        yield
    except InitFailed as failed:
        if sent.keep_partial_state(failed.instance_id, failed.outputs, failed.reason):
            sent.on_undelivered(failed.undelivered)
        else:
            failed.undelivered()
        raise


def _settled(props: Mapping[str, Any]) -> dict[str, Any]:
    """The properties without the SDK's own, and with UNKNOWN for either of its unknown values."""
    return {
        name: UNKNOWN if isinstance(value, Unknown) or value == rpc.UNKNOWN else value
        for name, value in props.items()
        if name != "__provider"
    }


def _sent(checked: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    return {name: news[name] if value is UNKNOWN else value for name, value in checked.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
