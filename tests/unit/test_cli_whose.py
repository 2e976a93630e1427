"""All commands say the same of whose a machine is, and `delete` acts on it.

test_whose.py has what decides it: here is what the commands find out for that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest

from pulumi_fal.cli import common, delete
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.machines.journal import Phase

from ..fakes import ONE
from ..processes import POSIX_SHELL, command
from .cli_support import (
    BACKEND,
    DEV,
    ELSEWHERE,
    OF_PULUMI_DO,
    PROD,
    TEST,
    CommandLine,
    M,
    filled,
    urn,
)

FINE, FOUND, CANT_TELL = 0, 1, 2
OLD = 601.0
HOUR = 3600
STACK, PENDING, ABANDONED = "stack", "pending", "abandoned"
UNKNOWN, FORGOTTEN = "unknown", "forgotten"
MADE: dict[str, Any] = {"phase": Phase.CREATED, "instance_id": M}
REPORTED: dict[str, Any] = {"phase": Phase.REPORTED, "instance_id": M}


@dataclass
class Situation:
    """One machine, and what is known of it."""

    whose: str
    code: int
    """The exit code of `audit`."""
    record: dict[str, Any] | None = None
    """A create on record."""
    stacks: dict[str, Any] = field(default_factory=lambda: {DEV: {}})
    elsewhere: dict[str, Any] = field(default_factory=dict)
    """The stacks of another backend."""
    damaged: str = ""
    is_running: bool = False
    stack: str = ""
    """The name of the stack that has the machine, or may get it, if that is checked."""
    asks: bool = False
    """Whether `delete` asks, and deletes if a person says so, without --force."""
    why: str = ""
    """Why `delete` refuses, from the machine's id on."""
    then: str = ""
    """What `delete` says before and afterwards of what follows."""


