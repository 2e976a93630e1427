"""Replacements that nothing calls for but a person: they make another machine, never adopt the old.

The engine calls create for them without a word before, just as it does after a kill.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State

from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from .recovery import entries, finish, journal, unfinished, urn

NAMES = ("fresh", "known", "unfinished")
"""A machine right after its `up`, whose entry is still there; one without an entry; and one that
is in state as partial."""


def by_flag(flag: str) -> Callable[[Stack], None]:
    """`up` with a flag for each."""

    def force(stack: Stack) -> None:
        stack.up(*(word for name in NAMES for word in (flag, urn(stack, name))))

    return force


def by_taint(stack: Stack) -> None:
    """`pulumi state taint`."""
    stack.run("state", "taint", *(urn(stack, name) for name in NAMES), "--yes")
    stack.up()


def by_trigger(stack: Stack) -> None:
    """The option replacement_trigger, with another value."""
    stack.write(program(trigger="two"))
    stack.up()


def by_another(stack: Stack) -> None:
    """The option replace_with, when the other resource is replaced."""
    stack.write(program(ssh_key=OTHER_SSH_KEY))
    stack.up()


FORCED = {
    "--replace": by_flag("--replace"),
    "--target-replace": by_flag("--target-replace"),
    "state taint": by_taint,
    "replacement_trigger": by_trigger,
    "replace_with": by_another,
}


@pytest.mark.parametrize("how", FORCED)
def test_a_forced_replacement_makes_another_machine_and_deletes_the_old(
    how: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """Whatever the journal and state hold of the old one, exactly one machine is left of each."""
    stack.write(program())
    emulator.state.provisioning = inf
    run = stack.start("up")
    wait_until(lambda: run.process.poll() is not None or finish_all_but_8x(emulator.state))
    assert run.wait().exit_code != 0
    assert [each["urn"] for each in unfinished(stack)] == [urn(stack, "unfinished")]
    for entry in entries(stack):
        if entry.origin.urn == urn(stack, "known"):
            journal(stack).drop(entry)
    finish(emulator.state)
    old = ids(stack)
    assert set(old.values()) == emulator.state.alive()

    FORCED[how](stack)

    new = ids(stack)
    assert emulator.state.alive() == set(new.values())
    assert len(set(new.values())) == 4
    assert not {old[name] for name in NAMES} & set(new.values())
    others = 1 if how == "replace_with" else 0
    assert (old["other"] != new["other"]) is bool(others)
    assert emulator.state.creations == 4 + len(NAMES) + others
    assert emulator.state.deletions == len(NAMES) + others
    assert unfinished(stack) == []
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def program(trigger: str = "one", ssh_key: str = SSH_KEY) -> str:
    """A machine of each name, and one that they follow."""
    short = "custom_timeouts=pulumi.CustomTimeouts(create='2s')"
    opts = f"replacement_trigger={trigger!r}, replace_with=[other]"
    return (
        machine("other", ssh_key=ssh_key)
        + machine("fresh", opts=opts)
        + machine("known", opts=opts)
        + machine("unfinished", opts=f"{opts}, {short}", instance_type="gpu_8x_h100_sxm5")
    )


def finish_all_but_8x(state: State) -> bool:
    """The machine that stays unfinished is told from the others by its type. False, to go on."""
    for each in list(state.machines.values()):
        if each.instance_type == "gpu_1x_h100_sxm5":
            each.provisioning = 0
    return False


def ids(stack: Stack) -> dict[str, str]:
    """The machines in state, by name; each just once."""
    found = stack.resources()
    named = {each["urn"].rpartition("::")[2]: str(each["id"]) for each in found}
    assert len(named) == len(found)
    return named
