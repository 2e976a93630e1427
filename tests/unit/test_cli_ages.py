"""How long machines have been running: `pulumi-fal ls --age` and `pulumi-fal audit --max-age`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli_support import NOW, CommandLine, command_line, urn

from pulumi_fal.cli import ages, show
from pulumi_fal.cli.context import Context
from pulumi_fal.machines.entry import Phase

from ..fakes import TurnedClock

DEV, PROD = "organization/train/dev", "organization/train/prod"
HOUR, DAY = 3600, 86400
CLEAN, FOUND, CANT_TELL = 0, 1, 2


class Clock(TurnedClock):
    """A clock that stands still, at NOW."""

    def wall(self) -> float:
        return NOW


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch, Context(Clock())) as line:
        yield line


def rent(line: CommandLine, age: float) -> str:
    """A machine that a stack will have recorded so many seconds ago."""
    id_ = line.rent()
    line.created[id_] = show.moment(NOW - age)
    return id_


# ls


def test_ls_shows_ages_of_what_stacks_have(line: CommandLine) -> None:
    """All stacks of the backend are asked; a dash stands where no stack has the machine."""
    new, old, nobodys = rent(line, 90), rent(line, 3 * DAY + 5 * HOUR), line.rent()
    line.stacks = {DEV: {"a": new}, PROD: {"a": old}}
    header, *rows = line.run("ls", "--age").splitlines()
    assert header.split() == ["ID", "TYPE", "SECTOR", "IP", "STATUS", "STACK", "RESOURCE", "AGE"]
    shown = {row.split()[0]: re.split("  +", row)[-1] for row in rows}
    assert shown == {new: "1m", old: "3d 5h", nobodys: "-"}
    assert line.stderr == ""


def test_ls_as_json_has_the_moment_as_well(line: CommandLine) -> None:
    """A moment that is not known is null."""
    old, nobodys = rent(line, HOUR), line.rent()
    line.stacks = {DEV: {"a": old}}
    told = {
        machine["id"]: (machine["created"], machine["age_seconds"])
        for machine in line.json("ls", "--age")
    }
    assert told == {old: ("2023-11-14T21:13:20+00:00", HOUR), nobodys: (None, None)}


def test_ls_asks_no_stack_where_it_is_told_not_to(line: CommandLine) -> None:
    """Reading takes a command for each stack of an organization."""
    id_ = line.rent()
    line.pulumi_says = "there is no `pulumi` command on PATH"
    assert id_ in line.run("ls", "--no-stacks")
    assert "created" not in line.json("ls", "--no-stacks")[0]
    assert line.stderr == ""
    line.run("ls", "--no-stacks", "--age", code=2)


def test_ls_goes_on_without_the_stacks(line: CommandLine) -> None:
    """`ls` says why there are no ages, where that does not disturb a program."""
    id_ = line.rent()
    line.pulumi_says = "there is no `pulumi` command on PATH"
    assert re.search(rf"{id_} .* ready +unknown +- +-$", line.run("ls", "--age"), re.MULTILINE)
    assert line.stderr == ("Unreadable: the list of stacks: there is no `pulumi` command on PATH\n")
    assert line.json("ls", "--age")[0]["created"] is None


def test_ls_goes_on_without_one_stack(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls` leaves out the ages from a stack that can't be read, or that there was no time for."""
    id_ = rent(line, HOUR)
    line.stacks = {DEV: {"a": id_}, PROD: "damaged"}
    assert re.search(rf"{id_} .* ready +{DEV} +a +1h$", line.run("ls", "--age"), re.MULTILINE)
    assert line.stderr == f"Unreadable: stack {PROD}: damaged\n"
    monkeypatch.setattr("pulumi_fal.cli.machines._STACKS_SECONDS", 0.0)
    assert "1h" not in line.run("ls", "--age")
    assert line.stderr.count("there was no time for it within 0 s") == 2


def test_ls_without_machines_asks_no_stack(line: CommandLine) -> None:
    """Without a machine there is no age to look for."""
    line.pulumi_says = "there is no `pulumi` command on PATH"
    assert line.run("ls", "--age") == "There are no machines.\n"
    assert line.stderr == ""


def test_ls_watches_no_ages(line: CommandLine) -> None:
    """Ages change all the time, and would be printed with every poll."""
    line.run("ls", "--watch", "--age", code=2)
    assert "leave out --age" in line.stderr


# audit


def test_audit_finds_what_runs_for_too_long(line: CommandLine) -> None:
    """The machine, its stack and its resource are named; the exit code is that of a finding."""
    new, old = rent(line, 11 * HOUR), rent(line, 13 * HOUR)
    line.stacks = {DEV: {"a": new}, PROD: {"b": old}}
    shown = line.run("audit", "--max-age", "12h", code=FOUND)
    header, row, counts, advice = shown.splitlines()
    assert re.split("  +", header) == ["TOO OLD", "TYPE", "AGE", "STACK", "RESOURCE"]
    assert re.split("  +", row) == [old, "gpu_1x_h100_sxm5", "13h", PROD, urn("b", "prod")]
    assert counts == "Machines: 2 (2 in stack). Stacks read: 2. Gone: 0."
    assert advice.startswith("Running for more than 12h: 1. ")
    report = line.json("audit", "--max-age", "12h", code=FOUND)
    assert report["too_old"] == [
        {"id": old, "urn": urn("b", "prod"), "stack": PROD, "age_seconds": 13 * HOUR}
    ]


