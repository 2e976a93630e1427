"""`pulumi-fal ls` and `get`: the machines as the API has them, and how names are printed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.cli import machines, show
from pulumi_fal.cli.context import Context
from pulumi_fal.cli.evidence import Reader
from pulumi_fal.machines.journal import Phase
from pulumi_fal.stacks import state

from ..fakes import EIGHT, ONE, wait_until
from .cli_support import DEV, NO_PULUMI, NOW, PROD, CommandLine, command_line, urn

HOUR, DAY = 3600, 86400


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks = {DEV: {}, PROD: {}}
        yield line


def rows(line: CommandLine, *options: str) -> dict[str, list[str]]:
    """The columns of each machine after those that the API fills."""
    header, *rows = line.run("ls", *options).partition("\n\n")[0].splitlines()
    count = len(header.split()) - 5
    return {row.split()[0]: re.split("  +", row)[-count:] for row in rows}


def test_ls_cuts_nothing(line: CommandLine) -> None:
    """A line is never cut, an unknown value is a dash, and a file gets no colour."""
    one, eight = line.rent(), line.rent(EIGHT, "sector_2")
    header, first, second = line.run("ls", "--no-stacks").splitlines()
    assert header.split() == ["ID", "TYPE", "SECTOR", "IP", "STATUS"]
    assert re.fullmatch(rf"{one} +gpu_1x_h100_sxm5 +- +[\d.]+ +ready", first)
    assert re.fullmatch(rf"{eight} +{EIGHT} +sector_2 +[\d.]+ +ready", second)
    listed = [asdict(machine) for machine in line.emulator.state.list()]
    assert line.json("ls", "--no-stacks") == listed


def test_ls_shows_whose_each_machine_is(line: CommandLine) -> None:
    """A stack and a resource, in one call of the API. With --age, how long it has been running."""
    held, old, pending, forgotten, perhaps = (line.rent(kind) for kind in (ONE,) * 4 + (EIGHT,))
    line.created = {held: show.moment(NOW - 90), old: show.moment(NOW - 3 * DAY - 5 * HOUR)}
    line.stacks = {DEV: {"a": held, "gone": "i-gone"}, PROD: {"b": old}}
    line.pend(phase=Phase.CREATED, instance_id=pending)
    line.pend("lost", instance_type=EIGHT)
    shown = {
        held: [DEV, "a", "1m"],
        old: [PROD, "b", "3d 5h"],
        pending: [f"pending: {DEV}", "box", "-"],
        forgotten: ["forgotten", "-", "-"],
        perhaps: [f"unknown: {DEV}", "perhaps lost", "-"],
    }
    assert rows(line, "--age") == shown
    assert (line.stderr, line.emulator.state.calls.total()) == ("", 1)
    assert rows(line) == {id_: cells[:2] for id_, cells in shown.items()}


def test_ls_sorts_by_stack_and_name(line: CommandLine) -> None:
    """node-2 comes before node-10, and what no stack has at the end."""
    names = ("node-10", "b", "node-2")
    forgotten, *held = (line.rent() for _ in range(4))
    line.stacks = {PROD: {"a": line.rent()}, DEV: dict(zip(names, held, strict=True))}
    order = [row[1] for row in rows(line).values()]
    assert order == ["b", "node-2", "node-10", "a", "-"]
    assert next(reversed(rows(line))) == forgotten


def test_ls_names_what_another_account_has(line: CommandLine) -> None:
    """No machine is no good news with the wrong key, so the key and its account are named."""
    line.stacks = {DEV: {"a": "i-elsewhere"}}
    said = line.run("ls")
    assert "There are no machines.\nThe key is from the environment variable FAL_" in said
    assert f"at {line.emulator.url}." in said
    assert re.search(rf"i-elsewhere +{DEV} +a\n", said)


def test_ls_names_what_it_cannot_read(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reasons are on stderr, where they don't disturb a program, and of many some are named."""
    held, other = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}, **{f"organization/train/{i}": "no access" for i in range(5)}}
    assert rows(line) == {held: [DEV, "a"], other: ["unknown", "-"]}
    assert line.stderr.splitlines() == [
        *(f"Unreadable: stack organization/train/{i}: no access" for i in range(3)),
        "Unreadable: 2 more. `pulumi-fal audit` names them all.",
    ]
    monkeypatch.setattr(machines, "_STACKS_SECONDS", 0.0)
    assert rows(line, "--age")[held] == ["unknown", "-", "-"]
    assert "there was no time for it within 0 s" in line.stderr


