"""`pulumi-fal ls`, `get`, `ssh`, `ssh-config` and `import-file`: what they print and write."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.cli import common, machines
from pulumi_fal.cli.common import Context, Reader
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.hosts import access
from pulumi_fal.resource import wait
from pulumi_fal.stacks import state
from pulumi_fal.stacks.state import Stack, StackMachine
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import EIGHT, KEY, ONE, wait_until
from ..plugin.harness import PROVIDER
from ..processes import command
from .cli_support import DEV, NO_PULUMI, NOW, PROD, SSH_KEY, CommandLine, urn

HOUR, DAY = 3600, 86400


def rows(line: CommandLine, *options: str) -> dict[str, list[str]]:
    """The columns of each machine after those that the API fills."""
    header, *rows = line.run("ls", *options).partition("\n\n")[0].splitlines()
    count = len(re.split("  +", header)) - 5
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


def test_ls(line: CommandLine) -> None:
    """A stack and a resource, in one call of the API. With --age, how long it has been running."""
    held, old, pending, forgotten, perhaps = (line.rent(kind) for kind in (ONE,) * 4 + (EIGHT,))
    line.created = {held: common.moment(NOW - 90), old: common.moment(NOW - 3 * DAY - 5 * HOUR)}
    line.stacks = {DEV: {"a": held, "gone": "i-gone"}, PROD: {"b": old}}
    line.made(instance_id=pending)
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
    line.max_ages = {"b": "1d12h"}  # a limit is of no use without the age
    assert rows(line)[old] == [PROD, "b", "3d 5h", "1d 12h"]


def test_costs(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With prices, each machine's an hour, what it has cost since a stack recorded it, and sums."""
    one, same, new = line.rent(age=2 * HOUR), line.rent(), line.rent("new", age=HOUR)
    line.stacks = {DEV: {"a": one, "b": new}}
    assert "cost" not in line.run("ls", "--json") + line.run("audit", "--json", code=1)
    monkeypatch.setenv("FAL_COMPUTE_PRICES", f"{ONE}=2.49,{EIGHT}=19.9")
    cells = {one: ["2.49", "4.98"], new: ["-", "-"], same: ["2.49", "-"]}
    assert {id_: row[-2:] for id_, row in rows(line).items() if id_ in cells} == cells
    sums = "\nTogether: 4.98 an hour, at a cost of 4.98 since Pulumi recorded them. Not known:"
    assert f"{sums} the price of 1 and the age of 1.\n" in line.run("ls")
    without = line.run("ls", "--no-stacks")
    assert without.endswith("\nTogether: 4.98 an hour. Not known: the price of 1.\n")
    assert "COST" not in without
    by_id = {row["id"]: (row["price_per_hour"], row["cost"]) for row in line.json("ls")}
    assert by_id == {one: (2.49, 4.98), new: (None, None), same: (2.49, None)}
    assert line.json("audit", code=1)["cost"] == 4.98
    shown = line.run("audit", code=1)
    assert sums in shown
    assert re.search(rf"{same} .* forgotten +2.49 +-\n", shown)
    assert re.search(r"an hour +2.49\n +cost +4.98\n", line.run("get", one))
    assert line.json("get", one)["cost"] == 4.98


def test_ls_sorts(line: CommandLine) -> None:
    """node-2 comes before node-10, and what no stack has at the end."""
    names = ("node-10", "b", "node-2")
    forgotten, *held = (line.rent() for _ in range(4))
    line.stacks = {PROD: {"a": line.rent()}, DEV: dict(zip(names, held, strict=True))}
    order = [row[1] for row in rows(line).values()]
    assert order == ["b", "node-2", "node-10", "a", "-"]
    assert next(reversed(rows(line))) == forgotten


