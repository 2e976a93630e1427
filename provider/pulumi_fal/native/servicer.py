"""The servicer's methods for machines. They translate; `resource` decides."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import Instance, Status
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import (
    CapacityError,
    ElsewhereError,
    FalError,
    LifecycleError,
    UnknownMachineError,
)
from pulumi_fal.machines.account import Account, elsewhere
from pulumi_fal.native.base import ConfigurableProvider, answered
from pulumi_fal.native.properties import (
    DYNAMIC_PROVIDER,
    camel,
    camel_words,
    received,
    secrets_in,
    sent,
)
from pulumi_fal.resource import inputs, operations
from pulumi_fal.resource.call import UNKNOWN, WARNING, Call, InitFailed
from pulumi_fal.resource.inputs import IMPORTED, UNFINISHED
from pulumi_fal.resource.operations import Diff, imported
from pulumi_fal.stacks.state import IMPORT_REFUSED

_LOOK_SECONDS = 5.0
"""Seconds that a diff may take to find out whether this account has the machine."""
_CREATE_TIMEOUT = "createTimeout"
"""The output with the timeout in seconds that the program set for create, while a wait is left.

The engine does not send it with Update, which resumes the wait.
"""
_QUESTION = "::__exists__"
"""Begins the name that the engine makes up if a program asks whether a machine exists."""
_SOME, _NONE = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
_Kind = provider_pb2.PropertyDiff

Properties = Mapping[str, Any]


class FalProvider(ConfigurableProvider):
    """The provider. The methods here are those of its resource."""

    def __init__(self, engine_address: str = "") -> None:
        super().__init__(engine_address)
        self._imported: dict[str, Instance] = {}
        """The machines that were read without state, as for an import, by URN."""

    @answered
    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names the methods
        olds, news = received(request.olds), received(request.news)
        self.session.register(request.urn)
        if olds:
            self.session.account.note_in_engine(request.urn)
        call = self._call(request, context)
        checked = operations.check(call, olds, news)
        # The API does not return the SSH key of a machine, so `pulumi import` has none.
        is_import = request.urn in self._imported and "ssh_key" not in news
        if is_import:
            refuse_import(self.session.account, call, self._imported[request.urn], news)
        failures = [
            provider_pb2.CheckFailure(
                # With a property's name, the engine would print the value, which may be a secret.
                property="" if failure.property in news else camel(failure.property),
                reason=camel_words(failure.reason),
            )
            for failure in checked.failures
            if not (is_import and failure.property == "ssh_key")
        ]
        kept = sent(checked.inputs, secrets_in(request.news))
        return provider_pb2.CheckResponse(inputs=kept, failures=failures)

    @answered
    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        call, news = self._call(request, context), received(request.news)
        account, id_, outputs = self.session.account, request.id, received(request.olds)
        may_have_moved = self._took_over or bool(self.session.declared)
        if may_have_moved and not self.session.saw_last(outputs):
            refuse_move(account, call, id_, outputs, took_over=self._took_over)
        if request.urn in self._imported or IMPORT_REFUSED in outputs:
            try:
                refuse_import(account, call, _machine(id_, outputs), news)
            except LifecycleError:
                # The engine calls Update next, which refuses the import.
                return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_SOME)
        # An input that has become a secret is still in the clear among the outputs.
        exposed = (secrets_in(request.news) - secrets_in(request.olds)) & outputs.keys()
        before = completed(received(request.old_inputs), outputs, news)
        return compare(
            operations.diff(account, call, id_, outputs, news, before),
            before,
            news,
            is_import=request.urn in self._imported,
            is_outdated=DYNAMIC_PROVIDER in request.olds
            or IMPORT_REFUSED in outputs
            or bool(exposed),
        )

    @answered
    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._refuse_without_stack(
            "No machine was created: no stack would have it, so nobody would find it again.\n"
            "Create it in a stack, with `pulumi up` or with `pulumi do` without `--stateless`."
        )
        call, news = self._call(request, context), received(request.properties)
        secrets = secrets_in(request.properties)
        with self._working(request, context, request.properties, secrets, call.timeout):
            try:
                created = operations.create(self.session.account, call, news)
            except CapacityError as error:
                what_to_do, is_awaited = camel_words(error.what_to_do), error.is_awaited
                raise CapacityError(error.happened, what_to_do, is_awaited=is_awaited) from None
        self.request(request, context).on_undelivered(created.undelivered)
        outs = _with_timeout(created.outputs, call.timeout, is_waited_for=inputs.waits(news))
        return provider_pb2.CreateResponse(id=created.id, properties=sent(outs, secrets))

    @answered
    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.session.is_stateless:
            self.session.account.list_ahead()
        call, state = self._call(request, context), received(request.properties)
        if IMPORT_REFUSED in state:
            return provider_pb2.ReadResponse()  # without an id, so the engine drops it from state
        if not request.inputs.fields:  # a program's `get`, as below
            state = {name: state[name] for name in state.keys() - {IMPORTED, UNFINISHED}}
        is_in_state = "instance_type" in state
        is_question = _QUESTION in request.urn
        secrets = secrets_in(request.inputs, request.properties)
        timeout = state.get(_CREATE_TIMEOUT)
        with self._working(request, context, request.inputs, secrets, timeout):
            try:
                outs = operations.read(self.session.account, call, request.id, state)
            except UnknownMachineError as error:
                outs = None
                if not is_question:  # the engine only says that it does not exist
                    call.log(str(error), WARNING)
        if outs is None:
            return provider_pb2.ReadResponse()
        if not (is_in_state or is_question or self.session.is_stateless):
            machine = _machine(request.id, outs)
            refuse_to_replace(self.session.account, call, machine)
            # A program's `get` reads in the same way. Only an import is checked or compared next.
            self._imported[request.urn] = machine
            # Whether the program waits for it is not known yet.
            outs = imported(outs, is_finished=outs.get("status") == Status.READY)
        outs = _with_timeout(outs, timeout, is_waited_for=inputs.waits(state))
        # An imported machine has the inputs that the API returns and that programs require.
        given = request.inputs if is_in_state else sent({"instance_type": outs["instance_type"]})
        return provider_pb2.ReadResponse(
            id=request.id, properties=sent(outs, secrets), inputs=given
        )

    @answered
    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._refuse_without_stack(
            f"Machine {request.id} was not changed: `pulumi do --stateless` can't change machines."
            "\nIf a stack has it, change the program of that stack, and run `pulumi up`."
        )
        call = self._call(request, context)
        olds, news = received(request.olds), received(request.news)
        is_refused = olds.pop(IMPORT_REFUSED, None)
        if request.urn in self._imported or is_refused:
            self._refuse_import(request, context, olds, news)
        # What is no longer requested, as a sector, is as secret as it was.
        secrets = secrets_in(request.news) | (secrets_in(request.olds) - news.keys())
        seconds = olds.pop(_CREATE_TIMEOUT, None)
        call = replace(call, timeout=call.timeout or seconds)
        account, before = self.session.account, received(request.old_inputs)
        with self._working(request, context, request.news, secrets, seconds):
            outs = operations.update(account, call, request.id, olds, news, before)
        outs = _with_timeout(outs, seconds, is_waited_for=inputs.waits(news))
        return provider_pb2.UpdateResponse(properties=sent(outs, secrets))

    @answered
    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._refuse_without_stack(
            f"Machine {request.id} was not deleted: a stack may have it, which `pulumi do "
            "--stateless` does not look at.\n"
            "If a stack has it, remove it from the program of that stack, and run `pulumi up`.\n"
            f"To delete a machine that no stack has:\n  pulumi-fal delete {request.id}"
        )
        call, state = self._call(request, context), received(request.properties)
        if IMPORT_REFUSED in state:
            call.log(
                f"Machine {request.id} was removed from state, but not deleted, because its import "
                "was refused.",
                WARNING,
            )
            return empty_pb2.Empty()
        # The comparison of an import with the program records the key, unless a kill came first.
        if IMPORTED in state and "ssh_key" not in received(request.old_inputs):
            self._refuse_taken(call, request.id, state)
        with self.session.slots:
            operations.delete(self.session.account, call, request.id, state)
        return empty_pb2.Empty()

    def _refuse_taken(self, call: Call, id_: str, state: Mapping[str, Any]) -> None:
        """Raise LifecycleError if another resource may have the machine that is to be deleted."""
        try:
            operations.refuse_taken(self.session.account, call, _machine(id_, state))
        except LifecycleError as error:
            raise LifecycleError(
                id_,
                f"{error}\nSo machine {id_} was not deleted, and may be billed. To remove it from "
                "this stack's state, and leave it as it is:\n"
                f"  pulumi state delete {shlex.quote(call.urn)}",
            ) from None

    def _refuse_without_stack(self, message: str) -> None:
        """Raise FalError with the message if there is no state to record what is done."""
        if self.session.is_stateless:
            raise FalError(message)

    def _call(self, request: Any, context: Any) -> Call:
        is_preview = bool(getattr(request, "preview", False))
        return self.session.call(self.request(request, context), preview=is_preview)

    @contextmanager
    def _working(
        self, request: Any, context: Any, given: Any, secrets: set[str], timeout: Any
    ) -> Iterator[None]:
        """Work on one machine, which the engine records as it is if the wait for it fails."""
        with self.session.slots:
            try:
                yield
            except InitFailed as failed:
                self._abort_partial(request, context, failed, secrets, given, timeout)

    def _refuse_import(
        self, request: Any, context: Any, olds: dict[str, Any], news: dict[str, Any]
    ) -> None:
        """Abort the call, which raises, if the machine may not be imported.

        In a preview nothing is in state yet, and the engine stops after it.
        """
        try:
            machine = _machine(request.id, olds)
            refuse_import(self.session.account, self._call(request, context), machine, news)
        except LifecycleError as error:
            if request.preview:
                raise
            refused = InitFailed(request.id, {**olds, IMPORT_REFUSED: True}, str(error))
            secrets = secrets_in(request.olds, request.news)
            self._abort_partial(
                request, context, refused, secrets, request.old_inputs, refresh_before_update=True
            )

    def _abort_partial(
        self,
        request: Any,
        context: Any,
        failed: InitFailed,
        secrets: set[str],
        given: Any,
        create_timeout: float | None = None,
        **others: Any,
    ) -> None:
        """Abort the call, which raises, so that the engine records the machine as it is."""
        current = self.request(request, context)
        current.on_undelivered(failed.undelivered)
        outs = sent(_with_timeout(failed.outputs, create_timeout, is_waited_for=False), secrets)
        current.keep(failed.instance_id, outs, failed.reason, inputs=given, **others)
        context.abort(grpc.StatusCode.UNKNOWN, failed.reason)


def _machine(id_: str, outputs: Mapping[str, Any]) -> Instance:
    return Instance(id_, outputs["instance_type"], outputs.get("sector"))


def _with_timeout(
    outputs: dict[str, Any], seconds: float | None, *, is_waited_for: bool
) -> dict[str, Any]:
    """Return the outputs, with the timeout that create had, if any, and if a wait is left."""
    is_kept = seconds and not is_waited_for
    return {**outputs, _CREATE_TIMEOUT: seconds} if is_kept else outputs


def completed(before: Properties, outputs: Properties, news: Properties) -> Properties:
    """Return the old inputs, completed from the new ones if an import left some out.

    The API does not return the SSH key, nor which of the sectors was requested. Since that is no
    difference, the engine records these inputs without a change.
    """
    if "ssh_key" in before or "ssh_key" in outputs:
        return before
    unrecorded = {name: new for name, new in news.items() if outputs.get(name, new) == new}
    return {**unrecorded, **before}


def compare(
    found: Diff, before: Properties, news: Properties, *, is_import: bool, is_outdated: bool
) -> provider_pb2.DiffResponse:
    """Return the answer, given which changes replace the machine, and the old and new inputs.

    `is_import` says whether the engine is importing the machine, and compares it with the program.
    `is_outdated` says whether the state has to be written again although no input differs.
    """
    changed = {name for name in inputs.NAMES if before.get(name) != news.get(name)}
    if is_import:  # what the API does not return can't differ from the program
        changed = {name for name in changed if name in before or name in found.replaces}
    replaces = found.replaces
    details = {
        camel(name): provider_pb2.PropertyDiff(
            kind=_kind(name, before, news, name in replaces), inputDiff=name in changed
        )
        for name in inputs.NAMES
        if name in changed or name in replaces
    }
    return provider_pb2.DiffResponse(
        changes=_SOME if details or found.changes or is_outdated else _NONE,
        replaces=[camel(name) for name in replaces],
        diffs=list(details),
        detailedDiff=details,
        hasDetailedDiff=bool(details),
    )


def _kind(name: str, before: Properties, news: Properties, replaces: bool) -> Any:
    if name not in before:
        return _Kind.ADD_REPLACE if replaces else _Kind.ADD
    if name not in news:
        return _Kind.DELETE_REPLACE if replaces else _Kind.DELETE
    return _Kind.UPDATE_REPLACE if replaces else _Kind.UPDATE


def refuse_import(account: Account, call: Call, machine: Instance, news: Mapping[str, Any]) -> None:
    """Raise LifecycleError if the machine differs from the program's inputs, or is another's."""
    known = {name: value for name, value in news.items() if value is not UNKNOWN}
    try:
        operations.refuse_mismatch(machine.id, vars(machine), known)
    except LifecycleError as error:
        raise LifecycleError(machine.id, camel_words(str(error))) from None
    operations.refuse_taken(account, call, machine)


def refuse_to_replace(account: Account, call: Call, machine: Instance) -> None:
    """Raise LifecycleError if the imported machine may not replace the one in state.

    The engine marks that one for deletion before the imported machine is compared with the program,
    and deletes it even if the import is refused then. So the inputs in state stand for the program.
    """
    id_, in_stack = machine.id, account.stacks.machines(account.origin(call.urn))
    for old in in_stack or ():
        if old.urn != call.urn or old.id == id_ or old.is_replaced:
            continue
        wanted = {"instance_type": old.instance_type, "sector": old.requested_sector}
        operations.refuse_taken(account, call, machine)
        try:
            operations.refuse_mismatch(id_, vars(machine), wanted)
        except LifecycleError:
            raise LifecycleError(
                id_,
                f"Machine {id_} was not imported: it would replace machine {old.id}, which has "
                "another type or sector, and Pulumi would delete that one.\n"
                "To keep it, give the imported machine another name in the program.\n"
                "To replace it, run `pulumi up` without the resource first: this deletes it.",
            ) from None


def refuse_move(
    account: Account, call: Call, id_: str, olds: Mapping[str, Any], *, took_over: bool
) -> None:
    """Raise ElsewhereError if the machine in state belongs to another account than this one.

    `olds` are its old outputs. `took_over` says whether it had another provider before. The key of
    that provider may leave state if this does not raise, so it also raises if the API can't be
    asked. Otherwise it does not, because previews work offline. The API is asked only if another
    key than this one saw the machine last.
    """
    account_id = AccountId.of(olds)
    try:
        if account.is_known_own(account_id) or account.lifecycle.look(id_, _LOOK_SECONDS):
            return
        if account.sees(account_id, account.origin(call.urn)):
            return
    except (FalError, TimeoutError) as error:
        if took_over:
            raise _unknown(id_, account_id, error) from None
        return
    if took_over:
        raise _moved(call.urn, id_, account_id, account.id)
    raise elsewhere(account.settings, id_, account_id)


def _moved(urn: str, id_: str, old: AccountId, new: AccountId) -> ElsewhereError:
    return ElsewhereError(
        id_,
        f"Machine {id_} belongs to account {old.account or '?'} at {old.endpoint or '?'}, but the "
        f"resource's provider is now one of account {new.account} at {new.endpoint}, which does "
        "not see it. A machine can't move to another account, so nothing was changed.\n"
        "To keep the machine, give its resource the earlier provider again.\n"
        "To replace it with a new one, and delete it with the key of its earlier provider:\n"
        f"  pulumi up --replace {shlex.quote(urn)}",
    )


def _unknown(id_: str, old: AccountId, error: Exception) -> ElsewhereError:
    problem = str(error).rstrip(".") or "the API did not answer in time"
    return ElsewhereError(
        id_,
        f"Machine {id_} was last seen with another key than that of its new provider (account "
        f"{old.account or '?'} at {old.endpoint or '?'}), and whether both belong to the same "
        f"account is not known: {problem}. Nothing was changed.\n"
        "Run the command again when the API can be reached, or give the resource its earlier "
        "provider again.",
    )
