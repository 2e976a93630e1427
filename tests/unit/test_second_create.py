"""The engine calls Create, Update or Delete again in the same step, if a hook says so.

The engine forgets the result of the first call then, even if it had the machine's id.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.errors import CapacityError, LifecycleError, UnresolvedCreateError
from pulumi_fal.machines.journal import Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import WARNING, InitFailed
from pulumi_fal.resource.operations import LIMIT
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import URN, settings
from .world import CALL, INPUTS, SETTLE_SECONDS, Log, World

BRIEF, PATIENT = replace(CALL, timeout=100.0), replace(CALL, timeout=2000.0)
UNHEARD = replace(CALL, is_heard=lambda: False)
"""A call whose engine has gone, as that of a process that dies in it."""


@pytest.fixture
def first(world: World) -> InitFailed:
    """A create that timed out. Its machine needs another 900 seconds."""
    world.state.provisioning = 1000
    failed = world.create_fails(BRIEF)
    assert {failed.instance_id} == world.state.alive()
    world.clock.time += 5  # the hook sleeps; until then the list is too new to be asked for again
    return failed


# The second create goes on with the machine of the first.


@pytest.mark.parametrize("answers", [True, False])
def test_goes_on(world: World, first: InitFailed, answers: bool) -> None:
    """Even where the stack can't be read, nothing else can have the machine."""
    world.stacks.in_state = set() if answers else None
    phases = set()
    world.api.before = lambda request: phases.add(world.phase())
    assert world.create(PATIENT).id == first.instance_id
    assert world.state.creations == 1
    # A process that is killed meanwhile leaves a record that the next `up` resumes.
    assert phases == {Phase.REPORTED, Phase.CREATED}
    assert world.phase() is Phase.REPORTED


def test_no_journal(world: World, first: InitFailed) -> None:
    """The process itself knows the machine, and says that the journal is broken."""
    for path in world.folder.iterdir():
        path.unlink()
    world.folder.rmdir()
    world.folder.write_text("in the way")
    assert world.create(PATIENT).id == first.instance_id
    assert any(first.instance_id in warning for warning in world.warnings)


def test_cluster(world: World) -> None:
    """What the program requests decides whether it is the same create, not the others' sector."""
    cluster = f"urn:pulumi:dev::shop::{CLUSTER_TYPE_TOKEN}${TYPE_TOKEN}::train"
    call = replace(BRIEF, urn=f"{cluster}-0")
    world.state.provisioning = 150
    failed = world.create_fails(call, sector=None)
    world.stacks.siblings = [StackMachine("other", f"{cluster}-1", sector="sector_2")]
    assert world.create(call, sector=None).id == failed.instance_id


# Whatever ends the second create, the machine is in state.


def refuse_key(world: World) -> None:
    world.api.faults.add("list", "403", inf)
    world.api.faults.add("get", "403", inf)


def bug(*args: Any, **others: Any) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    "trouble, said",
    [
        ("interrupt", "was interrupted"),
        ("interrupted wait for the lock", "was interrupted"),
        ("refused key", "answered 403"),
        ("bug", "a bug"),
    ],
)
def test_second_fails(world: World, trouble: str, said: str) -> None:
    """The engine drops the id if the error isn't partial state."""
    world.state.provisioning = 120
    first = world.create_fails(BRIEF)
    assert first.outputs["ip"]
    if trouble == "interrupt":
        world.clock.interrupt()
    if trouble == "refused key":
        refuse_key(world)
    if trouble == "bug":
        world.api.before = bug
    if trouble == "interrupted wait for the lock":
        held = ExitStack()
        held.enter_context(world.lock())
        held.callback(world.clock.interrupt)
        world.before_sleep(held.close)  # the other process ends
    second = world.create_fails(BRIEF)
    assert (second.instance_id, second.outputs) == (first.instance_id, first.outputs)
    assert first.instance_id in second.reason
    assert said in second.reason
    assert world.phase() is Phase.REPORTED
    second.undelivered()
    assert world.phase() is Phase.CREATED
    assert world.state.creations == 1


def test_first_fails(world: World) -> None:
    """A bug in this package must not lose a machine either."""
    world.state.provisioning = 50
    failed = world.create_fails(replace(CALL, log=bug))
    assert {failed.instance_id} == world.state.alive()


def test_late_end(world: World, first: InitFailed) -> None:
    """gRPC may tell late that the first call has ended, whose record is the second's by then."""
    second = world.create_fails(BRIEF)
    first.undelivered()
    assert world.phase() is Phase.REPORTED
    second.undelivered()
    assert world.phase() is Phase.CREATED


