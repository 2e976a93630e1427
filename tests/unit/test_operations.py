"""What Pulumi asks of a machine, called as any host calls it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import inf
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.dialects import Kind, Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    ElsewhereError,
    FalError,
    Interrupted,
    LifecycleError,
    NotReplacedError,
    StillThereError,
    VanishedError,
)
from pulumi_fal.machines.journal import Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import UNKNOWN, Bill, Call, InitFailed
from pulumi_fal.resource.operations import Diff
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import ED25519, EIGHT, HERE, ID, ONE, RSA, URN, refusal
from .world import CALL, INPUTS, Log, World

STATE = {**INPUTS, "ip": "198.18.0.1", "status": "ready"}
UNFINISHED = {**INPUTS, "status": "pending", "unfinished": True}
UNAWAITED = {**INPUTS, "status": "pending", "wait": False}
GONE = {**UNFINISHED, "unfinished": "gone"}
"""The state of a machine that a wait has found to be gone."""
COMMENTED = {"ssh_key": f"{ED25519} new"}
ELSEWHERE = {"account": "another"}
"""What is in state of a machine that was last seen with the key of another account."""
PREVIEW = replace(CALL, preview=True)


# check


OLD_KEY = {"ssh_key": f"{ED25519} old"}


@pytest.mark.parametrize(
    "news, olds, expected",
    [
        pytest.param({"ip": None, "status": None}, {}, {}, id="absent outputs"),
        pytest.param({"wait": None}, {}, {}, id="absent"),
        pytest.param({"wait": True, "wait_for_ssh": False}, {}, {}, id="defaults"),
        pytest.param({"wait": False}, {}, {"wait": False}, id="no default"),
        pytest.param({}, {"ssh_key": RSA}, {}, id="another key"),
        pytest.param(COMMENTED, OLD_KEY, OLD_KEY, id="another comment"),
        pytest.param({"ssh_key": UNKNOWN}, INPUTS, {"ssh_key": UNKNOWN}, id="unknown key"),
    ],
)
def test_check(news: dict[str, Any], olds: dict[str, Any], expected: dict[str, Any]) -> None:
    """What is the same must not differ later, so one form of it goes to state."""
    result = operations.check(CALL, olds, {**INPUTS, **news})
    assert (result.inputs, result.failures) == ({**INPUTS, **expected}, [])


def test_all_problems() -> None:
    """A run that shows one problem at a time takes a run for each."""
    result = operations.check(CALL, {}, {"sector": "no where"})
    assert {failure.property for failure in result.failures} == set(INPUTS)


# diff


DRIFTED = {**STATE, "sector": "sector_2"}
"""A machine that was requested with INPUTS, and is in another sector now."""


@pytest.mark.parametrize("was_checked, replaces", [(True, ["sector"]), (False, [])])
def test_unknown_sector(world: World, was_checked: bool, replaces: list[str]) -> None:
    """A preview shows the worst. But if another machine's replacement is all that is known yet,
    Pulumi would delete this one before it knows better.
    """
    call, news = replace(CALL, was_checked=was_checked), {**INPUTS, "sector": UNKNOWN}
    assert operations.diff(world.account, call, ID, STATE, news, INPUTS) == Diff(replaces)
    other = {**news, "ssh_key": UNKNOWN}
    found = operations.diff(world.account, call, ID, STATE, other, INPUTS)
    assert found == Diff(["ssh_key", *replaces])


DIFFS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any], Diff]] = {
    "nothing": (STATE, None, {}, Diff([])),
    "type and key": (
        STATE,
        None,
        {"instance_type": UNKNOWN, "ssh_key": RSA},
        Diff(["instance_type", "ssh_key"]),
    ),
    "not awaited": (UNAWAITED, None, {}, Diff([])),
    "unfinished": (UNFINISHED, None, {}, Diff([], changes=True)),
    "unfinished, another key": (UNFINISHED, None, {"ssh_key": RSA}, Diff(["ssh_key"], True)),
    "gone": (GONE, None, {}, Diff(["instance_type"], changes=True)),
    "gone, another key": (GONE, None, {"ssh_key": RSA}, Diff(["ssh_key"], changes=True)),
    "drift, another input": (DRIFTED, INPUTS, {"wait_for_capacity": "6h"}, Diff([])),
    "drift, a comment": (DRIFTED, INPUTS, COMMENTED, Diff([])),
    "drift, another sector": (DRIFTED, INPUTS, {"sector": "sector_3"}, Diff(["sector"])),
    "drift, request": (DRIFTED, {**INPUTS, "sector": None}, {}, Diff(["sector"])),
    "drift, ignored": (DRIFTED, {**INPUTS, "ssh_key": RSA}, {"ssh_key": RSA}, Diff([])),
    "drift, not known": (DRIFTED, None, {}, Diff(["sector"])),
}
"""The state, the old inputs if they are known, what differs from INPUTS in the new ones."""


@pytest.mark.parametrize("name", DIFFS)
def test_diff(world: World, name: str) -> None:
    """It needs no key, and only a changed request replaces the machine. What differs otherwise is
    left to the engine, which honours ignore_changes, and drifted outputs are no difference.
    """
    olds, before, changed, expected = DIFFS[name]
    world.used_settings = mock.Mock(side_effect=ConfigurationError("no key"))
    drifted, news = {**olds, "status": "unknown", "ip": "198.18.0.9"}, {**INPUTS, **changed}
    assert operations.diff(world.account, CALL, ID, drifted, news, before) == expected
    assert world.api.calls == []


def test_lost_disk(world: World) -> None:
    """A replacement warns once, unless the machine is gone. What is unknown can't be undone."""
    row = Log()
    call = Call(URN, log=row, is_new=world.account.is_new)
    unknown = {"instance_type": ONE, "sector": UNKNOWN}
    for state, change in ((STATE, {}), (GONE, {}), (STATE, unknown), (STATE, unknown)):
        operations.diff(world.account, call, ID, state, {**INPUTS, **change}, INPUTS)
    assert f"The replacement of machine {ID} deletes everything on its disk." in row.warning
    assert row.warning.endswith("To keep it, undo the change of its instance type.")


