"""`pulumi-fal delete`: what it asks and says. test_cli_whose.py has what it refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from pulumi_fal.cli import delete
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.machines.journal import Entry, Phase

from .cli_support import DEV, NO_PULUMI, PROD, TEST, CommandLine, command_line, urn


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks = {DEV: {}, PROD: {}}
        yield line


def alive(line: CommandLine) -> set[str]:
    return set(line.emulator.state.alive())


def test_a_forgotten_machine(line: CommandLine) -> None:
    """The question shows the machine, and the command ends when the machine is gone."""
    id_, other = line.rent(), line.rent()
    line.emulator.state.deletion = 0.1
    shown = line.run("delete", id_, typed="y\n")
    assert f"  {id_} (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in shown
    assert "Delete 1 machine? [y/N]" in shown
    assert f"Machine {id_} is gone." in shown
    assert alive(line) == {other}


@pytest.mark.parametrize("typed", ["n\n", "", None])
def test_without_a_yes(line: CommandLine, typed: str | None) -> None:
    """A no, and a program that answers nothing, leave the machine as it is."""
    id_ = line.rent()
    assert "Aborted!" in line.refused("delete", id_, typed=typed)
    assert alive(line) == {id_}


def test_several_machines_in_the_calls_of_one(line: CommandLine) -> None:
    """All are deleted at once, and wait with one shared poll, which may be longer for many."""
    line.emulator.state.deletion = 0.2
    calls = line.emulator.state.calls

    def lists(count: int) -> int:
        before = calls["list"]
        line.run("delete", *(line.rent() for _ in range(count)), "--yes")
        return calls["list"] - before

    one = lists(1)
    assert lists(12) <= 3 * one
    assert calls["delete"] == 13
    assert calls["get"] == 13  # each is also asked for once, when two lists lack it
    assert alive(line) == set()


def test_v1(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The v1 API has another address and other answers."""
    monkeypatch.setenv("FAL_COMPUTE_API", "v1")
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", f"{line.emulator.url}/v1")
    id_ = line.rent()
    line.run("delete", id_, "--yes")
    assert alive(line) == set()
    assert f"the API does not know {id_}" in line.refused("delete", id_, "--yes")


# What is wrong usage.


@pytest.mark.parametrize(
    "ids, says",
    [
        ([], "Missing argument 'ID...'"),
        ([""], "an id is empty"),
        (["i-1", " "], "an id is empty"),
        (["i-1", "i-2", "i-1"], "i-1 is given more than once"),
    ],
)
def test_wrong_ids(line: CommandLine, ids: list[str], says: str) -> None:
    """An empty variable or a line that was copied twice asks nothing of the API."""
    line.run("delete", "--yes", *ids, code=2)
    assert says in line.stderr
    assert not any(line.emulator.state.calls.values())


def test_an_unknown_id(line: CommandLine) -> None:
    """All ids are checked before any machine is deleted, and all unknown ones are named."""
    id_ = line.rent()
    says = line.refused("delete", id_, "i-1", "i-2", "--yes", "--force")
    assert "Nothing was deleted, because the API does not know i-1, i-2." in says
    assert alive(line) == {id_}


def test_a_machine_that_only_the_list_lacks(line: CommandLine) -> None:
    """A machine that a GET still shows exists, since a list may lag behind."""
    id_ = line.rent()
    line.emulator.state.hide(id_, "list", 60)
    line.run("delete", id_, "--yes")
    assert alive(line) == set()


# What somebody has.


def made(line: CommandLine, **fields: Any) -> Entry:
    return line.pend(phase=Phase.CREATED, **fields)


NEW = f"the next `pulumi up` of {DEV} makes a new machine for 'box' if the program still has it"
DROPS = "drops ID from state, and the next `pulumi up` makes a new machine"
IN_STATE = f"is in the state of {DEV} ({urn('a')}) and {PROD} ({urn('b', 'prod')})"
BY = f"was made by the pending create of 'box' of {DEV}"
HAS = {
    "stacks": (
        lambda line, id_: line.stacks.update({DEV: {"a": id_}, PROD: {"b": id_}}),
        IN_STATE,
        f"The next `pulumi refresh` of {PROD} {DROPS} for 'b' if the program still has it.",
    ),
    "a create": (
        lambda line, id_: made(line, instance_id=id_),
        BY,
        f"The record of that create is dropped, and {NEW}.",
    ),
    "a create of a removed stack": (
        lambda line, id_: made(line, instance_id=id_, urn=urn("box", "gone")),
        "was made by the abandoned create of 'box' of organization/train/gone",
        "The record of that create is dropped.",
    ),
    "a create or a stack": (
        lambda line, id_: line.stacks.update({PROD: "no"}) or made(line, instance_id=id_, age=601),
        f"{BY}, and may be in a stack that can't be read.\n  Unreadable: stack {PROD}: no",
        f"The record of that create is dropped, and {NEW}.",
    ),
    "a create without an answer": (
        lambda line, id_: line.pend(),
        f"may have been made by the create of 'box' of {DEV}, which got no answer",
        f"If 'box' has no other machine, the next `pulumi up` of {DEV} makes a new one.",
    ),
    "what can't be read": (
        lambda line, id_: line.damage(),
        "may be in a stack or a record that can't be read",
        "and makes a new machine at the next `pulumi up`.",
    ),
}


