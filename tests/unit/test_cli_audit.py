"""`pulumi-fal audit`: exactly the machines that no stack has, and those that no API has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api import settings
from pulumi_fal.errors import StackError
from pulumi_fal.machines.entry import Phase

from ..fakes import KEY
from .cli_support import CommandLine, command_line, urn

DEV, PROD, TEST = (f"organization/train/{name}" for name in ("dev", "prod", "test"))
CLEAN, FOUND, CANT_TELL = 0, 1, 2


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        yield line


def whose(report: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {machine["id"]: machine["whose"] for machine in report["machines"]}


def test_all_is_well_where_each_machine_is_in_a_stack(line: CommandLine) -> None:
    """Where every machine is in a stack, one line says so and the exit code is 0."""
    line.stacks = {DEV: {"a": line.rent()}, PROD: {"a": line.rent()}}
    assert line.run("audit") == "Machines: 2 (2 in stack). Stacks read: 2. Gone: 0.\n"


def test_it_finds_exactly_the_machines_that_were_forgotten(line: CommandLine) -> None:
    """A machine that no stack of the backend has is named, and the exit code is 1."""
    kept, pending, forgotten = line.rent(), line.rent(), line.rent()
    line.stacks = {DEV: {"a": kept}, PROD: {}}
    line.pend(phase=Phase.CREATED, instance_id=pending)
    report = line.json("audit", code=FOUND)
    assert whose(report) == {kept: "stack", pending: "pending", forgotten: "forgotten"}
    shown = line.run("audit", code=FOUND)
    assert forgotten in shown
    assert kept not in shown
    assert pending not in shown
    assert "Machines: 3 (1 in stack, 1 pending, 1 forgotten)." in shown


def test_ids_are_those_of_the_forgotten_machines_alone(line: CommandLine) -> None:
    """`pulumi-fal delete` takes each of them, and only those: one id a line."""
    kept, pending, *forgotten = (line.rent() for _ in range(4))
    line.stacks = {DEV: {"a": kept}, PROD: {}}
    line.pend(phase=Phase.CREATED, instance_id=pending)
    printed = line.run("audit", "--ids", "--max-age", "0m", code=FOUND)
    assert printed.endswith("\n")
    assert sorted(printed.splitlines()) == sorted(forgotten)
    assert line.stderr == (
        "Machines: 4 (1 in stack, 1 pending, 2 forgotten). Stacks read: 2. Gone: 0.\n"
    )
    line.run("audit", "--ids", "--json", code=2)


def test_no_id_is_printed_where_a_stack_cannot_be_read(line: CommandLine) -> None:
    """That stack may have the machine. The reason is on stderr, and the exit code is 2."""
    line.rent()
    line.stacks = {DEV: {}, PROD: "the checkpoint is damaged"}
    assert line.run("audit", "--ids", code=CANT_TELL) == ""
    assert f"Unreadable: stack {PROD}: the checkpoint is damaged\n" in line.stderr


def test_audit_says_how_to_end_a_forgotten_machine(line: CommandLine) -> None:
    """The command is printed beside the way to keep the machine."""
    line.rent()
    line.stacks = {DEV: {}}
    assert "\n  pulumi-fal delete ID\n" in line.run("audit", code=FOUND)


def test_its_json_says_by_which_resource_a_machine_is_had(line: CommandLine) -> None:
    """The JSON has each machine as the API shows it, with its stack and URN."""
    id_ = line.rent()
    line.stacks = {DEV: {"a": id_}}
    report = line.json("audit")
    (machine,) = report["machines"]
    assert (machine["id"], machine["stack"], machine["urn"]) == (id_, DEV, urn("a"))
    assert machine["status"] == "ready"
    assert report["stacks"] == [DEV]
    assert (report["gone"], report["other_account"], report["unreadable"]) == ([], [], {})


def test_only_the_given_stacks_count(line: CommandLine) -> None:
    """A machine that only another stack has is in none of the given ones."""
    first, second = line.rent(), line.rent()
    line.stacks = {DEV: {"a": first}, PROD: {"a": second}}
    report = line.json("audit", "--stack", DEV, code=FOUND)
    assert whose(report) == {first: "stack", second: "forgotten"}
    line.run("audit", "--stack", DEV, "--stack", PROD)


def test_a_resource_whose_machine_is_gone_is_found(line: CommandLine) -> None:
    """A resource whose machine is gone is named by its stack, URN and id."""
    line.stacks = {DEV: {"a": "i-gone", "b": line.rent()}}
    assert line.json("audit", code=FOUND)["gone"] == [
        {"id": "i-gone", "urn": urn("a"), "stack": DEV}
    ]
    assert "`pulumi refresh`" in line.run("audit", code=FOUND)


def test_a_machine_that_only_the_list_lacks_is_not_gone(line: CommandLine) -> None:
    """A machine that a GET still shows is not gone, since a list may lag behind."""
    id_ = line.rent()
    line.stacks = {DEV: {"a": id_}}
    line.emulator.state.hide(id_, "list", 60)
    assert line.json("audit")["gone"] == []


def test_a_machine_that_is_gone_by_now_is_not_forgotten(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is gone by the end is not reported, since a destroy may have ended."""
    id_ = line.rent()
    line.stacks = {DEV: {}}
    original = line.pulumi

    def pulumi(*args: str, **others: Any) -> str:
        if id_ in line.emulator.state.alive():
            line.emulator.state.kill(id_)
        return original(*args, **others)

    monkeypatch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
    assert line.json("audit")["machines"] == []