# create


@pytest.mark.parametrize("ask", [operations.diff, operations.update])
@pytest.mark.parametrize("seen", [True, False])
def test_record_dropped(world: World, seen: bool, ask: Callable[..., object]) -> None:
    """A machine that was never shown may still be lost from state by a refresh."""
    world.stacks.in_state = {ID}
    world.earlier(Phase.REPORTED, ID, seen=seen)
    ask(world.account, CALL, ID, STATE, INPUTS)
    assert (world.entry() is None) is seen


def account_id(world: World) -> dict[str, str]:
    return {"endpoint": world.settings.endpoint, "account": world.settings.account}


def test_create(world: World) -> None:
    """The row has no ip, which may be secret. What doesn't reach the engine counts as untold."""
    world.state.provisioning = 100
    log = Log()
    created = world.create(replace(CALL, log=log))
    (machine,) = world.state.list()
    assert created.id == machine.id
    assert created.outputs == {**INPUTS, "ip": machine.ip, "status": "ready", **account_id(world)}
    entry = world.record
    assert (entry.instance_id, entry.phase, entry.seen) == (machine.id, Phase.REPORTED, True)
    assert log.texts == [
        "init, waiting for an ip",
        "provisioning, waiting for an ip",
        "provisioning, has an ip, waiting for ready",
        "ready",
    ]
    assert all(log.ephemeral)
    assert world.connected == []  # the wait for SSH is opt-in: a firewall may be closed
    created.undelivered()
    assert world.phase() is Phase.CREATED


def test_no_wait(world: World) -> None:
    """A create without a wait returns at once, and an absence doesn't count yet."""
    world.state.provisioning = 100
    created = world.create(wait=False)
    assert world.api.calls == ["list", "create"]
    assert (created.outputs["status"], created.outputs["wait"]) == ("pending", False)
    assert (world.record.phase, world.record.seen) == (Phase.REPORTED, False)


@pytest.mark.parametrize(
    "timeout, ends, why, seconds",
    [
        pytest.param(100.0, "", "is billed, but", 100, id="its time is up"),
        pytest.param(None, "", "is billed, but", 3600, id="an hour is up"),
        pytest.param(None, "interrupt", "was interrupted", 900, id="Ctrl-C"),
        pytest.param(None, "error", "failed: GET /compute/instances answered 403", 900, id="error"),
    ],
)
@pytest.mark.parametrize("is_heard", [True, False])
def test_wait_ends(
    world: World, timeout: float | None, ends: str, why: str, seconds: float, is_heard: bool
) -> None:
    """The engine gets the id, the outputs and the reason. If it has gone, the record has them."""
    world.state.provisioning = 1000 if ends else inf

    def end(request: Request[Any]) -> None:
        if ends == "interrupt" and world.clock.passed > seconds:
            world.clock.interrupt()
        if ends == "error" and world.clock.passed > seconds:
            world.api.faults.add("list", "403", inf)

    world.api.before = end
    failed = world.create_fails(replace(CALL, timeout=timeout, is_heard=lambda: is_heard))
    assert seconds <= world.clock.passed < seconds + (100 if ends else 1)
    assert {failed.instance_id} == world.state.alive()
    shown = {"status": "provisioning", "ip": "198.18.0.1"} if ends else {}
    assert failed.outputs == {**UNFINISHED, **shown, **account_id(world)}
    assert f"achine {failed.instance_id} ({EIGHT}) {why}" in failed.reason
    assert world.phase() is (Phase.REPORTED if is_heard else Phase.CREATED)


def test_refused(world: World) -> None:
    """Nothing was made, so nothing stays on record."""
    world.api.faults.add("create", "403")
    with pytest.raises(APIError, match="answered 403"):
        world.create()
    assert (world.state.alive(), world.entry()) == (set(), None)


