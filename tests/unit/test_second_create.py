"""The engine calls Create, Update or Delete again in the same step, if a hook says so.

The engine forgets the result of the first call then, even if it had the machine's id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import (
    InvalidRequestError,
    LifecycleError,
    StillThereError,
    UnresolvedCreateError,
    VanishedError,
)
from pulumi_fal.machines.journal import Journal, Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import WARNING, Call, InitFailed
from pulumi_fal.resource.operations import LIMIT
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, HERE, RSA, URN, settings
from .world import SETTLE_SECONDS, World

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
CALL = Call(URN, timeout=100.0)


def create(world: World, call: Call = CALL, **changed: Any) -> operations.Created:
    return operations.create(world.machines, call, {**INPUTS, **changed})


def fails(world: World, call: Call = CALL, **changed: Any) -> InitFailed:
    """A create that leaves partial state."""
    with pytest.raises(InitFailed) as caught:
        create(world, call, **changed)
    return caught.value


@pytest.fixture
def first(world: World) -> InitFailed:
    """A create that timed out. Its machine needs another 900 seconds."""
    world.state.provisioning = 1000
    failed = fails(world)
    assert {failed.instance_id} == world.state.alive()
    world.clock.time += 5  # the hook sleeps; until then the list is too new to be asked for again
    return failed


def phase(world: World) -> Phase | None:
    entry = world.entry()
    return entry.phase if entry else None


# The second create goes on with the machine of the first.


@pytest.mark.parametrize("answers", [True, False])
def test_a_second_create_waits_for_the_machine_of_the_first(
    world: World, first: InitFailed, answers: bool
) -> None:
    """Even where the stack can't be read, nothing else can have the machine."""
    world.stacks.in_state = set() if answers else None
    phases = set()
    world.api.before = lambda request: phases.add(phase(world))
    created = create(world, replace(CALL, timeout=1000))
    assert (created.id, created.outputs["status"]) == (first.instance_id, "ready")
    assert world.state.creations == 1
    # A process that is killed meanwhile leaves a record that the next `up` resumes.
    assert phases == {Phase.REPORTED, Phase.CREATED}
    assert phase(world) is Phase.REPORTED


def test_a_process_that_dies_in_the_second_create_leaves_the_machine_to_the_next(
    world: World, first: InitFailed
) -> None:
    """The engine has forgotten the report of the first create by then."""
    fails(world, replace(CALL, is_heard=lambda: False))
    world.restart()
    assert create(world, replace(CALL, timeout=1000)).id == first.instance_id


def test_a_second_create_needs_no_journal(world: World, first: InitFailed) -> None:
    """The process itself knows the machine, and says that the journal is broken."""
    break_journal(world.folder)
    assert create(world, replace(CALL, timeout=1000)).id == first.instance_id
    assert any(first.instance_id in warning for warning in world.warnings)


