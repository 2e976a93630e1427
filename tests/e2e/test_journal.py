"""A journal that can't do its work is reported with its path, and nothing is created without it.

tests/unit has everything that may be wrong with a file or the folder.
"""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    Stage,
    as_documented,
    entries,
    in_plugin,
    journal,
    kill,
    nothing_runs,
    one_machine,
    says,
    unlock,
    urn,
)


@pytest.mark.chaos("unit/test_journal.py::test_damaged")
def test_a_damaged_record_stops_its_own_resource_until_it_is_removed(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A machine may depend on it, so every command warns; other resources are created.

    A record is a readable file that only its owner can read, with no key in it.
    """
    stack.env |= PATIENCE
    emulator.faults.add("create", "502")
    stack.up(fails=True)
    (entry,) = entries(stack)
    file = journal(stack).folder / entry.file
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    text = file.read_text()
    assert urn(stack) in text
    assert "502 Bad Gateway" in text
    assert "AAAAC3Nza" not in text

    file.write_text(text[:40])
    stack.write(machine(), machine("other"))
    message = f"The journal of creates ({file}) is damaged. It tracks machines"
    failed = stack.up(fails=True)
    says(failed, f"error: JournalError: {message}", f"warning: {message}")
    as_documented(failed, "One file is damaged")
    assert emulator.state.creations == 1
    assert [resource["urn"] for resource in stack.resources()] == [urn(stack, "other")]
    says(stack.preview(), f"warning: {message}")

    file.unlink()
    stack.up()
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2


@pytest.mark.chaos("unit/test_review.py::test_under_way")
def test_a_preview_beside_an_up_leaves_the_record_of_its_create_alone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The preview has read the record of the old machine when the `up` begins to replace it.

    The `up` is killed then, and only its own record says which machine it has created.
    """
    stack.env |= PATIENCE
    stack.up()
    (old,) = emulator.state.alive()
    asked, go = stack.folder / "asked", stack.folder / "go"
    in_plugin(
        stack,
        "import pathlib, time\n"
        "from pulumi_fal.stacks import state\n"
        "read = state.read\n"
        "def slow(*args, **options):\n"
        "    found = read(*args, **options)\n"
        f"    pathlib.Path({str(asked)!r}).touch()\n"
        f"    while not pathlib.Path({str(go)!r}).exists():\n"
        "        time.sleep(0.05)\n"
        "    return found\n"
        "state.read = slow\n",
    )
    preview = stack.start("preview")
    del stack.env["PYTHONPATH"]
    wait_until(asked.exists)
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    stage = Stage(emulator, "while waiting")
    up = stage.reached_by(stack.start("up"))
    go.touch()
    assert preview.wait().exit_code == 0
    kill(stack, up, "both")
    nothing_runs(stack)
    (new,) = emulator.state.alive() - {old}
    assert [entry.instance_id for entry in entries(stack)] == [new]

    stage.end()
    unlock(stack)
    stack.up()
    assert one_machine(stack, emulator, made=2) == new


def test_no_machine_is_created_without_a_journal_and_none_is_lost_when_it_breaks(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """On a full disk no POST is sent. A journal that breaks after the POST is only reported."""
    folder = journal(stack).folder
    in_plugin(
        stack,
        "import os, pathlib\n"
        "sync = os.fsync\n"
        "def fsync(descriptor):\n"
        f"    if pathlib.Path({str(folder)!r}, 'full').exists():\n"
        "        raise OSError(28, os.strerror(28))\n"
        "    sync(descriptor)\n"
        "os.fsync = fsync\n",
    )
    folder.mkdir(parents=True)
    (folder / "full").touch()
    failed = stack.up(fails=True)
    as_documented(failed, "The journal can't be used")
    says(failed, f"error: JournalError: The journal of creates ({folder}) can't be")
    assert emulator.state.calls["create"] == 0

    (folder / "full").unlink()
    create = emulator.state.create

    def create_and_break(*args: Any, **options: Any) -> object:
        made = create(*args, **options)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.touch()
        return made

    emulator.state.create = create_and_break  # type: ignore[method-assign, assignment]
    says(stack.up(), f"The journal of creates ({folder}) can't be written")
    folder.unlink()
    one_machine(stack, emulator)
