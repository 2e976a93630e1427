"""What Pulumi asks of a machine, called as any host calls it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    ElsewhereError,
    LifecycleError,
    StillThereError,
    VanishedError,
)
from pulumi_fal.machines.journal import Phase
from pulumi_fal.resource import imports, operations
from pulumi_fal.resource.call import INFO, UNKNOWN, WARNING, Call, InitFailed
from pulumi_fal.resource.operations import Diff
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import ED25519, EIGHT, HERE, ID, ONE, RSA, URN
from .world import World

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519, "sector": "sector_1"}
STATE = {**INPUTS, "ip": "198.18.0.1", "status": "ready"}
UNFINISHED = {**INPUTS, "status": "pending", "unfinished": True}
UNAWAITED = {**INPUTS, "status": "pending", "wait": False}
COMMENTED = {"ssh_key": f"{ED25519} new"}
ELSEWHERE = {"account": "another"}
"""What is in state of a machine that was last seen with the key of another account."""
CALL = Call(URN)
PREVIEW = replace(CALL, preview=True)


class Log:
    """What a call says on the resource's row."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, bool]] = []

    def __call__(self, message: str, severity: int = INFO, *, ephemeral: bool = False) -> None:
        self.said.append((message, severity, ephemeral))


def phase(world: World) -> Phase | None:
    """How far the create on record has come; None where there is no record."""
    entry = world.entry()
    return entry.phase if entry else None


# check


def checked(news: dict[str, Any], olds: dict[str, Any] | None = None) -> dict[str, Any]:
    """The inputs that a check lets pass."""
    result = operations.check(CALL, olds or {}, news)
    assert result.failures == []
    return result.inputs


@pytest.mark.parametrize("extra", [{"ip": None, "status": None}, {"wait": None}, {"wait": True}])
def test_check_keeps_the_inputs_that_differ_from_the_defaults(extra: dict[str, Any]) -> None:
    """None, the default and an absent input are the same, and must not differ later."""
    assert checked({**INPUTS, **extra}) == INPUTS
    assert checked({**INPUTS, "wait": False}) == {**INPUTS, "wait": False}
    assert "sector" not in checked({**INPUTS, "sector": None})


def test_check_names_every_problem_at_once() -> None:
    """A run that shows one problem at a time takes a run for each."""
    result = operations.check(CALL, {}, {"sector": "no where"})
    assert {failure.property for failure in result.failures} == set(INPUTS)


@pytest.mark.parametrize("olds", [{}, INPUTS, {"ssh_key": RSA}])
def test_check_works_with_any_old_inputs(olds: dict[str, Any]) -> None:
    """Before a replacement the engine checks a second time, without old inputs."""
    assert checked(INPUTS, olds) == INPUTS


def test_check_keeps_the_old_key_where_only_its_comment_changes() -> None:
    """The old key is kept where only its comment differs, so the engine sees no change."""
    old = {"ssh_key": f"{ED25519} old"}
    assert checked({**INPUTS, **COMMENTED}, old)["ssh_key"] == old["ssh_key"]


def test_check_does_not_take_an_unknown_key_for_the_old_one() -> None:
    """The preview has to show that the key may change."""
    assert checked({**INPUTS, "ssh_key": UNKNOWN}, INPUTS)["ssh_key"] is UNKNOWN


@pytest.mark.parametrize(
    "kind, warnings", [(EIGHT, 0), ("gpu_16x_b200", 1), (UNKNOWN, 0), ("gpu_8x_h100_sxm", 0)]
)
def test_check_warns_of_an_instance_type_that_may_be_new(kind: Any, warnings: int) -> None:
    """The API may know more types than this version, but a typo is a failure, not a warning."""
    log = Log()
    operations.check(replace(CALL, log=log), {}, {**INPUTS, "instance_type": kind})
    assert [severity for _, severity, _ in log.said] == [WARNING] * warnings


def test_check_warns_of_each_unknown_type_once_in_a_process() -> None:
    """A fleet of hundreds of machines has one warning for each type, not for each machine."""
    log = Log()
    call = replace(CALL, log=log, warned={})
    for kind in ("gpu_16x_b200", "gpu_8x_b300", "gpu_16x_b200"):
        operations.check(replace(call), {}, {**INPUTS, "instance_type": kind})
    assert [kind for kind in ("16x_b200", "8x_b300") if kind in log.said[0][0]] == ["16x_b200"]
    assert len(log.said) == 2


# diff


DRIFTED = {**STATE, "sector": "sector_2"}
"""A machine that was requested with INPUTS, and is in another sector now."""


@pytest.mark.parametrize(
    "changed, before, replaces",
    [
        ({"wait_for_capacity": "6h"}, INPUTS, []),
        (COMMENTED, INPUTS, []),
        ({"sector": "sector_3"}, INPUTS, ["sector"]),
        ({"sector": "sector_2"}, INPUTS, []),
        ({}, {**INPUTS, "sector": None}, ["sector"]),
        ({"ssh_key": RSA}, {**INPUTS, "ssh_key": RSA}, []),
        ({}, None, ["sector"]),
    ],
    ids=["other input", "comment", "other sector", "its sector", "request", "ignored", "not known"],
)
def test_drift_replaces_nothing(
    world: World, changed: dict[str, Any], before: dict[str, Any] | None, replaces: list[str]
) -> None:
    """Only a changed request replaces the machine. Without old inputs, the engine compares them."""
    news = {**INPUTS, **changed}
    assert operations.diff(world.machines, CALL, ID, DRIFTED, news, before) == Diff(replaces)