@pytest.mark.parametrize("moment", ["before the list", "between two POSTs"])
def test_interrupted(world: World, moment: str) -> None:
    """The person who pressed Ctrl-C need not look for a machine that is billed."""
    if moment == "before the list":
        world.clock.interrupt()
    else:
        world.earlier(Phase.LATE, "gone", seen=True)
    world.at_post(world.clock.interrupt)
    world.api.faults.add("create", "429", inf)
    with pytest.raises(Interrupted) as caught:
        world.create()
    assert "No machine was created, and nothing is pending." in str(caught.value)
    assert world.entry() is None


def test_interrupted_wait_for_lock(world: World) -> None:
    """An earlier create may have made a machine, whatever became of the interrupted one."""
    world.earlier(Phase.REQUESTED, problem="no answer.")
    world.before_sleep(world.clock.interrupt)
    with world.lock(), pytest.raises(Interrupted) as caught:
        world.create()
    assert "It made no machine, but an earlier create of it is on record." in str(caught.value)
    assert "\n  pulumi-fal pending ls\n" in str(caught.value)


# What a create that does not succeed says of the machines that it was to replace.

TARGET = "urn:pulumi:dev::shop::fal:index:ComputeCluster$fal:index:ComputeInstance::web"
IN_CLUSTER = Call(TARGET, timeout=10)


def in_state(world: World, count: int) -> list[str]:
    """The ids of the resource's machines in state: all but the last are to be deleted."""
    ids = [world.machine() for _ in range(count)]
    world.stacks.siblings = [
        StackMachine(id_, TARGET, is_replaced=number + 1 < count) for number, id_ in enumerate(ids)
    ]
    return ids


@pytest.mark.parametrize(
    "count, is_there, is_heard, named",
    [
        pytest.param(0, True, True, "", id="none"),
        pytest.param(1, True, True, "billed as well: machine {0}.", id="one"),
        pytest.param(2, True, True, "as well: machine {0} and machine {1}.", id="two"),
        pytest.param(2, False, True, "", id="in state, but gone"),
        pytest.param(2, True, False, "", id="a process ends soon after its engine"),
    ],
)
def test_billed_as_well(
    world: World, count: int, is_there: bool, is_heard: bool, named: str
) -> None:
    """After two interrupted replacements, there are three machines."""
    others = in_state(world, count)
    for id_ in () if is_there else others:
        world.state.kill(id_)
    world.stacks.siblings.append(StackMachine(world.machine(), URN))
    world.state.provisioning = inf
    reason = world.create_fails(replace(IN_CLUSTER, is_heard=lambda: is_heard)).reason
    assert named.format(*others) in reason
    assert ("as well" in reason) is bool(named)
    assert ("To delete it:" in reason) is (is_heard and not named)
    command = f":\n  pulumi destroy --target '{TARGET}'"  # a shell would fill in $
    assert reason.endswith(command) is is_heard


@pytest.mark.parametrize("inputs", [{}, {"wait_for_capacity": "1m"}])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_refused_replacement(world: World, inputs: dict[str, str], is_deleted: bool) -> None:
    """The old machine stays, unless delete_before_replace has deleted it first."""
    *_, old = in_state(world, 1 if is_deleted else 2)
    if is_deleted:
        operations.delete(world.account, IN_CLUSTER, old, {})
    world.state.capacity = 0
    for is_replaced in (False, True) if is_deleted else (False,):  # state has it in either form
        if is_replaced:
            world.stacks.siblings = [StackMachine(old, TARGET, is_replaced=True)]
        with pytest.raises(NotReplacedError, match="answered 400: no capacity left") as caught:
            world.create(IN_CLUSTER, **inputs)
        lost = f"Machine {old} was deleted first, so the resource has no machine now.\n"
        kept = f"Machine {old} was not replaced. It stays, and is billed."
        assert f"\n{lost if is_deleted else kept}" in str(caught.value)


# read


def read(world: World, id_: str, state: dict[str, Any], log: Log | None = None) -> Any:
    return operations.read(world.account, replace(CALL, log=log or Log()), id_, state)


def test_read(world: World) -> None:
    """What was requested stays. State has the machine, so the record of its create goes."""
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    world.state.set_status(id_, "rebooting")
    props = {**STATE, **COMMENTED, "wait": False}
    assert read(world, id_, props) == {**props, "status": "rebooting", **account_id(world)}
    assert world.entry() is None


NEW = {"wait": False, "status": "pending"}
"""What state has of a machine that is not awaited, and may still be on its way."""
REFRESHES: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, None, ""),
    ({"ip": UNKNOWN}, None, "another ip"),
    ({"ip": "198.18.0.9"}, None, "another ip"),
    ({}, "no ip", "its status is ready, and it has no ip. It may still be billed"),
    ({}, "init", "its status is init. It may still be billed"),
    ({"status": "unknown"}, "unknown", "its status is unknown"),
    ({}, "stopped", "is stopped, so you can't log in. It may still be billed"),
    (NEW, "init", ""),
    (NEW, "unknown", ""),
    (NEW, "failed", "status is failed"),
    ({"wait": False, "status": "ready"}, "unknown", "status is unknown"),
]


