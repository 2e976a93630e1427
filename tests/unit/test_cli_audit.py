"""`pulumi-fal audit`: what it prints, and its exit codes. test_cli_whose.py has whose is what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api import settings
from pulumi_fal.cli import audit, show
from pulumi_fal.errors import StackError
from pulumi_fal.machines.journal import Phase

from ..fakes import KEY
from .cli_support import DEV, NO_PULUMI, NOW, PROD, CommandLine, command_line, urn

FINE, FOUND, CANT_TELL = 0, 1, 2
HOUR, DAY = 3600, 86400


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks = {DEV: {}}
        yield line


def test_a_clean_account_is_one_line(line: CommandLine) -> None:
    """The exit code is 0."""
    line.stacks = {DEV: {"a": line.rent()}, PROD: {"a": line.rent()}}
    assert line.run("audit") == "Machines: 2 (2 in stack). Stacks read: 2. Gone: 0.\n"


def test_what_it_prints(line: CommandLine) -> None:
    """Each machine that is not fine with what is known of it, and what to do about each kind."""
    kept, pending, left, forgotten = (line.rent() for _ in range(4))
    line.stacks = {DEV: {"a": kept}, PROD: {}}
    line.pend(phase=Phase.CREATED, instance_id=pending)
    line.pend("left", age=DAY, phase=Phase.CREATED, instance_id=left)
    shown = line.run("audit", code=FOUND)
    header, *rows = shown.splitlines()
    assert header.split() == ["MACHINE", "TYPE", "IP", "STATUS", "WHOSE"]
    cells = [re.split("  +", row) for row in rows[:2]]
    assert [(row[0], row[3], row[4]) for row in cells] == [
        (left, "ready", f"abandoned: made for {urn('left')}"),
        (forgotten, "ready", "forgotten"),
    ]
    counts = "Machines: 4 (1 in stack, 1 pending, 1 abandoned, 1 forgotten). Stacks read: 2."
    assert rows[2] == f"{counts} Gone: 0."
    assert "\n  pulumi-fal delete ID\n" in shown
    assert "\n  pulumi-fal pending ls\n" in shown
    line.pend("asked")
    shown = line.run("audit", code=FOUND)
    assert f"unknown: perhaps made by the pending create of {urn('asked')}\n" in shown


def test_ids_alone(line: CommandLine) -> None:
    """One id a line on stdout, for `xargs`; all else is on stderr."""
    ids = [line.rent(), line.rent()]
    assert sorted(line.run("audit", "--ids", code=FOUND).split("\n")) == ["", *sorted(ids)]
    assert line.stderr == "Machines: 2 (2 forgotten). Stacks read: 1. Gone: 0.\n"
    line.stacks[PROD] = "the checkpoint is damaged"
    assert line.run("audit", "--ids", code=CANT_TELL) == ""
    assert f"Unreadable: stack {PROD}: the checkpoint is damaged\n" in line.stderr
    line.run("audit", "--ids", "--json", code=2)


def test_json(line: CommandLine) -> None:
    """Each machine as the API shows it, with its stack, its resource and its age."""
    id_ = rent(line, HOUR)
    line.stacks = {DEV: {"a": id_}}
    report = line.json("audit")
    (machine,) = report.pop("machines")
    assert machine == {
        **vars(line.emulator.state.list()[0]),
        "whose": "stack",
        "stack": DEV,
        "resource": "a",
        "urn": urn("a"),
        "created": "2023-11-14T21:13:20+00:00",
        "age_seconds": HOUR,
    }
    nothing: dict[str, Any] = {"too_old": [], "gone": [], "other_account": [], "unreadable": {}}
    assert report == {**nothing, "stacks": [DEV]}


# Resources whose machine is gone.


def test_a_machine_that_is_gone(line: CommandLine) -> None:
    """Its resource is named, whatever can't be read. A list may lag behind, so a GET decides."""
    lags = line.rent()
    line.stacks = {DEV: {"a": "i-gone", "b": lags}, PROD: "no access"}
    line.emulator.state.hide(lags, "list", 60)
    gone = line.json("audit", code=FOUND)["gone"]
    assert gone == [{"id": "i-gone", "urn": urn("a"), "stack": DEV}]
    assert "`pulumi refresh`" in line.run("audit", code=FOUND)


