"""The native provider's answers to each call of the engine, in this process.

The protocol's names are the schema's, and what was secret when the engine sent it stays secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal import __version__
from pulumi_fal.api import retry
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Journal, Phase, default_folder
from pulumi_fal.resource import operations
from pulumi_fal.stacks.cache import UNKNOWN_ID, Stacks
from pulumi_fal.stacks.state import Found, Stack, StackMachine

from ..fakes import ED25519, EIGHT, KEY, ONE, RSA, wait_until
from .harness import (
    PROVIDER,
    PROVIDER_URN,
    Native,
    engine,
    failure,
    hosted,
    init_failed,
    plain,
    secret,
    struct,
)

INPUTS = {"instanceType": EIGHT, "sshKey": ED25519}
HIDDEN = {**INPUTS, "sshKey": secret(ED25519)}
UNKNOWN = rpc.UNKNOWN
URN = Native.urn
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
FAILED, INTERNAL = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INTERNAL
Kind = provider_pb2.PropertyDiff.Kind
VARIABLES = {
    "FAL_ADMIN_API_KEY": "apiKey",
    "FAL_COMPUTE_ENDPOINT": "endpoint",
    "FAL_COMPUTE_API": "api",
    "FAL_COMPUTE_PARALLEL": "parallel",
}


def made_by_hand(emulator: EmulatorServer, kind: str = EIGHT, sector: str | None = None) -> str:
    """The id of a ready machine that no stack has."""
    made = emulator.state.create(NewInstance(kind, ED25519, sector))
    emulator.state.advance(600)
    return made.id


# Config.


def test_handshake(provider: Native) -> None:
    """A component needs accepted secrets."""
    assert provider.handshake().accept_secrets
    assert provider.configure().acceptSecrets
    assert provider.stub.GetPluginInfo(empty_pb2.Empty()).version == __version__


@pytest.mark.parametrize(
    "config, said",
    [
        ({"api": "v9"}, ("fal:api", "legacy or v1", "'v9'")),
        ({"parallel": "many"}, ("fal:parallel", "'many'")),
        ({"apiKey": f"{KEY} and more"}, ("Copy it again",)),
    ],
)
def test_wrong_config(provider: Native, config: dict[str, object], said: tuple[str, ...]) -> None:
    """If a property were named, the engine would print its value. No message repeats a key."""
    (failed,) = provider.check_config(**{"apiKey": KEY, **config}).failures
    assert failed.property == ""
    assert all(part in failed.reason for part in said)
    assert KEY not in failed.reason


@pytest.mark.parametrize("config", [{}, {"apiKey": UNKNOWN}, {"parallel": 16, "settle": 0.5}])
def test_config_of_a_preview(
    provider: Native, environ: pytest.MonkeyPatch, config: dict[str, object]
) -> None:
    """The key may be missing, or may not be known yet."""
    environ.delenv("FAL_ADMIN_API_KEY")
    assert list(provider.check_config(**config).failures) == []


def test_changed_config(provider: Native) -> None:
    """If the provider were replaced, all of its machines would be."""
    same, other = {"apiKey": KEY}, {"apiKey": "other"}
    assert provider.diff_config(same, same).changes == NONE
    told = provider.diff_config(same, other)
    assert (told.changes, list(told.replaces)) == (SOME, [])


@pytest.mark.parametrize(
    "name, wins",
    [
        ("", "variable"),
        ("default", "variable"),
        ("default_1_0_0_alpha_1_https_/example.com", "variable"),
        ("default_https_/example.com", "variable"),
        ("second", "config"),
        ("default-eu", "config"),
        ("default_eu", "config"),
    ],
)
def test_config_or_variables(
    provider: Native, emulator: EmulatorServer, environ: pytest.MonkeyPatch, name: str, wins: str
) -> None:
    """A program may declare several accounts. Variables override the config of the stack."""
    right = {"apiKey": KEY, "endpoint": emulator.url, "api": "legacy", "parallel": "3"}
    wrong = {"apiKey": "wrong", "endpoint": "https://127.0.0.1:1", "api": "v9", "parallel": "-1"}
    config, variables = (right, wrong) if wins == "config" else (wrong, right)
    for variable, setting in VARIABLES.items():
        environ.setenv(variable, variables[setting])
    assert list(provider.check_config(name, **config).failures) == []
    provider.configure(name, **config)
    assert provider.create(INPUTS).id in emulator.state.alive()


# Check and diff.


def test_check(provider: Native) -> None:
    """Another comment of the same SSH key is no change, and neither is `wait: true`."""
    other = {**HIDDEN, "sshKey": secret(f"{ED25519} other"), "wait": True}
    checked = provider.check(other, HIDDEN)
    assert list(checked.failures) == []
    assert plain(checked.inputs) == HIDDEN


def test_check_failures(provider: Native) -> None:
    """The engine prints the value of a named property, and the value may be a secret."""
    failures = provider.check({"sshKey": "a private thing", "sector": "sector1"}).failures
    told = {failure.reason.split()[0]: failure.property for failure in failures}
    assert told == {"instanceType": "instanceType", "sshKey": "", "sector": ""}
    assert not any("private" in failure.reason for failure in failures)
    (failed,) = provider.check({**INPUTS, "wait": "no"}).failures
    assert failed.reason == "wait must be true or false, not of type str"  # not True or False


SECTOR_1 = {"sector": "sector_1"}
DIFFS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}, {}, {}),
    "drift": ({}, {"instanceType": ONE, "sshKey": RSA}, {}, {}),
    "type": ({}, {}, {"instanceType": ONE}, {"instanceType": Kind.UPDATE_REPLACE}),
    "key": ({}, {}, {"sshKey": RSA}, {"sshKey": Kind.UPDATE_REPLACE}),
    "sector": ({}, SECTOR_1, {"sector": "sector_2"}, {"sector": Kind.ADD_REPLACE}),
    "its sector": ({}, SECTOR_1, SECTOR_1, {"sector": Kind.ADD}),
    "no sector": (SECTOR_1, SECTOR_1, {}, {"sector": Kind.DELETE}),
    "no wait": ({}, {}, {"wait": False}, {"wait": Kind.ADD}),
    "not known": ({}, {}, {"instanceType": UNKNOWN}, {"instanceType": Kind.UPDATE_REPLACE}),
    "gone": ({}, {"unfinished": "gone"}, {}, {"instanceType": Kind.UPDATE_REPLACE}),
}
"""What differs from INPUTS in the old inputs, in the outputs and in the new inputs."""


@pytest.mark.parametrize("name", DIFFS)
def test_diff(provider: Native, name: str) -> None:
    """Requesting the sector that the machine is in changes only the inputs."""
    before, shown, news, kinds = DIFFS[name]
    olds = {**INPUTS, "status": "ready", **shown}
    told = provider.diff("i-1", {**INPUTS, **before}, olds, {**INPUTS, **news})
    assert told.changes == (SOME if kinds else NONE)
    assert {of: change.kind for of, change in told.detailedDiff.items()} == kinds
    assert all(change.inputDiff is (name != "gone") for change in told.detailedDiff.values())
    assert list(told.diffs) == list(kinds)
    assert list(told.replaces) == [of for of, kind in kinds.items() if "REPLACE" in Kind.Name(kind)]


def test_state_of_dynamic(provider: Native, emulator: EmulatorServer) -> None:
    """The dynamic provider's state has other property names, and the Python class that wrote it."""
    theirs = {"instance_type": EIGHT, "ssh_key": HIDDEN["sshKey"], "__provider": PROVIDER}
    outputs = {**theirs, "ip": "198.18.0.1", "status": "ready", "endpoint": emulator.url}
    told = provider.diff("i-1", theirs, outputs, HIDDEN)
    assert (told.changes, list(told.replaces), list(told.diffs)) == (SOME, [], [])
    told = provider.diff("i-1", theirs, outputs, {**HIDDEN, "instanceType": ONE})
    assert (told.changes, list(told.replaces)) == (SOME, ["instanceType"])
    updated = plain(provider.update("i-1", outputs, HIDDEN).properties)
    assert updated == {**HIDDEN, "ip": "198.18.0.1", "status": "ready", "endpoint": emulator.url}
    assert emulator.state.calls.total() == 0


