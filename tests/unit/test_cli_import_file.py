"""`pulumi-fal import-file`: which machines are in the file, and in which form."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pulumi_fal.api.settings import Settings
from pulumi_fal.machines.journal import Phase
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, KEY
from ..plugin.harness import PROVIDER
from .cli_support import DEV, PROD, CommandLine, command_line, urn

SSH_KEY = f"{ED25519} me@laptop"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        Path("key.pub").write_text(f"{SSH_KEY}\n")
        line.stacks = {DEV: {}}
        yield line


def written(line: CommandLine, *args: str) -> list[dict[str, Any]]:
    """The resources in the file that the command writes."""
    line.run("import-file", "--ssh-key", "key.pub", "--yes", *args)
    resources: list[dict[str, Any]] = json.loads(Path("fal-import.json").read_text())["resources"]
    return resources


def test_a_machine_as_state_has_it(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and outputs are complete, so that the import needs no read."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 5)  # as from Python 3.14 on
    id_ = line.rent(EIGHT, "sector_2")
    (resource,) = written(line)
    ip = line.emulator.state.list()[0].ip
    inputs = {"__provider": PROVIDER, "instance_type": EIGHT, "ssh_key": SSH_KEY}
    assert resource == {
        "type": TYPE_TOKEN,
        "name": f"gpu-8x-h100-sxm5-{id_[:8]}",
        "id": id_,
        "inputs": inputs,
        "outputs": {
            **inputs,
            "sector": "sector_2",
            "account": Settings(line.emulator.url, KEY, "").account,
            "ip": ip,
            "status": "ready",
            "endpoint": line.emulator.url,
            "imported": True,
        },
    }


def test_what_is_pending_is_named(line: CommandLine) -> None:
    """A machine on record is left out, since the create that made it goes on with it."""
    made, perhaps = line.rent(), line.rent(EIGHT)
    free = line.rent()
    line.pend(phase=Phase.CREATED, instance_id=made)
    line.pend("other", instance_type=EIGHT)
    assert [resource["id"] for resource in written(line)] == [free]
    assert f"Left out: {made}" in line.stderr
    assert urn("box") in line.stderr
    assert f"Left out: {perhaps}" in line.stderr


def test_pinned_sectors(line: CommandLine) -> None:
    """A pinned sector is in inputs, in outputs and in the lines of the program."""
    line.rent(EIGHT, "sector_2")
    line.rent()
    resources = written(line, "--pin-sectors")
    eight, one = sorted(resources, key=lambda resource: resource["name"], reverse=True)
    assert eight["inputs"]["sector"] == eight["outputs"]["sector"] == "sector_2"
    assert "sector" not in one["inputs"]
    shown = line.run("import-file", "--ssh-key", "key.pub", "--yes", "--pin-sectors")
    assert f"instance_type='{EIGHT}', ssh_key=ssh_key, sector='sector_2')" in shown


def test_names(line: CommandLine) -> None:
    """Names differ even where two ids begin alike, and are the same in every run."""
    for id_ in ("aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"):
        machine = line.emulator.state.machines[line.rent()]
        del line.emulator.state.machines[machine.id]
        machine.id = id_
        line.emulator.state.machines[id_] = machine
    names = [resource["name"] for resource in written(line)]
    assert names == [
        "gpu-1x-h100-sxm5-aaaaaaaa-1",
        "gpu-1x-h100-sxm5-aaaaaaaa-2",
        "gpu-1x-h100-sxm5-bbbbbbbb",
    ]
    assert [resource["name"] for resource in written(line)] == names


def test_what_to_run_and_what_to_write(line: CommandLine) -> None:
    """The exact command and the lines of the program are printed."""
    id_ = line.rent()
    shown = line.run("import-file", "--ssh-key", "key.pub", "-o", "all machines.json")
    assert "\n  pulumi import --file 'all machines.json' --generate-code=false\n" in shown
    assert f"ComputeInstance('gpu-1x-h100-sxm5-{id_[:8]}', instance_type=" in shown
    compile(shown[shown.index("from pathlib") :], "program", "exec")


def test_nothing_is_written(line: CommandLine) -> None:
    """An empty file would be an error of `pulumi import`, and an unread stack may have any."""
    line.stacks = {DEV: {"a": line.rent()}}
    assert "nothing to import" in line.run("import-file", "--ssh-key", "key.pub")
    line.stacks[PROD] = "no access"
    says = line.refused("import-file", "--ssh-key", "key.pub")
    assert f"stack {PROD}: no access" in says
    assert not Path("fal-import.json").exists()


def test_a_file_that_exists(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one that was not imported yet. What a stack has after the question is left out."""
    held, free = line.rent(), line.rent()
    Path("fal-import.json").write_text("mine")
    line.run("import-file", "--ssh-key", "key.pub", code=1, typed="n\n")
    assert Path("fal-import.json").read_text() == "mine"
    monkeypatch.setattr(click, "confirm", lambda *_, **__: line.stacks.update({PROD: {"a": held}}))
    line.run("import-file", "--ssh-key", "key.pub")
    resources = json.loads(Path("fal-import.json").read_text())["resources"]
    assert [resource["id"] for resource in resources] == [free]