@pytest.mark.parametrize("state, status, words", REFRESHES)
def test_refresh_warns(world: World, state: dict[str, Any], status: str | None, words: str) -> None:
    """The status is an output, so a later diff has nothing to do about it. The ip may be secret."""
    id_, log = world.machine(EIGHT), Log()
    if status == "no ip":
        world.state.machines[id_].ip_at = inf
    elif status:
        world.state.set_status(id_, status)
    outs = read(world, id_, {**STATE, **state}, log)
    assert operations.diff(world.account, CALL, id_, outs, INPUTS) == Diff([])
    if words:
        assert log.warning.startswith(f"Machine {id_} ")
        assert words in log.warning
        assert "198.18" not in log.warning
    else:
        assert log.texts == []


@pytest.mark.parametrize("kind, warnings", [(EIGHT, 2), (ONE, 0)])
def test_read_shows_no_sector(world: World, kind: str, warnings: int) -> None:
    """A program may pass it on. 1x machines have none."""
    world.state.provisioning = 100
    id_, log = world.machine(kind), Log()
    outs: dict[str, Any] = {}
    for passed in (0, 0, 100):  # the second is that of a refresh
        world.clock.time += passed
        outs = read(world, id_, outs, log)
    assert ["does not show its sector" in text for text in log.texts] == [True] * warnings
    world.state.set_status(id_, "stopped")
    world.clock.time += 100
    read(world, id_, outs, log)
    assert "is stopped" in log.texts[-1]
    assert "pulumi destroy" not in log.texts[-1]


def test_read_never_shown(world: World) -> None:
    """A machine may appear at any time, and the person is told why nothing changed."""
    world.stacks.in_state = {ID}
    entry = world.earlier(Phase.REPORTED, ID)
    for _ in range(2):
        log = Log()
        assert read(world, ID, STATE, log) == STATE
        assert ID in log.warning
        world.clock.time += 7200
    assert world.entry() == entry


@pytest.mark.parametrize("seconds", [50.0, inf])
@pytest.mark.parametrize("is_on_record", [True, False])
def test_read_gone(world: World, seconds: float, is_on_record: bool) -> None:
    """Its row says so, because the engine only says that it was deleted."""
    id_, log = world.machine(EIGHT), Log()
    world.stacks.in_state = {id_}
    if is_on_record:
        world.earlier(Phase.REPORTED, id_, seen=True)
    world.hide(id_, seconds)
    outs = read(world, id_, STATE, log)
    assert (outs is None) is (seconds == inf)
    if outs is None:
        assert f"Machine {id_} is gone" in log.warning
        assert 60 <= world.clock.passed < 70
    assert [entry.is_late for entry in world.journal.readable()] == [True] * (outs is None)


def test_read_gone_by_id(world: World) -> None:
    """A create would adopt a machine that is on record, and `pulumi destroy` would delete it."""
    id_, log = world.machine(EIGHT), Log()
    outs = read(world, id_, {})
    world.hide(id_)
    world.clock.time += 100
    assert read(world, id_, outs, log) is None
    assert f"Machine {id_} is gone" in log.warning
    assert "creates another one" not in log.warning
    assert world.journal.readable() == []


def test_by_id(world: World) -> None:
    """A program that reads a machine has nothing in state, so an unknown id is an error."""
    outs = read(world, world.machine(EIGHT), {})
    assert (outs["instance_type"], outs["sector"], outs["ip"]) == (EIGHT, "sector_1", "198.18.0.1")
    for call in (read, import_):
        with pytest.raises(LifecycleError, match=f"Machine {ID} can't be read"):
            call(world, ID, {})


def test_read_unfinished(world: World) -> None:
    """A plain answer clears the engine's errors, and `up` would skip the rest of the wait."""
    world.state.provisioning = 1000
    id_ = world.machine(EIGHT)
    with pytest.raises(InitFailed, match="not ready yet: its status is pending") as caught:
        read(world, id_, UNFINISHED)
    assert caught.value.outputs == {**UNFINISHED, **account_id(world)}
    world.clock.time += 1000
    outs = read(world, id_, UNFINISHED)
    assert (outs["status"], "unfinished" in outs) == ("ready", False)


# import


def import_(
    world: World, id_: str, wanted: dict[str, Any] = INPUTS, log: Log | None = None
) -> dict[str, Any]:
    return operations.read_import(world.account, replace(CALL, log=log or Log()), id_, wanted)


