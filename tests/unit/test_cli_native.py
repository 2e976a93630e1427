"""`pulumi-fal` with machines that the native plugin manages, and the plugin as doctor finds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import pulumi_fal
from pulumi_fal.cli import native_plugin
from pulumi_fal.dynamic import probe
from pulumi_fal.machines.entry import Phase
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from ..commands import command
from ..fakes import ED25519, EIGHT
from .cli_support import CommandLine, command_line, urn

DEV = "organization/train/dev"
SSH_KEY = f"{ED25519} me@laptop"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        Path("key.pub").write_text(f"{SSH_KEY}\n")
        line.stacks = {DEV: {}}
        yield line


def native_urn(name: str) -> str:
    return urn(name, type_=NATIVE_TYPE_TOKEN)


# import-file


def imported(line: CommandLine, *args: str) -> tuple[list[dict[str, Any]], Any]:
    """The resources in the file that the command writes, and the program that it prints."""
    shown = line.run(
        "import-file", "--type", "native", "--ssh-key", "key.pub", "-o", "f.json", "--yes", *args
    )
    assert "\n  pulumi import --file f.json --generate-code=false\n" in shown
    program = yaml.safe_load(shown[shown.index("variables:") :])
    resources: list[dict[str, Any]] = json.loads(Path("f.json").read_text())["resources"]
    return resources, program


def test_a_native_import_has_what_the_api_does_not_tell(line: CommandLine) -> None:
    """The engine reads the rest, and no entry says how a Python class is found."""
    id_ = line.rent(EIGHT, "sector_2")
    (resource,), _ = imported(line)
    assert resource == {
        "type": "fal:index:ComputeInstance",
        "name": f"gpu-8x-h100-sxm5-{id_[:8]}",
        "id": id_,
        "inputs": {"instanceType": EIGHT, "sshKey": SSH_KEY},
    }


def test_the_printed_yaml_declares_the_same_machines(line: CommandLine) -> None:
    """Each resource of the file is in the program, with the same inputs."""
    line.rent(EIGHT, "sector_2")
    line.rent()
    resources, program = imported(line, "--pin-sectors")
    assert program["variables"] == {"sshKey": SSH_KEY}
    declared = {
        name: {**resource["properties"], "sshKey": SSH_KEY}
        for name, resource in program["resources"].items()
        if resource["type"] == NATIVE_TYPE_TOKEN and resource["properties"]["sshKey"] == "${sshKey}"
    }
    assert declared == {resource["name"]: resource["inputs"] for resource in resources}
    assert sorted(inputs.get("sector", "") for inputs in declared.values()) == ["", "sector_2"]


def test_python_has_the_dynamic_type_unless_asked(line: CommandLine) -> None:
    """A file of the wrong type would be a second resource for the same machine."""
    line.rent()
    line.run("import-file", "--ssh-key", "key.pub")
    default = Path("fal-import.json").read_text()
    line.run("import-file", "--ssh-key", "key.pub", "--type", "dynamic", "--yes")
    assert Path("fal-import.json").read_text() == default
    assert "pulumi-python:dynamic/fal:ComputeInstance" in default


def test_what_the_native_plugin_has_is_not_imported(line: CommandLine) -> None:
    """A machine must not be in two stacks, whatever its type is there."""
    line.stacks = {DEV: {"a": line.rent()}}
    line.types["a"] = NATIVE_TYPE_TOKEN
    assert "nothing to import" in line.run("import-file", "--ssh-key", "key.pub")


# audit and pending


def test_an_audit_knows_both_types(line: CommandLine) -> None:
    """A native machine that is gone is found, and one that is there is not forgotten."""
    line.stacks = {DEV: {"python": line.rent(), "native": line.rent(), "gone": "no-such-machine"}}
    line.types = {"native": NATIVE_TYPE_TOKEN, "gone": NATIVE_TYPE_TOKEN}
    found = line.json("audit", code=1)
    assert {machine["urn"] for machine in found["machines"]} == {
        urn("python"),
        native_urn("native"),
    }
    assert {machine["whose"] for machine in found["machines"]} == {"stack"}
    assert [machine["urn"] for machine in found["gone"]] == [native_urn("gone")]


def test_the_age_of_a_native_machine_is_known(line: CommandLine) -> None:
    """The age counts from when Pulumi recorded the machine, as for the other type."""
    id_ = line.rent()
    line.stacks, line.types = {DEV: {"native": id_}}, {"native": NATIVE_TYPE_TOKEN}
    line.created[id_] = "2020-01-01T00:00:00Z"
    found = line.json("audit", "--max-age", "1h", code=1)
    assert [machine["urn"] for machine in found["too_old"]] == [native_urn("native")]


def test_a_native_create_is_shown_adopted_and_forgotten(line: CommandLine) -> None:
    """A native create can be named by its URN or by its name."""
    id_ = line.rent()
    line.pend(urn=native_urn("box"), before=())
    (shown,) = line.json("pending", "ls")
    assert (shown["urn"], shown["candidates"]) == (native_urn("box"), [id_])
    line.run("pending", "adopt", native_urn("box"), id_)
    (entry,) = line.pending()
    assert (entry.phase, entry.instance_id) == (Phase.ADOPTED, id_)
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []


def test_a_native_create_whose_machine_is_in_state_is_settled(line: CommandLine) -> None:
    """State has the machine under the native type."""
    id_ = line.rent()
    line.pend(urn=native_urn("box"), phase=Phase.REPORTED, instance_id=id_)
    line.stacks, line.types = {DEV: {"box": id_}}, {"box": NATIVE_TYPE_TOKEN}
    assert "Records of creates whose machine is in state: 1." in line.run("pending", "ls")


def test_a_create_moves_to_the_native_type(line: CommandLine) -> None:
    """A program that moved to the native type while a create was pending goes on with it."""
    id_ = line.rent()
    line.pend()
    line.run("pending", "adopt", urn("box"), id_, "--for", native_urn("box"))
    (entry,) = line.pending()
    assert entry.origin.urn == native_urn("box")
    assert entry.phase is Phase.ADOPTED


def test_two_creates_of_one_name_are_told_apart_by_their_types(line: CommandLine) -> None:
    """A name alone could mean either."""
    line.pend()
    line.pend(urn=native_urn("box"))
    says = line.refused("pending", "forget", "box", "--yes")
    assert urn("box") in says
    assert native_urn("box") in says
    line.run("pending", "forget", native_urn("box"), "--yes")
    assert [entry.origin.urn for entry in line.pending()] == [urn("box")]


# doctor


@pytest.fixture
def doctor(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    says = {"version": "v3.259.0\n", "whoami": '{"url": "s3://bucket"}'}
    monkeypatch.setattr(pulumi_cli, "pulumi", lambda *args, **others: says[args[0]])
    monkeypatch.setattr(probe, "applied_patches", lambda: dict.fromkeys(probe.WITHOUT, True))
    return line


def plugin(line: CommandLine, code: int = 0) -> tuple[str, str]:
    found = line.json("doctor", code=code)
    (finding,) = [row for row in found if row["what"] == "native plugin"]
    return finding["verdict"], finding["says"]


def on_path(monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """Have this Python script be the plugin on PATH; its path."""
    file = command(Path("bin").absolute() / native_plugin.NAME, script)
    monkeypatch.setenv("PATH", str(file.parent))
    return str(file)


def test_doctor_starts_the_plugin_and_shows_its_version(
    doctor: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin is the real one, as `pip` makes a command of it."""
    path = on_path(monkeypatch, "from pulumi_fal.native.__main__ import main\nmain()\n")
    assert plugin(doctor) == ("ok", f"{pulumi_fal.__version__}, {path}")