@pytest.mark.parametrize("was_checked, replaces", [(True, ["sector"]), (False, [])])
def test_unknown_sector(world: World, was_checked: bool, replaces: list[str]) -> None:
    """A preview shows the worst. But if another machine's replacement is all that is known yet,
    Pulumi would delete this one before it knows better.
    """
    call, news = replace(CALL, was_checked=was_checked), {**INPUTS, "sector": UNKNOWN}
    assert operations.diff(world.machines, call, ID, STATE, news, INPUTS) == Diff(replaces)
    other = {**news, "ssh_key": UNKNOWN}
    found = operations.diff(world.machines, call, ID, STATE, other, INPUTS)
    assert found == Diff(["ssh_key", *replaces])


def no_settings() -> Settings:
    raise ConfigurationError("no key")


GONE = {**UNFINISHED, "unfinished": "gone"}
"""The state of a machine that a wait has found to be gone."""


@pytest.mark.parametrize(
    "olds, changed, expected",
    [
        (STATE, {}, Diff([])),
        (STATE, {"sector": "sector_2"}, Diff(["sector"])),
        (STATE, {"sector": None}, Diff([])),
        (STATE, COMMENTED, Diff([])),
        (STATE, {"ssh_key": RSA}, Diff(["ssh_key"])),
        (
            STATE,
            {"instance_type": UNKNOWN, "ssh_key": RSA},
            Diff(["instance_type", "ssh_key"]),
        ),
        ({**STATE, "wait": False}, {}, Diff([])),
        (UNAWAITED, {}, Diff([])),
        (UNFINISHED, {}, Diff([], changes=True)),
        (UNFINISHED, {"ssh_key": RSA}, Diff(["ssh_key"], changes=True)),
        (GONE, {}, Diff(["instance_type"], changes=True)),
        (GONE, {"wait": False}, Diff(["instance_type"], changes=True)),
        (GONE, {"ssh_key": RSA}, Diff(["ssh_key"], changes=True)),
    ],
)
def test_diff_needs_no_key_and_replaces_nothing_that_may_be_there(
    world: World, olds: dict[str, Any], changed: dict[str, Any], expected: Diff
) -> None:
    """An `up` does what its preview has said. What differs otherwise is left to the engine, which
    honours ignore_changes, and drifted outputs are no difference.
    """
    world.used_settings = no_settings
    drifted = {**olds, "status": "unknown", "ip": "198.18.0.9"}
    assert operations.diff(world.machines, CALL, ID, drifted, {**INPUTS, **changed}) == expected
    assert world.api.calls == []


@pytest.mark.parametrize("seen", [True, False])
def test_diff_and_update_drop_the_record_of_a_machine_that_the_api_has_shown(
    world: World, seen: bool
) -> None:
    """A machine that was never shown may still be lost from state by a refresh."""
    world.stacks.in_state = {ID}
    for ask in (operations.diff, operations.update):
        world.earlier(Phase.REPORTED, ID, seen=seen)
        world.restart()
        ask(world.machines, CALL, ID, STATE, INPUTS)
        assert (world.entry() is None) is seen


# create


def create(world: World, call: Call = CALL, **changed: Any) -> operations.Created:
    return operations.create(world.machines, call, {**INPUTS, **changed})


def create_fails(world: World, call: Call = CALL) -> InitFailed:
    with pytest.raises(InitFailed) as caught:
        create(world, call)
    return caught.value


def account_id(world: World) -> dict[str, str]:
    """Who sees the machine, as outputs have it."""
    return {"endpoint": world.settings.endpoint, "account": world.settings.account}


def test_a_preview_of_a_create_knows_its_inputs_and_asks_nothing(world: World) -> None:
    """A preview works offline, and what the API will choose is unknown."""
    created = create(world, PREVIEW)
    assert created.id == ""
    assert created.outputs == {**INPUTS, "ip": UNKNOWN, "status": UNKNOWN}
    planned = operations.create(world.machines, PREVIEW, {"instance_type": ONE}).outputs
    assert planned["sector"] is UNKNOWN
    assert world.api.calls == []
    assert not world.folder.exists()


def test_create_returns_a_ready_machine_and_puts_on_record_that_it_did(world: World) -> None:
    """A ready machine is on record until state is known to have it."""
    world.state.provisioning = 100
    created = create(world)
    (machine,) = world.state.list()
    assert created.id == machine.id
    assert created.outputs == {**INPUTS, "ip": machine.ip, "status": "ready", **account_id(world)}
    entry = world.entry()
    assert entry is not None
    assert (entry.instance_id, entry.phase, entry.seen) == (machine.id, Phase.REPORTED, True)


