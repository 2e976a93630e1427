"""`pulumi-fal audit`, `doctor` and the command itself. test_cli_whose.py has whose is what."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner

import pulumi_fal
from pulumi_fal.api import settings
from pulumi_fal.cli import __main__, audit, common
from pulumi_fal.cli.__main__ import main as cli
from pulumi_fal.errors import StackError
from pulumi_fal.machines.journal import Phase

from ..fakes import KEY
from ..processes import command
from .cli_support import BACKEND, DEV, NO_PULUMI, NOW, PROD, CommandLine, urn

FINE, FOUND, CANT_TELL = 0, 1, 2
HOUR, DAY = 3600, 86400


def test_audit(line: CommandLine) -> None:
    """Each machine that is not fine with what is known of it, and what to do about each kind."""
    kept, pending, left, forgotten = (line.rent() for _ in range(4))
    line.stacks = {DEV: {"a": kept}, PROD: {}}
    line.made(instance_id=pending)
    line.made("left", age=DAY, instance_id=left)
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


def test_ids(line: CommandLine) -> None:
    """One id a line on stdout, for `xargs`; all else is on stderr."""
    ids = [line.rent(), line.rent()]
    assert sorted(line.run("audit", "--ids", code=FOUND).split("\n")) == ["", *sorted(ids)]
    assert line.stderr == "Machines: 2 (2 forgotten). Stacks read: 2. Gone: 0.\n"
    line.stacks[PROD] = "the checkpoint is damaged"
    assert line.run("audit", "--ids", code=CANT_TELL) == ""
    assert f"Unreadable: stack {PROD}: the checkpoint is damaged\n" in line.stderr


def test_wrong_usage(line: CommandLine) -> None:
    """A duration has the form of `wait_for_capacity` and of custom timeouts."""
    line.run("audit", "--ids", "--json", code=2)
    for text in ("", "12", "-1h", "12 h", "\u0661h"):
        line.run("audit", "--max-age", text, code=2)
        assert "is not a duration. Give minutes, hours or days, for example 30m" in line.stderr


def test_audit_as_json(line: CommandLine) -> None:
    """Each machine as the API shows it, with its stack, its resource and its age."""
    id_ = line.rent(age=HOUR)
    line.stacks[DEV] = {"a": id_}
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
        "max_age_seconds": None,
    }
    nothing: dict[str, Any] = {"too_old": [], "gone": [], "other_account": [], "unreadable": {}}
    assert report == {**nothing, "stacks": [DEV, PROD]}


# Resources whose machine is gone.


def test_gone(line: CommandLine) -> None:
    """Its resource is named, whatever can't be read. A second list says so of all that are gone."""
    lags = line.rent()
    line.stacks = {DEV: {"a": "i-gone", "b": lags}, PROD: "no access"}
    line.emulator.state.hide(lags, "list", 60)
    line.meanwhile = lambda args: line.emulator.state.advance(60)
    gone = line.json("audit", code=FOUND)["gone"]
    assert gone == [{"id": "i-gone", "urn": urn("a"), "stack": DEV}]
    assert (line.emulator.state.calls["list"], line.emulator.state.calls["get"]) == (2, 0)
    assert "`pulumi refresh`" in line.run("audit", code=FOUND)


def test_meanwhile(line: CommandLine) -> None:
    """A destroy may end meanwhile, or a refresh put a machine on record as gone."""
    line.rent()
    line.meanwhile = lambda args: line.emulator.state.machines.clear()
    assert line.json("audit")["machines"] == []
    gone: dict[str, Any] = {"phase": Phase.LATE, "instance_id": line.rent(), "seen": True}
    line.meanwhile = lambda args: line.pending() or line.pend(**gone)
    (machine,) = line.json("audit")["machines"]
    assert machine["whose"] != "forgotten"


def test_create_ends(line: CommandLine) -> None:
    """State may have been read before it got the machine of a create that has ended meanwhile."""
    with ExitStack() as create:
        create.enter_context(line.running(line.made(age=DAY, instance_id=line.rent())))
        line.meanwhile = lambda args: create.close()
        line.run("audit")


ACCOUNTS = {
    "unknown": ({}, "", ""),
    "own": ({"account": "own"}, "", ""),
    "rotated key": ({"account": "1a2b3c"}, "1a2b3c", ""),
    "another key": ({"account": "1a2b3c"}, "", "seen with another key (account 1a2b3c)"),
    "another endpoint": (
        {"endpoint": "https://else.where"},
        "",
        "seen at another endpoint (https://else.where)",
    ),
}