@pytest.mark.parametrize("phase", [None, Phase.CREATED])
def test_import(world: World, phase: Phase | None) -> None:
    """The key is the program's. A create that Pulumi was not told of has been, from now on."""
    id_ = world.machine(EIGHT)
    if phase:
        world.earlier(phase, id_)
    assert import_(world, id_) == {**STATE, **account_id(world), "imported": True}
    entries = [(entry.phase, entry.seen) for entry in world.journal.readable()]
    assert entries == ([(Phase.REPORTED, True)] if phase else [])


@pytest.mark.parametrize("wait, is_unfinished", [(None, True), (False, False)])
def test_import_wait(world: World, wait: bool | None, is_unfinished: bool) -> None:
    """Pulumi calls update next for a machine that is unfinished, and that waits for it."""
    world.state.provisioning = 100
    id_, news = world.machine(EIGHT), {**INPUTS, "sector": None, "wait": wait}
    outs = import_(world, id_, news)
    assert ("unfinished" in outs) is is_unfinished
    found = operations.diff(world.account, CALL, id_, outs, news, news)
    assert bool(found.changes) is is_unfinished
    if is_unfinished:
        outs = operations.update(world.account, CALL, id_, outs, news, news)
        assert (outs["status"], outs["imported"], "unfinished" in outs) == ("ready", True, False)


def test_import_key(world: World) -> None:
    """Nobody could compare it. A later change is one of the machine's own key, and replaces it."""
    id_, log = world.machine(EIGHT), Log()
    wrong, right = {**INPUTS, "ssh_key": RSA}, {**INPUTS, **COMMENTED}
    outs: dict[str, Any] = import_(world, id_, wrong)

    def change(before: dict[str, Any], news: dict[str, Any]) -> list[str]:
        nonlocal outs
        here = replace(CALL, log=log)
        found = operations.diff(world.account, here, id_, outs, news, before)
        if not found.replaces:
            outs = operations.update(world.account, here, id_, outs, news, before)
            outs = read(world, id_, outs, log)
        return found.replaces

    assert change(wrong, {**wrong, "wait_for_capacity": "6h"}) == []
    assert log.texts == []
    assert change(wrong, right) == []
    assert f"machine {id_} changes in state only" in log.warning
    assert change(right, INPUTS) == []  # without the comment
    assert len(log.texts) == 1
    assert change(right, wrong) == ["ssh_key"]
    assert log.texts[1].startswith(f"The replacement of machine {id_} ")


@pytest.mark.parametrize(
    "wanted, problem",
    [
        ({}, "instance_type is missing"),
        ({**INPUTS, "sector": "sector_2"}, "its sector is sector_1, but the program says sector_2"),
        (
            {"instance_type": ONE, "ssh_key": ED25519},
            f"its instance_type is {EIGHT}, but the program says {ONE}. Correct the program",
        ),
    ],
)
def test_import_mismatch(world: World, wanted: dict[str, Any], problem: str) -> None:
    id_ = world.machine(EIGHT)
    with pytest.raises(LifecycleError) as caught:
        import_(world, id_, wanted)
    assert f"Machine {id_} was not imported: {problem}" in str(caught.value).replace("; ", ": ")


THERE = replace(HERE, urn=URN.replace("dev", "b"))
OF_ANOTHER: dict[str, Any] = {"origin": THERE}
LOST = {**OF_ANOTHER, "requested": NewInstance(EIGHT, ED25519)}


@pytest.mark.parametrize(
    "phase, made, others, refused",
    [
        pytest.param(Phase.CREATED, ID, {}, "", id="its own create"),
        pytest.param(Phase.CREATED, ID, OF_ANOTHER, "was not imported: a create of", id="another"),
        pytest.param(Phase.REQUESTED, None, LOST, "may have made it", id="unanswered"),
        pytest.param(Phase.REQUESTED, None, {**LOST, **ELSEWHERE}, "", id="of another account"),
        pytest.param(Phase.LATE, None, LOST, "", id="late"),
        pytest.param(Phase.LATE, ID, OF_ANOTHER, "is on record to have made it", id="was gone"),
    ],
)
def test_import_of_a_create(
    world: World, phase: Phase, made: str | None, others: dict[str, Any], refused: str
) -> None:
    """Destroying one of both would delete the machine."""
    id_ = world.machine(EIGHT)
    world.earlier(phase, made and id_, **others)
    with pytest.raises(LifecycleError, match=refused) if refused else nullcontext():
        assert import_(world, id_)["status"] == "ready"


def test_import_of_a_stack(world: World) -> None:
    """Its own stack may have the machine, as the same resource. An unread stack is named."""
    id_, log = world.machine(EIGHT), Log()
    world.stacks.in_state = {id_}
    assert import_(world, id_)["status"] == "ready"
    world.stacks.in_state, world.stacks.siblings = set(), [StackMachine(id_, TARGET)]
    with pytest.raises(LifecycleError, match="was not imported: it is in the state of"):
        import_(world, id_)
    world.stacks.siblings, world.stacks.others = [], {"organization/shop/b": {id_}}
    recorded = world.earlier(Phase.REPORTED, id_, origin=THERE)  # as long as state may lack it
    with pytest.raises(LifecycleError, match="in the state of the stack organization/shop/b"):
        import_(world, id_)
    world.journal.drop(recorded)
    world.stacks.others = {"organization/shop/b": "no access"}
    import_(world, id_, INPUTS, log)
    assert "  organization/shop/b: no access" in log.warning