LATE: dict[str, Any] = {"phase": Phase.LATE, "found": (M,)}
REMOVED: dict[str, Any] = {PROD: {}}
UNREAD: dict[str, Any] = {DEV: {}, PROD: "damaged"}
OF_ANOTHER = {**REPORTED, "backend": ELSEWHERE, "age": OLD}
"""A create that another backend's stack was to have."""
IN_TWO: dict[str, Any] = {DEV: {"a": M}, PROD: {"b": M}}
IN_STATE = f"is in the state of {DEV} ({urn('a')}) and {PROD} ({urn('b', 'prod')})"
DROPS = f"drops {M} from state, and the next `pulumi up` makes a new machine"
BY = f"was made by the pending create of 'box' of {DEV}"
NEW = f"the next `pulumi up` of {DEV} makes a new machine for 'box' if the program still has it"
DROPPED = "The record of that create is dropped"
SITUATIONS = {
    "no stack has it": Situation(FORGOTTEN, FOUND),
    "stacks have it": Situation(
        STACK,
        FINE,
        stacks=IN_TWO,
        why=IN_STATE,
        then=f"The next `pulumi refresh` of {PROD} {DROPS} for 'b' if the program still has it.",
    ),
    "a stack can't be read": Situation(UNKNOWN, CANT_TELL, stacks=UNREAD),
    "a record can't be read": Situation(
        UNKNOWN,
        CANT_TELL,
        damaged="record",
        why="may be in a stack or a record that can't be read",
        then="and makes a new machine at the next `pulumi up`.",
    ),
    "just made": Situation(PENDING, FINE, MADE, why=BY, then=f"{DROPPED}, and {NEW}."),
    "made long ago, and a stack can't be read": Situation(
        UNKNOWN,
        CANT_TELL,
        {**MADE, "age": OLD},
        stacks=UNREAD,
        why=f"{BY}, and may be in a stack that can't be read.\n  Unreadable: stack {PROD}: damaged",
        then=f"{DROPPED}, and {NEW}.",
    ),
    "its create takes long": Situation(PENDING, FINE, {**MADE, "age": OLD}, is_running=True),
    "of an earlier `pulumi do`": Situation(ABANDONED, FOUND, {**MADE, "urn": OF_PULUMI_DO}),
    "its create was killed long ago": Situation(ABANDONED, FOUND, {**MADE, "age": OLD}),
    "its stack was removed": Situation(
        ABANDONED,
        FOUND,
        MADE,
        REMOVED,
        why=f"was made by the abandoned create of 'box' of {DEV}",
        then=f"{DROPPED}.",
    ),
    "its stack was renamed": Situation(
        PENDING, FINE, {**MADE, "provider": PROD}, REMOVED, stack=PROD
    ),
    "another backend has it": Situation(
        STACK, FINE, OF_ANOTHER, elsewhere={DEV: {"box": M}}, stack=f"{DEV} in {ELSEWHERE}"
    ),
    "another backend can't be read": Situation(
        UNKNOWN, CANT_TELL, OF_ANOTHER, elsewhere={DEV: "no access"}
    ),
    "an answer was lost": Situation(
        UNKNOWN,
        CANT_TELL,
        {},
        asks=True,
        why=f"may have been made by the create of 'box' of {DEV}, which got no answer",
        then=f"If 'box' has no other machine, the next `pulumi up` of {DEV} makes a new one.",
    ),
    "an answer was lost, and its backend can't be read": Situation(
        UNKNOWN, CANT_TELL, {"backend": ELSEWHERE}, elsewhere={DEV: "no access"}
    ),
    "an answer is awaited": Situation(UNKNOWN, CANT_TELL, {}, is_running=True),
    "an answer was lost before another create": Situation(UNKNOWN, CANT_TELL, LATE, asks=True),
    "another create's backend can't be read": Situation(
        FORGOTTEN, FOUND, {**OF_ANOTHER, "instance_id": "i-2"}, elsewhere={DEV: "no access"}
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_all_commands_agree(line: CommandLine, situation: Situation) -> None:
    """Only what is forgotten is deleted or imported; what may be somebody's is left alone."""
    id_ = line.rent()
    line.backends = filled({BACKEND: situation.stacks, ELSEWHERE: situation.elsewhere}, id_)
    line.providers = {PROD: PROD, DEV: DEV}
    record = None if situation.record is None else line.pend(**filled(situation.record, id_))
    if situation.damaged:
        line.damage(situation.damaged)
    create = line.running(record) if record and situation.is_running else nullcontext()
    is_free = situation.whose == FORGOTTEN
    is_unread = situation.damaged or any(isinstance(held, str) for held in line.stacks.values())
    with create:
        (row,) = line.json("ls")
        report = line.json("audit", code=situation.code)
        assert report["machines"] == [row]
        assert not (is_free and report["unreadable"])
        assert row["whose"] == situation.whose
        assert situation.stack in ("", row["stack"])
        assert line.run("audit", "--ids", code=situation.code) == (f"{id_}\n" if is_free else "")
        said = line.run("import-file", "--ssh-key", "key.pub", code=1 if is_unread else 0)
        assert ("Wrote 1 machine" in said) is (is_free and not is_unread)
        why, then = situation.why, situation.then.replace(M, id_)
        if not is_free:
            assert f"\n  Machine {id_} {why}" in line.refused("delete", id_, "--yes")
        is_easy = is_free or situation.asks
        shown = line.run("delete", id_, typed="y\n", code=0 if is_easy else 1)
        assert (id_ in line.alive) is not is_easy
        if not is_easy:
            shown = line.run("delete", id_, "--force", typed="y\n")
        asked, _, done = shown.partition("[y/N]")
        first, _, _ = why.partition(".\n")
        assert is_free or f"    It {first}" in asked
        assert then in asked
        assert done.endswith(f"{then}\n")
    if record is not None and record.instance_id == id_:
        assert record not in line.pending() or situation.is_running


def test_only_the_named_stacks_count(line: CommandLine) -> None:
    """`audit --stack` reads another one only to find out whose the machine of a create is."""
    dev, prod, test = (line.rent() for _ in range(3))
    line.stacks = {DEV: {"a": dev}, PROD: {"a": prod, "b": "i-gone"}, TEST: {"a": test}}
    line.pend("a", urn=urn("a", "prod"), phase=Phase.REPORTED, instance_id=prod)
    renamed = line.made("b", urn=urn("b", "old"), instance_id=line.rent())
    report = line.json("audit", "--stack", DEV, code=FOUND)
    whose = {row["id"]: row["whose"] for row in report["machines"]}
    assert whose == {dev: STACK, prod: STACK, test: FORGOTTEN, renamed.instance_id: PENDING}
    assert (report["gone"], report["stacks"]) == ([], [DEV])
    assert "Age unknown" not in line.run("audit", "--stack", PROD, "--stack", TEST, code=FOUND)


# delete


def test_delete(line: CommandLine) -> None:
    """The question shows the machine, and the command ends when the machine is gone."""
    id_, other = line.rent(), line.rent()
    line.emulator.state.deletion = 0.1
    line.emulator.state.hide(id_, "list", 60)  # a list may lag behind, so a GET decides
    for typed in ("n\n", ""):
        assert "Aborted!" in line.refused("delete", id_, typed=typed)
    assert line.alive == {id_, other}
    shown = line.run("delete", id_, typed="y\n")
    assert f"  {id_} (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in shown
    assert "Delete 1 machine? [y/N]" in shown
    assert f"Machine {id_} is gone." in shown
    assert line.alive == {other}


# Machines that are older than their max_age.

EXPIRED: dict[str, tuple[dict[str, Any], dict[str, str], str | None, int]] = {
    "older": ({DEV: {"a": M}}, {"a": "12h"}, "a", 0),
    "just as old": ({DEV: {"a": M}}, {"a": "13h"}, None, 0),
    "damaged": ({DEV: {"a": M}}, {"a": "soon"}, None, 0),
    "two stacks": (IN_TWO, {"a": "11h", "b": "12h"}, "b", 0),
    "two, one without": (IN_TWO, {"a": "12h"}, None, 0),
    "another unread": ({DEV: {"a": M}, PROD: "damaged"}, {"a": "12h"}, None, 1),
    "its own unread": ({DEV: "damaged"}, {"a": "12h"}, None, 1),
}


@pytest.mark.parametrize("stacks, max_ages, name, code", EXPIRED.values(), ids=EXPIRED)
def test_expired(
    line: CommandLine, stacks: Any, max_ages: dict[str, str], name: str | None, code: int
) -> None:
    """A machine is deleted if it is older than each stack that has it allows, and by no guess.

    `name` is that of the resource whose machine is deleted, if so.
    """
    id_ = line.rent(age=13 * HOUR)
    line.stacks, line.max_ages = filled(stacks, id_), max_ages
    line.made(instance_id=line.rent())
    (row,) = (row for row in line.json("ls") if row["id"] == id_)
    shown = line.run("delete", "--expired", "--yes", code=code)
    assert (id_ in line.alive) is (name is None)
    assert len(line.alive) == 1 + (name is None)
    assert ("keep billing:\n  Unreadable: stack" in line.stderr) is bool(code)
    assert (shown == "No machine is older than its max_age.\n") is (name is None and not code)
    if name is not None:
        assert re.search(rf"{id_} +{ONE} +13h +12h +{row['stack']} +urn:\S+::{name}\n", shown)
        assert row["max_age_seconds"] == 12 * HOUR
        for stack in (key for key, held in line.stacks.items() if id_ in held):
            assert f"The next `pulumi refresh` of {stack} drops {id_} from state" in shown


def test_expired_asks(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no longer expired when the question is answered is left alone; what stays is told."""
    one, two = line.rent(age=2 * HOUR), line.rent(age=2 * HOUR)
    line.stacks, line.max_ages = {DEV: {"a": one}, PROD: {"b": two}}, {"a": "1h", "b": "1h"}
    shown = line.run("delete", "--expired", typed="n\n", code=1)
    assert "Delete 2 machines, with everything on their disks? [y/N]" in shown
    assert line.alive == {one, two}

    monkeypatch.setattr(click, "confirm", lambda *_, **__: line.stacks.update({PROD: "damaged"}))
    assert "Nothing was deleted" in line.refused("delete", "--expired")
    assert line.alive == {one, two}
    line.stacks[PROD] = {"b": two}

    def meanwhile(*_: object, **__: object) -> None:
        line.max_ages["b"] = "1d"
        line.stacks[PROD] = {"b": two, "c": "i-new"}

    monkeypatch.setattr(click, "confirm", meanwhile)
    line.emulator.faults.add("delete", Fault("400", "no", False, 400, "{}"))
    shown = line.run("delete", "--expired", code=1)
    assert f"Machine {two} is left alone, because its stack has changed." in shown
    assert line.stderr.endswith("To continue, run:\n  pulumi-fal delete --expired\n")
    line.run("delete", "--expired")
    assert line.alive == {two}


def test_expired_unseen(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--yes | head -1`, as in a cron job, all are deleted."""
    line.stacks, line.max_ages = {DEV: {"a": line.rent(age=2 * HOUR)}}, {"a": "1h"}
    monkeypatch.setattr(common, "print_table", mock.Mock(side_effect=BrokenPipeError))
    line.run("delete", "--expired", "--yes")
    assert line.alive == set()


WRONG = {
    "none": ((), "Missing argument 'MACHINE...'", 2),
    "empty": (("i-1", " "), "an id or a name is empty", 2),
    "expired and an id": (("--expired", "i-1"), "leave out MACHINE and --force", 2),
    "repeated": (("i-1", "i-2", "i-1"), "i-1 is given more than once", 2),
    "unknown": (("i-1", "i-2", "--force"), "Nothing was deleted. The API does not know 'i-1'", 1),
}


@pytest.mark.parametrize("ids, says, code", WRONG.values(), ids=WRONG)
def test_wrong_ids(line: CommandLine, ids: tuple[str, ...], says: str, code: int) -> None:
    """All ids are checked before any machine is deleted. A wrong usage asks nothing of the API."""
    id_ = line.rent()
    line.run("delete", "--yes", *ids, *([id_] if code == 1 else []), code=code)
    assert says in line.stderr
    assert line.alive == {id_}
    assert code == 1 or not line.emulator.state.calls.total()


def test_delete_by_name(line: CommandLine) -> None:
    """It is refused as by id, and where another stack, which can't be read, may have the name."""
    id_, forgotten = line.rent(), line.rent()
    line.stacks = {DEV: {"a": id_}, PROD: {}}
    says = line.refused("delete", forgotten, "a", "--yes")
    assert f"  Machine {id_} is in the state of {DEV}" in says
    line.stacks[PROD] = "no access"
    assert "Give the machine's id." in line.refused("delete", "a", "--yes", "--force")
    assert line.alive == {id_, forgotten}
    line.stacks[PROD] = {}
    assert f"Machine {id_} is gone." in line.run("delete", "a", "dev/a", "--yes", "--force")
    assert line.alive == {forgotten}


@pytest.mark.parametrize(
    "change, options",
    [("imported", ()), ("imported", ("--force",)), ("created", ()), ("unreadable", ())],
)
def test_delete_looks_again(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, change: str, options: tuple[str, ...]
) -> None:
    """What somebody has by then is not deleted. Only the stack that has changed is read again."""
    id_ = line.rent()
    line.stacks[TEST] = {"b": id_} if options else {}

    def meanwhile(*_: object, **__: object) -> None:
        line.exported.clear()
        if change == "created":
            line.made("a", instance_id=id_)
        else:
            line.stacks[PROD] = {"a": id_} if change == "imported" else "damaged"

    monkeypatch.setattr(click, "confirm", meanwhile)
    says = line.refused("delete", id_, *options)
    assert "Nothing was deleted, because something has changed since this command began:" in says
    assert f"Machine {id_} " in says
    assert line.alive == {id_}
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


@POSIX_SHELL
def test_closed_stdout(line: CommandLine) -> None:
    """With `| head -1`, all machines are deleted, and their records are dropped."""
    ids = [line.rent(), line.rent(), line.rent()]
    line.made(instance_id=ids[2])
    line.emulator.state.deletion = 0.3
    path = command(Path("bin", "pulumi"), "print('[]')").parent.resolve()
    reader, stdout = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "pulumi_fal.cli", "delete", *ids, "--yes", "--force"],
        env={**os.environ, "PATH": str(path)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(stdout)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert (line.alive, line.pending()) == (set(), [])


def test_one_stays(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 1, and the command to continue has only what is left."""
    stays, goes = line.rent(), line.rent()
    for name, id_ in (("a", stays), ("b", goes)):
        line.made(name, instance_id=id_)
    delete_one = line.emulator.state.delete
    monkeypatch.setattr(
        line.emulator.state, "delete", lambda id_, *others: id_ == stays or delete_one(id_, *others)
    )
    monkeypatch.setattr(delete, "DELETE_TIMEOUT", 0.5)
    shown = line.run("delete", stays, goes, "--yes", "--force", code=1)
    assert shown == f"Machine {goes} is gone.\n"
    assert f"1 machine may still run and bill:\n  Machine {stays} may still exist" in line.stderr
    assert "state" not in line.stderr
    assert line.stderr.endswith(f"\n  pulumi-fal delete {stays} --force\n")
    assert [entry.instance_id for entry in line.pending()] == [stays]