# Previews and lives.


def test_preview_of_create(
    provider: Native, emulator: EmulatorServer, environ: pytest.MonkeyPatch
) -> None:
    """A preview needs no key. The sector is known if one is requested."""
    environ.delenv("FAL_ADMIN_API_KEY")
    later = {"ip": UNKNOWN, "status": UNKNOWN}
    planned = provider.create({**INPUTS, "sshKey": UNKNOWN}, preview=True)
    assert planned.id == ""
    assert plain(planned.properties) == {**INPUTS, "sshKey": UNKNOWN, "sector": UNKNOWN, **later}
    in_sector = provider.create({**INPUTS, "sector": "sector_1"}, preview=True)
    assert plain(in_sector.properties) == {**INPUTS, "sector": "sector_1", **later}
    assert emulator.state.calls.total() == 0


def test_timeout_of_create(provider: Native, emulator: EmulatorServer) -> None:
    """The engine sends only the timeout of update, which takes precedence if it is set."""
    emulator.state.provisioning = inf
    id_, outputs, *_ = provider.kept(lambda: provider.create(INPUTS, timeout=0.3))
    *_, reason = provider.kept(lambda: provider.update(id_, outputs, INPUTS, timeout=0.1))
    assert "not ready after 0 s" in reason
    read = provider.kept(lambda: provider.read(id_, INPUTS, outputs))
    assert read.outputs["createTimeout"] == 0.3
    later = provider.kept(lambda: provider.update(id_, outputs, INPUTS)).outputs
    assert later["createTimeout"] == 0.3
    emulator.state.machines[id_].provisioning = 0
    for finished in (provider.update(id_, later, INPUTS), provider.read(id_, INPUTS, later)):
        assert "createTimeout" not in plain(finished.properties)