# update


def update(
    world: World, id_: str, olds: dict[str, Any], call: Call = CALL, **changed: Any
) -> dict[str, Any]:
    return operations.update(world.account, call, id_, olds, {**INPUTS, **changed})


@pytest.mark.parametrize(
    "olds, changed",
    [
        (STATE, COMMENTED),
        (STATE, {"wait": False}),
        ({**STATE, "unfinished": True}, {"wait": False}),
    ],
    ids=["another comment", "no wait any longer", "no wait after all"],
)
def test_update(world: World, olds: dict[str, Any], changed: dict[str, Any]) -> None:
    assert update(world, ID, olds, **changed) == {**STATE, **changed}
    assert world.api.calls == []


@pytest.mark.parametrize(
    "before, news, words",
    [
        (None, {"instance_type": ONE, "sector": None}, "instance type"),
        (None, {"instance_type": ONE, "ssh_key": RSA, "sector": None}, "instance type and ssh key"),
        (None, {}, ""),
        (INPUTS, {}, ""),
        ({**INPUTS, "sector": "sector_2"}, {}, "sector"),
    ],
)
def test_update_refuses(
    world: World, before: dict[str, Any] | None, news: dict[str, Any], words: str
) -> None:
    """The engine calls no update for what diff replaces. A sector that it drifted from is none."""
    drifted, news = {**STATE, "sector": "sector_3"}, {**INPUTS, **news}
    says = f"{ID} was not changed: .* the {words} of a machine"
    with pytest.raises(LifecycleError, match=says) if words else nullcontext():
        assert operations.update(world.account, CALL, ID, drifted, news, before) == drifted


def test_update_preview(world: World) -> None:
    """A preview doesn't know what the wait will bring, and finds nothing out by a call."""
    outs = update(world, ID, UNFINISHED, PREVIEW)
    assert outs == {**INPUTS, "ip": UNKNOWN, "status": UNKNOWN}
    assert world.api.calls == []


@pytest.mark.parametrize("olds", [UNFINISHED, UNAWAITED], ids=["unfinished", "wait from now on"])
def test_update_waits(world: World, olds: dict[str, Any]) -> None:
    world.state.provisioning = 100
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    assert update(world, id_, olds) == {**STATE, **account_id(world)}
    assert (world.state.creations, world.entry()) == (1, None)


TIMEOUT, IS_GONE = "was not ready after 50 s", f"Machine {ID} ({EIGHT}) is gone: it was pending"
SEEN = {**UNFINISHED, "ip": "198.18.0.9"}
NO_STATUS = {"ip": "198.18.0.9", "unfinished": True}


@pytest.mark.parametrize(
    "olds, fault, recorded, says, outputs",
    [
        pytest.param(SEEN, "500", None, TIMEOUT, SEEN, id="an outage"),
        pytest.param(
            NO_STATUS, "500", None, TIMEOUT, {**SEEN, "status": "unknown"}, id="nothing known"
        ),
        pytest.param(UNFINISHED, "ok", None, IS_GONE, GONE, id="gone"),
        pytest.param(UNAWAITED, "ok", None, IS_GONE, GONE, id="gone, wait from now on"),
        pytest.param(
            UNFINISHED, "ok", False, "the API has not shown it yet", UNFINISHED, id="never shown"
        ),
    ],
)
def test_update_fails(
    world: World,
    olds: dict[str, Any],
    fault: str,
    recorded: bool | None,
    says: str,
    outputs: dict[str, Any],
) -> None:
    """State says what was seen last, and whether the next diff is to replace the machine."""
    world.api.faults.add("list", fault, inf)
    if recorded is not None:
        world.earlier(Phase.REPORTED, ID, seen=recorded)
    with pytest.raises(InitFailed) as caught:
        update(world, ID, olds, replace(CALL, timeout=50 if fault == "500" else 100))
    assert says in caught.value.reason
    assert caught.value.outputs == {**outputs, **account_id(world)}
    will_replace = caught.value.reason.endswith("it replaces the machine with a new one.")
    assert will_replace is (outputs is GONE)


# delete


def delete(world: World, id_: str, state: dict[str, Any] = STATE, call: Call = CALL) -> None:
    operations.delete(world.account, call, id_, state)


def test_delete(world: World) -> None:
    """It returns only when the machine, and so the bill, is gone, and the record with it."""
    world.state.deletion = 100
    id_ = world.machine(EIGHT)
    world.stacks.in_state = {id_}
    world.earlier(Phase.REPORTED, id_)
    delete(world, id_)
    assert (world.state.alive(), world.entry()) == (set(), None)
    assert world.clock.passed >= 100


