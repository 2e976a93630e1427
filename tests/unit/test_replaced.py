"""What a create that does not succeed says of the machines that it was to replace."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from pulumi_fal.errors import InvalidRequestError, NoRoomError, NotReplacedError
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call, InitFailed
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ED25519, ID, ONE, URN
from .world import World

INPUTS = {"instance_type": ONE, "ssh_key": ED25519}
TARGET = "urn:pulumi:dev::shop::fal:index:ComputeCluster$fal:index:ComputeInstance::web"
CALL = Call(TARGET, timeout=10)


def in_state(world: World, count: int, *, gone: bool = False) -> list[str]:
    """The ids of the resource's machines in state: all but the last are to be deleted."""
    ids = [world.machine() for _ in range(count)]
    if gone:
        for id_ in ids:
            world.state.kill(id_)
    world.stacks.siblings = [
        StackMachine(id_, TARGET, is_replaced=number + 1 < count) for number, id_ in enumerate(ids)
    ]
    return ids


def interrupted(world: World, call: Call = CALL) -> tuple[str, str]:
    """The id of a machine that is not ready in time, and the reason."""
    world.state.provisioning = inf
    with pytest.raises(InitFailed) as caught:
        operations.create(world.machines, call, INPUTS)
    return caught.value.instance_id, caught.value.reason


@pytest.mark.parametrize(
    "count, named",
    [(0, ""), (1, "billed as well: machine {0}."), (2, "as well: machine {0} and machine {1}.")],
)
def test_all_that_is_billed_is_named(world: World, count: int, named: str) -> None:
    """After two interrupted replacements, there are three machines."""
    others = in_state(world, count)
    id_, reason = interrupted(world)
    assert named.format(*others) in reason
    assert ("To delete it:" in reason) is (count == 0)
    assert reason.startswith(f"Machine {id_} ")
    assert reason.endswith(f":\n  pulumi destroy --target '{TARGET}'")  # a shell would fill in $


def test_what_is_gone_is_not_named(world: World) -> None:
    """State may still have a machine that was deleted to be replaced, or that is another's."""
    in_state(world, 2, gone=True)
    world.stacks.siblings.append(StackMachine(world.machine(), URN))
    assert "as well" not in interrupted(world)[1]


def test_nobody_is_left_to_be_told(world: World) -> None:
    """The process ends soon after its engine, and asks no other `pulumi` anything."""
    in_state(world, 2)
    _, reason = interrupted(world, replace(CALL, is_heard=lambda: False))
    assert reason.endswith("go on waiting for the same machine.")


def refused(world: World, **inputs: str) -> str:
    world.state.capacity = 0
    with pytest.raises(NotReplacedError) as caught:
        operations.create(world.machines, CALL, {**INPUTS, **inputs})
    return str(caught.value)


@pytest.mark.parametrize("inputs", [{}, {"wait_for_capacity": "1m"}])
def test_refused_replacement_keeps_the_machine(world: World, inputs: dict[str, str]) -> None:
    """The new one is created first."""
    _, present = in_state(world, 2)
    text = refused(world, **inputs)
    assert "answered 400: no capacity left" in text
    assert text.endswith(f"\nMachine {present} was not replaced. It stays, and is billed.")


def test_refused_replacement_after_the_delete(world: World) -> None:
    """With delete_before_replace, none is left. State has the machine in either form."""
    (old,) = in_state(world, 1)
    operations.delete(world.machines, CALL, old, {})
    assert f"\nMachine {old} was deleted first, so the resource has no machine now.\n" in refused(
        world
    )
    world.stacks.siblings = [replace(world.stacks.siblings[0], is_replaced=True)]
    assert f"Machine {old} was deleted first" in refused(world)


@pytest.mark.parametrize("answers", [True, False])
def test_refused_create_replaces_nothing(world: World, answers: bool) -> None:
    """The resource is new, or state can't be read."""
    world.stacks.in_state = {ID} if answers else None
    world.state.capacity = 0
    with pytest.raises(InvalidRequestError, match=r"no capacity left"):
        operations.create(world.machines, CALL, INPUTS)
    with pytest.raises(NoRoomError):
        operations.create(world.machines, CALL, {**INPUTS, "wait_for_capacity": "1m"})
