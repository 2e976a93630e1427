"""A POST whose answer is lost: the machines that it may have made are named, and no more are made.

tests/chaos has every fault; here are the ways out, and what a person sees.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    SETTLE,
    as_documented,
    entries,
    finish,
    journal,
    nothing_runs,
    one_machine,
    pending,
    says,
    urn,
)

ONE = "gpu_1x_h100_sxm5"


@pytest.fixture(autouse=True)
def _patience(stack: Stack) -> None:
    stack.env |= PATIENCE


def test_a_lost_answer_names_the_candidates_and_stops_until_one_is_adopted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Each `up` says the same and sends no POST."""
    other = emulator.state.create(ONE, SSH_KEY)  # there before, so it is no candidate
    emulator.faults.add("create", "reset_after")
    lost = stack.up(fails=True)
    (made,) = emulator.state.alive() - {other.id}
    ways_out = (
        f"{made} ({ONE}, ",
        f"`pulumi-fal pending adopt {urn(stack)} {made}`",
        f"`pulumi-fal pending forget {urn(stack)}`",
    )
    as_documented(lost, "A machine has appeared")
    says(lost, *ways_out)
    again = stack.up(fails=True)
    says(again, *ways_out)
    for result in (lost, again):
        assert other.id not in result.output
    assert emulator.state.calls["create"] == 1
    pending(stack, "adopt", urn(stack), made)
    stack.up()
    assert stack.state_ids() == {made}
    assert emulator.state.calls["create"] == 1
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def test_every_command_warns_of_what_is_not_settled(stack: Stack, emulator: EmulatorServer) -> None:
    """First of all; and `destroy` says that it doesn't delete it, which it doesn't."""
    stack.write(machine("other"))
    stack.up()
    emulator.faults.add("create", "reset_after")
    stack.write(machine("other"), machine())
    stack.up(fails=True)
    (made,) = emulator.state.alive() - stack.state_ids()
    for result in (stack.preview(), stack.up(fails=True), stack.refresh(), stack.destroy()):
        as_documented(result, "The warning on later commands")
    assert emulator.state.alive() == {made}


def test_up_goes_on_by_itself_when_the_candidates_are_gone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Deleting the machine is a way out that needs no command."""
    emulator.faults.add("create", "500_after")
    stack.up(fails=True)
    (made,) = emulator.state.alive()
    emulator.state.kill(made)
    stack.up()
    one_machine(stack, emulator, made=2)


def test_up_goes_on_by_itself_when_the_candidate_is_another_resources(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """What state holds is nobody's lost machine: here it is imported."""
    emulator.faults.add("create", "html_after")
    stack.up(fails=True)
    (made,) = emulator.state.alive()
    imported = machine("imported", opts=f"import_={made!r}")
    stack.write(imported)
    stack.up()
    stack.write(imported, machine())
    stack.up()
    assert emulator.state.creations == 2
    assert stack.state_ids() == emulator.state.alive()


def test_a_machine_that_is_not_ours_is_forgotten_and_left_alone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Somebody else rented the same while our POST failed: only a person can know."""
    create = emulator.state.create

    def somebody_elses(
        instance_type: str, ssh_key: str, sector: str | None = None, account: str | None = None
    ) -> object:
        emulator.state.create = create  # type: ignore[method-assign]
        return create(instance_type, "ssh-ed25519 somebody", account=account)

    emulator.state.create = somebody_elses  # type: ignore[method-assign, assignment]
    emulator.faults.add("create", "reset_after")
    stack.up(fails=True)
    (theirs,) = emulator.state.alive()
    pending(stack, "forget", urn(stack), "--yes")
    stack.up()
    (ours,) = emulator.state.alive() - {theirs}
    assert stack.state_ids() == {ours}


def test_where_nothing_appeared_it_is_safe_to_run_again(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """After the settle time; and it says so."""
    emulator.faults.add("create", "502")
    as_documented(stack.up(fails=True), "No machine has appeared")
    stack.up()
    one_machine(stack, emulator)


def test_a_machine_that_appears_long_after_stops_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """It is named, and a new one is made."""
    emulator.faults.add("create", "502")
    stack.up(fails=True)
    (entry,) = entries(stack)
    journal(stack).write(replace(entry, started=entry.started - 3600))
    other = emulator.state.create(ONE, OTHER_SSH_KEY)
    up = stack.up()
    as_documented(up, "A machine appeared late")
    says(up, other.id)
    assert stack.state_ids() == emulator.state.alive() - {other.id}


def test_a_machine_that_is_listed_late_is_waited_for(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The settle time counts from the lost answer, and not from the request."""
    emulator.state.list_lag = 1.5 * SETTLE + 0.3
    emulator.faults.add("create", fault("500_after", seconds=1.5 * SETTLE))
    lost = stack.up(fails=True)
    (made,) = emulator.state.alive()
    says(lost, made, "pending adopt")


def test_without_a_list_it_says_that_it_can_not_tell(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """And the next `up` looks before it makes anything."""
    emulator.faults.add("create", "reset_after")
    emulator.faults.add("list", "ok")
    emulator.faults.add("list", "503", inf)
    as_documented(stack.up(fails=True), "The machines can't be listed")
    emulator.faults.clear()
    (made,) = emulator.state.alive()
    says(stack.up(fails=True), made, "pending adopt")


def test_a_machine_that_state_lost_is_named_and_can_be_adopted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Whether it was taken out on purpose, or never got in, is not to be guessed."""
    stack.up()
    (id_,) = emulator.state.alive()
    stack.run("state", "delete", urn(stack), "--yes")
    lost = stack.up(fails=True)
    as_documented(lost, "The machine is not in state")
    says(lost, f"pending adopt {urn(stack)} {id_}`")
    pending(stack, "adopt", "machine", id_)
    stack.up()
    assert one_machine(stack, emulator) == id_


def test_a_machine_of_a_killed_create_is_not_taken_for_other_inputs(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """It is named; and once it is deleted, `up` makes what the program says."""
    emulator.state.provisioning = inf
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    run.kill()
    run.wait()
    nothing_runs(stack)
    stack.cancel()
    finish(emulator.state)
    (id_,) = emulator.state.alive()
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    stopped = stack.up(fails=True)
    as_documented(stopped, "The inputs have changed")
    says(stopped, id_)
    emulator.state.kill(id_)
    stack.up()
    one_machine(stack, emulator, made=2)


def test_a_refused_post_is_the_apis_own_word_and_leaves_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """No capacity is no ambiguity."""
    emulator.state.capacity = 0
    says(stack.up(fails=True), f"POST /compute/instance answered 400: no capacity left for {ONE}")
    assert entries(stack) == []
    emulator.state.capacity = None
    stack.up()
    one_machine(stack, emulator)