@pytest.mark.parametrize("timeout, seconds", [(100.0, 100.0), (None, 1200.0)])
def test_delete_timeout(world: World, timeout: float | None, seconds: float) -> None:
    world.state.deletion = inf
    id_ = world.machine(EIGHT)
    world.earlier(Phase.REPORTED, id_)
    with pytest.raises(StillThereError):
        delete(world, id_, call=replace(CALL, timeout=timeout))
    assert seconds <= world.clock.passed < seconds + 1
    assert world.phase() is Phase.REPORTED


@pytest.mark.parametrize(
    "state, refused, error",
    [
        (STATE, "delete", refusal(401)),
        (STATE, "delete", ConfigurationError("Nothing was sent: there is no CA bundle.")),
        (GONE, "list", refusal(401)),
    ],
    ids=["refused", "not sent", "replaced because it was gone, so it is looked for first"],
)
def test_not_deleted(world: World, state: dict[str, Any], refused: Kind, error: FalError) -> None:
    """Who reads only the end of an error knows that the machine may still cost money."""
    id_ = world.machine(EIGHT)
    world.fail(refused, error)
    with pytest.raises(LifecycleError) as caught:
        delete(world, id_, state, replace(CALL, was_checked=True))
    end = f"Machine {id_} was not deleted, and may still be billed."
    assert str(caught.value) == f"{error}\n{end}"


# What is billed


PRICES = {EIGHT: 19.9}
STARTS = "Starts billing 1 machine, 19.90 an hour."
UNPRICED = "Starts billing 1 machine, 0.00 an hour. Not known: the price of 1."


@pytest.mark.parametrize(
    "call, olds, changed, told",
    [
        pytest.param(PREVIEW, {}, {}, STARTS, id="new"),
        pytest.param(CALL, {}, {}, "", id="in an update"),
        pytest.param(PREVIEW, INPUTS, {}, "", id="in state"),
        pytest.param(PREVIEW, {}, {"sector": "no where"}, "", id="refused"),
        pytest.param(PREVIEW, {}, {"instance_type": ONE, "sector": None}, UNPRICED, id="no price"),
    ],
)
def test_planned(call: Call, olds: dict[str, Any], changed: dict[str, Any], told: str) -> None:
    """A preview says once what it would bill, with the dynamic host's checks."""
    bill = Bill(PRICES.copy)
    operations.check(replace(call, bill=bill), olds, {**INPUTS, **changed})
    assert (bill.told(), bill.told()) == (told, "")


@pytest.mark.parametrize(
    "olds, is_checked, stops",
    [(STATE, True, True), (GONE, True, False), (STATE, False, False)],
    ids=["replaced", "gone", "not checked yet"],
)
def test_replaced(world: World, olds: dict[str, Any], *, is_checked: bool, stops: bool) -> None:
    """A preview also says which replaced machines it would stop billing, in the native host."""
    call = replace(PREVIEW, was_checked=is_checked, bill=Bill(PRICES.copy))
    operations.diff(world.account, call, ID, olds, {**INPUTS, "ssh_key": RSA})
    operations.create(world.account, call, INPUTS)
    stopped = " Stops billing 1 replaced machine, 19.90 an hour." if stops else ""
    assert call.bill.told() == STARTS + stopped


def test_billed(world: World) -> None:
    """An update says what it did. Since when a machine is billed, the stack's state tells."""
    log = Log()
    call = replace(CALL, log=log, bill=Bill(PRICES.copy))
    old, new = (world.create(replace(call, urn=f"{URN}-{number}")).id for number in (1, 2))
    gone = awaited(world, call)
    recorded = world.clock.wall() - 7200
    world.stacks.siblings = [StackMachine(old, f"{URN}-1", created=recorded)]
    for id_ in (old, new):
        delete(world, id_, call=call)
    world.api.faults.add("delete", "404", inf)
    delete(world, gone, call=call)
    ((told, is_ephemeral),) = (
        said for said in zip(log.texts, log.ephemeral, strict=True) if "cost" in said[0]
    )
    assert not is_ephemeral  # the row of a delete that is done would not show it
    assert re.fullmatch(rf"Machine {old} cost 39\.8\d since Pulumi recorded it\.", told)
    assert world.stacks.forgotten > 0  # others need a newer state
    assert re.fullmatch(
        r"Started billing 2 machines, 39\.80 an hour\. Stopped billing 2 machines, 39\.80 an hour, "
        r"at a cost of 39\.8\d since Pulumi recorded them\. Not known: the age of 1\.",
        call.bill.told(),
    )


# A machine that is gone, and may come back.


def dropped(world: World) -> str:
    """A machine that a refresh has dropped from state."""
    id_ = world.machine(EIGHT)
    world.hide(id_)
    assert read(world, id_, STATE) is None
    return id_


