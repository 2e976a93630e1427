"""`pulumi-fal ls` and `get`: the machines as the API has them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.cli.claims import gather, gather_readable
from pulumi_fal.cli.context import Context
from pulumi_fal.machines.entry import Phase
from pulumi_fal.stacks import state

from ..fakes import EIGHT, TurnedClock, wait_until
from .cli_support import CommandLine, command_line, urn

DEV, PROD = "organization/train/dev", "organization/train/prod"


class Ticks(TurnedClock):
    """Does something at each pause, and ends with Ctrl-C."""

    def __init__(self) -> None:
        super().__init__()
        self.todo: list[object] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if not self.todo:
            raise KeyboardInterrupt
        action = self.todo.pop(0)
        if callable(action):
            action()


@pytest.fixture
def clock() -> Ticks:
    return Ticks()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Ticks) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch, Context(clock)) as line:
        yield line


def test_ls_lists_machines_whole(line: CommandLine) -> None:
    """A line is never cut, an unknown value is a dash, and a file gets no colour."""
    one, eight = line.rent(), line.rent(EIGHT, "sector_2")
    header, first, second = line.run("ls", "--no-stacks").splitlines()
    assert header.split() == ["ID", "TYPE", "SECTOR", "IP", "STATUS"]
    assert re.fullmatch(rf"{one} +gpu_1x_h100_sxm5 +- +[\d.]+ +ready", first)
    assert re.fullmatch(rf"{eight} +{EIGHT} +sector_2 +[\d.]+ +ready", second)


def test_ls_shows_whose_each_machine_is(line: CommandLine) -> None:
    """The columns have the stack and the resource's name; the JSON has the URN as well."""
    held, pending, forgotten = line.rent(), line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}, PROD: {}}
    line.pend(phase=Phase.CREATED, instance_id=pending)
    assert owners(line) == {
        held: [DEV, "a"],
        pending: [f"pending: {DEV}", "box"],
        forgotten: ["forgotten", "-"],
    }
    told = {machine.pop("id"): machine for machine in line.json("ls")}
    fields = ("whose", "stack", "resource", "urn")
    assert {id_: [machine[name] for name in fields] for id_, machine in told.items()} == {
        held: ["stack", DEV, "a", urn("a")],
        pending: ["pending", DEV, "box", urn("box")],
        forgotten: ["forgotten", None, None, None],
    }
    assert line.stderr == ""


def test_ls_needs_one_list_call(line: CommandLine) -> None:
    """Whose the machines are costs no call of the API."""
    line.stacks = {DEV: {"a": line.rent(), "b": "i-gone"}}
    line.rent()
    line.run("ls")
    calls = line.emulator.state.calls
    assert (calls["list"], calls["get"]) == (1, 0)


def test_ls_shows_as_unknown_what_a_stack_that_cannot_be_read_may_have(line: CommandLine) -> None:
    """The reasons are on stderr, where they don't disturb a program, and of many some are named."""
    held, other = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}, **{f"organization/train/{i}": "no access" for i in range(5)}}
    assert owners(line) == {held: [DEV, "a"], other: ["unknown", "-"]}
    assert line.stderr.splitlines() == [
        *(f"Unreadable: stack organization/train/{i}: no access" for i in range(3)),
        "Unreadable: 2 more. `pulumi-fal audit` names them all.",
    ]


def test_ls_shows_as_unknown_what_an_unanswered_create_may_have_made(line: CommandLine) -> None:
    """The create is named, and the machine may be its own or somebody else's."""
    id_ = line.rent()
    line.stacks = {DEV: {}}
    line.pend()
    assert owners(line) == {id_: [f"unknown: {DEV}", "perhaps box"]}


def test_ls_goes_on_where_the_records_cannot_be_read(line: CommandLine) -> None:
    """A machine that no stack has may be pending."""
    id_ = line.rent()
    line.stacks = {DEV: {}}
    line.journal.folder.parent.mkdir(parents=True)
    line.journal.folder.touch()
    assert owners(line) == {id_: ["unknown", "-"]}
    assert "Unreadable: folder" in line.stderr