@pytest.mark.parametrize("seen, sees, unseen", ACCOUNTS.values(), ids=ACCOUNTS)
def test_another_account(line: CommandLine, seen: dict[str, str], sees: str, unseen: str) -> None:
    """It may still run, unless this key lists another machine that was seen with that one."""
    there = line.rent()
    line.stacks = {DEV: {"a": "i-1", "b": there}}
    own = settings.Settings(line.emulator.url, KEY, "").account
    seen = {name: own if value == "own" else value for name, value in seen.items()}
    line.seen = {"i-1": {"endpoint": line.emulator.url, **seen}, there: {"account": sees}}
    code = CANT_TELL if unseen else FOUND
    report = line.json("audit", code=code)
    found, other = ("other_account", "gone") if unseen else ("gone", "other_account")
    (row,) = report[found]
    assert (row["id"], row["urn"], row["stack"], report[other]) == ("i-1", urn("a"), DEV, [])
    shown = line.run("audit", code=code)
    assert unseen in shown
    assert ("set the key and the endpoint of that account" in shown) is bool(unseen)
    assert ("To remove machines that are gone" in shown) is (not unseen)


# Ages.


LIMITS: dict[str, tuple[float | None, str, str, int, int | None]] = {
    "no limit": (13 * HOUR, "", "", FINE, None),
    "older": (13 * HOUR, "", "12h", FOUND, 12),
    "just as old": (12 * HOUR, "", "12h", FINE, None),
    "its own": (13 * HOUR, "12h", "", FOUND, 12),
    "its own is lower": (13 * HOUR, "12h", "1d", FOUND, 12),
    "its own is higher": (13 * HOUR, "1d", "2h", FOUND, 2),
    "clock ahead": (-5, "", "1m", FINE, None),
    "unknown": (None, "", "", FINE, None),
    "unknown with a limit": (None, "", "12h", CANT_TELL, None),
    "unknown with its own": (None, "12h", "", CANT_TELL, None),
}
"""The age of a machine, its own limit and that of the audit; the one in hours it exceeds."""


@pytest.mark.parametrize("age, own, most, code, limit", LIMITS.values(), ids=LIMITS)
def test_too_old(
    line: CommandLine, age: float | None, own: str, most: str, code: int, limit: int | None
) -> None:
    """The lower limit counts. The command that ends machines is printed for their own limit."""
    id_ = line.rent(age=age)
    line.stacks, line.max_ages = {DEV: {"a": id_}}, {"a": own} if own else {}
    args = ("audit", "--max-age", most) if most else ("audit",)
    shown = line.run(*args, code=code)
    assert (f"Age unknown: {id_}, in {DEV}: {urn('a')}" in shown) is (code == CANT_TELL)
    found = line.json(*args, code=code)["too_old"]
    if limit is None:
        assert found == []
        return
    seconds = {"age_seconds": age, "max_age_seconds": limit * HOUR}
    assert found == [{"id": id_, "urn": urn("a"), "stack": DEV, **seconds}]
    header, row, _, advice, *_ = shown.splitlines()
    assert re.split("  +", header) == ["TOO OLD", "TYPE", "AGE", "MAX AGE", "STACK", "RESOURCE"]
    assert re.split("  +", row) == [id_, "gpu_1x_h100_sxm5", "13h", f"{limit}h", DEV, urn("a")]
    assert advice.startswith("Too old: 1. ")
    assert ("\n  pulumi-fal delete --expired\n" in shown) is (own == "12h")


def test_not_too_old(line: CommandLine) -> None:
    """A machine that is gone doesn't run, and a create is left alone until it is older."""
    line.stacks = {DEV: {"a": "i-gone"}}
    line.created["i-gone"] = common.moment(NOW - DAY)
    assert line.json("audit", "--max-age", "12h", code=FOUND)["too_old"] == []
    line.stacks = {DEV: {}}
    line.made(age=11 * HOUR, instance_id=line.rent())
    for args, code in (("--max-age", "12h"), FINE), (("--max-age", "10h"), FOUND), ((), FOUND):
        line.run("audit", *args, code=code)


@pytest.mark.parametrize("first, second", [(HOUR, DAY), (DAY, HOUR)])
def test_age_in_two_stacks(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, first: float, second: float
) -> None:
    """It is as old as in the first: the second has imported it, whichever is read first."""
    id_, ages = line.rent(), {DEV: first, PROD: second}
    line.stacks = {DEV: {"a": id_}, PROD: {"a": id_}}
    monkeypatch.setattr("pulumi_fal.stacks.state._AT_ONCE", 1)
    line.meanwhile = lambda args: line.created.update(
        {id_: common.moment(NOW - ages.get(args[-1], 0))}
    )
    (found,) = line.json("audit", "--max-age", "12h", code=FOUND)["too_old"]
    assert found["age_seconds"] == DAY


