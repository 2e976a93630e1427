"""Creates and deletes that are interrupted before they reach the API: what they say."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.errors import Interrupted, LifecycleError
from pulumi_fal.machines.journal import Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call

from ..fakes import ED25519, HERE, ONE, URN
from .world import World

INPUTS = {"instance_type": ONE, "ssh_key": ED25519}
CALL = Call(URN)
NOTHING = (
    f"The create of machine {HERE.name} ({ONE}) was interrupted. No machine was created, and "
    "nothing is pending.\nRun the command again to create it."
)


@pytest.mark.parametrize("moment", ["before the list", "before the POST", "between two POSTs"])
def test_a_create_that_is_interrupted_before_its_post_says_that_nothing_was_created(
    world: World, moment: str
) -> None:
    """The person who pressed Ctrl-C need not look for a machine that is billed."""

    def interrupt(request: Request[Any]) -> None:
        if request.creates == (moment == "between two POSTs"):
            world.clock.interrupt()
        if request.creates:
            world.api.faults.add("create", "429")

    world.api.before = interrupt
    if moment == "before the list":
        world.clock.interrupt()
    with pytest.raises(Interrupted) as caught:
        operations.create(world.machines, CALL, INPUTS)
    assert str(caught.value) == NOTHING
    assert world.state.creations == 0
    assert world.entry() is None


def test_an_earlier_create_is_not_passed_over_in_silence(world: World) -> None:
    """It may have made a machine, whatever became of the one that was interrupted."""
    world.earlier(Phase.REQUESTED, problem="no answer.")
    lock = world.journal.try_lock(HERE)
    assert lock is not None
    sleep = world.clock.sleep

    def interrupt(pause: float) -> None:
        world.clock.interrupt()
        sleep(pause)

    vars(world.clock)["sleep"] = interrupt
    with lock, pytest.raises(Interrupted) as caught:
        operations.create(world.machines, CALL, INPUTS)
    assert "It made no machine, but an earlier create of it is on record." in str(caught.value)
    assert "\n  pulumi-fal pending ls\n" in str(caught.value)


def test_a_delete_that_is_interrupted_before_it_is_sent_names_the_machine(world: World) -> None:
    """With a new key, the API is first asked whose the machine is."""
    id_ = world.machine()
    world.clock.interrupt()
    other = {**INPUTS, "account": "another", "endpoint": "https://other.example"}
    with pytest.raises(LifecycleError, match=f"The delete of machine {id_} was interrupted"):
        operations.delete(world.machines, CALL, id_, other)
    assert id_ in world.state.alive()