def test_a_plugin_that_is_not_on_path_is_missing_and_not_bad(
    doctor: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs in Python need no native plugin."""
    monkeypatch.setenv("PATH", "")
    verdict, says = plugin(doctor)
    assert verdict == "missing"
    assert says.startswith("pulumi-resource-fal is not on PATH: ")


def test_a_plugin_that_does_not_start_is_bad(
    doctor: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin on PATH may be the command of an environment that was deleted."""
    path = on_path(monkeypatch, "raise SystemExit(1)\n")
    assert plugin(doctor, code=1) == ("bad", f"{path} does not start")


def test_a_plugin_that_gives_no_version_is_bad(
    doctor: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has that name and prints a number is not taken for the plugin."""
    path = on_path(monkeypatch, "print(1, flush=True)\ninput()\n")
    verdict, says = plugin(doctor, code=1)
    assert verdict == "bad"
    assert says.startswith(f"{path} starts, and does not say its version: ")


def test_a_plugin_of_another_version_is_named(
    doctor: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another installation than that of the command may come first on PATH."""
    monkeypatch.setattr(native_plugin, "find", lambda: "/bin/plugin")
    monkeypatch.setattr(native_plugin, "version", lambda path: "9.9.9")
    verdict, says = plugin(doctor)
    assert verdict == "missing"
    assert says.startswith("/bin/plugin has version 9.9.9, but this is version ")