@pytest.mark.parametrize("has, why, then", HAS.values(), ids=HAS)
def test_a_machine_that_somebody_has(
    line: CommandLine, has: Callable[[CommandLine, str], object], why: str, then: str
) -> None:
    """It is refused, and nothing is deleted. What --force does is said before and afterwards."""
    forgotten, held = line.rent(), line.rent()
    line.pend("other", phase=Phase.CREATED, instance_id="another")
    has(line, held)
    says = line.refused("delete", forgotten, held, "--yes")
    assert f"\n  Machine {held} {why}" in says
    assert alive(line) == {forgotten, held}
    asked, _, done = line.run("delete", held, "--force", typed="y\n").partition("[y/N]")
    first, then = why.partition(".\n")[0], then.replace("ID", held)
    assert f"    It {first}.\n" in asked
    assert f"{then}\n" in asked
    assert done.endswith(f"{then}\n")
    assert alive(line) == {forgotten}
    assert held not in [entry.instance_id for entry in line.pending()]
    assert "another" in [entry.instance_id for entry in line.pending()]


def test_a_create_in_progress(line: CommandLine) -> None:
    """The POST has just made the machine, and its answer may be under way: nobody is asked."""
    id_ = line.rent()
    lock = line.journal.try_lock(line.pend())
    assert lock is not None
    with lock:
        says = line.refused("delete", id_, typed="y\n")
    assert f"may have been made by the create of 'box' of {DEV}, which is in progress" in says
    line.pulumi_says = NO_PULUMI
    says = line.refused("delete", id_, typed="y\n")
    assert f"Unreadable: the list of stacks: {NO_PULUMI}" in says


@pytest.mark.parametrize(
    "change, options",
    [("imported", ()), ("imported", ("--force",)), ("created", ()), ("unreadable", ())],
)
def test_it_looks_again_after_its_question(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, change: str, options: tuple[str, ...]
) -> None:
    """What somebody has by then is not deleted. Only the stack that has changed is read again."""
    id_ = line.rent()
    line.stacks[TEST] = {"b": id_} if options else {}

    def meanwhile(*_: object, **__: object) -> None:
        line.exported.clear()
        if change == "created":
            line.pend("a", phase=Phase.CREATED, instance_id=id_)
        else:
            line.stacks[PROD] = {"a": id_} if change == "imported" else "damaged"

    monkeypatch.setattr(click, "confirm", meanwhile)
    says = line.refused("delete", id_, *options)
    assert "Nothing was deleted, because something has changed since this command began:" in says
    assert f"Machine {id_} " in says
    assert alive(line) == {id_}
    assert line.exported == ([] if change == "created" else [PROD])


# What does not end well.


def test_ctrl_c(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends at once and prints how to continue."""
    ids = [line.rent(), line.rent()]
    line.emulator.state.deletion = 600

    def interrupted(calls: object) -> None:
        while line.emulator.state.deletions < len(ids):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.as_completed", interrupted)
    began = time.monotonic()
    says = line.refused("delete", *ids, "--yes")
    assert time.monotonic() - began < delete._STOPPING_SECONDS
    assert "2 machines may still run and bill:\n" in says
    assert f"\n  The delete of machine {ids[0]} was interrupted.\n" in says
    assert says.endswith(f"To continue, run:\n  pulumi-fal delete {ids[0]} {ids[1]}\n")


def test_a_machine_that_does_not_go(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 1, and the command to continue has only what is left."""
    stays, goes = line.rent(), line.rent()
    for name, id_ in (("a", stays), ("b", goes)):
        line.pend(name, phase=Phase.CREATED, instance_id=id_)
    state = line.emulator.state
    delete_one = state.delete

    def delete_other(instance_id: str, account: str | None = None) -> None:
        if instance_id == goes:
            delete_one(instance_id, account)

    monkeypatch.setattr(state, "delete", delete_other)
    monkeypatch.setattr(delete, "DELETE_TIMEOUT", 0.5)
    shown = line.run("delete", stays, goes, "--yes", "--force", code=1)
    assert shown == f"Machine {goes} is gone.\n"
    assert f"1 machine may still run and bill:\n  Machine {stays} may still exist" in line.stderr
    assert "state" not in line.stderr
    assert line.stderr.endswith(f"\n  pulumi-fal delete {stays} --force\n")
    assert [entry.instance_id for entry in line.pending()] == [stays]


def test_a_delete_that_the_api_refuses(line: CommandLine) -> None:
    """The machine still exists, so the exit code is 1."""
    id_ = line.rent()
    line.emulator.faults.add(
        "delete", Fault("400", "a refusal", False, 400, '{"detail": "no"}'), times=math.inf
    )
    says = line.refused("delete", id_, "--yes")
    assert f"DELETE /compute/instance/{id_} answered 400" in says
    assert alive(line) == {id_}