def test_ls_without_stacks(line: CommandLine) -> None:
    """Reading them takes long, so none is asked if none is needed."""
    line.pulumi_says = NO_PULUMI
    assert "There are no machines.\n" in line.run("ls", "--no-stacks")
    assert line.json("ls", "--no-stacks") == []
    id_ = line.rent()
    assert id_ in line.run("ls", "--no-stacks")
    assert line.stderr == ""
    assert rows(line, "--age") == {id_: ["unknown", "-", "-"]}
    assert line.stderr == f"Unreadable: the list of stacks: {NO_PULUMI}\n"


def test_ages_need_stacks(line: CommandLine) -> None:
    """The API does not return them."""
    line.run("ls", "--no-stacks", "--age", code=2)
    assert "leave out --no-stacks" in line.stderr


def test_a_terminal_shows_how_far_it_is(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing and reading stacks takes seconds. Another stderr gets nothing: a log has no such
    lines."""
    names = state.names
    for is_terminal in (True, False):
        stderr = io.StringIO()
        monkeypatch.setattr(stderr, "isatty", lambda it=is_terminal: it, raising=False)
        monkeypatch.setattr(sys, "stderr", stderr)

        def listed(*, seconds: float, it: bool = is_terminal, to: io.StringIO = stderr) -> Any:
            wait_until(lambda: "Listing the stacks" in to.getvalue() or not it)
            return names(seconds=seconds)

        monkeypatch.setattr(state, "names", listed)
        Reader(Context(), note="; --no-stacks leaves this out").read([])
        assert ("of 2; --no-stacks leaves this out" in stderr.getvalue()) is is_terminal
    assert stderr.getvalue() == ""


# Names are text, whatever they look like.


@pytest.mark.parametrize("name", ["node[blue]", "x[/y]", ":smile:", "[link=x]z", "a\x1b[2J\x07b"])
def test_names_are_text(line: CommandLine, name: str) -> None:
    """They are no markup, and no character acts on the terminal."""
    held, pending = line.rent(), line.rent()
    line.created = {held: show.moment(NOW - DAY)}
    line.stacks = {DEV: {name: held, f"{name}-gone": "i-gone"}, PROD: f"\x1b]0;{name}"}
    line.pend(name, phase=Phase.CREATED, instance_id=pending, age=DAY)
    plain = re.sub("[\x1b\x07]", " ", name)
    for command in ("ls", "audit --max-age 1h", "pending ls", f"delete {held} --yes"):
        shown = line.run(*command.split(), code=int(command[0] in "ad")) + line.stderr
        assert f"::{plain}" in shown or f" {plain}" in shown
        assert not re.search("[\x1b\x07]", shown)
    line.run("pending", "forget", urn(plain), "--yes")


# get


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
    line.run("ls", "--no-stacks")
    assert asked == [("config", "--json")]
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.run("ls", "--no-stacks")
    assert asked[1:] == [("config", "--json"), ("config", "get", "fal:apiKey")]


def test_a_stack_whose_config_cannot_be_read_is_none(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack whose config can't be read is ignored, since the environment may suffice."""
    line.pulumi_says = "no stack is selected"
    Path("Pulumi.yaml").write_text("name: train\nruntime: python\n")
    line.run("ls")
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
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
