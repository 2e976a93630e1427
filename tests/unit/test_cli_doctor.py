"""`pulumi-fal doctor`: what it looks at, and that it sees when something is amiss."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pulumi_fal
from pulumi_fal.api import settings
from pulumi_fal.cli import native_plugin
from pulumi_fal.dynamic import probe
from pulumi_fal.stacks import cli as pulumi_cli

from ..fakes import KEY
from .cli_support import CommandLine, command_line

ALL_SEAMS = dict.fromkeys(probe.WITHOUT, True)


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        says = {"version": "v3.259.0\n", "whoami": '{"url": "https://app.pulumi.com/me"}'}
        monkeypatch.setattr(pulumi_cli, "pulumi", lambda *args, **others: says[args[0]])
        monkeypatch.setattr(probe, "applied_patches", lambda: ALL_SEAMS)
        monkeypatch.setattr(native_plugin, "find", lambda: "/bin/plugin")
        monkeypatch.setattr(native_plugin, "version", lambda path: pulumi_fal.__version__)
        yield line


def findings(line: CommandLine, code: int = 0) -> dict[str, tuple[str, str]]:
    found = line.json("doctor", code=code)
    return {finding["what"]: (finding["verdict"], finding["says"]) for finding in found}


def test_all_is_well(line: CommandLine) -> None:
    """Every part is looked at, and each says what it found."""
    line.rent()
    found = findings(line)
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert found["pulumi-fal"][1] == pulumi_fal.__version__
    assert found["pulumi CLI"][1] == "v3.259.0"
    assert found["API key"][1] == "from the environment variable FAL_ADMIN_API_KEY"
    assert found["endpoint"][1] == f"{line.emulator.url} (legacy API)"
    assert found["account"][1] == settings.Settings(line.emulator.url, KEY, "").account
    assert found["API"][1] == "accepts the key; machines: 1"
    assert found["Pulumi backend"][1] == "https://api.pulumi.com"
    assert found["journal"][1] == f"{line.journal.folder}; records: 0"
    assert set(ALL_SEAMS) < set(found)


def test_the_table_has_the_same(line: CommandLine) -> None:
    """The table has a line for each finding of the JSON."""
    shown = line.run("doctor").splitlines()
    assert len(shown) == 1 + len(findings(line))
    assert re.fullmatch("API key +ok +from the environment variable FAL_ADMIN_API_KEY", shown[5])


def test_no_key_is_bad_and_the_rest_is_looked_at(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the exit code is 1, and all else is still looked at."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    found = findings(line, code=1)
    assert found["API key"][0] == "bad"
    assert "API" not in found
    assert found["journal"][0] == "ok"


def test_a_key_that_is_refused_is_bad(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key shows that the endpoint was reached."""
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    verdict, says = findings(line, code=1)["API"]
    assert verdict == "bad"
    assert says.startswith("reached, but it refuses the key: ")


def test_an_endpoint_that_answers_nothing_of_use_is_bad(line: CommandLine) -> None:
    """An endpoint that gives no usable answer is reported with what it said."""
    line.emulator.faults.script("list=404:times=9")
    verdict, says = findings(line, code=1)["API"]
    assert verdict == "bad"
    assert "GET /compute/instances answered 404" in says


def test_a_missing_cli_is_bad(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a `pulumi` command no stack can be read."""
    line.pulumi_says = "there is no `pulumi` command on PATH"
    monkeypatch.setattr(pulumi_cli, "pulumi", line.pulumi)
    found = findings(line, code=1)
    assert found["pulumi CLI"] == ("bad", line.pulumi_says)
    verdict, says = found["Pulumi backend"]
    assert verdict == "missing"
    assert "log in or set PULUMI_BACKEND_URL" in says


def test_the_journal_is_looked_into(line: CommandLine) -> None:
    """The finding counts the records, and names one that can't be read."""
    line.pend()
    assert "records: 1" in findings(line)["journal"][1]
    (line.journal.folder / "0-0.json").write_text("{")
    verdict, says = findings(line, code=1)["journal"]
    assert verdict == "bad"
    assert "is damaged" in says


def test_a_journal_that_is_no_folder_is_bad(line: CommandLine) -> None:
    """A file in the folder's place can be neither read nor written."""
    line.journal.folder.parent.mkdir(parents=True)
    line.journal.folder.touch()
    assert "can't be read" in findings(line, code=1)["journal"][1]


@pytest.mark.parametrize("exists", [True, False])
def test_a_journal_that_cannot_be_written_is_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """No machine is made without a journal, whether the folder exists or not."""
    if exists:
        line.journal.folder.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "can't be written" in findings(line, code=1)["journal"][1]


def test_a_seam_that_does_not_apply_is_missing_and_not_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing seam only costs comfort, and the finding says which."""
    seam = next(iter(ALL_SEAMS))
    monkeypatch.setattr(probe, "applied_patches", lambda: {**ALL_SEAMS, seam: False})
    assert findings(line)[seam] == ("missing", f"this SDK lacks it: {probe.WITHOUT[seam]}")


def test_a_plugin_that_does_not_start_is_bad(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a plugin process the provider can't work at all."""

    def fails() -> dict[str, bool]:
        raise OSError("did not start")

    monkeypatch.setattr(probe, "applied_patches", fails)
    assert findings(line, code=1)["plugin host"] == ("bad", "did not start")