def test_timeout_without_wait(provider: Native, emulator: EmulatorServer) -> None:
    """A create that did not wait keeps its timeout for the update that will, past a refresh."""
    emulator.state.provisioning = inf
    at_once = {**INPUTS, "wait": False}
    made = provider.create(at_once, timeout=0.3)
    outputs = plain(provider.read(made.id, at_once, plain(made.properties)).properties)
    outputs = plain(provider.update(made.id, outputs, at_once).properties)
    *_, reason = provider.kept(lambda: provider.update(made.id, outputs, INPUTS))
    assert "not ready after 0 s" in reason


@pytest.mark.parametrize("id_, recorded", [("an-id", "an-id"), (UNKNOWN_ID, ""), ("", "")])
def test_provider_on_record(provider: Native, tmp_path: Path, id_: str, recorded: str) -> None:
    """A preview does not know the id of a new one."""
    provider.stub.Configure(provider_pb2.ConfigureRequest(name="default", id=id_))
    made = provider.create(INPUTS).id
    (entry,) = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")})).readable()
    assert (entry.instance_id, entry.origin.provider) == (made, recorded)


# Imports.


def test_import(provider: Native, emulator: EmulatorServer) -> None:
    """The API does not return the key, nor what was requested: recording these is no change."""
    id_ = made_by_hand(emulator, EIGHT, "sector_2")
    read = provider.read(id_)
    known, outputs = plain(read.inputs), plain(read.properties)
    assert (read.id, known) == (id_, {"instanceType": EIGHT})
    assert (outputs["sector"], outputs["status"]) == ("sector_2", "ready")
    assert list(provider.check(known, known).failures) == []
    given = {**INPUTS, "sector": "sector_2"}
    for news in (known, INPUTS, given):
        assert provider.diff(id_, known, outputs, news).changes == NONE
    with hosted() as later:
        for news in (INPUTS, given):
            assert later.diff(id_, known, outputs, news).changes == NONE
        for wrong in ({"instanceType": ONE}, {"sector": "sector_1"}):
            told = later.diff(id_, known, outputs, {**INPUTS, **wrong})
            assert list(told.replaces) == list(wrong)
        assert plain(later.update(id_, outputs, given).properties) == {**outputs, **INPUTS}
        assert [failure.property for failure in later.check(known, known).failures] == ["sshKey"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"instanceType": ONE}, f"its instanceType is {EIGHT}, but the program says {ONE}"),
        ({"sector": "sector_1"}, "its sector is sector_2, but the program says sector_1"),
    ],
)
def test_import_of_another_kind(
    provider: Native, emulator: EmulatorServer, wrong: dict[str, str], said: str
) -> None:
    """The preview fails. Without one, the machine is in state by then, and leaves it untouched."""
    id_ = made_by_hand(emulator, EIGHT, "sector_2")
    read, news = provider.read(id_), {**INPUTS, **wrong}
    known, outputs = plain(read.inputs), plain(read.properties)
    told = provider.diff(id_, known, outputs, news)
    assert (told.changes, list(told.replaces)) == (SOME, [])
    error = failure(lambda: provider.update(id_, outputs, news, preview=True))
    assert error.code() == FAILED
    whole = f"Machine {id_} was not imported: {said}. Correct the program, or import another"
    assert error.details().startswith(f"LifecycleError: {whole}")
    update = partial(provider.update, id_, outputs, news, old_inputs=struct(known))
    assert init_failed(failure(update)).refresh_before_update
    kept_id, refused, inputs, reason = provider.kept(update)
    assert (kept_id, inputs) == (id_, known)
    assert reason.startswith(whole)
    with hosted() as later:
        assert later.read(id_, known, refused).id == ""
        later.delete(id_, refused)
        corrected = {**INPUTS, "sector": "sector_2"}
        assert later.diff(id_, known, refused, corrected).changes == SOME
        assert plain(later.update(id_, refused, corrected).properties) == {**outputs, **INPUTS}
    assert emulator.state.alive() == {id_}
    assert emulator.state.calls["delete"] == 0


