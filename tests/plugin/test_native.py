"""The native provider's answers to each call of the engine, and its calls to the API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

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
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.resource import operations
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.origin import UNKNOWN_ID
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ED25519, EIGHT, KEY, ONE, RSA, wait_until
from .harness import PROVIDER, account, struct
from .native import URN, Provider, engine, failure, hosted, init_failed, kept, plain

INPUTS = {"instanceType": EIGHT, "sshKey": ED25519}
UNKNOWN = rpc.UNKNOWN
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
FAILED, INTERNAL = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INTERNAL
Kind = provider_pb2.PropertyDiff.Kind


def plain_refusal(call: Callable[[], object]) -> dict[str, Any]:
    """The outputs that the engine records when the call fails."""
    return kept(failure(call))[1]


def calls(emulator: EmulatorServer) -> int:
    """How many requests the API has had."""
    return emulator.state.calls.total()


def made_by_hand(emulator: EmulatorServer, kind: str = EIGHT, sector: str | None = None) -> str:
    """The id of a ready machine that no stack has."""
    made = emulator.state.create(NewInstance(kind, ED25519, sector))
    emulator.state.advance(600)
    return made.id


# The provider itself.


def test_the_engine_gets_the_version_and_the_schema(provider: Provider) -> None:
    """The schema has the resources under the names that every state contains."""
    assert provider.stub.GetPluginInfo(empty_pb2.Empty()).version == __version__
    schema = json.loads(provider.stub.GetSchema(provider_pb2.GetSchemaRequest()).schema)
    assert schema["version"] == __version__
    assert list(schema["resources"]) == ["fal:index:ComputeInstance", "fal:index:ComputeCluster"]


@pytest.mark.parametrize(
    "config, said",
    [
        ({"api": "v9"}, ("fal:api", "legacy or v1", "'v9'")),
        ({"endpoint": "http://example.com"}, ("must be https",)),
        ({"parallel": "many"}, ("fal:parallel", "'many'")),
        ({"pollInterval": -1}, ("fal:pollInterval", "'-1'")),
        ({"apiKey": f"{KEY} and more"}, ("Copy it again",)),
    ],
)
def test_a_wrong_config_is_refused_without_naming_a_property(
    provider: Provider, config: dict[str, object], said: tuple[str, ...]
) -> None:
    """If a property were named, the engine would print its value. No message repeats a key."""
    ((named, reason),) = provider.check_config(**{"apiKey": KEY, **config})
    assert named == ""
    assert all(part in reason for part in said)
    assert KEY not in reason


@pytest.mark.parametrize("config", [{}, {"apiKey": UNKNOWN}, {"parallel": 16, "settle": 0.5}])
def test_a_preview_needs_no_key(
    provider: Provider, environ: pytest.MonkeyPatch, config: dict[str, object]
) -> None:
    """The key may be missing, or may not be known yet."""
    environ.delenv("FAL_ADMIN_API_KEY")
    assert provider.check_config(**config) == []


def test_another_config_updates_the_provider_and_replaces_nothing(provider: Provider) -> None:
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
        ("default_0_1_0", "variable"),
        ("default_1_0_0_alpha_1_https_/example.com", "variable"),
        ("default_https_/example.com", "variable"),
        ("second", "config"),
        ("default-eu", "config"),
        ("default_eu", "config"),
    ],
)
def test_the_config_of_a_declared_provider_overrides_variables(
    provider: Provider, emulator: EmulatorServer, environ: pytest.MonkeyPatch, name: str, wins: str
) -> None:
    """A program may declare several accounts. Variables override the config of the stack."""
    right = {"apiKey": KEY, "endpoint": emulator.url, "api": "legacy", "parallel": "3"}
    wrong = {"apiKey": "wrong", "endpoint": "https://127.0.0.1:1", "api": "v1", "parallel": "-1"}
    config, variables = (right, wrong) if wins == "config" else (wrong, right)
    environ.setenv("FAL_ADMIN_API_KEY", variables["apiKey"])
    environ.setenv("FAL_COMPUTE_ENDPOINT", variables["endpoint"])
    environ.setenv("FAL_COMPUTE_API", variables["api"])
    environ.setenv("FAL_COMPUTE_PARALLEL", variables["parallel"])
    provider.configure(name, **config)
    assert provider.create(INPUTS).id in emulator.state.alive()


def test_a_declared_provider_uses_variables_for_what_its_config_lacks(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """A provider with only a key uses the endpoint of the environment."""
    provider.configure("second", apiKey=KEY)
    assert provider.create(INPUTS).id in emulator.state.alive()


# Check.


def test_check_sends_the_inputs_back_with_the_defaults_left_out(provider: Provider) -> None:
    """Another comment of the same SSH key is no change, and neither is `wait: true`."""
    checked = provider.check({**INPUTS, "sshKey": f"{ED25519} other", "wait": True}, INPUTS)
    assert list(checked.failures) == []
    assert plain(checked.inputs) == INPUTS


def test_a_failure_names_its_property_only_where_there_is_no_value(provider: Provider) -> None:
    """The engine prints the value of a named property, and the value may be a secret."""
    failures = provider.check({"sshKey": "a private thing", "sector": "sector1"}).failures
    told = {failure.reason.split()[0]: failure.property for failure in failures}
    assert told == {"instanceType": "instanceType", "sshKey": "", "sector": ""}
    assert not any("private" in failure.reason for failure in failures)


def test_a_failure_has_no_words_of_python(provider: Provider) -> None:
    """The program may be in any language."""
    (failure,) = provider.check({**INPUTS, "wait": "no"}).failures
    assert failure.reason == "wait must be true or false, not of type str"


# Diff.


def diff(provider: Provider, news: dict[str, Any], **olds: object) -> Any:
    """The diff between a machine in state that was requested with INPUTS, and new inputs."""
    return provider.diff("i-1", INPUTS, {**INPUTS, "status": "ready", **olds}, news)


@pytest.mark.parametrize(
    "news, kinds",
    [
        ({}, {}),
        ({"instanceType": ONE}, {"instanceType": Kind.UPDATE_REPLACE}),
        ({"sshKey": RSA}, {"sshKey": Kind.UPDATE_REPLACE}),
        ({"sector": "sector_2"}, {"sector": Kind.ADD_REPLACE}),
        ({"sector": "sector_1"}, {"sector": Kind.ADD}),
        ({"wait": False}, {"wait": Kind.ADD}),
        ({"instanceType": UNKNOWN}, {"instanceType": Kind.UPDATE_REPLACE}),
    ],
)
def test_diff_names_each_input_that_differs_and_whether_it_replaces(
    provider: Provider, news: dict[str, Any], kinds: dict[str, Any]
) -> None:
    """Requesting the sector that the machine is in changes only the inputs."""
    told = diff(provider, {**INPUTS, **news}, sector="sector_1")
    assert told.changes == (SOME if kinds else NONE)
    assert {name: change.kind for name, change in told.detailedDiff.items()} == kinds
    assert all(change.inputDiff for change in told.detailedDiff.values())
    assert list(told.diffs) == list(kinds)
    assert list(told.replaces) == [
        name for name, kind in kinds.items() if "REPLACE" in Kind.Name(kind)
    ]


def test_an_input_that_was_removed_is_a_change(provider: Provider) -> None:
    """Without a sector any sector will do, so nothing is replaced."""
    before = {**INPUTS, "sector": "sector_1"}
    told = provider.diff("i-1", before, {**before, "status": "ready"}, INPUTS)
    assert told.detailedDiff["sector"].kind == Kind.DELETE
    assert list(told.replaces) == []


def test_a_machine_that_drifted_is_not_replaced_while_its_inputs_are_equal(
    provider: Provider,
) -> None:
    """With ignore_changes the engine sends the old inputs, and these must not replace anything."""
    told = diff(provider, INPUTS, instanceType=ONE, sshKey=RSA)
    assert (told.changes, list(told.replaces)) == (NONE, [])


def test_state_of_the_dynamic_provider_is_written_again_without_replacing_anything(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The dynamic provider's state has other property names, and the Python class that wrote it."""
    theirs = {"instance_type": EIGHT, "ssh_key": ED25519, "__provider": PROVIDER}
    outputs = {**theirs, "ip": "198.18.0.1", "status": "ready", "endpoint": emulator.url}
    told = provider.diff("i-1", theirs, outputs, INPUTS)
    assert (told.changes, list(told.replaces), list(told.diffs)) == (SOME, [], [])
    told = provider.diff("i-1", theirs, outputs, {**INPUTS, "instanceType": ONE})
    assert (told.changes, list(told.replaces)) == (SOME, ["instanceType"])
    updated = plain(provider.update("i-1", outputs, INPUTS).properties)
    assert updated == {**INPUTS, "ip": "198.18.0.1", "status": "ready", "endpoint": emulator.url}
    assert calls(emulator) == 0