def test_create_without_a_wait_returns_at_once(world: World) -> None:
    """A create without a wait returns a machine whose absence doesn't count yet."""
    world.state.provisioning = 100
    created = create(world, wait=False)
    assert world.api.calls == ["list", "create"]
    assert (created.outputs["status"], created.outputs["wait"]) == ("pending", False)
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.seen) == (Phase.REPORTED, False)


def test_create_shows_its_progress_without_the_ip(world: World) -> None:
    """A program may have said that the ip is secret, which a provider isn't told."""
    world.state.provisioning = 100
    log = Log()
    created = create(world, replace(CALL, log=log))
    said = [message for message, _, _ in log.said]
    assert said == [
        "init, waiting for an ip",
        "provisioning, waiting for an ip",
        "provisioning, has an ip, waiting for ready",
        "ready",
    ]
    assert all(ephemeral for _, _, ephemeral in log.said)
    assert created.outputs["ip"] not in "".join(said)


@pytest.mark.parametrize("timeout, seconds", [(100.0, 100.0), (None, 3600.0)])
def test_a_create_whose_time_is_up_has_the_machine_recorded_as_it_is(
    world: World, timeout: float | None, seconds: float
) -> None:
    """A create whose time is up gives the engine the id, the outputs and the reason."""
    world.state.provisioning = inf
    failed = create_fails(world, replace(CALL, timeout=timeout))
    assert seconds <= world.clock.passed < seconds + 1
    assert {failed.instance_id} == world.state.alive()
    assert failed.outputs == {**UNFINISHED, **account_id(world)}
    assert failed.reason.startswith(f"Machine {failed.instance_id} ({EIGHT}) is billed, but")
    assert phase(world) is Phase.REPORTED


@pytest.mark.parametrize("why", ["was interrupted", "failed: GET /compute/instances answered 403"])
def test_a_create_whose_wait_breaks_has_the_machine_recorded_as_it_was_last_seen(
    world: World, why: str
) -> None:
    """Whatever ends the wait, the machine runs and bills."""
    world.state.provisioning = 1000

    def end(request: Request[Any]) -> None:
        if world.clock.passed > 900 and "interrupted" in why:
            world.clock.interrupt()
        elif world.clock.passed > 900:
            world.api.faults.add("list", "403", inf)

    world.api.before = end
    failed = create_fails(world)
    assert f"The wait for machine {failed.instance_id} ({EIGHT}) {why}" in failed.reason
    assert failed.outputs["ip"] == "198.18.0.1"
    assert failed.outputs["unfinished"] is True
    assert phase(world) is Phase.REPORTED


def test_a_machine_that_did_not_reach_the_engine_is_on_record_as_before(world: World) -> None:
    """The next create resumes it, whether this one succeeded or not."""
    created = create(world)
    assert phase(world) is Phase.REPORTED
    created.undelivered()
    assert phase(world) is Phase.CREATED
    world.restart()
    world.state.set_status(created.id, "rebooting")
    failed = create_fails(world)
    assert (failed.instance_id, phase(world)) == (created.id, Phase.REPORTED)
    failed.undelivered()
    assert phase(world) is Phase.CREATED


def test_a_create_that_fails_unheard_does_not_claim_that_pulumi_was_told(world: World) -> None:
    """The engine has gone, so only the record has the machine."""
    world.state.provisioning = inf
    create_fails(world, replace(CALL, is_heard=lambda: False))
    assert phase(world) is Phase.CREATED


def test_a_create_keeps_a_machine_that_the_api_never_shows(world: World) -> None:
    """It may still be about to appear, so it goes to state, and on record as never shown."""
    world.api.before = lambda request: [*map(world.hide, world.state.alive())].clear()
    world.state.provisioning = inf
    failed = create_fails(world)
    assert "the API has not shown it yet" in failed.reason
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.instance_id) == (Phase.REPORTED, failed.instance_id)
    assert not entry.seen


# read


def test_read_returns_what_the_api_says_and_keeps_what_was_requested(world: World) -> None:
    """State has the machine and the API shows it, so the record of its create goes."""
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    world.state.set_status(id_, "rebooting")
    props = {**STATE, **COMMENTED, "wait": False}
    outs = operations.read(world.machines, CALL, id_, props)
    assert outs == {**props, "status": "rebooting", **account_id(world)}
    assert world.entry() is None


def refreshed(world: World, **state: Any) -> tuple[dict[str, Any], list[str]]:
    """The outputs of a refresh of the API's only machine, and its warnings."""
    (id_,), log = world.state.alive(), Log()
    outs = operations.read(world.machines, replace(CALL, log=log), id_, {**STATE, **state})
    assert outs is not None
    assert {severity for _, severity, _ in log.said} <= {WARNING}
    return outs, [message for message, _, _ in log.said]


@pytest.mark.parametrize("status", ["stopped", "failed", "error", "terminated", "unknown", "init"])
def test_read_warns_of_a_machine_that_was_ready(world: World, status: str) -> None:
    """The status is an output, so a later diff has nothing to do about it."""
    id_ = world.machine(EIGHT)
    world.state.set_status(id_, status)
    for before in ("ready", status):
        outs, (warning,) = refreshed(world, status=before)
        assert f"Machine {id_} is " in warning
        assert status in warning
        assert "may still be billed" in warning
    found = operations.diff(world.machines, CALL, id_, outs, INPUTS)
    assert (found.replaces, found.changes) == ([], None)


