"""`pulumi-fal doctor`: what it looks at, and that it sees when something is amiss."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

import pulumi_fal
from pulumi_fal.api import settings
from pulumi_fal.cli import doctor
from pulumi_fal.machines.journal import Phase

from ..commands import command
from ..fakes import KEY
from .cli_support import BACKEND, DEV, NO_PULUMI, CommandLine, command_line, urn

WHICH, VERSION = shutil.which, doctor._version_of


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        monkeypatch.setattr(
            shutil, "which", lambda name: "/bin/plugin" if name == doctor._PLUGIN else WHICH(name)
        )
        monkeypatch.setattr(doctor, "_version_of", lambda path: pulumi_fal.__version__)
        yield line


def findings(line: CommandLine, code: int = 0) -> dict[str, tuple[str, str]]:
    found = line.json("doctor", code=code)
    return {finding["what"]: (finding["verdict"], finding["says"]) for finding in found}


def test_all_is_well(line: CommandLine) -> None:
    """Every part is looked at, and each says what it found. The table has a line for each."""
    line.rent()
    found = findings(line)
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    expected = {
        "pulumi-fal": pulumi_fal.__version__,
        "pulumi CLI": "v3.259.0",
        "API key": "from the environment variable FAL_ADMIN_API_KEY",
        "endpoint": f"{line.emulator.url} (legacy API)",
        "account": settings.Settings(line.emulator.url, KEY, "").account,
        "API": "accepts the key; machines: 1",
        "Pulumi backend": BACKEND,
        "journal": f"{line.journal.folder}; pending creates: 0",
        "native plugin": f"{pulumi_fal.__version__}, /bin/plugin",
    }
    assert {what: says for what, (_, says) in found.items()}.items() >= expected.items()
    assert found["pulumi SDK"][1].startswith(f"{metadata.version('pulumi')}; tested with 3.260 to ")
    shown = line.run("doctor").splitlines()
    assert len(shown) == 1 + len(found)
    assert re.fullmatch("API key +ok +from the environment variable FAL_ADMIN_API_KEY", shown[5])


Break = Callable[[CommandLine, pytest.MonkeyPatch], object]
AMISS: dict[str, tuple[Break, str, str, str]] = {
    "no key": (lambda line, patch: patch.delenv("FAL_ADMIN_API_KEY"), "API key", "bad", "No fal"),
    "refused key": (
        lambda line, patch: patch.setenv("FAL_ADMIN_API_KEY", "wrong"),
        "API",
        "bad",
        "reached, but it refuses the key: ",
    ),
    "no API": (
        lambda line, patch: line.emulator.faults.script("list=404:times=9"),
        "API",
        "bad",
        "GET /compute/instances answered 404",
    ),
    "no pulumi": (
        lambda line, patch: setattr(line, "pulumi_says", NO_PULUMI),
        "pulumi CLI",
        "bad",
        NO_PULUMI,
    ),
    "no backend": (
        lambda line, patch: patch.setenv("PULUMI_BACKEND_URL", ""),
        "Pulumi backend",
        "missing",
        "not known: an interrupted create may need help; log in or set PULUMI_BACKEND_URL",
    ),
    "damaged record": (lambda line, patch: line.damage(), "journal", "bad", "is damaged"),
    "no folder": (lambda line, patch: line.damage("folder"), "journal", "bad", "can't be read"),
    "read-only folder": (
        lambda line, patch: patch.setattr(os, "access", lambda path, mode: False),
        "journal",
        "bad",
        "can't be written",
    ),
    "an older SDK": (
        lambda line, patch: patch.setattr(metadata, "version", lambda package: "3.259.1"),
        "pulumi SDK",
        "untested",
        "3.259.1; tested with 3.260 to 3.",
    ),
    "a newer SDK": (
        lambda line, patch: patch.setattr(metadata, "version", lambda package: "3.999.0a1"),
        "pulumi SDK",
        "untested",
        "3.999.0a1; tested with ",
    ),
    "other plugin": (
        lambda line, patch: patch.setattr(doctor, "_version_of", lambda path: "9.9.9"),
        "native plugin",
        "missing",
        "/bin/plugin has version 9.9.9, but this is version ",
    ),
}


@pytest.mark.parametrize("amiss, what, verdict, says", AMISS.values(), ids=AMISS)
def test_what_is_amiss(
    line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    amiss: Break,
    what: str,
    verdict: str,
    says: str,
) -> None:
    """The exit code is 1 if a finding is bad, and the rest is looked at all the same."""
    amiss(line, monkeypatch)
    is_bad = verdict == "bad" or line.pulumi_says
    found = findings(line, code=1 if is_bad else 0)
    assert found[what][0] == verdict
    assert says in found[what][1]
    assert found["Python"][0] == "ok"


def test_pending_creates(line: CommandLine) -> None:
    """It counts those that `pending ls` shows: not what is in state, under whatever name."""
    line.stacks = {DEV: {"box": "i-1"}}
    line.providers = {DEV: "id"}
    line.pend(phase=Phase.REPORTED, instance_id="i-1")
    line.pend(phase=Phase.REPORTED, instance_id="i-1", urn=urn("box", "x"), provider="id")
    line.pend(phase=Phase.REPORTED, instance_id="i-2")
    line.pend()
    assert findings(line)["journal"][1].endswith(
        "; pending creates: 2, see `pulumi-fal pending ls`"
    )
    assert len([record for record in line.json("pending", "ls") if not record["in_state"]]) == 2


@pytest.mark.parametrize(
    "script, verdict, says",
    [
        ("from pulumi_fal.native.__main__ import main\nmain()\n", "ok", pulumi_fal.__version__),
        ("raise SystemExit(1)\n", "bad", "PATH does not start"),
        ("print(1, flush=True)\ninput()\n", "bad", "PATH starts, and does not say its version: "),
        ("", "missing", "pulumi-resource-fal is not on PATH: "),
    ],
    ids=["real", "of a deleted environment", "another program", "none"],
)
def test_the_plugin_is_started(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, script: str, verdict: str, says: str
) -> None:
    """Programs in Python need none, so that it is not there is not bad."""
    monkeypatch.setattr(shutil, "which", WHICH)
    monkeypatch.setattr(doctor, "_version_of", VERSION)
    file = Path("bin").absolute() / doctor._PLUGIN
    monkeypatch.setenv("PATH", str(file.parent))
    if script:
        command(file, script)
        says = says.replace("PATH", str(file))
    found = findings(line, code=int(verdict == "bad"))["native plugin"]
    assert found[0] == verdict
    assert says in found[1]