def test_audit_without_answers(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is printed, and what to do. Exit code 1 is for findings alone."""
    line.pulumi_says = NO_PULUMI
    shown = line.run("audit", code=CANT_TELL)
    assert f"Unreadable: the list of stacks: {NO_PULUMI}\n" in shown
    assert "name all stacks with --stack" in shown
    monkeypatch.setenv("FAL_ADMIN_API_KEY", "wrong")
    line.run("audit", code=CANT_TELL)
    assert "answered 401" in line.stderr


FAILURES: dict[str, tuple[str, BaseException]] = {
    "OSError: no space": ("_look", OSError("no space")),
    "ZeroDivisionError: a bug": ("_print", ZeroDivisionError("a bug")),
    "interrupted": ("_look", KeyboardInterrupt()),
    "nobody reads what it prints": ("_print", BrokenPipeError()),
    "damaged": ("_print", StackError("damaged")),
}


@pytest.mark.parametrize("says", FAILURES)
def test_failures(line: CommandLine, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """Only a bug shows its traceback."""
    where, error = FAILURES[says]
    monkeypatch.setattr(audit, where, mock.Mock(side_effect=error))
    line.run("audit", code=CANT_TELL)
    assert f"the audit could not be completed: {says}" in line.stderr
    assert ("Traceback" in line.stderr) is ("Error" in says)


# doctor

WHICH, VERSION = shutil.which, __main__._version_of


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A native plugin of this version is installed."""
    monkeypatch.setattr(
        shutil, "which", lambda name: "/bin/plugin" if name == __main__._PLUGIN else WHICH(name)
    )
    monkeypatch.setattr(__main__, "_version_of", lambda path: pulumi_fal.__version__)


def findings(line: CommandLine, code: int = 0) -> dict[str, tuple[str, str]]:
    found = line.json("doctor", code=code)
    return {finding["what"]: (finding["verdict"], finding["says"]) for finding in found}


def test_doctor(line: CommandLine) -> None:
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


def sdk(version: str) -> Break:
    return lambda line, patch: patch.setattr(metadata, "version", lambda package: version)


def environ(name: str, value: str) -> Break:
    return lambda line, patch: patch.setenv(name, value)


AMISS: dict[str, tuple[Break, str, str, str]] = {
    "no key": (environ("FAL_ADMIN_API_KEY", ""), "API key", "bad", "No fal"),
    "refused key": (
        environ("FAL_ADMIN_API_KEY", "wrong"),
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
        environ("PULUMI_BACKEND_URL", ""),
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
    "an older SDK": (sdk("3.259.1"), "pulumi SDK", "untested", "3.259.1; tested with 3.260 to 3."),
    "a newer SDK": (sdk("3.999.0a1"), "pulumi SDK", "untested", "3.999.0a1; tested with "),
    "other plugin": (
        lambda line, patch: patch.setattr(__main__, "_version_of", lambda path: "9.9.9"),
        "native plugin",
        "missing",
        "/bin/plugin has version 9.9.9, but this is version ",
    ),
}


@pytest.mark.parametrize("name", AMISS)
def test_doctor_finds(line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The exit code is 1 if a finding is bad, and the rest is looked at all the same."""
    amiss, what, verdict, says = AMISS[name]
    amiss(line, monkeypatch)
    found = findings(line, code=1 if verdict == "bad" else 0)
    assert found[what][0] == verdict
    assert says in found[what][1]
    assert found["Python"][0] == "ok"


def test_doctor_counts_creates(line: CommandLine) -> None:
    """It counts those that `pending ls` shows: not what is in state, under whatever name."""
    line.stacks = {DEV: {"box": "i-1"}}
    line.providers = {DEV: "id"}
    for fields in ({}, {"urn": urn("box", "x"), "provider": "id"}, {"instance_id": "i-2"}):
        line.pend(**{"phase": Phase.REPORTED, "instance_id": "i-1", **fields})
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
        ("", "missing", "pulumi-resource-fal is not on PATH: "),
    ],
    ids=["real", "of a deleted environment", "none"],
)
def test_doctor_starts_the_plugin(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, script: str, verdict: str, says: str
) -> None:
    """Programs in Python need none, so that it is not there is not bad."""
    monkeypatch.setattr(shutil, "which", WHICH)
    monkeypatch.setattr(__main__, "_version_of", VERSION)
    file = Path("bin").absolute() / __main__._PLUGIN
    monkeypatch.setenv("PATH", str(file.parent))
    if script:
        command(file, script)
        says = says.replace("PATH", str(file))
    found = findings(line, code=int(verdict == "bad"))["native plugin"]
    assert found[0] == verdict
    assert says in found[1]


# The command itself


def test_completion() -> None:
    """The function that the shell calls gets the commands that fit."""
    page = Path(__file__).parents[2] / "docs" / "command-line.md"
    assert 'eval "$(_PULUMI_FAL_COMPLETE=bash_source pulumi-fal)"' in page.read_text()
    asked = {"_PULUMI_FAL_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    words = {"COMP_WORDS": "pulumi-fal pending f"}
    said = CliRunner().invoke(cli, prog_name="pulumi-fal", env={**asked, **words}).stdout
    assert said == "plain,forget\n"


def test_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's own help tells its options."""
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr("pulumi_fal.emulator.__main__.main", given.append)
    CliRunner().invoke(cli, ["emulator", "--port", "0", "--help"])
    assert given == [("--port", "0", "--help")]
