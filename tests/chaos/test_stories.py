"""Stories on the real engine that are too many for `make test`, each for every way that there is.

A create is killed at each stage; a stack's backend is named in each way; and a machine is replaced
although nothing calls for it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import OTHER_SSH_KEY, PULUMI, SSH_KEY, Stack, machine, wait_until
from ..e2e.native import in_both
from ..e2e.recovery import (
    PATIENCE,
    STAGES,
    Stage,
    adopt,
    entries,
    finish,
    journal,
    kill,
    kill_while_waiting,
    nothing_runs,
    one_machine,
    unfinished,
    unlock,
)
from ..fakes import EIGHT, ONE

# Stages of a create


@in_both
@pytest.mark.parametrize("who", ["cli", "plugin", "both"])
@pytest.mark.parametrize("name", STAGES)
def test_kill(name: str, who: str, stack: Stack, emulator: EmulatorServer) -> None:
    """There is one creation in all, and no process is left behind."""
    stack.env |= PATIENCE
    stage = Stage(emulator, name)
    kill(stack, stage.reached_by(stack.start("up")), who)
    stage.release()
    nothing_runs(stack)
    stage.end()
    unlock(stack)
    if name == "during the POST" and who != "cli":
        # The answer went to a dead process: only a user can say whose machine it is.
        assert adopt(stack, stack.up(fails=True)) in emulator.state.alive()
    stack.up()
    one_machine(stack, emulator)
    stack.up("--expect-no-changes")
    assert entries(stack) == []


# Backends, for stacks that share all names and a PULUMI_HOME


def by_project(stack: Stack) -> None:
    """Name the backend in Pulumi.yaml, with a relative URL."""
    del stack.env["PULUMI_BACKEND_URL"]
    with (stack.project / "Pulumi.yaml").open("a") as project:
        project.write("backend:\n  url: file://.\n")


def by_login(stack: Stack) -> None:
    """Run `pulumi login`: the last login counts for all commands that follow."""
    stack.env.pop("PULUMI_BACKEND_URL", None)
    login = [str(PULUMI), "login", f"file://{stack.folder}"]
    subprocess.run(login, env=stack.env, check=True, capture_output=True)


WAYS: dict[str, Callable[[Stack], object]] = {
    "absolute URL": lambda stack: None,
    "relative URL": lambda stack: stack.env.update(PULUMI_BACKEND_URL="file://."),
    "Pulumi.yaml": by_project,
    "login": by_login,
}


@pytest.fixture
def twins(emulator: EmulatorServer, stack: Stack, tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    """Two stacks that share all names and a PULUMI_HOME, in two backends."""
    shutil.copytree(stack.folder, tmp_path / "other")
    other = Stack(tmp_path / "other", emulator.env)
    other.home = stack.home
    other.env["PULUMI_HOME"] = stack.env["PULUMI_HOME"]
    yield stack, other
    other.kill_all()


@pytest.mark.parametrize("way", WAYS)
def test_own_stack(way: str, twins: tuple[Stack, Stack], emulator: EmulatorServer) -> None:
    """A killed create is resumed by its own stack. The other one creates a machine of its own."""
    one, other = twins
    WAYS[way](one)
    first = kill_while_waiting(one, emulator)
    WAYS[way](other)
    assert first not in other.up().output
    (second,) = emulator.state.alive() - {first}
    assert other.state_ids() == {second}
    if way == "login":
        by_login(one)
    unlock(one)
    one.up()
    assert one.state_ids() == {first}
    assert emulator.state.creations == 2


# Replacements that nothing calls for but a user. The engine calls create for them without a diff,
# just as after a kill: what is on record of the old machine must not be taken for the new one.

KINDS = ("fresh", "known", "unfinished")
"""A machine right after its `up`, whose record is still there; one without a record; and one that
is in state as partial."""


def machines_with(option: str = "", ssh_key: str = SSH_KEY) -> str:
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
        lambda stack: write(stack, machines_with(TRIGGER.format("two"))),
    ),
    "replace_with": (FOLLOW, lambda stack: write(stack, machines_with(FOLLOW, OTHER_SSH_KEY))),
}
"""What the machines have as an option before, and what forces their replacement."""


@pytest.mark.parametrize("way", FORCED)
def test_forced(way: str, stack: Stack, emulator: EmulatorServer) -> None:
    """Whatever the journal and state have of the old machine, one is left for each resource."""
    option, force = FORCED[way]
    stack.write(machines_with(option))
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