def test_ls_of_another_account(line: CommandLine) -> None:
    """No machine is no good news with the wrong key, so the key and its account are named."""
    line.stacks = {DEV: {"a": "i-elsewhere"}}
    said = line.run("ls")
    assert "There are no machines.\nThe key is from the environment variable FAL_" in said
    assert f"at {line.emulator.url}." in said
    assert re.search(rf"i-elsewhere +{DEV} +a\n", said)


def test_ls_of_unread_stacks(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reasons are on stderr, where they don't disturb a program, and of many some are named."""
    held, other = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}, **{f"organization/train/{i}": "no access" for i in range(5)}}
    assert rows(line) == {held: [DEV, "a"], other: ["unknown", "-"]}
    assert line.stderr.splitlines() == [
        *(f"Unreadable: stack organization/train/{i}: no access" for i in range(3)),
        "Unreadable: 2 more. `pulumi-fal audit` names them all.",
    ]
    monkeypatch.setattr(machines, "STACKS_SECONDS", 0.0)
    assert rows(line, "--age")[held] == ["unknown", "-", "-"]
    assert "there was no time for it within 0 s" in line.stderr


def test_ls_without_stacks(line: CommandLine) -> None:
    """Reading them takes long, so none is asked if none is needed."""
    line.pulumi_says = NO_PULUMI
    assert line.json("ls", "--no-stacks") == []
    id_ = line.rent()
    assert id_ in line.run("ls", "--no-stacks")
    assert line.stderr == ""
    line.run("ls", "--no-stacks", "--age", code=2)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress(line: CommandLine, monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    """Listing and reading stacks takes seconds. A log gets no such lines."""
    names, stderr = state.names, io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stderr)

    def listed(*, seconds: float) -> Any:
        wait_until(lambda: "Listing the stacks" in stderr.getvalue() or not is_terminal)
        return names(seconds=seconds)

    monkeypatch.setattr(state, "names", listed)
    Reader(Context(), note="; --no-stacks leaves this out").read([])
    assert ("of 2; --no-stacks leaves this out" in stderr.getvalue()) is is_terminal
    assert is_terminal or stderr.getvalue() == ""


