"""Every way to force a replacement, each by itself: another machine is created for each kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.forced import KINDS, by_flag, by_taint, ids, make_each_kind, program
from ..e2e.harness import OTHER_SSH_KEY, Stack
from ..e2e.recovery import entries, unfinished

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def taint(stack: Stack, way: str) -> None:
    """Run `pulumi state taint`, then `up`."""
    by_taint(stack, way)
    stack.up()


def trigger(stack: Stack, way: str) -> None:
    """Give the option replacement_trigger another value."""
    stack.write(program([way], trigger="two"))
    stack.up()


def follow(stack: Stack, way: str) -> None:
    """Replace the machine that the option replace_with names."""
    stack.write(program([way], ssh_key=OTHER_SSH_KEY))
    stack.up()


FORCED: dict[str, Callable[[Stack, str], object]] = {
    "replace": lambda stack, way: stack.up(*by_flag(stack, "--replace", way)),
    "target": lambda stack, way: stack.up(*by_flag(stack, "--target-replace", way)),
    "taint": taint,
    "trigger": trigger,
    "follow": follow,
}


@pytest.mark.parametrize("way", FORCED)
def test_a_forced_replacement_creates_another_machine_and_deletes_the_old(
    way: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """Whatever the journal and state have of the old machine, one is left for each resource."""
    stack.write(program([way]))
    make_each_kind(stack, emulator, [way])
    old = ids(stack)

    FORCED[way](stack, way)

    new = ids(stack)
    assert emulator.state.alive() == set(new.values())
    follows = way == "follow"
    kept = set() if follows else {old["other"]}
    assert set(old.values()) & set(new.values()) == kept
    assert emulator.state.creations == 1 + 2 * len(KINDS) + follows
    assert emulator.state.deletions == len(KINDS) + follows
    assert unfinished(stack) == []
    stack.up("--expect-no-changes")
    assert entries(stack) == []
