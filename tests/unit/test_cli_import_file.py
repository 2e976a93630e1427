"""`pulumi-fal import-file`: which machines are in the file, and in which form."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.machines.entry import Phase
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import ED25519, EIGHT, KEY
from ..plugin.harness import PROVIDER
from .cli_support import CommandLine, command_line, urn

DEV = "organization/train/dev"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        Path("key.pub").write_text(f"{ED25519} me@laptop\n")
        line.stacks = {DEV: {}}
        yield line


def written(line: CommandLine, *args: str) -> list[dict[str, Any]]:
    """The resources in the file that the command writes."""
    line.run("import-file", "--ssh-key", "key.pub", "--yes", *args)
    resources: list[dict[str, Any]] = json.loads(Path("fal-import.json").read_text())["resources"]
    return resources


def test_a_machine_is_written_as_state_has_it(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs and outputs are complete, so that the import needs no read."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 5)  # as from Python 3.14 on
    id_ = line.rent(EIGHT, "sector_2")
    (resource,) = written(line)
    ip = line.emulator.state.list()[0].ip
    inputs = {"__provider": PROVIDER, "instance_type": EIGHT, "ssh_key": f"{ED25519} me@laptop"}
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
        },
    }


def test_only_what_no_stack_has_is_written(line: CommandLine) -> None:
    """A machine of another stack is left out, since a destroy here would delete it there."""
    held, free = line.rent(), line.rent()
    line.stacks = {DEV: {"a": held}}
    assert [resource["id"] for resource in written(line)] == [free]


def test_what_is_pending_is_left_out_and_named(line: CommandLine) -> None:
    """A machine on record is left out, since the create that made it goes on with it."""
    made, perhaps = line.rent(), line.rent(EIGHT)
    free = line.rent()
    line.pend(phase=Phase.CREATED, instance_id=made)
    line.pend("other", instance_type=EIGHT)
    assert [resource["id"] for resource in written(line)] == [free]
    assert f"Left out: {made}" in line.stderr
    assert urn("box") in line.stderr
    assert f"Left out: {perhaps}" in line.stderr


def test_sectors_can_be_pinned(line: CommandLine) -> None:
    """A pinned sector is in inputs, in outputs and in the lines of the program."""
    line.rent(EIGHT, "sector_2")
    line.rent()
    resources = written(line, "--pin-sectors")
    eight, one = sorted(resources, key=lambda resource: resource["name"], reverse=True)
    assert eight["inputs"]["sector"] == eight["outputs"]["sector"] == "sector_2"
    assert "sector" not in one["inputs"]
    shown = line.run("import-file", "--ssh-key", "key.pub", "--yes", "--pin-sectors")
    assert f"instance_type='{EIGHT}', ssh_key=ssh_key, sector='sector_2')" in shown


def test_names_are_unique_and_the_same_in_every_run(line: CommandLine) -> None:
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


def test_it_says_what_to_run_and_what_to_write(line: CommandLine) -> None:
    """The exact command and the lines of the program are printed."""
    id_ = line.rent()
    shown = line.run("import-file", "--ssh-key", "key.pub", "-o", "all machines.json")
    assert "\n  pulumi import --file 'all machines.json' --generate-code=false\n" in shown
    assert f"ComputeInstance('gpu-1x-h100-sxm5-{id_[:8]}', instance_type=" in shown
    compile(shown[shown.index("from pathlib") :], "program", "exec")


def test_where_nothing_is_left_nothing_is_written(line: CommandLine) -> None:
    """An empty file would be an error of `pulumi import`, so none is written."""
    line.stacks = {DEV: {"a": line.rent()}}
    assert "nothing to import" in line.run("import-file", "--ssh-key", "key.pub")
    assert not Path("fal-import.json").exists()


def test_a_stack_that_cannot_be_read_stops_it(line: CommandLine) -> None:
    """A stack that can't be read may have any of the machines."""
    line.rent()
    line.stacks["organization/train/prod"] = "no access"
    says = line.refused("import-file", "--ssh-key", "key.pub")
    assert "stack organization/train/prod: no access" in says
    assert not Path("fal-import.json").exists()


def test_a_file_is_written_over_only_when_asked(line: CommandLine) -> None:
    """A file that exists may be one that was not imported yet."""
    line.rent()
    Path("fal-import.json").write_text("mine")
    line.run("import-file", "--ssh-key", "key.pub", code=1, typed="n\n")
    assert Path("fal-import.json").read_text() == "mine"
    line.run("import-file", "--ssh-key", "key.pub", typed="y\n")
    assert Path("fal-import.json").read_text() != "mine"


def test_a_private_key_is_refused_and_not_repeated(line: CommandLine) -> None:
    """A private key is refused without its text, since its file's name is easily mistaken."""
    line.rent()
    Path("key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    says = line.refused("import-file", "--ssh-key", "key")
    assert "The content of key is a PRIVATE key" in says
    assert "Name the file of the public key" in says
    assert "program" not in says
    assert "c2VjcmV0" not in says


def test_a_folder_that_is_not_there_is_named_before_anything_is_read(line: CommandLine) -> None:
    """The stacks take long to read, and all of it would have to be repeated."""
    line.stacks = {DEV: "must not be read"}
    says = line.refused("import-file", "--ssh-key", "key.pub", "-o", "missing/machines.json")
    assert says == "Error: There is no folder missing. Make it, or name another.\n"


def test_a_file_that_cannot_be_written_is_named(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or a file of somebody else, is no bug of this command."""

    def fail(self: Path, text: str, **options: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    line.rent()
    monkeypatch.setattr(Path, "write_text", fail)
    says = line.refused("import-file", "--ssh-key", "key.pub", "--yes", "-o", "full.json")
    assert says == "Error: full.json can't be written: No space left on device.\n"