def break_journal(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")


def test_a_second_create_goes_on_with_a_machine_that_the_api_has_never_shown(world: World) -> None:
    """Its absence says nothing, however often it is missed."""
    world.state.provisioning = inf
    world.api.before = lambda request: [*map(world.hide, world.state.alive())].clear()
    made = {fails(world).instance_id for _ in range(3)}
    assert made == world.state.alive()
    assert world.state.creations == 1


def test_a_second_create_of_a_clusters_machine_goes_on_though_others_have_a_sector_now(
    world: World,
) -> None:
    """What the program requests decides whether it is the same create."""
    cluster = f"urn:pulumi:dev::shop::{CLUSTER_TYPE_TOKEN}${TYPE_TOKEN}::train"
    call = replace(CALL, urn=f"{cluster}-0")
    world.state.provisioning = 150
    failed = fails(world, call)
    world.stacks.siblings = [StackMachine("other", f"{cluster}-1", sector="sector_2")]
    assert create(world, call).id == failed.instance_id


def test_a_second_create_resumes_what_the_first_resumed(world: World) -> None:
    """The machine of an earlier process's create counts as that of this one."""
    world.state.provisioning = 150
    made = world.machine(EIGHT)
    world.earlier(Phase.CREATED, made, requested=NewInstance(EIGHT, ED25519).hashed())
    assert fails(world).instance_id == made
    assert create(world).id == made


# Whatever ends the second create, the machine is in state.


def interrupt(world: World) -> None:
    world.clock.interrupt()


def refuse_key(world: World) -> None:
    world.api.faults.add("list", "403", inf)
    world.api.faults.add("get", "403", inf)


def hold_lock_until_interrupted(world: World) -> None:
    lock = Journal(world.folder).try_lock(HERE)
    assert lock is not None
    lock.__enter__()
    sleep = world.clock.sleep

    def interrupted(seconds: float) -> None:
        world.clock.interrupt()
        sleep(seconds)

    world.clock.sleep = interrupted  # type: ignore[method-assign]


def fail_oddly(world: World) -> None:
    def fail(request: Request[Any]) -> None:
        raise ZeroDivisionError("a bug")

    world.api.before = fail


@pytest.mark.parametrize(
    "disturb, said",
    [
        (interrupt, "was interrupted"),
        (refuse_key, "answered 403"),
        (hold_lock_until_interrupted, "was interrupted"),
        (fail_oddly, "a bug"),
    ],
)
def test_a_second_create_that_fails_leaves_the_machine_in_state_as_it_was_last_seen(
    world: World, disturb: Callable[[World], None], said: str
) -> None:
    """The engine drops the id if the error isn't partial state."""
    world.state.provisioning = 120
    first = fails(world)
    assert first.outputs["ip"]
    disturb(world)
    second = fails(world)
    assert (second.instance_id, second.outputs) == (first.instance_id, first.outputs)
    assert first.instance_id in second.reason
    assert said in second.reason
    assert phase(world) is Phase.REPORTED
    second.undelivered()
    assert phase(world) is Phase.CREATED
    assert world.state.creations == 1


def test_a_first_create_that_fails_oddly_leaves_its_machine_in_state_too(world: World) -> None:
    """A bug in this package must not lose a machine either."""

    def fail(message: str, severity: int = 1, *, ephemeral: bool = False) -> None:
        raise ZeroDivisionError("a bug")

    world.state.provisioning = 50
    failed = fails(world, replace(CALL, log=fail))
    assert {failed.instance_id} == world.state.alive()


def test_the_end_of_the_first_call_does_not_touch_the_record_of_the_second(
    world: World, first: InitFailed
) -> None:
    """gRPC may tell late that a call has ended."""
    second = fails(world)
    first.undelivered()
    assert phase(world) is Phase.REPORTED
    second.undelivered()
    assert phase(world) is Phase.CREATED


@pytest.mark.parametrize("number", [LIMIT - 1, LIMIT])
def test_the_last_attempt_that_the_engine_makes_succeeds_with_the_unfinished_machine(
    world: World, number: int
) -> None:
    """The engine would record a failed one without its id, and then crash on that state."""
    said = []
    call = replace(CALL, timeout=0.1, log=lambda message, *rest, **_: said.append((message, *rest)))
    create(world)  # a create that succeeded is of another step
    world.machines.known.add(URN)
    world.stacks.in_state = set(world.state.alive())
    world.state.provisioning = inf
    for _ in range(number - 1):
        failed = fails(world, call)
    if number < LIMIT:
        fails(world, call)
        return
    created = create(world, call)
    assert (created.id, created.outputs) == (failed.instance_id, failed.outputs)
    assert created.outputs["unfinished"] is True
    message, severity = said[-1]
    assert f"Pulumi stops after {LIMIT} attempts" in message
    assert severity == WARNING
    created.undelivered()
    assert phase(world) is Phase.CREATED


# The second create makes another machine only if there is none.


def test_a_second_create_makes_another_machine_once_the_first_is_gone(
    world: World, first: InitFailed
) -> None:
    """A machine that is certainly gone needs no place in state, and is asked for only once."""
    world.state.kill(first.instance_id)
    world.api.requests.clear()
    created = create(world, replace(CALL, timeout=2000))
    assert created.id != first.instance_id
    assert world.state.alive() == {created.id}
    assert [call for call in world.api.calls if call != "list"][:3] == ["get", "get", "get"]
    assert world.api.calls.count("create") == 1
    assert [entry.instance_id for entry in world.journal.readable() if entry.is_late] == [
        first.instance_id
    ]


def test_the_absence_of_a_machine_counts_at_once_if_any_attempt_has_seen_it(world: World) -> None:
    """A machine that the API has shown is gone when it shows it no longer."""
    world.state.provisioning = 1000
    first = fails(world, replace(CALL, timeout=5))
    world.state.kill(first.instance_id)
    world.clock.time += 5
    assert fails(world, replace(CALL, timeout=5)).instance_id != first.instance_id


def test_a_second_create_records_that_it_has_found_the_machine(world: World) -> None:
    """The record would make the next process wait for a machine that has gone since."""
    world.state.provisioning = 1000

    def hide(request: Request[Any]) -> None:
        for id_ in world.state.alive():
            world.hide(id_, 10)

    world.api.before = hide
    first = fails(world, replace(CALL, timeout=5))
    entry = world.entry()
    assert entry is not None
    assert not entry.seen
    world.clock.time += 15
    world.api.before = lambda request: None
    fails(world, replace(CALL, timeout=5, is_heard=lambda: False))
    entry = world.entry()
    assert entry is not None
    assert (entry.instance_id, entry.seen) == (first.instance_id, True)


def test_the_refusal_of_another_machine_does_not_bring_back_the_one_that_is_gone(
    world: World, first: InitFailed
) -> None:
    """State would have a machine that doesn't exist."""
    world.state.kill(first.instance_id)
    world.state.capacity = 0
    for _ in range(2):
        with pytest.raises(InvalidRequestError):
            create(world)
    assert world.entry() is None


def test_a_machine_that_vanishes_in_the_second_create_is_not_kept(
    world: World, first: InitFailed
) -> None:
    """The create after that one makes another."""

    def kill(request: Request[Any]) -> None:
        if world.clock.passed > 150 and first.instance_id in world.state.alive():
            world.state.kill(first.instance_id)

    world.api.before = kill
    with pytest.raises(VanishedError):
        create(world, replace(CALL, timeout=500))
    assert create(world, replace(CALL, timeout=2000)).id != first.instance_id


def test_a_create_whose_machine_is_in_state_now_makes_another(
    world: World, first: InitFailed
) -> None:
    """A process may outlive a command, and a forced replacement comes without a diff."""
    world.stacks.in_state = {first.instance_id}
    world.machines.known.add(URN)
    world.stacks.forgotten = 0
    created = create(world, replace(CALL, timeout=2000))
    assert world.stacks.forgotten == 1  # the stack was read again
    assert created.id != first.instance_id
    assert len(world.state.alive()) == 2


def test_a_create_with_other_inputs_does_not_repeat_the_last_one(
    world: World, first: InitFailed
) -> None:
    """A create with other inputs stops: only a person can say what becomes of the machine."""
    with pytest.raises(UnresolvedCreateError) as caught:
        create(world, ssh_key=RSA)
    assert caught.value.candidates == (first.instance_id,)


def test_a_second_create_after_a_refused_one_is_like_a_first(world: World) -> None:
    """Nothing was made, so nothing is left to go on with."""
    world.state.capacity = 0
    with pytest.raises(InvalidRequestError):
        create(world)
    world.state.capacity = 1
    assert {create(world).id} == world.state.alive()


@pytest.mark.parametrize("fault, found", [("reset_after", 1), ("reset_before", 0)])
def test_a_second_create_after_a_lost_answer_looks_first(
    world: World, fault: str, found: int
) -> None:
    """A machine that the first may have made is named, and not made again."""
    world.api.faults.add("create", fault)
    with pytest.raises(UnresolvedCreateError) as caught:
        create(world)
    assert len(caught.value.candidates) == found
    if found:
        with pytest.raises(UnresolvedCreateError) as caught:
            create(world)
        assert set(caught.value.candidates) == world.state.alive()
    else:
        assert {create(world).id} == world.state.alive()
    assert world.state.creations == 1


@pytest.mark.parametrize("then", ["the API answers", "the API is down once it has answered"])
def test_a_second_create_sends_the_idempotency_key_of_the_first_again(
    world: World, then: str
) -> None:
    """The API answers with the machine of the first, which is known from then on."""
    world.settings = settings(api="v1", settle_seconds=SETTLE_SECONDS)
    world.restart()
    world.state.provisioning = 50

    def interrupted(request: Request[Any]) -> None:
        if request.creates:
            world.clock.interrupt()

    world.api.after = interrupted
    world.api.faults.add("create", "reset_after")
    with pytest.raises(UnresolvedCreateError):
        create(world)
    world.clock.interrupted.clear()

    def down(request: Request[Any]) -> None:
        if request.creates and then != "the API answers":
            refuse_key(world)

    world.api.after = down
    made = create(world).id if then == "the API answers" else fails(world).instance_id
    assert {made} == world.state.alive()
    assert world.state.creations == 1
    assert phase(world) is Phase.REPORTED


def test_a_machine_that_a_create_resumed_and_reported_is_not_its_own_replacement(
    world: World,
) -> None:
    """The API fails right after it has answered which machine the earlier create had made."""
    world.settings = settings(api="v1", settle_seconds=SETTLE_SECONDS)
    world.restart()
    new, sent = NewInstance(EIGHT, ED25519), world.clock.wall()
    world.earlier(
        Phase.REQUESTED, requested=new.hashed(), idempotency_key="the-key", first_sent=sent
    )
    world.state.create(new, None, "the-key")

    def refuse(request: Request[Any]) -> None:
        if request.creates:
            refuse_key(world)

    world.api.after = refuse
    failed = fails(world)
    assert {failed.instance_id} == world.state.alive()
    world.api.faults.clear()
    world.api.after = lambda request: None
    world.restart()
    world.stacks.in_state = None  # the stack can't be read
    with pytest.raises(UnresolvedCreateError, match="reported to Pulumi"):
        create(world)


def test_a_host_that_cannot_keep_partial_state_leaves_the_machine_to_the_next_process(
    world: World, first: InitFailed
) -> None:
    """The record on disk is all that has the machine then."""
    first.undelivered()
    fails(world).undelivered()
    world.restart()
    assert create(world, replace(CALL, timeout=1000)).id == first.instance_id


# The deletion of a machine that a repeated create has gone on with.


def in_state(id_: str, urn: str = URN) -> StackMachine:
    return StackMachine(id_, urn)


@pytest.mark.parametrize(
    "case", ["in state", "twice in state", "of another resource", "state can't be read"]
)
def test_the_machine_of_a_repeated_create_can_be_deleted_if_state_has_it_once(
    world: World, first: InitFailed, case: str
) -> None:
    """A machine that two resources have must stay, and so must one of which that isn't known."""
    id_ = create(world, replace(CALL, timeout=1000)).id
    rows = {
        "in state": [in_state(id_)],
        "twice in state": [in_state(id_), in_state(id_)],
        "of another resource": [in_state(id_, f"{URN}-2")],
        "state can't be read": [],
    }
    world.stacks.siblings = rows[case]
    if case == "in state":
        operations.delete(world.machines, CALL, id_, INPUTS)
    else:
        with pytest.raises(LifecycleError, match="was not deleted"):
            operations.delete(world.machines, CALL, id_, INPUTS)
    assert (id_ in world.state.alive()) is (case != "in state")


# Update and delete.


@pytest.mark.parametrize("olds", [{"unfinished": True}, {"wait": False}, {}])
def test_a_second_update_waits_again_with_the_same_old_outputs(
    world: World, olds: dict[str, Any]
) -> None:
    """The engine keeps neither outputs nor errors of the first, and drops all after its limit."""
    world.state.provisioning = 150
    id_ = world.machine(EIGHT)
    outputs = {**INPUTS, "status": "pending", **olds} if olds else {}
    with pytest.raises(InitFailed) as caught:
        operations.update(world.machines, CALL, id_, outputs, INPUTS)
    assert caught.value.outputs["unfinished"] is True
    outs = operations.update(world.machines, CALL, id_, outputs, INPUTS)
    assert (outs["status"], "unfinished" in outs) == ("ready", False)


def test_a_second_delete_goes_on_where_the_first_ended(world: World) -> None:
    """The machine may have gone meanwhile, or may need another request."""
    world.state.deletion = 150
    id_ = world.machine(EIGHT)
    with pytest.raises(StillThereError):
        operations.delete(world.machines, CALL, id_, INPUTS)
    operations.delete(world.machines, CALL, id_, INPUTS)
    operations.delete(world.machines, CALL, id_, INPUTS)
    assert world.state.alive() == set()


def test_a_second_delete_after_an_interrupt_is_interrupted_at_once(world: World) -> None:
    """A hook must not keep a command from ending."""
    id_ = world.machine(EIGHT)
    world.clock.interrupt()
    for _ in range(2):
        with pytest.raises(LifecycleError, match="was interrupted"):
            operations.delete(world.machines, CALL, id_, INPUTS)
    assert world.clock.passed == 0