def test_ls_shows_on_a_terminal_how_far_reading_the_stacks_is(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stacks take seconds. Another stderr gets nothing, so a log has no such lines."""
    line.rent()
    line.stacks = {DEV: {}, PROD: {}}
    with_terminal = io.StringIO()
    monkeypatch.setattr(with_terminal, "isatty", lambda: True, raising=False)
    for stderr, shown in ((with_terminal, True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stderr)
        gather_readable(Context(), note="; --no-stacks leaves this out")
        assert ("of 2; --no-stacks leaves this out" in stderr.getvalue()) is shown


def test_ls_and_audit_show_that_listing_the_stacks_is_under_way(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a remote backend, the list alone takes seconds."""
    line.stacks = {DEV: {}}
    names = state.names
    for read in (gather_readable, partial(gather, stacks=())):
        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stderr", terminal)

        def listed(*, seconds: float, shown: io.StringIO = terminal) -> list[str]:
            wait_until(lambda: "Listing the stacks" in shown.getvalue())
            return names(seconds=seconds)

        monkeypatch.setattr(state, "names", listed)
        assert read(Context()).stacks == [DEV]


def test_watch_reads_no_stacks(line: CommandLine) -> None:
    """Stacks take seconds, and a list is shown with every change."""
    line.pulumi_says = "there is no `pulumi` command on PATH"
    line.rent()
    assert line.run("ls", "--watch").split()[:5] == ["ID", "TYPE", "SECTOR", "IP", "STATUS"]
    assert line.stderr == ""


def owners(line: CommandLine) -> dict[str, list[str]]:
    """The last two columns of each machine."""
    header, *rows = line.run("ls").splitlines()
    assert header.split()[-2:] == ["STACK", "RESOURCE"]
    return {row.split()[0]: re.split("  +", row)[-2:] for row in rows}


def test_ls_says_that_there_are_none(line: CommandLine) -> None:
    """Without machines a sentence says so, and the JSON is an empty list."""
    assert line.run("ls") == "There are no machines.\n"
    assert line.json("ls") == []


def test_ls_as_json_is_what_the_api_says(line: CommandLine) -> None:
    """The JSON has the API's own names and values."""
    line.rent(EIGHT, "sector_2")
    assert line.json("ls", "--no-stacks") == [
        asdict(machine) for machine in line.emulator.state.list()
    ]


def test_watch_shows_them_again_with_every_change(line: CommandLine, clock: Ticks) -> None:
    """The table is printed again with every change only, and Ctrl-C ends it."""
    first = line.rent()
    second: list[str] = []
    clock.todo = [None, lambda: second.append(line.rent()), None]
    before, after = line.run("ls", "--watch").split("\n\n")
    assert first in before
    assert first in after
    assert second[0] not in before
    assert second[0] in after


def test_watch_is_for_people(line: CommandLine) -> None:
    """`--watch` is refused together with `--json`."""
    line.run("ls", "--watch", "--json", code=2)


def test_get_shows_one_machine_and_how_to_log_in(line: CommandLine) -> None:
    """Each known value has a line, and a login is offered."""
    id_ = line.rent()
    ip = line.emulator.state.list()[0].ip
    assert line.run("get", id_).splitlines() == [
        id_,
        "  type    gpu_1x_h100_sxm5",
        f"  ip      {ip}",
        "  status  ready",
        f"  login   ssh ubuntu@{ip}",
    ]
    assert line.json("get", id_) == asdict(line.emulator.state.list()[0])


def test_get_offers_no_login_to_a_machine_that_is_not_ready(line: CommandLine) -> None:
    """No login is offered before the machine is ready, when it would be refused."""
    id_ = line.rent()
    line.emulator.state.set_status(id_, "provisioning")
    assert "login" not in line.run("get", id_)


def test_get_of_a_machine_that_does_not_exist_fails(line: CommandLine) -> None:
    """An unknown machine fails with the API's own answer."""
    assert "GET /compute/instance/i-1 answered 404" in line.refused("get", "i-1")


def test_a_refused_key_is_named_by_its_source(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused key is named by its source, and its value is never printed."""
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    says = line.refused("ls")
    assert "came from the environment variable FAL_ADMIN_API_KEY" in says
    assert "wrong" not in says


def test_key_and_endpoint_may_come_from_the_selected_stack(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and endpoint are found as the provider finds them, and secrets are read last."""
    asked = []
    said = {
        ("config", "--json"): '{"fal:apiKey": {"secret": true}, "fal:endpoint": '
        f'{{"secret": false, "value": "{line.emulator.url}"}}}}',
        ("config", "get", "fal:apiKey"): f"{line.emulator.env['FAL_ADMIN_API_KEY']}\n",
    }

    def pulumi(*args: str, **others: Any) -> str:
        asked.append(args)
        return said[args]

    monkeypatch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
    monkeypatch.delenv("FAL_COMPUTE_ENDPOINT")
    Path("Pulumi.yaml").write_text("name: train\nruntime: python\n")
    line.here = None
    line.run("ls")
    assert asked == [("config", "--json")]
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.run("ls")
    assert asked[1:] == [("config", "--json"), ("config", "get", "fal:apiKey")]


def test_a_stack_whose_config_cannot_be_read_is_none(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack whose config can't be read is ignored, since the environment may suffice."""
    line.pulumi_says = "no stack is selected"
    Path("Pulumi.yaml").write_text("name: train\nruntime: python\n")
    line.run("ls")
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.here = None
    assert "No fal API key is set" in line.refused("ls")


def test_under_v1_the_region_and_the_creator_are_shown(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The legacy API tells neither, so there the columns are left out."""
    made = line.rent()
    monkeypatch.setenv("FAL_COMPUTE_API", "v1")
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", f"{line.emulator.url}/v1")
    header, row = line.run("ls", "--no-stacks").splitlines()
    assert header.split()[-2:] == ["REGION", "CREATOR"]
    assert row.split()[-2:] == ["us-west", "emulator"]
    assert re.search(r"region +us-west", line.run("get", made))