def test_audit_is_clean_where_nothing_runs_for_longer(line: CommandLine) -> None:
    """A machine that is exactly as old as the limit is no finding; without a limit none is."""
    line.stacks = {DEV: {"a": rent(line, 12 * HOUR), "b": rent(line, -5)}}
    line.run("audit", "--max-age", "12h")
    line.run("audit")
    assert line.json("audit", "--max-age", "1d")["too_old"] == []
    assert line.json("audit")["too_old"] == []


def test_audit_says_in_json_how_old_each_machine_is(line: CommandLine) -> None:
    """Ages are there with a limit or without; the clock of another computer may be ahead."""
    old, ahead, nobodys = rent(line, DAY), rent(line, -30), line.rent()
    line.stacks = {DEV: {"a": old, "b": ahead}}
    report = line.json("audit", code=FOUND)
    told = {machine["id"]: machine["age_seconds"] for machine in report["machines"]}
    assert told == {old: DAY, ahead: 0, nobodys: None}
    assert {machine["id"]: machine["created"] for machine in report["machines"]}[old] == (
        "2023-11-13T22:13:20+00:00"
    )


def test_a_machine_without_an_age_cannot_be_told(line: CommandLine) -> None:
    """With a limit such a machine is no finding, and any finding counts more."""
    line.stacks = {DEV: {"a": line.rent()}}
    line.run("audit")
    (id_,) = line.emulator.state.alive()
    shown = line.run("audit", "--max-age", "12h", code=CANT_TELL)
    assert f"Age unknown: {id_}, in {DEV}: {urn('a')}" in shown
    line.stacks[DEV] = {"a": id_, "b": rent(line, DAY)}
    line.run("audit", "--max-age", "12h", code=FOUND)


def test_only_machines_of_stacks_run_for_too_long(line: CommandLine) -> None:
    """A pending one is in none yet, a forgotten one is found anyway, and one that is gone is not
    running."""
    line.pend(phase=Phase.CREATED, instance_id=line.rent())
    line.run("audit", "--max-age", "0m", "--stack", DEV, code=CANT_TELL)
    line.stacks = {DEV: {}}
    line.run("audit", "--max-age", "0m")
    line.stacks = {DEV: {"a": "i-gone"}}
    line.created["i-gone"] = show.moment(NOW - DAY)
    report = line.json("audit", "--max-age", "12h", code=FOUND)
    assert report["too_old"] == []
    assert [machine["id"] for machine in report["gone"]] == ["i-gone"]


def test_a_machine_of_two_stacks_is_as_old_as_in_the_first(line: CommandLine) -> None:
    """The second stack has imported the machine since, whichever stack is read first."""
    id_ = line.rent()
    line.stacks = {DEV: {"a": id_}, PROD: {"a": id_}}
    original = line.pulumi

    for first in (DEV, PROD):

        def pulumi(*args: str, first: str = first, **others: Any) -> str:
            line.created[id_] = show.moment(NOW - (DAY if first in args else HOUR))
            return original(*args, **others)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pulumi_fal.stacks.state._AT_ONCE", 1)
            patch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
            (found,) = line.json("audit", "--max-age", "12h", code=FOUND)["too_old"]
            assert found["age_seconds"] == DAY


# Durations.


@pytest.mark.parametrize(
    "text, seconds",
    [("30m", 1800), ("12h", 43200), ("7d", 604800), ("1d12h", 129600), ("1d2h3m", 93780)],
)
def test_a_duration_has_units(text: str, seconds: int) -> None:
    """A duration is in minutes, hours or days, or several of them from large to small."""
    assert ages.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "12", "h", "1.5h", "-1h", "12 h", "12s", "1h1d", "12H", "\u0661h"]
)
def test_what_is_no_duration_is_wrong_usage(line: CommandLine, text: str) -> None:
    """The error has examples of what is a duration."""
    line.run("audit", "--max-age", text, code=2)
    assert "Invalid value for '--max-age'" in line.stderr
    assert "is not a duration. Give minutes, hours or days, for example 30m, 12h" in line.stderr


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0m"),
        (59, "0m"),
        (90, "1m"),
        (HOUR, "1h"),
        (13 * HOUR + 125, "13h 2m"),
        (DAY - 1, "23h 59m"),
        (DAY + 300, "1d"),
        (8 * DAY + 7300, "8d 2h"),
    ],
)
def test_an_age_is_told_in_its_largest_units(seconds: int, words: str) -> None:
    """Nobody wants the minutes of a week."""
    assert ages.in_words(seconds) == words
