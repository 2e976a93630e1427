"""Replacements that nothing calls for but a user: another machine is created for each resource.

The engine calls create for a forced replacement without a diff, just as it does after a kill. What
state and the journal have of the old machine must not make the provider adopt it in its own place.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine, wait_until
from ..e2e.recovery import entries, finish, journal, unfinished, urn
from ..fakes import EIGHT, ONE

KINDS = ("fresh", "known", "unfinished")
"""A machine right after its `up`, whose record is still there; one without a record; and one that
is in state as partial."""


def taint(stack: Stack) -> None:
    """Run `pulumi state taint`, then `up`."""
    stack.run("state", "taint", *(urn(stack, kind) for kind in KINDS), "--yes")
    stack.up()


def trigger(stack: Stack) -> None:
    """Give the option replacement_trigger another value."""
    stack.write(program("trigger", trigger="two"))
    stack.up()


def follow(stack: Stack) -> None:
    """Replace the machine that the option replace_with names."""
    stack.write(program("follow", ssh_key=OTHER_SSH_KEY))
    stack.up()


FORCED: dict[str, Callable[[Stack], object]] = {
    "replace": lambda stack: stack.up(*flags(stack, "--replace")),
    "target": lambda stack: stack.up(*flags(stack, "--target-replace")),
    "taint": taint,
    "trigger": trigger,
    "follow": follow,
}


@pytest.mark.parametrize("way", FORCED)
def test_a_forced_replacement_creates_another_machine_and_deletes_the_old(
    way: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """Whatever the journal and state have of the old machine, one is left for each resource."""
    stack.write(program(way))
    make_each_kind(stack, emulator)
    old = ids(stack)

    FORCED[way](stack)

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


def program(way: str, trigger: str = "one", ssh_key: str = SSH_KEY) -> str:
    """A machine of each kind, with what its replacement needs, and `other` with the given key.

    The other machines have a replacement trigger for the way "trigger", and are replaced together
    with `other` for the way "follow".
    """
    options = {
        "trigger": f"replacement_trigger={trigger!r}",
        "follow": "replace_with=[other]",
    }
    lines = [machine("other", ssh_key=ssh_key)]
    for kind in KINDS:
        type_ = EIGHT if kind == "unfinished" else ONE
        lines.append(machine(kind, opts=options.get(way, ""), instance_type=type_))
    return "".join(lines)


def make_each_kind(stack: Stack, emulator: EmulatorServer) -> None:
    """Run `up` so that each machine is of its kind afterwards; all of them are ready then."""
    state, count = emulator.state, len(KINDS) + 1
    state.provisioning = inf
    run = stack.start("up", "--parallel", str(count))

    def only_unfinished_left() -> bool:
        for made in list(state.machines.values()):
            if made.requested.instance_type == ONE:
                made.provisioning = 0
        return run.process.poll() is not None or (
            state.creations == count and len(stack.state_ids()) == count - 1
        )

    wait_until(only_unfinished_left)
    run.interrupt()
    assert run.wait().exit_code != 0
    assert [resource["urn"] for resource in unfinished(stack)] == [urn(stack, "unfinished")]
    for entry in entries(stack):
        if entry.origin.urn == urn(stack, "known"):
            journal(stack).drop(entry)
    finish(state)
    assert set(ids(stack).values()) == state.alive()


def flags(stack: Stack, flag: str) -> list[str]:
    """The flag once for each machine that is to be replaced."""
    return [word for kind in KINDS for word in (flag, urn(stack, kind))]


def ids(stack: Stack) -> dict[str, str]:
    """The ids of the machines in state by name; each name just once."""
    found = stack.resources()
    named = {resource["urn"].rpartition("::")[2]: str(resource.get("id", "")) for resource in found}
    assert len(named) == len(found)
    return named
