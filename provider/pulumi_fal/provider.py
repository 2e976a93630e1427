"""The dynamic provider class, which translates Pulumi's calls to those of resource/operations.py.

Every state refers to the class below by its module and name, so neither may ever change: existing
stacks could not even be destroyed. Attributes of the object would be in state as well, so it has
none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pulumi import dynamic
from pulumi.output import Unknown
from pulumi.runtime import rpc

from pulumi_fal.errors import FalError, LifecycleError
from pulumi_fal.hosts.dynamic import DynamicSession, EngineRequest, current_request, guarded
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import UNKNOWN, InitFailed
from pulumi_fal.resource.inputs import NAMES as INPUT_NAMES
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, is_ours

_session = DynamicSession()


class ComputeInstanceProvider(dynamic.ResourceProvider):
    """Creates, reads, updates and deletes machines of fal Compute for Pulumi."""

    # Only the name of this class is serialized, so it is no secret. As a secret it would differ
    # from what an import brings, and the command line would need the passphrase.
    serialize_as_secret_always = False

    @guarded
    def configure(self, req: dynamic.ConfigureRequest) -> None:
        """Store the config. The key in it is resolved when the API is first called."""
        _session.configure(req.config.get)

    @guarded
    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """Validate the inputs, and with the first resource also the settings."""
        inputs = _translated(news)
        current = current_request()
        _session.register(current.urn, inputs.get("__aliases"))
        if _olds:
            _session.account.note_in_engine(current.urn)
        call = _session.call(current, preview="__preview" in inputs)
        checked = operations.check(call, _translated(_olds), inputs)
        # With a property's name, the engine would print the value beside the reason.
        problem = _session.problem()
        reasons = [*([problem] if problem else []), *(f.reason for f in checked.failures)]
        failures = [dynamic.CheckFailure("", reason) for reason in reasons]
        return dynamic.CheckResult(_with_sdk_unknowns(checked.inputs, news), failures)

    @guarded
    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Find the changes that replace the machine."""
        current = current_request()
        olds, news, before = _translated(_olds), _translated(_news), _before(current)
        diff = operations.diff(_session.account, _session.call(current), _id, olds, news, before)
        return dynamic.DiffResult(changes=diff.changes, replaces=diff.replaces)

    @guarded
    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Create a machine and wait until it is ready."""
        current, inputs = current_request(), _translated(props)
        call = _session.create_call(current)
        with _partial_state(current):
            created = operations.create(_session.account, call, inputs)
        current.on_undelivered(created.undelivered)
        return dynamic.CreateResult(created.id, created.outputs)

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """Read the machine's current state, for a refresh, an import or `get`."""
        current, state = current_request(), _translated(props)
        if is_ours(current.urn, (IMPORT_TYPE_TOKEN,)):
            _session.warn_of_missing()
            _session.import_inputs[id_] = state
            return dynamic.ReadResult(id_, {})
        # Only the read of an import comes without the serialized provider.
        if not current.provider_key and id_ in _session.import_inputs:
            helper = _session.import_inputs[id_]
            if not helper["__is_known"]:
                raise LifecycleError(
                    id_,
                    f"Machine {id_} was not imported, because a preview can't compare it with "
                    "inputs that are not known yet.\n"
                    "Set inputs that are known, or run `pulumi up --skip-preview`.",
                )
            inputs = {k: v for k, v in helper.items() if k in INPUT_NAMES}
            outs = operations.read_import(_session.account, _session.call(current), id_, inputs)
            if helper.get("__is_secret"):
                inputs["ssh_key"] = outs["ssh_key"] = rpc.wrap_rpc_secret(inputs["ssh_key"])
            return dynamic.ReadResult(id_, outs, inputs)
        outputs: dict[str, Any] | None
        try:
            _session.account.list_ahead()
            outputs = operations.read(_session.account, _session.call(current), id_, state)
        except InitFailed as failed:
            if current.keep_partial_state(id_, failed.outputs, failed.reason):
                raise
            outputs = failed.outputs
        return dynamic.ReadResult("", {}) if outputs is None else dynamic.ReadResult(id_, outputs)

    @guarded
    def update(
        self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]
    ) -> dynamic.UpdateResult:
        """Record a change that needs no call to the API, or resume the wait for the machine."""
        current = current_request()
        call, before = _session.call(current), _before(current)
        olds, news = _translated(_olds), _translated(_news)
        with _partial_state(current):
            outs = operations.update(_session.account, call, _id, olds, news, before)
        return dynamic.UpdateResult(outs)

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete the machine, and return when the API no longer knows it."""
        call = _session.call(current_request())
        operations.delete(_session.account, call, _id, _translated(_props))


@contextmanager
def _partial_state(current: EngineRequest) -> Iterator[None]:
    """Make the engine record a machine that is not ready, although the call fails.

    If there was no capacity in time, make it go on with the others.
    """
    try:
        yield
    except InitFailed as failed:
        if current.keep_partial_state(failed.instance_id, failed.outputs, failed.reason):
            current.on_undelivered(failed.undelivered)
        else:
            failed.undelivered()
        raise
    except FalError as error:
        if error.is_awaited:
            current.ask_for_another_run(str(error))
        raise


def _before(current: EngineRequest) -> dict[str, Any] | None:
    """Return the inputs in state, or None if they are not known."""
    if current.old_inputs is None:
        return None
    return _translated(rpc.deserialize_properties(current.old_inputs, True))


def _translated(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties without `__provider`, with UNKNOWN for the SDK's two unknown values."""
    return {
        name: UNKNOWN if isinstance(value, Unknown) or value == rpc.UNKNOWN else value
        for name, value in props.items()
        if name != "__provider"
    }


def _with_sdk_unknowns(checked: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    return {name: news[name] if value is UNKNOWN else value for name, value in checked.items()}