@pytest.mark.parametrize(
    "state, status, warnings",
    [
        ({}, None, []),
        ({"ip": UNKNOWN}, None, ["another ip"]),
        ({"ip": "198.18.0.9"}, None, ["another ip"]),
        ({"wait": False, "status": "pending"}, "init", []),
        ({"wait": False, "status": "pending"}, "unknown", []),
        ({"wait": False, "status": "ready"}, "unknown", ["status is unknown"]),
        ({"wait": False, "status": "failed"}, "failed", ["status is failed"]),
    ],
)
def test_read_warns_of_what_is_news(
    world: World, state: dict[str, Any], status: str | None, warnings: list[str]
) -> None:
    """A machine that is not awaited may still be on its way. The ip may be a secret."""
    id_ = world.machine(EIGHT)
    if status:
        world.state.set_status(id_, status)
    _, said = refreshed(world, **state)
    assert len(said) == len(warnings)
    assert all(words in text for words, text in zip(warnings, said, strict=True))
    assert "198.18" not in "".join(said)


def test_read_warns_of_a_lost_ip(world: World) -> None:
    """The API may say that a machine without an address is ready."""
    id_ = world.machine(EIGHT)
    world.state.machines[id_].ip_at = inf
    _, (warning,) = refreshed(world)
    assert "its status is ready, and it has no ip" in warning


@pytest.mark.parametrize("kind, warnings", [(EIGHT, 2), (ONE, 0)])
def test_read_by_id_warns_of_a_sector_that_is_not_shown(
    world: World, kind: str, warnings: int
) -> None:
    """A program may pass it on. 1x machines have none."""
    world.state.provisioning = 100
    id_, log = world.machine(kind), Log()
    outs: dict[str, Any] | None = {}
    for passed in (0, 0, 100):  # the second is that of a refresh
        world.clock.time += passed
        outs = operations.read(world.machines, replace(CALL, log=log), id_, outs or {})
    assert ["does not show its sector" in text for text, *_ in log.said] == [True] * warnings
    world.state.set_status(id_, "stopped")
    world.clock.time += 100
    operations.read(world.machines, replace(CALL, log=log), id_, outs or {})
    assert "is stopped" in log.said[-1][0]
    assert "pulumi destroy" not in log.said[-1][0]


def test_read_keeps_a_machine_that_the_api_has_not_shown_since_its_create(world: World) -> None:
    """It may appear at any time, and the person is told why nothing changed."""
    world.stacks.in_state = {ID}
    entry = world.earlier(Phase.REPORTED, ID)
    for _ in range(2):
        log = Log()
        assert operations.read(world.machines, replace(CALL, log=log), ID, STATE) == STATE
        ((message, severity, _),) = log.said
        assert (ID in message, severity) == (True, WARNING)
        world.clock.time += 7200
    assert world.entry() == entry


@pytest.mark.parametrize("seconds", [50.0, inf])
@pytest.mark.parametrize("is_on_record", [True, False])
def test_read_finds_that_a_machine_is_gone_when_a_minute_has_passed(
    world: World, seconds: float, is_on_record: bool
) -> None:
    """Its row says so, because the engine only says that it was deleted."""
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    if is_on_record:
        world.earlier(Phase.REPORTED, id_, seen=True)
    world.hide(id_, seconds)
    log = Log()
    outs = operations.read(world.machines, replace(CALL, log=log), id_, STATE)
    assert (outs is None) is (seconds == inf)
    if outs is None:
        ((message, severity, _),) = log.said
        assert f"Machine {id_} is gone" in message
        assert severity == WARNING
        assert 60 <= world.clock.passed < 70
    assert [entry.is_late for entry in world.journal.readable()] == [True] * (outs is None)


def test_read_finds_a_machine_by_its_id_alone(world: World) -> None:
    """A program that reads a machine has nothing in state, so an unknown id is an error."""
    id_ = world.machine(EIGHT)
    outs = operations.read(world.machines, CALL, id_, {})
    assert outs is not None
    assert (outs["instance_type"], outs["sector"], outs["ip"]) == (EIGHT, "sector_1", "198.18.0.1")
    with pytest.raises(LifecycleError, match=f"Machine {ID} can't be read"):
        operations.read(world.machines, CALL, ID, {})


@pytest.mark.parametrize(
    "fault", ["401", "403", "404", "500", "503", "html", "truncated", "wrong_shape", "redirect"]
)
def test_read_fails_where_the_api_does_not_answer(world: World, fault: str) -> None:
    """A failure keeps the machine in state, and an answer that is none must not drop it."""
    world.api.faults.add("list", fault, inf)
    with pytest.raises(APIError):
        operations.read(world.machines, CALL, ID, STATE)