def test_a_machine_that_is_gone_by_now(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destroy may have ended while the stacks were read."""
    id_ = line.rent()
    original = line.pulumi

    def pulumi(*args: str, **others: Any) -> str:
        if id_ in line.emulator.state.alive():
            line.emulator.state.kill(id_)
        return original(*args, **others)

    monkeypatch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
    assert line.json("audit")["machines"] == []


@pytest.mark.parametrize(
    "seen, sees, code, says",
    [
        ({}, "", FOUND, "To remove machines that are gone"),
        ({"account": "own"}, "", FOUND, "To remove machines that are gone"),
        ({"account": "1a2b3c"}, "", CANT_TELL, "unknown: seen with another key (account 1a2b3c)"),
        ({"account": "1a2b3c"}, "1a2b3c", FOUND, "To remove machines that are gone"),
        (
            {"endpoint": "https://else.where"},
            "",
            CANT_TELL,
            "unknown: seen at another endpoint (https://else.where)",
        ),
    ],
    ids=["unknown", "own", "another key", "rotated key", "another endpoint"],
)
def test_a_machine_of_another_account(
    line: CommandLine, seen: dict[str, str], sees: str, code: int, says: str
) -> None:
    """It may still run, unless this key lists another machine that was seen with that one."""
    there = line.rent()
    line.stacks = {DEV: {"a": "i-1", "b": there}}
    own = settings.Settings(line.emulator.url, KEY, "").account
    seen = {name: own if value == "own" else value for name, value in seen.items()}
    line.seen = {"i-1": {"endpoint": line.emulator.url, **seen}, there: {"account": sees}}
    report = line.json("audit", code=code)
    found, other = ("gone", "other_account") if code == FOUND else ("other_account", "gone")
    (row,) = report[found]
    assert (row["id"], row["urn"], row["stack"], report[other]) == ("i-1", urn("a"), DEV, [])
    shown = line.run("audit", code=code)
    assert says in shown
    assert ("set the key and the endpoint of that account" in shown) is (code == CANT_TELL)
    assert ("`pulumi refresh`" in shown) is (code == FOUND)


# Ages.


def rent(line: CommandLine, age: float) -> str:
    """A machine that a stack will have recorded so many seconds ago."""
    id_ = line.rent()
    line.created[id_] = show.moment(NOW - age)
    return id_


def test_what_runs_for_too_long(line: CommandLine) -> None:
    """The machine, its stack and its resource are named. An age that is the limit is none."""
    new, old = rent(line, 12 * HOUR), rent(line, 13 * HOUR)
    line.stacks = {DEV: {"a": new, "b": rent(line, -5)}, PROD: {"b": old}}
    shown = line.run("audit", "--max-age", "12h", code=FOUND)
    header, row, counts, advice = shown.splitlines()
    assert re.split("  +", header) == ["TOO OLD", "TYPE", "AGE", "STACK", "RESOURCE"]
    assert re.split("  +", row) == [old, "gpu_1x_h100_sxm5", "13h", PROD, urn("b", "prod")]
    assert counts == "Machines: 3 (3 in stack). Stacks read: 2. Gone: 0."
    assert advice.startswith("Running for more than 12h: 1. ")
    (found,) = line.json("audit", "--max-age", "12h", code=FOUND)["too_old"]
    assert found == {"id": old, "urn": urn("b", "prod"), "stack": PROD, "age_seconds": 13 * HOUR}
    for args in ((), ("--max-age", "1d")):
        assert line.json("audit", *args)["too_old"] == []


def test_what_does_not_run_for_too_long(line: CommandLine) -> None:
    """A machine that is gone doesn't run, and a create is left alone until it is older."""
    line.stacks = {DEV: {"a": "i-gone"}}
    line.created["i-gone"] = show.moment(NOW - DAY)
    assert line.json("audit", "--max-age", "12h", code=FOUND)["too_old"] == []
    line.stacks = {DEV: {}}
    line.pend(age=11 * HOUR, phase=Phase.CREATED, instance_id=line.rent())
    line.run("audit", "--max-age", "12h")
    line.run("audit", "--max-age", "10h", code=FOUND)
    line.run("audit", code=FOUND)


def test_a_machine_without_an_age(line: CommandLine) -> None:
    """With a limit it is no finding, and any finding counts more."""
    id_ = line.rent()
    line.stacks = {DEV: {"a": id_}}
    line.run("audit")
    shown = line.run("audit", "--max-age", "12h", code=CANT_TELL)
    assert f"Age unknown: {id_}, in {DEV}: {urn('a')}" in shown
    line.stacks[DEV] = {"a": id_, "b": rent(line, DAY)}
    line.run("audit", "--max-age", "12h", code=FOUND)


def test_a_machine_of_two_stacks(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as old as in the first: the second has imported it, whichever is read first."""
    id_ = line.rent()
    line.stacks = {DEV: {"a": id_}, PROD: {"a": id_}}
    monkeypatch.setattr("pulumi_fal.stacks.state._AT_ONCE", 1)
    original = line.pulumi
    for first in (DEV, PROD):

        def pulumi(*args: str, first: str = first, **others: Any) -> str:
            line.created[id_] = show.moment(NOW - (DAY if first in args else HOUR))
            return original(*args, **others)

        monkeypatch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
        (found,) = line.json("audit", "--max-age", "12h", code=FOUND)["too_old"]
        assert found["age_seconds"] == DAY


@pytest.mark.parametrize(
    "text, seconds",
    [("30m", 1800), ("12h", 43200), ("7d", 604800), ("1d12h", 129600), ("1.5h", 5400)],
)
def test_a_duration(text: str, seconds: int) -> None:
    """It has the form of `wait_for_capacity` and of custom timeouts."""
    assert audit._seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "12", "h", "-1h", "12 h", "12H", "\u0661h"])
def test_no_duration(line: CommandLine, text: str) -> None:
    """The error has examples of what is a duration."""
    line.run("audit", "--max-age", text, code=2)
    assert "is not a duration. Give minutes, hours or days, for example 30m, 12h" in line.stderr


# Failures: exit code 1 is for findings alone.


def test_without_a_list_of_stacks(line: CommandLine) -> None:
    """The reason is printed, and what to do."""
    line.pulumi_says = NO_PULUMI
    shown = line.run("audit", code=CANT_TELL)
    assert f"Unreadable: the list of stacks: {NO_PULUMI}\n" in shown
    assert "name the stacks to read with --stack" in shown


def test_without_the_api(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is printed."""
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    line.run("audit", code=CANT_TELL)
    assert "answered 401" in line.stderr


@pytest.mark.parametrize(
    "error, says, has_traceback",
    [
        (OSError("no space"), "OSError: no space", True),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug", True),
        (KeyboardInterrupt(), "interrupted", False),
        (StackError("damaged"), "damaged", False),
    ],
)
@pytest.mark.parametrize("where", ["_look", "_print"])
def test_no_failure_is_a_finding(
    line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
    says: str,
    has_traceback: bool,
) -> None:
    """Only a bug shows its traceback."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"{audit.__name__}.{where}", fails)
    line.run("audit", code=CANT_TELL)
    assert f"the audit could not be completed: {says}" in line.stderr
    assert ("Traceback" in line.stderr) is has_traceback