def test_a_stack_that_cannot_be_read_makes_machines_unknown(line: CommandLine) -> None:
    """A stack that can't be read may have any machine, so it is named and the exit code is 2."""
    kept, other = line.rent(), line.rent()
    line.stacks = {DEV: {"a": kept}, PROD: "the checkpoint is damaged"}
    report = line.json("audit", code=CANT_TELL)
    assert whose(report) == {kept: "stack", other: "unknown"}
    assert report["unreadable"] == {f"stack {PROD}": "the checkpoint is damaged"}
    shown = line.run("audit", code=CANT_TELL)
    assert f"Unreadable: stack {PROD}: the checkpoint is damaged" in shown
    assert f"{other}  gpu_1x_h100_sxm5" in shown


def test_a_stack_that_cannot_be_read_is_not_clean(line: CommandLine) -> None:
    """A stack that can't be read may have resources whose machines are gone."""
    line.stacks = {DEV: {"a": line.rent()}, PROD: "no access"}
    line.run("audit", code=CANT_TELL)


def test_what_is_found_beside_what_is_unreadable_is_found(line: CommandLine) -> None:
    """A finding counts more than an unreadable stack, and the exit code is 1."""
    line.stacks = {DEV: {"a": "i-gone"}, PROD: "no access"}
    line.run("audit", code=FOUND)


def test_a_record_that_cannot_be_read_makes_machines_unknown(line: CommandLine) -> None:
    """A record that can't be read may be about any machine that no stack has."""
    id_ = line.rent()
    line.stacks = {DEV: {}}
    line.journal.folder.mkdir(parents=True)
    (line.journal.folder / "0-0.json").write_text("{")
    report = line.json("audit", code=CANT_TELL)
    assert whose(report) == {id_: "unknown"}
    assert list(report["unreadable"].values()) == ["it is damaged"]


def test_what_an_unanswered_create_may_have_made_is_unknown(line: CommandLine) -> None:
    """A machine may come from an unanswered create, or from anybody."""
    before, perhaps = line.rent(), line.rent()
    line.stacks = {DEV: {"a": before}}
    line.pend(before=(before,))
    assert whose(line.json("audit", code=CANT_TELL)) == {before: "stack", perhaps: "unknown"}
    assert f"unknown: perhaps made by the pending create of {urn('box')}" in line.run(
        "audit", code=CANT_TELL
    )


def test_a_machine_beside_the_present_one_is_unknown(line: CommandLine) -> None:
    """The machine may come from the create that got no answer, so it is not simply forgotten."""
    present, perhaps = line.rent(), line.rent()
    line.stacks = {DEV: {"box": present}}
    line.pend(phase=Phase.LATE, found=(perhaps,))
    assert whose(line.json("audit", code=CANT_TELL)) == {present: "stack", perhaps: "unknown"}


def test_what_pulumi_was_told_of_is_as_its_stack_says(line: CommandLine) -> None:
    """The record of a machine that Pulumi was told of claims nothing by itself."""
    held, dropped = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}}
    line.pend("a", phase=Phase.REPORTED, instance_id=held)
    line.pend("b", phase=Phase.REPORTED, instance_id=dropped)
    assert whose(line.json("audit", code=FOUND)) == {held: "stack", dropped: "forgotten"}


def test_what_pulumi_was_told_of_is_unknown_where_its_stack_cannot_be_asked(
    line: CommandLine,
) -> None:
    """A machine that Pulumi was told of is unknown where its own stack can't be asked."""
    id_ = line.rent()
    line.stacks = {DEV: "no access", PROD: {}}
    line.pend(phase=Phase.REPORTED, instance_id=id_)
    assert whose(line.json("audit", "--stack", PROD, code=CANT_TELL)) == {id_: "unknown"}


