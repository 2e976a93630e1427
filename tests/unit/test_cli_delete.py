"""`pulumi-fal delete`: it ends forgotten machines, and none that a stack or a create has."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.cli import delete
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.machines.entry import Phase

from .cli_support import CommandLine, command_line, urn

DEV, PROD = "organization/train/dev", "organization/train/prod"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.setenv("FAL_COMPUTE_POLL_INTERVAL", "0.05")
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks = {DEV: {}, PROD: {}}
        yield line


def alive(line: CommandLine) -> set[str]:
    return set(line.emulator.state.alive())


def test_a_forgotten_machine_is_deleted_when_confirmed(line: CommandLine) -> None:
    """The question shows the machine, and the command ends when the machine is gone."""
    id_, other = line.rent(), line.rent()
    line.emulator.state.deletion = 0.1
    shown = line.run("delete", id_, typed="y\n")
    assert f"  {id_} (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in shown
    assert "Delete 1 machine? [y/N]" in shown
    assert f"Machine {id_} is gone." in shown
    assert alive(line) == {other}


@pytest.mark.parametrize("typed", ["n\n", "", None])
def test_nothing_is_deleted_without_a_yes(line: CommandLine, typed: str | None) -> None:
    """A no, and a program that answers nothing, leave the machine as it is."""
    id_ = line.rent()
    assert "Aborted!" in line.refused("delete", id_, typed=typed)
    assert alive(line) == {id_}


def test_several_machines_are_deleted_in_the_calls_of_one(line: CommandLine) -> None:
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
    assert calls["get"] == 0
    assert alive(line) == set()


def test_delete_works_under_v1(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_ids_that_nobody_meant_are_wrong_usage(
    line: CommandLine, ids: list[str], says: str
) -> None:
    """An empty variable or a line that was copied twice asks nothing of the API."""
    line.run("delete", "--yes", *ids, code=2)
    assert says in line.stderr
    assert not any(line.emulator.state.calls.values())


def test_an_unknown_id_deletes_none(line: CommandLine) -> None:
    """All ids are checked before any machine is deleted, and all unknown ones are named."""
    id_ = line.rent()
    says = line.refused("delete", id_, "i-1", "i-2", "--yes", "--force")
    assert "Nothing was deleted, because the API does not know i-1, i-2." in says
    assert alive(line) == {id_}


def test_a_machine_that_only_the_list_lacks_is_deleted(line: CommandLine) -> None:
    """A machine that a GET still shows exists, since a list may lag behind."""
    id_ = line.rent()
    line.emulator.state.hide(id_, "list", 60)
    line.run("delete", id_, "--yes")
    assert alive(line) == set()


# What somebody has.


def refused(line: CommandLine, *ids: str) -> str:
    """What the command says when it refuses, with --yes and without. It deletes none."""
    before = alive(line)
    says = line.refused("delete", *ids, "--yes")
    assert line.refused("delete", *ids, typed="y\n") == says
    assert alive(line) == before
    assert "Nothing was deleted" in says
    return says


def test_a_machine_of_a_stack_is_refused_with_all_its_stacks(line: CommandLine) -> None:
    """None is deleted, not even a forgotten one, and every stack that has the machine is named."""
    held, forgotten = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}, PROD: {"b": held}}
    says = refused(line, forgotten, held)
    assert (
        f"\n  Machine {held} is in the state of {DEV} ({urn('a')}) and {PROD} "
        f"({urn('b', 'prod')}).\n" in says
    )
    assert forgotten not in says


def test_force_deletes_a_machine_of_a_stack_and_says_what_follows(line: CommandLine) -> None:
    """What its stack does next is shown before the question and again at the end."""
    held = line.rent()
    line.stacks[DEV] = {"a": held}
    then = (
        f"The next `pulumi refresh` of {DEV} drops {held} from state, and the next `pulumi up` "
        "makes a new machine for 'a' if the program still has it."
    )
    asked, _, done = line.run("delete", held, "--force", typed="y\n").partition("[y/N]")
    assert f"    It is in the state of {DEV} ({urn('a')}).\n    {then}\n" in asked
    assert done.endswith(f"Machine {held} is gone.\n{then}\n")
    assert alive(line) == set()


def test_a_machine_of_a_pending_create_is_refused(line: CommandLine) -> None:
    """With --force, its record goes with it: the next `pulumi up` has nothing to resume."""
    id_ = line.rent()
    other = line.pend("other", phase=Phase.CREATED, instance_id=line.rent()).instance_id
    line.pend(phase=Phase.CREATED, instance_id=id_)
    assert f"{id_} was made by the pending create of 'box' of {DEV}." in refused(line, id_)
    shown = line.run("delete", id_, "--yes", "--force")
    assert f"the next `pulumi up` of {DEV} makes a new machine for 'box' if the program" in shown
    assert [entry.instance_id for entry in line.pending()] == [other]


def test_a_machine_of_a_create_in_progress_is_refused(line: CommandLine) -> None:
    """The POST has just made it, and its answer may be under way."""
    id_ = line.rent()
    lock = line.journal.try_lock(line.pend().origin)
    assert lock is not None
    with lock:
        assert "'box' of organization/train/dev, which is in progress" in refused(line, id_)


def test_a_machine_that_an_unanswered_create_may_have_made_needs_a_person(
    line: CommandLine,
) -> None:
    """The question says so. Without a question, --force is needed."""
    id_, other = line.rent(), line.rent()
    line.pend()
    why = f"may have been made by the create of 'box' of {DEV}, which got no answer."
    assert f"Machine {id_} {why}" in line.refused("delete", id_, "--yes")
    assert alive(line) == {id_, other}
    assert f"It {why}" in line.run("delete", id_, typed="y\n")
    line.run("delete", other, "--yes", "--force")
    assert alive(line) == set()


# What can't be read.


def test_a_stack_that_cannot_be_read_may_have_the_machine(line: CommandLine) -> None:
    """It is named, and only --force deletes the machine all the same."""
    id_ = line.rent()
    line.stacks[PROD] = "the checkpoint is damaged"
    says = refused(line, id_)
    assert f"Machine {id_} may be in a stack or a record that can't be read.\n" in says
    assert f"Unreadable: stack {PROD}: the checkpoint is damaged\n" in says
    line.run("delete", id_, "--yes", "--force")
    assert alive(line) == set()


def test_an_unanswered_create_is_no_question_where_a_stack_cannot_be_read(
    line: CommandLine,
) -> None:
    """That stack may have the machine."""
    id_ = line.rent()
    line.pend()
    line.stacks[PROD] = "no access"
    refused(line, id_)


def test_stacks_that_cannot_be_listed_may_have_the_machine(line: CommandLine) -> None:
    """The reason is named."""
    id_ = line.rent()
    line.pulumi_says = "there is no `pulumi` command on PATH"
    assert "Unreadable: the list of stacks: there is no `pulumi` command" in refused(line, id_)


@pytest.mark.parametrize("broken", ["record", "folder"])
def test_a_journal_that_cannot_be_read_may_have_the_machine(line: CommandLine, broken: str) -> None:
    """A record that can't be read may be that of a create in progress."""
    id_ = line.rent()
    folder = line.journal.folder
    folder.parent.mkdir(parents=True)
    if broken == "record":
        folder.mkdir()
        (folder / "0-0.json").write_text("{")
    else:
        folder.touch()
    assert f"Unreadable: {broken} {folder}" in refused(line, id_)


def test_a_machine_whose_own_stack_cannot_be_asked_is_refused(line: CommandLine) -> None:
    """The create reported it to Pulumi, so most likely its stack has it, in another backend."""
    id_ = line.rent()
    line.pend(phase=Phase.REPORTED, instance_id=id_, organization="")
    assert "whether that has it can't be read" in refused(line, id_)


# What does not end well.


def test_ctrl_c_names_the_machines_that_may_still_exist(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_machine_that_does_not_go_is_named_beside_one_that_is_gone(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_refused_delete_says_what_the_api_answered(line: CommandLine) -> None:
    """The machine still exists, so the exit code is 1."""
    id_ = line.rent()
    line.emulator.faults.add(
        "delete", Fault("400", "a refusal", False, 400, '{"detail": "no"}'), times=math.inf
    )
    says = line.refused("delete", id_, "--yes")
    assert f"DELETE /compute/instance/{id_} answered 400" in says
    assert alive(line) == {id_}
