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
from ..e2e.recovery import entries, finish, journal, unfinished
from ..fakes import EIGHT, ONE

KINDS = ("fresh", "known", "unfinished")
"""A machine right after its `up`, whose record is still there; one without a record; and one that
is in state as partial."""


def program(option: str = "", ssh_key: str = SSH_KEY) -> str:
    """`other` with the given key, and a machine of each kind with the given option."""
    kinds = {kind: EIGHT if kind == "unfinished" else ONE for kind in KINDS}
    lines = (machine(kind, opts=option, instance_type=type_) for kind, type_ in kinds.items())
    return "".join([machine("other", ssh_key=ssh_key), *lines])


def replace(stack: Stack, *command: str) -> None:
    """Name each machine in a command, after its flag if there is one, and run `up`."""
    *words, flag = command
    urns = [word for kind in KINDS for word in (flag, stack.urn(kind))]
    stack.run(*words, *filter(None, urns), *(() if words == ["up"] else ("--yes",)))
    if words != ["up"]:
        stack.up()


def write(stack: Stack, text: str) -> None:
    stack.write(text)
    stack.up()


TRIGGER, FOLLOW = "replacement_trigger='{}'", "replace_with=[other]"
FORCED: dict[str, tuple[str, Callable[[Stack], None]]] = {
    "--replace": ("", lambda stack: replace(stack, "up", "--replace")),
    "--target-replace": ("", lambda stack: replace(stack, "up", "--target-replace")),
    "state taint": ("", lambda stack: replace(stack, "state", "taint", "")),
    "replacement_trigger": (
        TRIGGER.format("one"),
        lambda stack: write(stack, program(TRIGGER.format("two"))),
    ),
    "replace_with": (FOLLOW, lambda stack: write(stack, program(FOLLOW, OTHER_SSH_KEY))),
}
"""What the machines have as an option before, and what forces their replacement."""


@pytest.mark.parametrize("way", FORCED)
def test_forced(way: str, stack: Stack, emulator: EmulatorServer) -> None:
    """Whatever the journal and state have of the old machine, one is left for each resource."""
    option, force = FORCED[way]
    stack.write(program(option))
    make_each_kind(stack, emulator)
    old = stack.ids()
    force(stack)
    new = stack.ids()
    assert emulator.state.alive() == stack.state_ids() == set(new.values())
    replaced = {name for name in old if old[name] != new[name]}
    assert replaced == {*KINDS, *(["other"] if way == "replace_with" else [])}
    assert emulator.state.deletions == len(replaced)
    assert unfinished(stack) == []
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def make_each_kind(stack: Stack, emulator: EmulatorServer) -> None:
    """Run `up` so that each machine is of its kind afterwards; all of them are ready then."""
    state, count = emulator.state, len(KINDS) + 1
    state.provisioning = inf
    run = stack.start("up", "--parallel", str(count))

    def only_unfinished_left() -> bool:
        for made in list(state.machines.values()):
            if made.requested.instance_type == ONE:
                made.provisioning = 0
        in_state = len(stack.state_ids()) == count - 1
        return run.process.poll() is not None or (state.creations == count and in_state)

    wait_until(only_unfinished_left)
    run.interrupt()
    assert run.wait().exit_code != 0
    assert [resource["urn"] for resource in unfinished(stack)] == [stack.urn("unfinished")]
    for entry in entries(stack):
        if entry.origin.urn == stack.urn("known"):
            journal(stack).drop(entry)
    finish(state)