def test_no_stderr(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed with `2>&-`."""
    monkeypatch.setattr(sys, "stderr", None)
    assert Reader(Context()).read([]).unread == {}


# Names are text, whatever they look like.


def test_notes_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said of a call that keeps failing has words of the API's."""
    Context()._note("busy\x1b[2J")
    assert capsys.readouterr().err == "busy [2J\n"


@pytest.mark.parametrize("name", ["node[blue]", ":smile:", "a\x1b[2J\x07b"])
def test_names_are_text(line: CommandLine, name: str) -> None:
    """They are no markup, and no character acts on the terminal."""
    held, pending = line.rent(), line.rent()
    line.created = {held: common.moment(NOW - DAY)}
    line.stacks = {DEV: {name: held, f"{name}-gone": "i-gone"}, PROD: f"\x1b]0;{name}"}
    line.made(name, instance_id=pending, age=DAY)
    plain = re.sub("[\x1b\x07]", " ", name)
    for words in ("ls", "audit --max-age 1h", "pending ls", f"delete {held} --yes"):
        shown = line.run(*words.split(), code=int(words[0] in "ad")) + line.stderr
        assert f"::{plain}" in shown or f" {plain}" in shown
        assert not re.search("[\x1b\x07]", shown)
    line.run("pending", "forget", urn(plain), "--yes")


# get


def test_get(line: CommandLine) -> None:
    """Each known value has a line, and a login is offered once it works."""
    id_ = line.rent()
    (machine,) = line.emulator.state.list()
    known = ["type gpu_1x_h100_sxm5", f"ip {machine.ip}", "status ready"]
    shown = re.sub(" +", " ", line.run("get", id_)).split("\n ")
    assert shown == [id_, *known, f"login ssh ubuntu@{machine.ip}\n"]
    assert line.json("get", id_) == asdict(machine)
    line.emulator.state.set_status(id_, "provisioning")
    assert "login" not in line.run("get", id_)
    assert line.exported == []


NAMES = {
    "a name": ("b", "b"),
    "a slash": ("x/y", "x/y"),
    "a stack": (f"{DEV}/a", "dev a"),
    "the end of a stack": ("prod/a", "prod a"),
    "two ends": ("train/dev/x/y", "x/y"),
    "pending": ("box", "box"),
}
NO_NAMES = {
    "two": ("a", f"'a' may be any of these machines:\n  {DEV}/a: <dev a> (gpu_1x"),
    "a guess": ("lost", f"\n  perhaps {DEV}/lost: <lost> (gpu_8x"),
    "gone": ("gone", f"the API does not list its machine to this key:\n  {DEV}/gone: i-gone\n"),
    "a gone id": ("i-gone", f"\n  {DEV}/gone: i-gone\nIt is gone, or of another account"),
    "nearly": ("boxx", "and no machine has that name. Did you mean 'box'?\nTo see all"),
    "nearly a stack": ("pro/a", "Did you mean 'prod/a' or 'prod/b'?\n"),
    "another stack": ("o/prod/a", "does not know 'o/prod/a', and no machine has that name."),
    "nothing": (" ", "no machine has that name.\nTo see all"),
}


@pytest.fixture
def named(line: CommandLine) -> dict[str, str]:
    """The ids of machines that have names."""
    ids = {name: line.rent() for name in ("dev a", "prod a", "b", "x/y", "box")}
    line.stacks = {
        DEV: {"a": ids["dev a"], "x/y": ids["x/y"], "gone": "i-gone"},
        PROD: {"a": ids["prod a"], "b": ids["b"]},
    }
    line.made(instance_id=ids["box"])
    line.pend("lost", instance_type=EIGHT)
    return {**ids, "lost": line.rent(EIGHT)}


@pytest.mark.parametrize("text, name", NAMES.values(), ids=NAMES)
def test_name(line: CommandLine, named: dict[str, str], text: str, name: str) -> None:
    """A machine has the name that `ls` shows, also with its stack or the end of that."""
    assert line.json("get", text)["id"] == named[name]


@pytest.mark.parametrize("status", [400, 422])
def test_name_is_no_id(line: CommandLine, named: dict[str, str], status: int) -> None:
    """An API may refuse to look up what has not the form of an id."""
    line.emulator.faults.add("get", Fault(f"{status}", "no UUID", False, status, "{}"))
    assert line.json("get", "b")["id"] == named["b"]


@pytest.mark.parametrize("text, says", NO_NAMES.values(), ids=NO_NAMES)
def test_no_name(line: CommandLine, named: dict[str, str], text: str, says: str) -> None:
    """What is not exactly one machine is told apart, and nothing is done."""
    said = line.refused("get", text)
    for name, id_ in named.items():
        said = said.replace(id_, f"<{name}>")
    assert says in said


def test_name_of_unread_stacks(line: CommandLine, named: dict[str, str]) -> None:
    """What can be read suffices to show a machine, and what can't is named."""
    line.stacks[DEV] = "no access"
    assert line.json("get", "a")["id"] == named["prod a"]
    assert line.stderr == f"Unreadable: stack {DEV}: no access\n"
    assert "no machine has that name in what could be read." in line.refused("get", "x/y")


def test_settings_of_a_stack(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and endpoint are found as the provider finds them, and secrets are read last."""
    Path("Pulumi.yaml").write_text("name: train\nruntime: python\n")
    line.pulumi_says = state.NOT_SELECTED
    endpoint = {"secret": False, "value": line.emulator.url}
    said = {
        ("config", "--json"): json.dumps(
            {"fal:apiKey": {"secret": True}, "fal:endpoint": endpoint}
        ),
        ("config", "get", "fal:apiKey"): f"{KEY}\n",
    }
    asked: list[tuple[str, ...]] = []

    def pulumi(*args: str, **others: Any) -> str:
        asked.append(args)
        return said[args]

    monkeypatch.setattr("pulumi_fal.stacks.state.pulumi", pulumi)
    monkeypatch.delenv("FAL_COMPUTE_ENDPOINT")
    line.run("ls", "--no-stacks")
    assert asked == [("config", "--json")]
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.run("ls", "--no-stacks")
    assert asked[1:] == list(said)
    monkeypatch.setattr("pulumi_fal.stacks.state.pulumi", line.pulumi)
    assert "No fal API key is set" in line.refused("ls")


CONFIGS = {
    "no stack": (f"`pulumi config --json` failed: {state.NOT_SELECTED}; please use", 0),
    "no command": (NO_PULUMI, 0),
    "no access": ("`pulumi config --json` failed: 401 Unauthorized", 1),
}


@pytest.mark.parametrize("says, code", CONFIGS.values(), ids=CONFIGS)
def test_unread_config(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, says: str, code: int
) -> None:
    """It may have the key or the endpoint of another account, unless the environment has both."""
    Path("Pulumi.yaml").touch()
    line.pulumi_says = says
    line.run("ls", "--no-stacks")
    monkeypatch.delenv("FAL_COMPUTE_API")
    line.run("ls", "--no-stacks", code=code)
    assert (f"config of the selected stack can't be read: {says}. " in line.stderr) is bool(code)
    line.run("audit", code=2)
    assert (says in line.stderr) is bool(code)


def test_no_folder(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have removed the one that the shell is in."""
    monkeypatch.setattr(Path, "cwd", mock.Mock(side_effect=FileNotFoundError(2, "No such file")))
    monkeypatch.delenv("FAL_COMPUTE_API")
    assert "can't be read: [Errno 2] No such file" in line.refused("ls")


def test_ls_in_v1(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The legacy API tells neither, so there the columns are left out."""
    made = line.rent()
    monkeypatch.setenv("FAL_COMPUTE_API", "v1")
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", f"{line.emulator.url}/v1")
    header, row = line.run("ls", "--no-stacks").splitlines()
    assert header.split()[-2:] == ["REGION", "CREATOR"]
    assert row.split()[-2:] == ["us-west", "emulator"]
    assert re.search(r"region +us-west", line.run("get", made))


# ssh


def test_ssh(line: CommandLine, tmp_path: Path) -> None:
    """Host keys are kept by machine id. What follows the machine is the command."""
    program = "import json, sys; print(json.dumps(sys.argv[1:])); sys.exit(7)"
    env = {**os.environ, "PATH": str(command(Path("bin", "ssh"), program).parent.resolve())}
    id_ = line.rent()
    port = os.environ["FAL_COMPUTE_SSH_ADDRESS"].rpartition(":")[2]
    hosts = (tmp_path / "home" / "fal-compute" / "known_hosts").as_posix()
    for given in (["--", "ls", "-l", "a b"], ["ls", "-l", "a b"]):
        ssh = [sys.executable, "-m", "pulumi_fal.cli", "ssh", id_, *given]
        ended = subprocess.run(ssh, env=env, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (7, "")  # the code is that of the command
        *options, separator, destination, word, flag, last = json.loads(ended.stdout)
        assert [separator, destination] == ["--", "ubuntu@127.0.0.1"]
        assert [word, flag, last] == ["ls", "-l", "a b"]
        assert options[-2:] == ["-p", port]
        assert set(options[1:-2:2]) == {
            f'UserKnownHostsFile="{hosts}"',
            f"HostKeyAlias={id_}",
            "CheckHostIP=no",
            "StrictHostKeyChecking=accept-new",
        }
    assert Path(hosts).parent.is_dir()


def test_ssh_waits(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log says for what. After the time of a create it ends, and can be run again."""
    id_ = line.rent()
    line.emulator.state.set_status(id_, "stopped")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(wait, "CREATE_TIMEOUT", 0.1)
    says = line.refused("ssh", id_)
    assert says.startswith(f"{id_}: stopped, has an ip, waiting for ready\nError: Machine {id_}")
    assert "\nRun `pulumi-fal ssh` again to go on waiting for the same machine." in says
    monkeypatch.setenv("FAL_COMPUTE_SSH_ADDRESS", "127.0.0.1:1")
    line.emulator.state.set_status(id_, "ready")
    assert f"{id_}: ready, waiting for SSH on port 22: " in line.refused("ssh", id_)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "There is no `ssh` command on PATH." in line.refused("ssh", id_)


# ssh-config


def hosts(printed: str) -> list[str]:
    return [row.split()[1] for row in printed.splitlines() if "Host" in row.split()[:1]]


@pytest.fixture
def ssh(line: CommandLine) -> CommandLine:
    """A stack of two machines."""
    line.stacks["dev"] = {"train-10": "id-1", "train-2": "id-0"}
    line.seen = {"id-0": {"ip": "198.18.0.1"}, "id-1": {"ip": "198.18.0.2"}}
    return line


def test_ssh_config(ssh: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command needs no key, and calls no API. A machine without an ip is left out."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    printed = ssh.run("ssh-config", "--stack", "dev")
    assert hosts(printed) == ["train-2", "train-10"]
    assert "Host train-10\n  HostName 198.18.0.2\n  User ubuntu\n" in printed
    assert not ssh.emulator.state.calls.total()
    del ssh.seen["id-1"]
    assert hosts(ssh.run("ssh-config", "--stack", "dev")) == ["train-2"]
    assert "train-10 is left out: no ip of it is known." in ssh.stderr
    ssh.seen["id-0"]["ip"] = "198.18.0.1\n  ProxyCommand x"
    assert "The stack's state is damaged" in ssh.refused("ssh-config", "--stack", "dev")
    ssh.stacks["dev"] = {}
    assert "There is no machine with an ip." in ssh.refused("ssh-config", "--stack", "dev")
    assert "no stack named 'no' found" in ssh.refused("ssh-config", "--stack", "no")


def test_ssh_config_file(ssh: CommandLine, tmp_path: Path) -> None:
    """ssh refuses a file that others may write to. A line of ~/.ssh/config is for all stacks."""
    printed = ssh.run("ssh-config", "--stack", "dev")
    shown = ssh.run("ssh-config", "--stack", "dev", "--write")
    folder = tmp_path / "home" / "fal-compute" / "ssh"
    assert f'  Include "{folder.as_posix()}/*"\n' in shown
    assert "\n  ssh train-2\n" in shown
    (file,) = folder.iterdir()
    assert (file.name, file.read_text()) == ("train.dev", printed)
    assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600
    ssh.run("ssh-config", "train-2", "--write", code=2)
    ssh.run("ssh-config", "--write", "--format", "dstack", code=2)


def test_no_folder_for_files(ssh: CommandLine, tmp_path: Path) -> None:
    """What the system refuses is told without a traceback."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "fal-compute").touch()
    says = ssh.refused("ssh-config", "--stack", "dev", "--write")
    assert re.match(r"Error: \[\w+ \d+\] .*fal-compute", says)


def test_ssh_config_of_two_stacks(ssh: CommandLine, tmp_path: Path) -> None:
    """Of two hosts of one name, ssh would take the first, whichever stack is meant."""
    ssh.stacks["prod"] = {"train-2": "id-1", "other": "id-0"}
    for stack in ("dev", "prod", "dev"):
        shown = ssh.run("ssh-config", "--stack", stack, "--write")
        (tmp_path / "home" / "fal-compute" / "ssh" / ".DS_Store").write_bytes(b"\xff")
        assert ("Names that other stacks have too end in .train.prod" in shown) is (stack == "prod")
    folder = tmp_path / "home" / "fal-compute" / "ssh"
    written = {file.name: hosts(file.read_text()) for file in folder.glob("[!.]*")}
    assert written == {
        "train.dev": ["train-2", "train-10"],
        "train.prod": ["other", "train-2.train.prod"],
    }


def test_ssh_config_formats(ssh: CommandLine) -> None:
    """The pool or fleet has the stack's name, and only a sector in common makes it a cluster."""
    for machine in ssh.seen.values():
        machine["sector"] = "sector_1"
    dev, key = ("ssh-config", "--stack", "dev", "--format"), ("--identity", "~/.ssh/fal")
    ips = ["198.18.0.1", "198.18.0.2"]
    assert ssh.run(*dev, "skypilot") == access.skypilot("train-dev", ips)
    assert ssh.run(*dev, "skypilot", *key) == access.skypilot("train-dev", ips, key[1])
    fleet = access.dstack("train-dev", ips, ["sector_1"], key[1])
    assert "placement: cluster" in fleet
    assert ssh.run(*dev, "dstack", *key) == fleet
    ssh.run("ssh-config", "--stack", "dev", *key, code=2)


def test_ssh_config_by_name(line: CommandLine, named: dict[str, str]) -> None:
    """Only the machines that are named are in it, of whatever stacks."""
    printed = line.run("ssh-config", "prod/a", named["b"])
    assert hosts(printed) == ["prod_a", named["b"]]
    assert f"  HostKeyAlias {named['prod a']}\n" in printed


def test_equal_names(ssh: CommandLine) -> None:
    """With equal names, ssh would silently connect to the first one, so the ids are used."""
    ssh.stacks["dev"] = {"a b": "id-0", "a_b": "id-1"}
    ssh.types["a_b"] = NATIVE_TYPE_TOKEN
    assert hosts(ssh.run("ssh-config", "--stack", "dev")) == ["id-0", "id-1"]


def test_being_replaced(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name belongs to the new machine, and the address to nobody or to somebody else."""
    old = StackMachine("old", urn("train-0"), ip="198.18.0.9", is_replaced=True)
    new = StackMachine("new", urn("train-0"), ip="198.18.0.1")
    monkeypatch.setattr(state, "read", lambda name: Stack(name, machines=(old, new)))
    printed = line.run("ssh-config")
    assert hosts(printed) == ["train-0"]
    assert "198.18.0.9" not in printed


# import-file


def written(line: CommandLine, *args: str) -> list[dict[str, Any]]:
    """The resources in the file that the command writes."""
    line.run("import-file", "--ssh-key", "key.pub", "--yes", *args)
    resources: list[dict[str, Any]] = json.loads(Path("fal-import.json").read_text())["resources"]
    return resources


def test_import_file(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and outputs are complete, so that the import needs no read.

    A machine on record is left out, since the create that made it goes on with it.
    """
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 5)  # as from Python 3.14 on
    id_, pending = line.rent(EIGHT, "sector_2"), line.rent()
    line.made(instance_id=pending)
    (resource,) = written(line)
    assert f"Left out: {pending}" in line.stderr
    assert urn("box") in line.stderr
    inputs = {"__provider": PROVIDER, "instance_type": EIGHT, "ssh_key": SSH_KEY}
    outputs = {
        **inputs,
        "sector": "sector_2",
        "account": Settings(line.emulator.url, KEY, "").account,
        "ip": line.emulator.state.get(id_).ip,
        "status": "ready",
        "endpoint": line.emulator.url,
        "imported": True,
    }
    name = f"gpu-8x-h100-sxm5-{id_[:8]}"
    expected = {"type": TYPE_TOKEN, "name": name, "id": id_, "inputs": inputs, "outputs": outputs}
    assert resource == expected


def test_python_program(line: CommandLine) -> None:
    """The exact command and the lines of the program are printed."""
    id_, options = line.rent(EIGHT, "sector_2"), ("--pin-sectors", "-o", "all machines.json")
    shown = line.run("import-file", "--ssh-key", "key.pub", *options)
    assert "\n  pulumi import --file 'all machines.json' --generate-code=false\n" in shown
    assert f"ComputeInstance('gpu-8x-h100-sxm5-{id_[:8]}', instance_type='{EIGHT}'," in shown
    assert ", ssh_key=ssh_key, sector='sector_2')" in shown
    compile(shown[shown.index("from pathlib") :], "program", "exec")


def test_names_in_files(line: CommandLine) -> None:
    """Names differ even where two ids begin alike, and are the same in every run."""
    machines = line.emulator.state.machines
    for id_ in ("aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"):
        machines[id_] = machines.pop(line.rent())
        machines[id_].id = id_
    for _ in range(2):
        names = [row["name"].removeprefix("gpu-1x-h100-sxm5-") for row in written(line)]
        assert names == ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb"]


def test_nothing_is_written(line: CommandLine) -> None:
    """An empty file would be an error of `pulumi import`, and an unread stack may have any."""
    line.stacks = {DEV: {"a": line.rent()}}
    assert "nothing to import" in line.run("import-file", "--ssh-key", "key.pub")
    line.stacks[PROD] = "no access"
    says = line.refused("import-file", "--ssh-key", "key.pub")
    assert f"stack {PROD}: no access" in says
    assert "name all others with --stack: a machine of one that you don't name" in says
    assert not Path("fal-import.json").exists()


def test_existing_file(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one that was not imported yet. What a stack has after the question is left out."""
    held, free = line.rent(), line.rent()
    Path("fal-import.json").write_text("mine")
    line.run("import-file", "--ssh-key", "key.pub", code=1, typed="n\n")
    assert Path("fal-import.json").read_text() == "mine"
    monkeypatch.setattr(click, "confirm", lambda *_, **__: line.stacks.update({PROD: {"a": held}}))
    line.run("import-file", "--ssh-key", "key.pub")
    resources = json.loads(Path("fal-import.json").read_text())["resources"]
    assert [resource["id"] for resource in resources] == [free]


def test_private_key(line: CommandLine) -> None:
    """A private key is refused without its text, since its file's name is easily mistaken."""
    line.rent()
    Path("key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    says = line.refused("import-file", "--ssh-key", "key")
    assert "The content of key is a PRIVATE key" in says
    assert "Name the file of the public key" in says
    assert "c2VjcmV0" not in says


def test_unwritable(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is missing is told before stacks are read, and a full disk is no bug."""
    options = ("import-file", "--ssh-key", "key.pub", "--yes", "-o")
    line.rent()
    assert "There is no folder missing." in line.refused(*options, "missing/machines.json")
    assert "can't be written: File name too long" in line.refused(*options, "x" * 300)
    assert line.exported == []
    no_space = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(Path, "write_text", no_space)
    says = line.refused(*options, "full.json")
    assert says == "Error: full.json can't be written: No space left on device.\n"


def test_native(line: CommandLine) -> None:
    """The file has what the API does not tell. e2e/test_native_install.py has the program."""
    ids = {line.rent(EIGHT, "sector_2"), line.rent()}
    options = ("--type", "native", "--ssh-key", "key.pub", "-o", "f.json", "--pin-sectors")
    shown = line.run("import-file", *options)
    assert shown.count("      sshKey: ${sshKey}\n") == len(ids)
    assert shown.count(f"    type: {NATIVE_TYPE_TOKEN}\n") == len(ids)
    resources = json.loads(Path("f.json").read_text())["resources"]
    assert {(one["id"], one["type"]) for one in resources} == {
        (id_, "fal:index:ComputeInstance") for id_ in ids
    }
    eight = {"instanceType": EIGHT, "sshKey": SSH_KEY, "sector": "sector_2"}
    one = {"instanceType": ONE, "sshKey": SSH_KEY}
    assert sorted((row["inputs"] for row in resources), key=len) == [one, eight]
