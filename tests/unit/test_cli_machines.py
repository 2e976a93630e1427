"""`pulumi-fal ls` and `get`: the machines as the API has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.cli.context import Context

from ..fakes import EIGHT, TurnedClock
from .cli_support import CommandLine, command_line


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
    header, first, second = line.run("ls").splitlines()
    assert header.split() == ["ID", "TYPE", "SECTOR", "IP", "STATUS"]
    assert re.fullmatch(rf"{one} +gpu_1x_h100_sxm5 +- +[\d.]+ +ready", first)
    assert re.fullmatch(rf"{eight} +{EIGHT} +sector_2 +[\d.]+ +ready", second)


def test_ls_says_that_there_are_none(line: CommandLine) -> None:
    """Without machines a sentence says so, and the JSON is an empty list."""
    assert line.run("ls") == "There are no machines.\n"
    assert line.json("ls") == []


def test_ls_as_json_is_what_the_api_says(line: CommandLine) -> None:
    """The JSON has the API's own names and values."""
    line.rent(EIGHT, "sector_2")
    assert line.json("ls") == [asdict(machine) for machine in line.emulator.state.list()]


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
    header, row = line.run("ls").splitlines()
    assert header.split()[-2:] == ["REGION", "CREATOR"]
    assert row.split()[-2:] == ["us-west", "emulator"]
    assert re.search(r"region +us-west", line.run("get", made))