def test_read_of_an_unfinished_machine_fails_until_it_is_ready(world: World) -> None:
    """A plain answer clears the engine's errors, and `up` would skip the rest of the wait."""
    world.state.provisioning = 1000
    id_ = world.machine(EIGHT)
    with pytest.raises(
        InitFailed, match="is billed, but not ready yet: its status is pending"
    ) as caught:
        operations.read(world.machines, CALL, id_, UNFINISHED)
    assert caught.value.outputs == {**UNFINISHED, **account_id(world)}
    world.clock.time += 1000
    outs = operations.read(world.machines, CALL, id_, UNFINISHED)
    assert outs is not None
    assert (outs["status"], "unfinished" in outs) == ("ready", False)


# import


def test_an_imported_machine_has_its_own_values_and_the_programs_key(world: World) -> None:
    """An import takes the key from the program, since the API doesn't tell it."""
    id_ = world.machine(EIGHT)
    outs = imports.read(world.machines, CALL, id_, INPUTS)
    assert outs == {**STATE, **account_id(world), "imported": True}


@pytest.mark.parametrize("wait, is_unfinished", [(None, True), (False, False)])
def test_import_obeys_wait(world: World, wait: bool | None, is_unfinished: bool) -> None:
    """Pulumi calls update next for a machine that is unfinished, and that waits for it."""
    world.state.provisioning = 100
    id_, news = world.machine(EIGHT), {**INPUTS, "sector": None, "wait": wait}
    outs = imports.read(world.machines, CALL, id_, news)
    assert ("unfinished" in outs) is is_unfinished
    found = operations.diff(world.machines, CALL, id_, outs, news, news)
    assert bool(found.changes) is is_unfinished
    if is_unfinished:
        outs = operations.update(world.machines, CALL, id_, outs, news, news)
        assert (outs["status"], outs["imported"], "unfinished" in outs) == ("ready", True, False)


def test_a_key_of_an_import_can_be_corrected(world: World) -> None:
    """Nobody could compare it. A later change is one of the machine's own key, and replaces it."""
    id_, log = world.machine(EIGHT), Log()
    wrong, right = {**INPUTS, "ssh_key": RSA}, {**INPUTS, **COMMENTED}
    outs: dict[str, Any] | None = imports.read(world.machines, CALL, id_, wrong)

    def change(before: dict[str, Any], news: dict[str, Any]) -> list[str]:
        nonlocal outs
        assert outs is not None
        here = replace(CALL, log=log)
        found = operations.diff(world.machines, here, id_, outs, news, before)
        if not found.replaces:
            outs = operations.update(world.machines, here, id_, outs, news, before)
            outs = operations.read(world.machines, here, id_, outs)
        return found.replaces

    assert change(wrong, {**wrong, "wait_for_capacity": "6h"}) == []
    assert log.said == []
    assert change(wrong, right) == []
    ((said, severity, _),) = log.said
    assert (f"machine {id_} changes in state only" in said, severity) == (True, WARNING)
    assert change(right, INPUTS) == []  # without the comment
    assert change(right, wrong) == ["ssh_key"]
    assert len(log.said) == 1


@pytest.mark.parametrize(
    "wanted, problem",
    [
        ({}, "instance_type is missing"),
        ({**INPUTS, "sector": "sector1"}, "sector is not one of"),
        (
            {**INPUTS, "sector": "sector_2"},
            "its sector is sector_1, but the program says sector_2. Correct the program",
        ),
        (
            {"instance_type": ONE, "ssh_key": ED25519},
            f"its instance_type is {EIGHT}, but the program says {ONE}. Correct the program",
        ),
    ],
)
def test_an_import_that_does_not_fit_the_program_fails(
    world: World, wanted: dict[str, Any], problem: str
) -> None:
    """An import fails where the next `up` would replace the machine."""
    id_ = world.machine(EIGHT)
    with pytest.raises(LifecycleError) as caught:
        imports.read(world.machines, CALL, id_, wanted)
    assert f"Machine {id_} was not imported: {problem}" in str(caught.value).replace("; ", ": ")


def test_an_import_of_an_unknown_id_fails(world: World) -> None:
    """An id that the API doesn't know can't be imported."""
    with pytest.raises(LifecycleError, match=f"Machine {ID} can't be read"):
        imports.read(world.machines, CALL, ID, INPUTS)


@pytest.mark.parametrize(
    "other, refused",
    [
        ("none", ""),
        ("its own create", ""),
        ("its own stack", ""),
        ("another resource's create", "was not imported: a create of"),
        ("another stack's create", "was not imported: a create of"),
        ("another stack's unanswered create", "may have made it"),
        ("another stack's late create", ""),
        ("another stack's machine that was gone", "is on record to have made it"),
        ("another resource of its stack", "was not imported: it is in the state of"),
        ("another stack", "was not imported: it is in the state of the stack organization/shop/b"),
    ],
)
def test_an_import_takes_no_machine_of_another_resource(
    world: World, other: str, refused: str
) -> None:
    """Destroying one of both would delete it."""
    id_ = world.machine(EIGHT)
    origins = {
        "its own create": HERE,
        "another resource's create": replace(HERE, urn=f"{URN}-2"),
        "another stack's create": (there := replace(HERE, urn=URN.replace("dev", "b"))),
    }
    if other in origins:
        world.earlier(Phase.CREATED, id_, origin=origins[other])
    if other == "another stack's unanswered create":
        world.earlier(Phase.REQUESTED, origin=there, requested=NewInstance(EIGHT, ED25519))
    if other == "another stack's machine that was gone":
        world.earlier(Phase.LATE, id_, origin=there)
    if other == "another stack's late create":
        world.earlier(Phase.LATE, origin=there, requested=NewInstance(EIGHT, ED25519))
    if other == "another resource of its stack":
        world.stacks.siblings = [StackMachine(id_, f"{URN}-2")]
    if other == "its own stack":
        world.stacks.in_state = {id_}
    if other == "another stack":
        world.stacks.others = {"organization/shop/b": {id_}}
    if not refused:
        assert imports.read(world.machines, CALL, id_, INPUTS)["status"] == "ready"
        return
    with pytest.raises(LifecycleError, match=refused):
        imports.read(world.machines, CALL, id_, INPUTS)


