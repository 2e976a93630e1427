"""`pulumi-fal doctor`: what it looks at, and that it sees when something is amiss."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi import dynamic
from tests.unit.cli_support import KEY, CommandLine, command_line

import pulumi_fal
from pulumi_fal import pulumi_cli
from pulumi_fal.api import settings
from pulumi_fal.dynamic import host_probe, probe

ALL_SEAMS = dict.fromkeys(host_probe.WITHOUT, True)


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        monkeypatch.setattr(pulumi_cli, "pulumi", lambda *args: "v3.259.0\n")
        monkeypatch.setattr(host_probe, "probe_all", lambda: ALL_SEAMS)
        yield line


def findings(line: CommandLine, code: int = 0) -> dict[str, tuple[str, str]]:
    found = line.json("doctor", code=code)
    return {each["what"]: (each["verdict"], each["says"]) for each in found}


def test_all_is_well(line: CommandLine) -> None:
    """Versions, where the key comes from and whose it is, endpoint, journal, and the host_probe."""
    line.rent()
    found = findings(line)
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert found["pulumi-fal"][1] == pulumi_fal.__version__
    assert found["pulumi CLI"][1] == "v3.259.0"
    assert found["API key"][1] == "from the environment variable FAL_ADMIN_API_KEY"
    assert found["endpoint"][1] == line.emulator.url
    assert found["account"][1] == settings.Settings(line.emulator.url, KEY, "").account
    assert found["API"][1] == "accepts the key; machines: 1"
    assert found["journal"][1] == f"{line.journal.folder}; records: 0"
    assert set(ALL_SEAMS) < set(found)


def test_the_table_has_the_same(line: CommandLine) -> None:
    """A line each."""
    shown = line.run("doctor").splitlines()
    assert len(shown) == 1 + len(findings(line))
    assert re.fullmatch("API key +ok +from the environment variable FAL_ADMIN_API_KEY", shown[5])


def test_no_key_is_bad_and_the_rest_is_looked_at(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    found = findings(line, code=1)
    assert found["API key"][0] == "bad"
    assert "API" not in found
    assert found["journal"][0] == "ok"


def test_a_key_that_is_refused_is_bad(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is reached then, so that is not what to mend."""
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    verdict, says = findings(line, code=1)["API"]
    assert verdict == "bad"
    assert says.startswith("reached, but it refuses the key: ")


def test_an_endpoint_that_answers_nothing_of_use_is_bad(line: CommandLine) -> None:
    """With what it said."""
    line.emulator.faults.script("list=404:times=9")
    verdict, says = findings(line, code=1)["API"]
    assert verdict == "bad"
    assert "GET /compute/instances answered 404" in says


def test_a_missing_cli_is_bad(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is no stack."""
    line.pulumi_says = "there is no `pulumi` command on PATH"
    monkeypatch.setattr(pulumi_cli, "pulumi", line.pulumi)
    assert findings(line, code=1)["pulumi CLI"] == ("bad", line.pulumi_says)


def test_the_journal_is_looked_into(line: CommandLine) -> None:
    """How many are pending, or that one can't be read."""
    line.pend()
    assert "records: 1" in findings(line)["journal"][1]
    (line.journal.folder / "0-0.json").write_text("{")
    verdict, says = findings(line, code=1)["journal"]
    assert verdict == "bad"
    assert "is damaged" in says


def test_a_journal_that_is_no_folder_is_bad(line: CommandLine) -> None:
    """Nothing can be read in it, or written."""
    line.journal.folder.parent.mkdir(parents=True)
    line.journal.folder.touch()
    assert "can't be read" in findings(line, code=1)["journal"][1]


@pytest.mark.parametrize("exists", [True, False])
def test_a_journal_that_cannot_be_written_is_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """No machine is made without it, be the folder there or not."""
    if exists:
        line.journal.folder.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "can't be written" in findings(line, code=1)["journal"][1]


def test_a_seam_that_does_not_apply_is_missing_and_not_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything still works; it says what is so without it."""
    seam = next(iter(ALL_SEAMS))
    monkeypatch.setattr(host_probe, "probe_all", lambda: {**ALL_SEAMS, seam: False})
    assert findings(line)[seam] == ("missing", f"this SDK lacks it: {host_probe.WITHOUT[seam]}")


def test_a_plugin_that_does_not_start_is_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing works then."""

    def fails() -> dict[str, bool]:
        raise OSError("did not start")

    monkeypatch.setattr(host_probe, "probe_all", fails)
    assert findings(line, code=1)["plugin host"] == ("bad", "did not start")


def test_every_seam_applies_with_the_sdk_that_is_locked() -> None:
    """Tried in a real plugin process."""
    assert host_probe.probe_all() == ALL_SEAMS


class Bare(dynamic.ResourceProvider):
    """What the host gives a provider that uses no seam."""

    serialize_as_secret_always = False

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        return probe.Probe().check(_olds, news)

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        raise RuntimeError

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        return dynamic.ReadResult(id_, {"urn": "", "cancelled": False})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        raise RuntimeError


def test_a_seam_that_is_not_there_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is taken for granted."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(probe, "Probe", Bare)
    monkeypatch.setattr(host_probe, "_TOGETHER_SECONDS", 0.2)
    monkeypatch.setattr(host_probe, "_SECONDS", 3)
    assert host_probe.probe_all() == dict.fromkeys(host_probe.WITHOUT, False)


def test_without_the_sdk_no_plugin_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said, and not waited for."""
    (tmp_path / "pulumi").mkdir()
    (tmp_path / "pulumi" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OSError, match="did not start"):
        host_probe.probe_all()