# Previews.


def test_a_preview_of_a_create_shows_the_inputs_and_calls_no_api(
    provider: Provider, emulator: EmulatorServer, environ: pytest.MonkeyPatch
) -> None:
    """A preview needs no key. The sector is known if one is requested."""
    environ.delenv("FAL_ADMIN_API_KEY")
    later = {"ip": UNKNOWN, "status": UNKNOWN}
    planned = provider.create({**INPUTS, "sshKey": UNKNOWN}, preview=True)
    assert planned.id == ""
    assert plain(planned.properties) == {**INPUTS, "sshKey": UNKNOWN, "sector": UNKNOWN, **later}
    in_sector = provider.create({**INPUTS, "sector": "sector_1"}, preview=True)
    assert plain(in_sector.properties) == {**INPUTS, "sector": "sector_1", **later}
    assert calls(emulator) == 0


def test_a_preview_of_an_update_knows_what_does_not_change(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """What a wait will bring is unknown, so that no program gets a machine without an ip."""
    recorded = {**INPUTS, "ip": "198.18.0.1", "status": "ready", "sector": "sector_1"}
    told = provider.update("i-1", recorded, {**INPUTS, "wait": False}, preview=True)
    assert plain(told.properties) == {**recorded, "wait": False}
    unfinished = {**INPUTS, "status": "pending", "unfinished": True}
    told = provider.update("i-1", unfinished, INPUTS, preview=True)
    unknown = {"ip": UNKNOWN, "status": UNKNOWN, "sector": UNKNOWN}
    assert plain(told.properties) == {**INPUTS, **unknown}
    assert calls(emulator) == 0


# A machine's life.


def test_a_machine_lives_under_the_schemas_names(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """Create, read, diff, update and delete use the same properties."""
    made = provider.create(INPUTS)
    (machine,) = emulator.state.list()
    outputs = plain(made.properties)
    assert made.id == machine.id
    assert outputs == {
        **INPUTS,
        "sector": machine.sector,
        "ip": machine.ip,
        "status": "ready",
        "endpoint": emulator.url,
        "account": account(emulator),
    }
    read = provider.read(made.id, INPUTS, outputs)
    assert (read.id, plain(read.properties), plain(read.inputs)) == (made.id, outputs, INPUTS)
    assert provider.diff(made.id, INPUTS, outputs, INPUTS).changes == NONE
    updated = provider.update(made.id, outputs, {**INPUTS, "wait": False})
    assert plain(updated.properties) == {**outputs, "wait": False}
    provider.delete(made.id, outputs)
    assert emulator.state.alive() == set()
    assert provider.read(made.id, INPUTS, outputs).id == ""
    assert emulator.state.creations == 1


def test_v1_tells_more_under_the_schemas_names(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The region, and who made the machine."""
    provider.configure("v1", api="v1", endpoint=f"{emulator.url}/v1", apiKey=KEY)
    outputs = plain(provider.create(INPUTS).properties)
    assert outputs["region"] == "us-west"
    assert outputs["creatorUserNickname"]


def test_a_wait_that_ends_early_leaves_the_machine_in_state_until_it_is_ready(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """Create, read and update report the machine with their error, and diff reports a change."""
    emulator.state.provisioning = inf
    failed = failure(lambda: provider.create(INPUTS, timeout=0.3))
    assert failed.code() == grpc.StatusCode.UNKNOWN
    id_, outputs, inputs, reason = kept(failed)
    assert {id_} == emulator.state.alive()
    assert inputs == INPUTS
    assert (outputs["status"], outputs["unfinished"]) == ("pending", True)
    assert reason.startswith(f"Machine {id_} ({EIGHT}) is billed")
    assert provider.diff(id_, INPUTS, outputs, INPUTS).changes == SOME
    read = kept(failure(lambda: provider.read(id_, INPUTS, outputs)))
    assert read[:3] == (id_, outputs, INPUTS)
    assert kept(failure(lambda: provider.update(id_, outputs, INPUTS, timeout=0.2)))[0] == id_
    emulator.state.machines[id_].provisioning = 0
    finished = plain(provider.update(id_, outputs, INPUTS).properties)
    assert (finished["status"], "unfinished" in finished) == ("ready", False)
    assert emulator.state.creations == 1


def test_an_update_resumes_a_wait_with_the_timeout_of_create(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The engine sends only the timeout of update, which takes precedence if it is set."""
    emulator.state.provisioning = inf
    id_, outputs, *_ = kept(failure(lambda: provider.create(INPUTS, timeout=0.3)))
    *_, reason = kept(failure(lambda: provider.update(id_, outputs, INPUTS, timeout=0.1)))
    assert "not ready after 0 s" in reason
    assert plain_refusal(lambda: provider.read(id_, INPUTS, outputs))["createTimeout"] == 0.3
    later = plain_refusal(lambda: provider.update(id_, outputs, INPUTS))
    assert later["createTimeout"] == 0.3
    emulator.state.machines[id_].provisioning = 0
    for finished in (provider.update(id_, later, INPUTS), provider.read(id_, INPUTS, later)):
        assert "createTimeout" not in plain(finished.properties)


def test_a_create_that_did_not_wait_keeps_its_timeout_for_the_update_that_will(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The timeout is kept until the machine was waited for, also by a refresh and other updates."""
    emulator.state.provisioning = inf
    at_once = {**INPUTS, "wait": False}
    made = provider.create(at_once, timeout=0.3)
    outputs = plain(provider.read(made.id, at_once, plain(made.properties)).properties)
    outputs = plain(provider.update(made.id, outputs, at_once).properties)
    began = time.monotonic()
    *_, reason = kept(failure(lambda: provider.update(made.id, outputs, INPUTS)))
    assert "not ready after 0 s" in reason
    assert time.monotonic() - began < 30


def test_a_delete_that_times_out_keeps_the_machine_in_state(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The error leaves the state as it is, and the next delete finishes."""
    outputs = plain(provider.create(INPUTS).properties)
    (id_,) = emulator.state.alive()
    emulator.state.deletion = 600
    error = failure(lambda: provider.delete(id_, outputs, timeout=0.3))
    assert error.code() == FAILED
    assert error.details().startswith("StillThereError: ")
    emulator.state.advance(600)
    provider.delete(id_, outputs)
    assert emulator.state.deletions == 1


@pytest.mark.parametrize("before", [{"unfinished": True}, {"wait": False}])
def test_an_update_that_finds_that_the_machine_is_gone_leads_to_a_replacement(
    provider: Provider, emulator: EmulatorServer, before: dict[str, bool]
) -> None:
    """A diff asks nobody, so it does so only once state says that the machine is gone."""
    home = {"endpoint": emulator.url, "account": account(emulator)}
    olds = {**INPUTS, **home, **before}
    assert not provider.diff("i-gone", INPUTS, olds, INPUTS).replaces
    failed = failure(lambda: provider.update("i-gone", olds, INPUTS))
    id_, outputs, inputs, reason = kept(failed)
    assert (id_, outputs["unfinished"], inputs) == ("i-gone", "gone", INPUTS)
    assert reason.endswith("Run `pulumi up` again: it replaces the machine with a new one.")
    emulator.faults.add("list", "503", inf)
    told = provider.diff("i-gone", INPUTS, outputs, INPUTS)
    assert (told.changes, list(told.replaces)) == (SOME, ["instanceType"])
    assert not told.detailedDiff["instanceType"].inputDiff


def test_a_machine_whose_create_was_dropped_by_the_engine_is_used_by_the_next_create(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The engine did not get the answer, so the machine is not in state."""
    emulator.state.provisioning = inf
    create = provider.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    create.cancel()
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    with hosted() as another:
        assert another.create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


@pytest.mark.parametrize("id_, recorded", [("an-id", "an-id"), (UNKNOWN_ID, ""), ("", "")])
def test_a_create_is_on_record_with_the_id_of_its_provider(
    provider: Provider, tmp_path: Path, id_: str, recorded: str
) -> None:
    """A preview does not know the id of a new one."""
    provider.stub.Configure(provider_pb2.ConfigureRequest(name="default", id=id_))
    made = provider.create(INPUTS).id
    (entry,) = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")})).readable()
    assert (entry.instance_id, entry.origin.provider) == (made, recorded)


# Imports.


def test_a_machine_is_imported_without_its_ssh_key(
    provider: Provider, emulator: EmulatorServer
) -> None:
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
def test_an_import_of_a_machine_that_differs_from_the_program_is_refused(
    provider: Provider, emulator: EmulatorServer, wrong: dict[str, str], said: str
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
    failed = failure(lambda: provider.update(id_, outputs, news, old_inputs=struct(known)))
    assert init_failed(failed).refresh_before_update
    kept_id, refused, inputs, reason = kept(failed)
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


@pytest.mark.parametrize(
    "old, is_refused",
    [
        (StackMachine("old", URN, instance_type=ONE), True),
        (StackMachine("old", URN, instance_type=EIGHT, requested_sector="sector_1"), True),
        (StackMachine("old", URN, instance_type=EIGHT, requested_sector="sector_2"), False),
        (StackMachine("old", URN), False),
        (StackMachine("old", URN, instance_type=ONE, is_replaced=True), False),
        (StackMachine("old", f"{URN}-2", instance_type=ONE), False),
    ],
)
def test_an_import_replaces_no_machine_of_another_kind(
    provider: Provider,
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
    assert provider.read(id_).id == id_  # a program's `get`


def test_another_key_replaces_an_imported_machine_although_its_outputs_have_none(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The old inputs have the key of the program that imported the machine."""
    outputs = {"instanceType": EIGHT, "status": "ready"}
    told = provider.diff("i-1", INPUTS, outputs, {**INPUTS, "sshKey": RSA})
    assert list(told.replaces) == ["sshKey"]


def test_a_key_of_an_import_can_be_corrected(provider: Provider, emulator: EmulatorServer) -> None:
    """Nobody could compare it. Later, another key replaces the machine."""
    id_ = made_by_hand(emulator)
    read = provider.import_(id_)
    outputs = plain(read.properties)
    assert provider.diff(id_, plain(read.inputs), outputs, INPUTS).changes == NONE
    corrected = {**INPUTS, "sshKey": RSA}
    with hosted() as later:
        told = later.diff(id_, INPUTS, outputs, corrected)
        assert (told.changes, list(told.replaces)) == (SOME, [])
        outputs = plain(later.update(id_, outputs, corrected, old_inputs=struct(INPUTS)).properties)
        assert list(later.diff(id_, corrected, outputs, INPUTS).replaces) == ["sshKey"]


def test_an_import_waits_for_the_machine(provider: Provider, emulator: EmulatorServer) -> None:
    """The read does not know whether the program wants that, so the engine calls update."""
    emulator.state.provisioning = 0.5
    id_ = emulator.state.create(NewInstance(EIGHT, ED25519)).id
    read = provider.import_(id_)
    outputs = plain(read.properties)
    assert outputs["status"] != "ready"
    assert provider.diff(id_, plain(read.inputs), outputs, INPUTS).changes == SOME
    for news, is_awaited in (({**INPUTS, "wait": False}, False), (INPUTS, True)):
        updated = plain(provider.update(id_, outputs, news).properties)
        assert (updated["status"] == "ready", "unfinished" in updated) == (is_awaited, False)


def test_a_machine_that_is_not_there_can_not_be_imported(provider: Provider) -> None:
    """With an empty answer the engine would add an empty resource."""
    said = failure(lambda: provider.read("i-gone"))
    assert said.code() == FAILED
    assert "Machine i-gone can't be read" in said.details()


# Functions.


def test_functions_look_machines_up(provider: Provider, emulator: EmulatorServer) -> None:
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
def test_a_function_that_finds_nothing_is_an_error(
    provider: Provider, function: str, args: dict[str, str], said: str
) -> None:
    """The error is its text alone."""
    error = failure(lambda: provider.invoke(function, **args))
    assert error.code() == FAILED
    assert error.details().startswith(said)


# Errors.


@pytest.mark.parametrize("call", ["create", "read", "update", "delete"])
def test_an_error_is_its_text_and_leaves_state_as_it_is(
    provider: Provider, environ: pytest.MonkeyPatch, call: str
) -> None:
    """With most other codes the engine says that the state may be corrupt."""
    environ.delenv("FAL_ADMIN_API_KEY")
    provider.configure()
    error = failure(
        {
            "create": lambda: provider.create(INPUTS),
            "read": lambda: provider.read("i-1", INPUTS, INPUTS),
            "update": lambda: provider.update("i-1", {**INPUTS, "wait": False}, INPUTS),
            "delete": lambda: provider.delete("i-1", INPUTS),
        }[call]
    )
    assert error.code() == FAILED
    said, *more = error.details().splitlines()
    assert said.startswith("ConfigurationError: No fal API key is set")
    assert more == (["Machine i-1 was not deleted, and is billed."] if call == "delete" else [])


def test_a_bug_keeps_its_traceback(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug report needs it."""

    def broken(*args: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(operations, "delete", broken)
    error = failure(lambda: provider.delete("i-1", INPUTS))
    assert error.code() == INTERNAL
    assert error.details().startswith("Traceback (most recent call last)")
    assert "KeyError: 'a bug'" in error.details()


# Many calls, and the end.


def creates(provider: Provider, number: int) -> list[Any]:
    """Start creates of so many resources."""
    return [provider.create_later(INPUTS, urn=f"{URN}-{index}") for index in range(number)]


def test_no_machine_waits_for_anothers_end(provider: Provider, emulator: EmulatorServer) -> None:
    """All machines are created at once, and each call is answered when its machine is ready."""
    emulator.state.provisioning = inf
    waiting = creates(provider, 24)
    wait_until(lambda: emulator.state.creations == 24)
    machine = list(emulator.state.machines.values())[-1]
    machine.provisioning = 0
    wait_until(lambda: any(create.done() for create in waiting))
    (done,) = [create for create in waiting if create.done()]
    assert done.result().id == machine.id


def test_no_more_machines_are_worked_on_at_once_than_parallel_says(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """Other creates wait. Calls that need no API are answered at once."""
    provider.configure("few", parallel=2)
    emulator.state.provisioning = inf
    waiting = creates(provider, 3)
    wait_until(lambda: emulator.state.creations == 2)
    assert provider.check(INPUTS).inputs
    listed = emulator.state.calls["list"]
    wait_until(lambda: emulator.state.calls["list"] > listed + 2)
    assert emulator.state.creations == 2
    emulator.state.provisioning = 0
    next(iter(emulator.state.machines.values())).provisioning = 0
    wait_until(lambda: emulator.state.creations == 3)
    wait_until(lambda: sum(create.done() for create in waiting) == 2)


def test_cancel_is_answered_and_ends_all_waits_at_once(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """Creates that wait for a slot end as well, and so do functions that retry a failing call."""
    provider.configure("few", parallel=1, retryBudget=60)
    emulator.state.provisioning = inf
    first = provider.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    second = provider.create_later(INPUTS, urn=f"{URN}-2")
    emulator.faults.add("get", "502", inf)
    request = provider_pb2.InvokeRequest(tok="fal:index:getInstance")
    request.args.update({"id": "i-1"})
    lookup: Any = provider.stub.Invoke.future(request)
    wait_until(lambda: emulator.state.calls["get"] >= 1)
    began = time.monotonic()
    provider.cancel()
    id_, _, _, reason = kept(first.exception())
    assert reason.startswith(f"The wait for machine {id_} ({EIGHT}) was interrupted.")
    assert "was interrupted. No machine was created" in second.exception().details()
    assert lookup.exception().details() == "Interrupted: interrupted"
    assert time.monotonic() - began < 3
    assert emulator.state.alive() == {id_}


@pytest.mark.parametrize("begin", [Provider.handshake, Provider.attach])
def test_progress_and_warnings_are_sent_to_the_engine(
    provider: Provider, emulator: EmulatorServer, begin: Callable[[Provider, str], object]
) -> None:
    """Both are about the resource. Progress is ephemeral, and warnings are not."""
    with engine() as (address, logged):
        begin(provider, address)
        emulator.state.provisioning = 0.3
        provider.create(INPUTS)
        provider.check({**INPUTS, "instanceType": "gpu_4x_b300"})
        provider.check({**INPUTS, "instanceType": "gpu_4x_b300"})  # says no more
    assert {line.urn for line in logged} == {URN}
    *progress, warning = logged
    assert progress
    assert all(line.ephemeral for line in progress)
    assert (warning.severity, warning.ephemeral) == (2, False)
    assert "does not know the instance type gpu_4x_b300" in warning.message


def test_retries_of_a_failing_call_are_shown_with_the_resource(
    provider: Provider, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages are ephemeral, because most retries succeed."""
    monkeypatch.setattr(retry, "delay", lambda *_: 0.01)
    emulator.faults.add("create", "429", 4)
    with engine() as (address, logged):
        provider.handshake(address)
        provider.configure("patient", retryBudget=60)
        provider.create(INPUTS)
    assert any("Trying again" in line.message for line in logged)
    assert {(line.urn, line.ephemeral) for line in logged} == {(URN, True)}


def test_a_machine_that_state_lacks_is_reported_once_by_the_next_process(
    provider: Provider, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """The warning is about the stack, because the resource may not be in the program."""
    emulator.state.provisioning = inf
    create = provider.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    create.cancel()
    provider.cancel()
    wait_until(lambda: not any(map(journal.is_locked, (tmp_path / "home").rglob("*.lock"))))
    with engine() as (address, logged), hosted() as another:
        another.handshake(address)
        for number in range(2):
            another.check(INPUTS, urn=f"{URN}-{number}")
    (warning,) = logged
    assert (warning.severity, warning.urn, warning.ephemeral) == (2, "", False)
    assert emulator.state.alive().pop() in warning.message


def test_a_create_that_another_process_works_on_is_not_reported(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """The providers of a program are processes of their own, with the same journal."""
    emulator.state.provisioning = inf
    create = provider.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    with engine() as (address, logged), hosted() as another:
        another.handshake(address)
        another.check(INPUTS, urn=f"{URN}-2")
        assert list(logged) == []
        assert not create.done()