def test_an_import_names_the_stacks_that_could_not_be_read(world: World) -> None:
    """One of them may have the machine."""
    world.stacks.others = {"organization/shop/b": "no access"}
    log = Log()
    imports.read(world.machines, replace(CALL, log=log), world.machine(EIGHT), INPUTS)
    ((message, severity, _),) = log.said
    assert "  organization/shop/b: no access" in message
    assert severity == WARNING


# update


def update(world: World, id_: str, olds: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return operations.update(world.machines, CALL, id_, olds, {**INPUTS, **changed})


@pytest.mark.parametrize(
    "olds, changed",
    [
        pytest.param(STATE, COMMENTED, id="another comment"),
        pytest.param(STATE, {"wait": False}, id="no wait any longer"),
        pytest.param({**STATE, "unfinished": True}, {"wait": False}, id="no wait after all"),
    ],
)
def test_update_records_the_inputs_beside_what_the_api_said(
    world: World, olds: dict[str, Any], changed: dict[str, Any]
) -> None:
    """An update that needs no call needs no key either."""
    assert update(world, ID, olds, **changed) == {**STATE, **changed}
    assert world.api.calls == []


@pytest.mark.parametrize(
    "news, words",
    [
        ({"instance_type": ONE, "sector": None}, "instance type"),
        ({"ssh_key": RSA}, "ssh key"),
        ({"instance_type": ONE, "ssh_key": RSA, "sector": None}, "instance type and ssh key"),
    ],
)
def test_an_update_that_only_another_machine_could_have_changes_nothing(
    world: World, news: dict[str, Any], words: str
) -> None:
    """Diff says that the machine is replaced, so the engine calls no update."""
    with pytest.raises(LifecycleError, match=f"{ID} was not changed: .* the {words} of a machine"):
        operations.update(world.machines, CALL, ID, STATE, {**INPUTS, **news})


def test_an_update_refuses_a_new_sector_but_not_one_that_the_machine_has_drifted_from(
    world: World,
) -> None:
    """With ignore_changes the input stays what it was, whichever sector the machine is in."""
    drifted = {**STATE, "sector": "sector_3"}
    assert operations.update(world.machines, CALL, ID, drifted, INPUTS, INPUTS) == drifted
    assert operations.update(world.machines, CALL, ID, drifted, INPUTS) == drifted
    with pytest.raises(LifecycleError, match="the sector of a machine"):
        operations.update(
            world.machines, CALL, ID, drifted, INPUTS, {**INPUTS, "sector": "sector_3"}
        )


def test_a_preview_of_an_update_waits_for_nothing(world: World) -> None:
    """A preview doesn't know what the wait will bring, and finds nothing out by a call."""
    outs = operations.update(world.machines, PREVIEW, ID, UNFINISHED, INPUTS)
    assert outs == {**INPUTS, "ip": UNKNOWN, "status": UNKNOWN}
    assert world.api.calls == []


@pytest.mark.parametrize("olds", [UNFINISHED, {**INPUTS, "status": "pending", "wait": False}])
def test_update_waits_for_a_machine_that_was_never_awaited_to_its_end(
    world: World, olds: dict[str, Any]
) -> None:
    """An update waits for the same machine, and then drops the record of its create."""
    world.state.provisioning = 100
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    assert update(world, id_, olds) == {**STATE, **account_id(world)}
    assert world.state.creations == 1
    assert world.entry() is None


@pytest.mark.parametrize("olds, status", [(UNFINISHED, "pending"), ({}, "unknown")])
def test_update_whose_time_is_up_keeps_what_an_earlier_run_saw(
    world: World, olds: dict[str, Any], status: str
) -> None:
    """An update whose time is up keeps the machine unfinished, and the ip that was seen."""
    id_ = world.machine(EIGHT)
    world.api.faults.add("list", "500", inf)
    olds = {**olds, "sector": "sector_1", "ip": "198.18.0.9", "unfinished": True}
    with pytest.raises(InitFailed) as caught:
        operations.update(world.machines, replace(CALL, timeout=50), id_, olds, INPUTS)
    assert caught.value.outputs == {**INPUTS, **olds, "status": status, **account_id(world)}


@pytest.mark.parametrize("olds", [UNFINISHED, UNAWAITED], ids=["unfinished", "wait from now on"])
def test_update_that_finds_that_the_machine_is_gone_leads_to_a_replacement(
    world: World, olds: dict[str, Any]
) -> None:
    """The engine calls update again and again, so state says it, and the next diff replaces it."""
    with pytest.raises(InitFailed) as caught:
        update(world, ID, olds)
    assert re.sub(r"\b6\d s", "60 s", caught.value.reason) == (
        f"Machine {ID} ({EIGHT}) is gone: it was pending when last seen, and the API has not shown "
        "it for 60 s. Run `pulumi up` again: it replaces the machine with a new one."
    )
    assert caught.value.outputs == {**GONE, **account_id(world)}


def test_update_keeps_a_machine_that_the_api_has_never_shown(world: World) -> None:
    """As the record of its create says. No replacement is made for what may still appear."""
    world.earlier(Phase.REPORTED, ID)
    with pytest.raises(InitFailed, match="the API has not shown it yet") as caught:
        update(world, ID, UNFINISHED)
    assert caught.value.outputs == {**UNFINISHED, **account_id(world)}


# delete


def test_delete_returns_when_the_machine_is_gone_and_drops_its_record(world: World) -> None:
    """A delete returns only when the machine, and so the bill, is gone."""
    world.state.deletion = 100
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    operations.delete(world.machines, CALL, id_, STATE)
    assert world.state.alive() == set()
    assert world.clock.passed >= 100
    assert world.entry() is None


@pytest.mark.parametrize("timeout, seconds", [(100.0, 100.0), (None, 1200.0)])
def test_delete_fails_when_its_time_is_up(
    world: World, timeout: float | None, seconds: float
) -> None:
    """The machine stays in state, and its record on disk."""
    world.state.deletion = inf
    id_ = world.machine(EIGHT)
    world.earlier(Phase.REPORTED, id_)
    with pytest.raises(StillThereError):
        operations.delete(world.machines, replace(CALL, timeout=timeout), id_, STATE)
    assert seconds <= world.clock.passed < seconds + 1
    assert phase(world) is Phase.REPORTED


def test_delete_refuses_a_machine_that_has_become_another_resources(world: World) -> None:
    """A machine that a create of this process has resumed is not deleted under another name."""
    id_ = world.machine(EIGHT)
    world.earlier(Phase.ADOPTED, id_, requested=NewInstance(EIGHT, ED25519).hashed())
    create(world)
    with pytest.raises(
        LifecycleError, match="the create of another resource has just resumed with it"
    ):
        operations.delete(world.machines, CALL, id_, STATE)
    assert world.state.alive() == {id_}


def test_delete_without_a_key_says_what_is_billed(world: World) -> None:
    """A destroy runs no program, so a key that is only in its config is missing."""
    world.used_settings = mock.Mock(side_effect=ConfigurationError("No fal API key is set."))
    with pytest.raises(ConfigurationError, match="Machine x was not deleted, and is billed"):
        operations.delete(world.machines, CALL, "x", STATE)


def test_delete_that_is_interrupted_names_the_machine(world: World) -> None:
    """A machine whose delete was interrupted stays in state, and is named."""
    id_ = world.machine(EIGHT)
    world.state.deletion = inf
    world.api.after = lambda request: world.clock.interrupt()
    with pytest.raises(LifecycleError, match=f"The delete of machine {id_} was interrupted"):
        operations.delete(world.machines, CALL, id_, STATE)


# A machine that is gone, and may come back.


def dropped(world: World) -> str:
    """A machine that a refresh has dropped from state."""
    id_ = world.machine(EIGHT)
    world.hide(id_)
    assert operations.read(world.machines, CALL, id_, STATE) is None
    return id_


def awaited(world: World) -> str:
    """A machine that went missing in the wait of its create."""
    world.state.provisioning = 200

    def hide(request: Request[Any]) -> None:
        if world.clock.passed > 10 and request.kind != "create":
            [*map(world.hide, world.state.alive())].clear()

    world.api.before = hide
    with pytest.raises(VanishedError):
        create(world)
    world.api.before = lambda request: None
    world.state.provisioning = 0
    (id_,) = world.state.alive()
    return id_


def destroyed(world: World, props: dict[str, Any] = STATE) -> str:
    """A machine whose DELETE got nothing but 404."""
    id_ = world.machine(EIGHT)
    world.hide(id_)
    world.api.faults.add("delete", "404", inf)
    operations.delete(world.machines, CALL, id_, props)
    world.api.faults.clear()
    return id_


def review(world: World) -> list[str]:
    """What the next command says."""
    world.warnings.clear()
    world.restart()
    world.machines.review(f"{URN}-2")
    return world.warnings


@pytest.mark.parametrize("leave", [dropped, awaited, destroyed])
@pytest.mark.parametrize("passed", [0, 3500])
@pytest.mark.parametrize("sector", [None, "sector_1"])
def test_what_is_gone_is_named_when_it_is_back_and_resumed_by_a_create_of_its_resource(
    world: World, leave: Callable[[World], str], passed: float, sector: str | None
) -> None:
    """Whichever sector the program requests: state has the one that the machine is in."""
    id_ = leave(world)
    (entry,) = world.journal.readable()
    assert (entry.phase, entry.instance_id, entry.found) == (Phase.LATE, id_, ())
    world.clock.time += passed
    assert review(world) == []
    world.hide(id_, 0)
    for _ in range(2):
        (warning,) = review(world)
        assert f"Machine {id_} (" in warning
        assert "was gone, and is there again. It is billed" in warning
        world.clock.time += 7200
    assert create(world, sector=sector).id == id_
    assert world.state.creations == 1
    assert phase(world) is Phase.REPORTED


@pytest.mark.parametrize("leave", [dropped, awaited, destroyed])
def test_what_does_not_come_back_within_an_hour_is_forgotten(
    world: World, leave: Callable[[World], str]
) -> None:
    """A create in that hour makes another machine, and goes on naming the first."""
    id_ = leave(world)
    world.stacks.in_state = {create(world).id}
    assert world.state.creations == 2
    assert [entry.instance_id for entry in world.journal.readable() if entry.is_late] == [id_]
    world.clock.time += 3601
    assert review(world) == []
    assert [entry.instance_id for entry in world.journal.readable() if entry.is_late] == []


def test_what_is_gone_needs_no_outputs_to_be_put_on_record(world: World) -> None:
    """The engine drops the outputs of an update that it has repeated too often."""
    id_ = destroyed(world, {})
    world.hide(id_, 0)
    (warning,) = review(world)
    assert id_ in warning


@pytest.mark.parametrize(
    "state, is_checked, is_back, is_deleted",
    [
        pytest.param(GONE, True, True, False, id="replaced because it was gone"),
        pytest.param(GONE, True, False, False, id="it is still gone"),
        pytest.param(GONE, False, True, True, id="destroyed, or no longer in the program"),
        pytest.param(STATE, True, True, True, id="replaced for another reason"),
    ],
)
def test_a_machine_that_is_back_is_not_deleted_by_a_replacement_that_nobody_asked_for(
    world: World, state: dict[str, Any], is_checked: bool, is_back: bool, is_deleted: bool
) -> None:
    """The person is told, and every command goes on doing so."""
    id_, log = world.machine(EIGHT), Log()
    if is_checked:
        world.machines.known.add(URN)
    if not is_back:
        world.state.kill(id_)
    operations.delete(world.machines, replace(CALL, log=log), id_, state)
    assert (world.state.alive() == set()) is (is_deleted or not is_back)
    assert [(entry.instance_id, entry.is_late) for entry in world.journal.readable()] == (
        [] if is_deleted else [(id_, True)]
    )
    if is_back and not is_deleted:
        ((message, severity, _),) = log.said
        assert f"Machine {id_} was gone, which is why it was replaced" in message
        assert severity == WARNING
        assert len(review(world)) == 1


# A machine of another account.


@pytest.mark.parametrize("call", ["read", "update", "delete"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    "seen_with, words",
    [
        (ELSEWHERE, f"Machine {ID} was last seen with the key of another account"),
        ({"endpoint": "https://fal.invalid"}, f"Machine {ID} was last seen at https://fal.invalid"),
    ],
)
def test_a_machine_of_another_account_is_not_lost(
    world: World, call: str, answers: bool, seen_with: dict[str, str], words: str
) -> None:
    """A key that doesn't see the machine proves nothing, and the message says which key does."""
    world.stacks.in_state = set() if answers else None
    olds = {**UNFINISHED, **seen_with}
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: operations.read(world.machines, CALL, ID, olds),
        "update": lambda: operations.update(world.machines, CALL, ID, olds, INPUTS),
        "delete": lambda: operations.delete(world.machines, CALL, ID, olds),
    }
    with pytest.raises(ElsewhereError) as caught:
        calls[call]()
    assert str(caught.value).startswith(words)
    assert "delete" not in world.api.calls


def test_a_rotated_key_that_sees_the_stacks_other_machines_may_say_that_one_is_gone(
    world: World,
) -> None:
    """A key that sees the stack's other machines is of their account, so absence is proof."""
    world.stacks.in_state, world.stacks.account_id = {world.machine()}, AccountId(account="another")
    assert operations.read(world.machines, CALL, ID, {**STATE, **ELSEWHERE}) is None


def test_a_rotated_key_is_known_by_the_machines_of_any_stack_that_may_be_this_one(
    world: World,
) -> None:
    """Ids are unique, so a machine shows whose the key is, whichever organization has it."""
    there = StackMachine(world.machine(), "", AccountId(account="another"))
    world.stacks.in_state = None
    world.stacks.others = {"acme/shop/dev": Stack("acme/shop/dev", HERE.backend, (there,))}
    assert operations.read(world.machines, CALL, ID, {**STATE, **ELSEWHERE}) is None


def test_a_rotated_key_that_sees_the_machine_takes_it_over(world: World) -> None:
    """A key that sees the machine is recorded as its account's."""
    id_ = world.machine(EIGHT)
    outs = operations.read(world.machines, CALL, id_, {**STATE, **ELSEWHERE})
    assert outs == {**STATE, **account_id(world)}
    operations.delete(world.machines, CALL, id_, {**STATE, **ELSEWHERE})
    assert world.state.alive() == set()