def awaited(world: World, call: Call = CALL) -> str:
    """A machine that went missing in the wait of its create."""
    world.state.provisioning = 200

    def hide(request: Request[Any]) -> None:
        if world.clock.passed > 10 and request.kind != "create":
            for id_ in world.state.alive():
                world.hide(id_)

    world.api.before = hide
    with pytest.raises(VanishedError) as caught:
        world.create(call)
    world.api.before = lambda request: None
    world.state.provisioning = 0
    return caught.value.instance_id


def destroyed(world: World, state: dict[str, Any] = STATE) -> str:
    """A machine whose DELETE got nothing but 404."""
    id_ = world.machine(EIGHT)
    world.hide(id_)
    world.api.faults.add("delete", "404", inf)
    delete(world, id_, state)
    world.api.faults.clear()
    return id_


def destroyed_without_outputs(world: World) -> str:
    """One whose outputs the engine has dropped, after it had repeated an update too often."""
    return destroyed(world, {})


@pytest.mark.parametrize("leave", [dropped, awaited, destroyed, destroyed_without_outputs])
@pytest.mark.parametrize("passed, sector", [(0, "sector_1"), (3500, None)])
def test_back(
    world: World, leave: Callable[[World], str], passed: float, sector: str | None
) -> None:
    """Every command names it, and a create resumes it, whichever sector the program requests."""
    id_ = leave(world)
    (entry,) = world.journal.readable()
    assert (entry.phase, entry.instance_id, entry.found) == (Phase.LATE, id_, ())
    world.clock.time += passed
    assert world.review() == []
    world.hide(id_, 0)
    for _ in range(2):
        (warning,) = world.review()
        assert f"Machine {id_} (" in warning
        assert "was gone, and is there again. It is billed" in warning
        world.clock.time += 7200
    if leave is not destroyed_without_outputs:
        assert world.create(sector=sector).id == id_
        assert (world.state.creations, world.phase()) == (1, Phase.REPORTED)


@pytest.mark.parametrize(
    "state, is_checked, is_back, is_deleted",
    [
        pytest.param(GONE, True, True, False, id="replaced because it was gone"),
        pytest.param(GONE, True, False, False, id="it is still gone"),
        pytest.param(GONE, False, True, True, id="destroyed, or no longer in the program"),
        pytest.param(STATE, True, True, True, id="replaced for another reason"),
    ],
)
def test_back_at_delete(
    world: World, state: dict[str, Any], is_checked: bool, is_back: bool, is_deleted: bool
) -> None:
    """It is not deleted by a replacement that nobody asked for. Every command names it."""
    id_, log = world.machine(EIGHT), Log()
    if not is_back:
        world.state.kill(id_)
    delete(world, id_, state, replace(CALL, was_checked=is_checked, log=log))
    assert (world.state.alive() == set()) is (is_deleted or not is_back)
    late = [] if is_deleted else [(id_, True)]
    assert [(entry.instance_id, entry.is_late) for entry in world.journal.readable()] == late
    if is_back and not is_deleted:
        assert f"Machine {id_} was gone, which is why it was replaced" in log.warning
        assert len(world.review()) == 1


CALLS: dict[str, Callable[..., object]] = {"read": read, "update": update, "delete": delete}


@pytest.mark.parametrize("call", [*CALLS, "import"])
def test_call_interrupted(world: World, call: str) -> None:
    """Even at the first look, which finds out whose the machine is."""
    id_ = world.machine(EIGHT)
    world.clock.interrupt()
    with pytest.raises(LifecycleError, match=f"The {call} of machine {id_} was interrupted"):
        {**CALLS, "import": import_}[call](world, id_, {**UNFINISHED, **ELSEWHERE})


# A machine of another account.


SEEN_AT = {"endpoint": "https://fal.invalid"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    "seen, words",
    [(ELSEWHERE, "with the key of another account"), (SEEN_AT, "at https://fal.invalid")],
)
def test_another_account(
    world: World, call: str, answers: bool, seen: dict[str, str], words: str
) -> None:
    """A key that doesn't see the machine proves nothing, and the message says which key does."""
    world.stacks.in_state = set() if answers else None
    with pytest.raises(ElsewhereError) as caught:
        CALLS[call](world, ID, {**UNFINISHED, **seen})
    assert str(caught.value).startswith(f"Machine {ID} was last seen {words}")
    assert "delete" not in world.api.calls


@pytest.mark.parametrize("stack", ["organization/shop/dev", "acme/shop/dev"])
def test_rotated_key(world: World, stack: str) -> None:
    """A key that sees a machine of any stack that may be this one is of its account."""
    there = StackMachine(world.machine(), "", AccountId(account="another"))
    world.stacks.others = {stack: Stack(stack, HERE.backend, (there,))}
    assert read(world, ID, {**STATE, **ELSEWHERE}) is None


def test_takes_over(world: World) -> None:
    id_ = world.machine(EIGHT)
    assert read(world, id_, {**STATE, **ELSEWHERE}) == {**STATE, **account_id(world)}
    delete(world, id_, {**STATE, **ELSEWHERE})
    assert world.state.alive() == set()