OVER: dict[str, tuple[StackMachine, bool]] = {
    "another type": (StackMachine("old", URN, instance_type=ONE), True),
    "another sector": (
        StackMachine("old", URN, instance_type=EIGHT, requested_sector="sector_1"),
        True,
    ),
    "not known": (StackMachine("old", URN), False),
    "replaced": (StackMachine("old", URN, instance_type=ONE, is_replaced=True), False),
    "another resource": (StackMachine("old", f"{URN}-2", instance_type=ONE), False),
}


@pytest.mark.parametrize("old, is_refused", OVER.values(), ids=OVER)
def test_import_over_another(
    provider: Native,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    old: StackMachine,
    is_refused: bool,
) -> None:
    """The engine would delete that one, even if it refuses the import after this read."""
    monkeypatch.setattr(Stacks, "machines", lambda stacks, origin: (old,))
    id_ = made_by_hand(emulator, EIGHT, "sector_2")
    if is_refused:
        said = failure(lambda: provider.import_(id_)).details()
        assert f"Machine {id_} was not imported: it would replace machine old" in said
    else:
        assert provider.import_(id_).id == id_


def test_import_of_taken(
    provider: Native, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read refuses nothing: a program's `get` may read any machine. The later calls do.

    `pulumi import` checks what was read. With the option, the machine is in state by then.
    """
    id_ = made_by_hand(emulator)
    theirs = Stack("organization/proj/theirs", machines=(StackMachine(id_, "urn"),))
    monkeypatch.setattr(Stacks, "all", lambda stacks: Found((theirs,)))
    read = provider.import_(id_)
    known, outputs = plain(read.inputs), plain(read.properties)
    said = "was not imported: it is in the state of the stack organization/proj/theirs"
    assert said in failure(lambda: provider.check(known, known)).details()
    assert provider.diff(id_, known, outputs, INPUTS).changes == SOME
    for told in (outputs, {**outputs, "importRefused": True}):
        *_, refused, _, reason = provider.kept(partial(provider.update, id_, told, INPUTS))
        assert said in reason
    with hosted() as later:
        later.delete(id_, refused)
        killed = partial(later.delete, id_, outputs, old_inputs=read.inputs)
        assert f"{said}: urn" in failure(killed).details()
        *_, reason = later.kept(partial(later.update, id_, refused, INPUTS))
        assert said in reason
        assert emulator.state.alive() == {id_}
        later.delete(id_, outputs, old_inputs=struct(INPUTS))  # it was compared long ago
    assert emulator.state.alive() == set()


@pytest.mark.parametrize("name, warnings", [("box", 1), ("__exists__1", 0)])
def test_unknown_id(provider: Native, emulator: EmulatorServer, name: str, warnings: int) -> None:
    """A read without state finds nothing. A program that asks whether a machine exists may."""
    urn = f"{URN.removesuffix('box')}{name}"
    with engine() as (address, logged):
        provider.handshake(address)
        read = partial(provider_pb2.ReadRequest, urn=urn, properties=struct({}))
        assert provider.stub.Read(read(id="gone")).id == ""
        assert ["Machine gone can't be read" in line.message for line in logged] == [
            True
        ] * warnings
        id_ = made_by_hand(emulator)
        found = provider.stub.Read(read(id=id_))
    assert (found.id, "imported" in plain(found.properties)) == (id_, name == "box")


def test_refresh_of_get(provider: Native, emulator: EmulatorServer) -> None:
    """The program does not manage that machine, so whether it is ready is not awaited."""
    emulator.state.provisioning = inf
    id_ = emulator.state.create(NewInstance(EIGHT, ED25519)).id
    outputs = plain(provider.import_(id_).properties)
    assert "unfinished" in outputs
    read = provider.stub.Read(provider_pb2.ReadRequest(id=id_, urn=URN, properties=struct(outputs)))
    assert outputs.keys() - plain(read.properties).keys() == {"imported", "unfinished"}


# Functions and errors.


def test_functions(provider: Native, emulator: EmulatorServer) -> None:
    """The functions return one machine by its id, or all that match the filters."""
    one, eight = made_by_hand(emulator, ONE), made_by_hand(emulator, EIGHT, "sector_2")
    found = provider.invoke("getInstance", id=eight)
    assert (found["id"], found["instanceType"], found["sector"]) == (eight, EIGHT, "sector_2")
    both = provider.invoke("getInstances")["instances"]
    assert [machine["id"] for machine in both] == [one, eight]
    for filters in ({"instanceType": EIGHT}, {"sector": "sector_2"}):
        (only,) = provider.invoke("getInstances", status="ready", **filters)["instances"]
        assert only == found
    assert provider.invoke("getInstances", region="us-west") == {"instances": []}


@pytest.mark.parametrize(
    "function, args, said",
    [
        ("getInstance", {"id": "i-gone"}, "NotFoundError: "),
        ("getInstance", {}, "FalError: getInstance needs the id"),
        ("getNothing", {}, "FalError: There is no function fal:index:getNothing."),
    ],
)
def test_function_error(provider: Native, function: str, args: dict[str, str], said: str) -> None:
    """The error is its text alone."""
    error = failure(lambda: provider.invoke(function, **args))
    assert error.code() == FAILED
    assert error.details().startswith(said)


CALLS: dict[str, Callable[[Native], object]] = {
    "create": lambda provider: provider.create(INPUTS),
    "read": lambda provider: provider.read("i-1", INPUTS, INPUTS),
    "update": lambda provider: provider.update("i-1", {**INPUTS, "wait": False}, INPUTS),
    "delete": lambda provider: provider.delete("i-1", INPUTS),
}


@pytest.mark.parametrize("call", CALLS)
def test_error_text(provider: Native, environ: pytest.MonkeyPatch, call: str) -> None:
    """With most other codes the engine says that the state may be corrupt."""
    environ.delenv("FAL_ADMIN_API_KEY")
    provider.configure()
    error = failure(lambda: CALLS[call](provider))
    assert error.code() == FAILED
    said, *more = error.details().splitlines()
    assert said.startswith("ConfigurationError: No fal API key is set")
    assert more == (["Machine i-1 was not deleted, and is billed."] if call == "delete" else [])


def test_bug(provider: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug report needs it."""
    monkeypatch.setattr(operations, "delete", mock.Mock(side_effect=KeyError("a bug")))
    error = failure(lambda: provider.delete("i-1", INPUTS))
    assert error.code() == INTERNAL
    assert error.details().startswith("Traceback (most recent call last)")
    assert "KeyError: 'a bug'" in error.details()


# Logs and the end.


def test_messages(
    provider: Native, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress and retries are ephemeral, since most retries succeed, and warnings are not."""
    monkeypatch.setattr(retry, "delay", lambda *_: 0.01)
    emulator.faults.add("create", "429", 4)
    with engine() as (address, logged):
        provider.handshake(address)
        provider.configure("patient", retryBudget=60)
        emulator.state.provisioning = 0.3
        provider.create(INPUTS)
        provider.check({**INPUTS, "instanceType": "gpu_4x_b300"})
        provider.check({**INPUTS, "instanceType": "gpu_4x_b300"})  # says no more
    assert {line.urn for line in logged} == {URN}
    *progress, warning = logged
    assert any("Trying again" in line.message for line in progress)
    assert all(line.ephemeral for line in progress)
    assert (warning.severity, warning.ephemeral) == (2, False)
    assert "does not know the instance type gpu_4x_b300" in warning.message


def test_lost_machine(provider: Native, emulator: EmulatorServer, tmp_path: Path) -> None:
    """The engine did not get the answer, so the machine is not in state.

    The warning is about the stack, because the resource may not be in the program.
    """
    emulator.state.provisioning = inf
    create = provider.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    create.cancel()
    provider.cancel()
    wait_until(lambda: not any(map(journal.is_locked, (tmp_path / "home").rglob("*.lock"))))
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    with engine() as (address, logged), hosted() as another:
        another.handshake(address)
        for number in range(2):
            another.check(INPUTS, urn=f"{URN}-{number}")
        assert another.create(INPUTS).id == machine.id
    warning, *_ = logged
    assert (warning.severity, warning.urn, warning.ephemeral) == (2, "", False)
    assert machine.id in warning.message
    assert [line.severity for line in logged].count(2) == 1


@pytest.mark.parametrize("is_ready", [True, False], ids=["ready", "unfinished"])
def test_lost_answer(
    provider: Native,
    emulator: EmulatorServer,
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    is_ready: bool,
) -> None:
    """The engine goes away just when the machine is on record as reported, so that is undone."""
    started: list[Any] = []
    create, gone = operations.create, Event()

    def and_goes_away(*given: Any) -> operations.Created:
        try:
            return create(*given)
        finally:
            started[0].cancel()
            wait_until(lambda: not given[1].is_heard())
            gone.set()

    environ.setattr(operations, "create", and_goes_away)
    emulator.state.provisioning = 0 if is_ready else inf
    started.append(provider.create_later(INPUTS, timeout=60 if is_ready else 0.2))
    assert gone.wait(30)
    records = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")}))
    wait_until(lambda: [entry.phase for entry in records.readable()] == [Phase.CREATED])


# Secrets.


def test_unknown_secret(provider: Native) -> None:
    """A preview shows it as a secret."""
    unknown = {**HIDDEN, "sshKey": secret(rpc.UNKNOWN)}
    assert plain(provider.check(unknown).inputs) == unknown
    planned = plain(provider.create(unknown, preview=True).properties)
    assert planned["sshKey"] == secret(rpc.UNKNOWN)
    assert planned["instanceType"] == EIGHT


def test_secret_outputs(provider: Native) -> None:
    """Nothing else is: a program may print the ip."""
    given = {**HIDDEN, "sector": secret("sector_2")}
    made = provider.create(given)
    outputs = plain(made.properties)
    assert (outputs["sshKey"], outputs["sector"]) == (HIDDEN["sshKey"], secret("sector_2"))
    assert (outputs["instanceType"], outputs["status"]) == (EIGHT, "ready")
    read = provider.read(made.id, given, outputs)
    assert (plain(read.properties), plain(read.inputs)) == (outputs, given)
    assert provider.diff(made.id, given, outputs, given).changes == NONE
    # A sector that is no longer requested is still that of the machine.
    updated = plain(provider.update(made.id, outputs, {**HIDDEN, "wait": False}).properties)
    assert updated == {**outputs, "wait": False}
    provider.delete(made.id, updated)


def test_secrets_in_partial_state(provider: Native, emulator: EmulatorServer) -> None:
    """In its outputs and its inputs, whether it is create, read or update that fails."""
    emulator.state.provisioning = inf
    kept = provider.kept(lambda: provider.create(HIDDEN, timeout=0.2))
    id_, outputs = kept.id, kept.outputs
    read = provider.kept(lambda: provider.read(id_, HIDDEN, outputs))
    updated = provider.kept(lambda: provider.update(id_, outputs, HIDDEN, timeout=0.1))
    for one in (kept, read, updated):
        assert (one.outputs["sshKey"], one.inputs) == (HIDDEN["sshKey"], HIDDEN)
        assert one.outputs["status"] == "pending"
    emulator.state.machines[id_].provisioning = 0
    assert plain(provider.update(id_, outputs, HIDDEN).properties)["sshKey"] == HIDDEN["sshKey"]


def test_new_secret(provider: Native) -> None:
    """The value is the same, but state has it in the clear among the outputs."""
    before = {**HIDDEN, "sshKey": ED25519}
    outputs = {**before, "ip": "198.18.0.1", "status": "ready"}
    told = provider.diff("i-1", before, outputs, HIDDEN)
    assert (told.changes, list(told.replaces)) == (SOME, [])
    updated = plain(provider.update("i-1", outputs, HIDDEN).properties)
    assert updated == {**outputs, "sshKey": HIDDEN["sshKey"]}
    assert provider.diff("i-1", HIDDEN, updated, HIDDEN).changes == NONE


def test_secret_argument(provider: Native, emulator: EmulatorServer) -> None:
    """What is found shows what was asked for."""
    machine = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_1"))
    found = provider.invoke("getInstance", id=secret(machine.id))
    assert found["id"] == secret(machine.id)
    assert all(is_secret(value) for value in found.values())
    assert is_secret(provider.invoke("getInstances", sector=secret("sector_1"))["instances"])
    assert provider.invoke("getInstance", id=machine.id)["id"] == machine.id


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value == secret(value.get("value"))


# `pulumi do --stateless`: it lists and reads, and changes nothing.

OF_DO = "urn:pulumi:dev::default::fal:index:ComputeInstance::ComputeInstance"
TYPE = "fal:index:ComputeInstance"
Command = Callable[..., Native]


@pytest.fixture
def command(environ: pytest.MonkeyPatch) -> Iterator[Command]:
    """Starts the provider as one `pulumi do` does, with a config of its own."""
    with ExitStack() as hosts:

        def start(**config: object) -> Native:
            provider = hosts.enter_context(hosted())
            provider.urn = OF_DO
            args = struct({name: secret(value) for name, value in config.items()})
            provider.stub.Configure(provider_pb2.ConfigureRequest(urn=PROVIDER_URN, args=args))
            return provider

        yield start


def list_(provider: Native, limit: int = 0, token: str = TYPE, **query: object) -> list[str]:
    request = provider_pb2.ListRequest(token=token, query=struct(query), limit=limit)
    return [response.result.id for response in provider.stub.List(request)]


def machines(emulator: EmulatorServer) -> tuple[str, str, str]:
    """The ids of two ready machines, of different types, and one that is not ready."""
    emulator.state.provisioning = 60.0
    one, eight = (emulator.state.create(NewInstance(kind, ED25519)).id for kind in (ONE, EIGHT))
    emulator.state.advance(600)
    return one, eight, emulator.state.create(NewInstance(ONE, ED25519)).id


@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_list(command: Command, emulator: EmulatorServer, api: str) -> None:
    """All that match, up to the limit, are in one page: `pulumi do` stops after the first."""
    one, eight, new = machines(emulator)
    provider = command(api=api, endpoint=emulator.url + ("/v1" if api == "v1" else ""))
    assert set(list_(provider)) == {one, eight, new}
    assert list_(provider, status="ready", instanceType=ONE) == [one]
    assert list_(provider, status="a new one") == []
    assert [len(list_(provider, limit=limit)) for limit in (2, 5)] == [2, 3]
    said = failure(lambda: list_(provider, token="fal:index:Other")).details()
    assert "There is no list of fal:index:Other" in said


def test_unknown_filter(command: Command, emulator: EmulatorServer) -> None:
    """In a preview, a filter may depend on a resource that does not exist yet."""
    request = provider_pb2.ListRequest(token=TYPE, query=struct({"status": rpc.UNKNOWN}))
    (response,) = command().stub.List(request)
    assert response.WhichOneof("response") == "computed"
    assert emulator.state.calls.total() == 0


def test_key_of_do(command: Command, emulator: EmulatorServer, environ: pytest.MonkeyPatch) -> None:
    """The key that the command is given overrides variables, and a wrong one is an error."""
    machines(emulator)
    environ.setenv("FAL_ADMIN_API_KEY", "another")
    assert len(list_(command(apiKey=KEY))) == 3
    environ.setenv("FAL_ADMIN_API_KEY", KEY)
    error = failure(lambda: list_(command(apiKey="another")))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details().startswith("AuthenticationError: GET ")
    assert "came from the provider's config that `pulumi do` was given" in error.details()


def test_read_of_do(command: Command, emulator: EmulatorServer) -> None:
    """A machine can be read, although a stack may have it. This is no import."""
    one, *_ = machines(emulator)
    found = command().read(one)
    assert (found.id, plain(found.properties)["instanceType"]) == (one, ONE)


def update(provider: Native, id_: str, **fields: bool) -> Any:
    """The Update of `pulumi do patch`, which follows a Read."""
    read = plain(provider.read(id_).properties)
    return provider.update(id_, read, {"instanceType": EIGHT}, **fields)


@pytest.mark.parametrize("fields", [{}, {"preview": True}], ids=["", "preview"])
@pytest.mark.parametrize(
    "call, says",
    [
        (lambda do, _, **fields: do.create(INPUTS, **fields), "No machine was created: no stack"),
        (update, "Machine ID was not changed"),
        (
            lambda do, id_, **_: do.delete(id_, plain(do.read(id_).properties)),
            "Machine ID was not deleted: a stack may have it",
        ),
    ],
    ids=["create", "update", "delete"],
)
def test_refused(
    command: Command,
    emulator: EmulatorServer,
    tmp_path: Path,
    call: Callable[..., object],
    fields: dict[str, bool],
    says: str,
) -> None:
    """What changes a machine is refused before the API is asked, with nothing on record."""
    one, *_ = machines(emulator)
    alive = emulator.state.alive()
    error = failure(lambda: call(command(), one, **fields))
    assert error.code() == FAILED
    assert says in error.details().replace(one, "ID")
    assert (emulator.state.alive(), emulator.state.get(one).instance_type) == (alive, ONE)
    assert not list(tmp_path.rglob("creates/*.json"))