def test_without_a_list_of_stacks_nothing_can_be_told(line: CommandLine) -> None:
    """Without a list of stacks the reason is printed and the exit code is 2."""
    line.pulumi_says = "there is no `pulumi` command on PATH"
    line.run("audit", code=CANT_TELL)
    assert "the audit could not be completed: there is no `pulumi`" in line.stderr
    assert "--stack" in line.stderr


def test_without_the_api_nothing_can_be_told(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the API its answer is printed and the exit code is 2."""
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    line.run("audit", code=CANT_TELL)
    assert "answered 401" in line.stderr


# Machines of other accounts.


def test_a_machine_of_another_key_is_not_gone_when_this_one_does_not_list_it(
    line: CommandLine,
) -> None:
    """A machine of another key may still run, so nobody is advised to drop it."""
    line.stacks = {DEV: {"a": "i-theirs", "b": line.rent()}}
    line.seen = {"i-theirs": {"account": "1a2b3c", "endpoint": line.emulator.url}}
    report = line.json("audit", code=CANT_TELL)
    assert report["gone"] == []
    assert report["other_account"] == [
        {
            "id": "i-theirs",
            "urn": urn("a"),
            "stack": DEV,
            "account": "1a2b3c",
            "endpoint": line.emulator.url,
        }
    ]
    shown = line.run("audit", code=CANT_TELL)
    assert "unknown: seen with another key (account 1a2b3c)" in shown
    assert "set the key and the endpoint of that account" in shown
    assert "pulumi refresh" not in shown


def test_a_machine_of_another_endpoint_is_not_gone_either(line: CommandLine) -> None:
    """A machine of another endpoint may still run, as when a terminal is set to an emulator."""
    line.stacks = {DEV: {"a": "i-theirs"}}
    line.seen = {"i-theirs": {"endpoint": "https://elsewhere"}}
    assert "unknown: seen at another endpoint (https://elsewhere)" in line.run(
        "audit", code=CANT_TELL
    )


def test_where_two_keys_are_of_one_account_what_is_missing_is_gone(line: CommandLine) -> None:
    """A rotated key that lists one machine of the account tells what else is gone."""
    there = line.rent()
    line.stacks = {DEV: {"a": "i-gone"}, PROD: {"a": there}}
    line.seen = {id_: {"account": "rotated"} for id_ in ("i-gone", there)}
    report = line.json("audit", code=FOUND)
    assert [machine["id"] for machine in report["gone"]] == ["i-gone"]
    assert report["other_account"] == []


def test_a_machine_that_was_seen_with_this_key_is_gone(line: CommandLine) -> None:
    """A machine that was seen with this key, or with none that is known, is gone."""
    line.stacks = {DEV: {"a": "i-mine", "b": "i-whose", "c": "i-theirs"}}
    account = settings.Settings(line.emulator.url, KEY, "").account
    mine = {"account": account, "endpoint": line.emulator.url}
    line.seen = {"i-mine": mine, "i-theirs": {"account": "1a2b3c"}}
    report = line.json("audit", code=FOUND)
    assert [machine["id"] for machine in report["gone"]] == ["i-mine", "i-whose"]
    assert [machine["id"] for machine in report["other_account"]] == ["i-theirs"]


# Failures: exit code 1 is for findings alone.


@pytest.mark.parametrize(
    "error, says, has_traceback",
    [
        (OSError("no space"), "OSError: no space", True),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug", True),
        (KeyboardInterrupt(), "interrupted", False),
        (StackError("damaged"), "damaged", False),
    ],
)
@pytest.mark.parametrize("where", ["gather", "_print"])
def test_no_failure_is_taken_for_a_finding(
    line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
    says: str,
    has_traceback: bool,
) -> None:
    """A failure ends with exit code 2, and only a bug shows its traceback."""

    def fails(*_: object) -> None:
        raise error

    line.stacks = {DEV: {}}
    monkeypatch.setattr(f"pulumi_fal.cli.audit.{where}", fails)
    line.run("audit", code=CANT_TELL)
    assert f"the audit could not be completed: {says}" in line.stderr
    assert ("Traceback" in line.stderr) is has_traceback


def test_a_folder_of_records_that_cannot_be_read_is_no_finding(line: CommandLine) -> None:
    """A folder of records that can't be read may have any machine, so there is no finding."""
    line.stacks = {DEV: {}}
    line.journal.folder.parent.mkdir(parents=True)
    line.journal.folder.touch()
    line.run("audit", code=CANT_TELL)
    assert "can't be read" in line.stderr