def test_last_attempt(world: World) -> None:
    """The engine would record a failed one without its id, and then crash on that state."""
    log = Log()
    call = replace(CALL, timeout=0.1, log=log)
    world.create(BRIEF)  # a create that succeeded is of another step
    world.account.in_engine[URN] = set()
    world.stacks.in_state = set(world.state.alive())
    world.state.provisioning = inf
    for _ in range(LIMIT - 1):
        failed = world.create_fails(call)
    created = world.create(call)
    assert (created.id, created.outputs) == (failed.instance_id, failed.outputs)
    assert created.outputs["unfinished"] is True
    assert f"Pulumi stops after {LIMIT} attempts" in log.texts[-1]
    assert log.severities[-1] == WARNING
    created.undelivered()
    assert world.phase() is Phase.CREATED


# The second create makes another machine only if there is none.


def test_gone(world: World, first: InitFailed) -> None:
    """A machine that is certainly gone needs no place in state, and is asked for only once."""
    world.state.kill(first.instance_id)
    world.api.requests.clear()
    assert {world.create(PATIENT).id} == world.state.alive()
    assert [call for call in world.api.calls if call != "list"][:3] == ["get", "get", "get"]
    assert world.api.calls.count("create") == 1
    assert [entry.instance_id for entry in world.late] == [first.instance_id]


def test_gone_and_refused(world: World, first: InitFailed) -> None:
    """State would have a machine that doesn't exist."""
    world.state.kill(first.instance_id)
    world.state.capacity = 0
    for _ in range(2):
        with pytest.raises(CapacityError):
            world.create(BRIEF)
    assert world.entry() is None


def test_shown_to_the_second(world: World) -> None:
    """The record would make the next process wait for a machine that has gone since."""
    world.state.provisioning = 1000

    def hide(request: Request[Any]) -> None:
        for id_ in world.state.alive():
            world.hide(id_, 10)

    world.api.before = hide
    first = world.create_fails(replace(CALL, timeout=5))
    assert not world.record.seen
    world.clock.time += 15
    world.api.before = lambda request: None
    world.create_fails(replace(UNHEARD, timeout=5))
    assert (world.record.instance_id, world.record.seen) == (first.instance_id, True)


def test_in_state_now(world: World, first: InitFailed) -> None:
    """A process may outlive a command, and a forced replacement comes without a diff."""
    world.stacks.in_state = {first.instance_id}
    world.account.in_engine[URN] = set()
    world.stacks.forgotten = 0
    assert world.create(PATIENT).id != first.instance_id
    assert world.stacks.forgotten == 1  # the stack was read again
    assert len(world.state.alive()) == 2


@pytest.mark.parametrize("is_down", [False, True])
def test_same_key(world: World, is_down: bool) -> None:
    """The API answers with the first's machine, which is known even if the API is down then."""
    world.settings = settings(api="v1", settle_seconds=SETTLE_SECONDS)
    world.restart()
    world.state.provisioning = 50
    world.at_post(world.clock.interrupt, answered=True)
    world.api.faults.add("create", "reset_after")
    with pytest.raises(UnresolvedCreateError):
        world.create(BRIEF)
    world.clock.interrupted.clear()
    world.at_post(lambda: refuse_key(world) if is_down else None, answered=True)
    made = world.create_fails(BRIEF).instance_id if is_down else world.create(BRIEF).id
    assert {made} == world.state.alive()
    assert world.state.creations == 1
    assert world.phase() is Phase.REPORTED


# The delete of a machine that a repeated create has gone on with.


@pytest.mark.parametrize(
    "case", ["in state", "twice in state", "of another resource", "state can't be read"]
)
def test_delete(world: World, first: InitFailed, case: str) -> None:
    """A machine that two resources have must stay, and so must one of which that isn't known."""
    id_ = world.create(PATIENT).id
    one, another = StackMachine(id_, URN), StackMachine(id_, f"{URN}-2")
    in_state = {"in state": [one], "twice in state": [one, one], "of another resource": [another]}
    world.stacks.siblings = in_state.get(case, [])
    if case == "in state":
        operations.delete(world.account, CALL, id_, INPUTS)
    else:
        with pytest.raises(LifecycleError, match="was not deleted"):
            operations.delete(world.account, CALL, id_, INPUTS)
    assert (id_ in world.state.alive()) is (case != "in state")