def test_a_private_key(line: CommandLine) -> None:
    """A private key is refused without its text, since its file's name is easily mistaken."""
    line.rent()
    Path("key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    says = line.refused("import-file", "--ssh-key", "key")
    assert "The content of key is a PRIVATE key" in says
    assert "Name the file of the public key" in says
    assert "program" not in says
    assert "c2VjcmV0" not in says


def test_a_folder_that_is_not_there(line: CommandLine) -> None:
    """The stacks take long to read, and all of it would have to be repeated."""
    line.stacks = {DEV: "must not be read"}
    says = line.refused("import-file", "--ssh-key", "key.pub", "-o", "missing/machines.json")
    assert says == "Error: There is no folder missing. Make it, or name another.\n"


def test_a_file_that_cannot_be_written(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, or a file of somebody else, is no bug of this command."""

    def fail(self: Path, text: str, **options: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    line.rent()
    monkeypatch.setattr(Path, "write_text", fail)
    says = line.refused("import-file", "--ssh-key", "key.pub", "--yes", "-o", "full.json")
    assert says == "Error: full.json can't be written: No space left on device.\n"


# For the native plugin.


def native(line: CommandLine, *args: str) -> tuple[list[dict[str, Any]], Any]:
    """The resources in the file that the command writes, and the program that it prints."""
    options = ("--type", "native", "--ssh-key", "key.pub", "-o", "f.json", "--yes")
    shown = line.run("import-file", *options, *args)
    assert "\n  pulumi import --file f.json --generate-code=false\n" in shown
    program = yaml.safe_load(shown[shown.index("variables:") :])
    resources: list[dict[str, Any]] = json.loads(Path("f.json").read_text())["resources"]
    return resources, program


def test_a_native_machine(line: CommandLine) -> None:
    """It has what the API does not tell: the engine reads the rest, and finds no Python class."""
    id_ = line.rent(EIGHT, "sector_2")
    (resource,), _ = native(line)
    assert resource == {
        "type": "fal:index:ComputeInstance",
        "name": f"gpu-8x-h100-sxm5-{id_[:8]}",
        "id": id_,
        "inputs": {"instanceType": EIGHT, "sshKey": SSH_KEY},
    }


def test_the_printed_yaml(line: CommandLine) -> None:
    """Each resource of the file is in the program, with the same inputs."""
    line.rent(EIGHT, "sector_2")
    line.rent()
    resources, program = native(line, "--pin-sectors")
    assert program["variables"] == {"sshKey": SSH_KEY}
    declared = {
        name: {**resource["properties"], "sshKey": SSH_KEY}
        for name, resource in program["resources"].items()
        if resource["type"] == NATIVE_TYPE_TOKEN and resource["properties"]["sshKey"] == "${sshKey}"
    }
    assert declared == {resource["name"]: resource["inputs"] for resource in resources}
    assert sorted(inputs.get("sector", "") for inputs in declared.values()) == ["", "sector_2"]


def test_the_type_is_dynamic_unless_asked(line: CommandLine) -> None:
    """A file of the wrong type would be a second resource for the same machine."""
    line.rent()
    default = written(line)
    assert written(line, "--type", "dynamic") == default
    assert default[0]["type"] == TYPE_TOKEN
