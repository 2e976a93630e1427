"""A journal that can't do its work is reported with its path, and no machine is made without it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines.entry import VERSION, Entry
from pulumi_fal.machines.journal import file_name

from .harness import Stack, machine
from .recovery import PATIENCE, as_documented, entries, journal, one_machine, pending, says, urn


@pytest.fixture
def entry(stack: Stack, emulator: EmulatorServer) -> Path:
    """The entry that a create without an answer leaves; no machine hangs on it."""
    stack.env |= PATIENCE
    emulator.faults.add("create", "502")
    stack.up(fails=True)
    (entry,) = journal(stack).entries()
    assert isinstance(entry, Entry)
    return journal(stack).folder / file_name(entry.origin)


def damage(path: Path) -> None:
    """Half of it is gone."""
    path.write_text(path.read_text()[:40])


def from_the_future(path: Path) -> None:
    """A later version wrote it."""
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": VERSION + 1}))


def unreadable(path: Path) -> None:
    """For root no file is unreadable but one that is a folder."""
    path.unlink()
    path.mkdir()


SPOILT = {
    "is damaged": damage,
    "was written by a newer pulumi-fal; use that version": from_the_future,
    "can't be read: Is a directory": unreadable,
}


@pytest.mark.parametrize("problem", SPOILT)
def test_an_entry_that_can_not_be_read_stops_its_resource_and_is_named(
    problem: str, entry: Path, stack: Stack, emulator: EmulatorServer
) -> None:
    """A machine may hang on it. Other resources go on, and every command warns."""
    SPOILT[problem](entry)
    stack.write(machine(), machine("other"))
    message = f"The journal of creates ({entry}) {problem}. It tracks machines"
    failed = stack.up(fails=True)
    says(failed, f"error: JournalError: {message}", f"warning: {message}")
    if problem == "is damaged":
        as_documented(failed, "One file is damaged")
    assert emulator.state.creations == 1
    assert [each["urn"] for each in stack.resources()] == [urn(stack, "other")]
    for command in (stack.preview, stack.refresh):
        says(command(), f"warning: {message}")
    (entry.rmdir if entry.is_dir() else entry.unlink)()
    stack.up()
    assert stack.state_ids() == emulator.state.alive()


def a_file_in_its_place(folder: Path) -> None:
    """What a wrong PULUMI_HOME may lead to."""
    folder.parent.mkdir(parents=True)
    folder.touch()


def a_full_disk(folder: Path) -> None:
    """A small one, mounted there and filled."""
    folder.mkdir(parents=True)
    _mount(folder, "size=4k")
    (folder / "all").write_bytes(bytes(4096))


def a_read_only_disk(folder: Path) -> None:
    """As in a container without a volume."""
    folder.mkdir(parents=True)
    _mount(folder, "ro")


def _mount(folder: Path, options: str) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk can't be mounted here")


BROKEN: dict[str, Callable[[Path], None]] = {
    "can't be read: Not a directory": a_file_in_its_place,
    "can't be written: No space left on device": a_full_disk,
    "can't be written: Read-only file system": a_read_only_disk,
}


@pytest.mark.parametrize("problem", BROKEN)
def test_without_a_journal_no_machine_is_made(
    problem: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """Not even tried."""
    folder = journal(stack).folder
    BROKEN[problem](folder)
    try:
        failed = stack.up(fails=True)
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)
    says(
        failed,
        f"error: JournalError: The journal of creates ({folder}) {problem}. It tracks "
        "machines that are not in state yet, so no machine is created without it. Fix it, then run "
        "the command again; `pulumi-fal pending ls` shows what can be read.",
    )
    if "No space" in problem:
        as_documented(failed, "The journal can't be used")
    assert emulator.state.calls["create"] == 0


def test_a_journal_that_breaks_once_the_machine_is_there_takes_nothing_away(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The machine goes to state as ever; and the user hears of the journal."""
    folder = journal(stack).folder
    create = emulator.state.create

    def create_and_break(
        instance_type: str, ssh_key: str, sector: str | None = None, account: str | None = None
    ) -> object:
        made = create(instance_type, ssh_key, sector, account)
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()
        folder.touch()
        return made

    emulator.state.create = create_and_break  # type: ignore[method-assign, assignment]
    says(stack.up(), f"The journal of creates ({folder}) can't be written")
    folder.unlink()
    one_machine(stack, emulator)


def test_an_entry_is_one_small_readable_file_that_only_its_owner_can_read(
    entry: Path, stack: Stack
) -> None:
    """It says what it is about; the SSH key and the API key aren't in it."""
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    text = entry.read_text()
    assert urn(stack) in text
    assert "502 Bad Gateway" in text
    assert "AAAAC3Nza" not in text
    assert stack.env["FAL_ADMIN_API_KEY"] not in text


def test_what_is_pending_is_listed_and_forgotten_by_command(
    entry: Path, stack: Stack, emulator: EmulatorServer
) -> None:
    """`pulumi-fal pending`."""
    assert urn(stack) in pending(stack, "ls")
    pending(stack, "forget", "machine", "--yes")
    assert entries(stack) == []
    assert not entry.exists()
    stack.up()
    one_machine(stack, emulator)
