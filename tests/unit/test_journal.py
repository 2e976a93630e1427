"""The record of creates under way: whole or not there, and found under any name of its stack."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import JournalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import VERSION, Entry, Journal, Phase, new_file
from pulumi_fal.stacks.origin import Origin

from ..fakes import EIGHT, HERE, ID, ONE, URN

ENTRY = Entry(
    origin=HERE,
    account="0123456789ab",
    requested=NewInstance(ONE, "f00d"),
    before=("an-old-one",),
    started=1_700_000_000.0,
    file=new_file(HERE),
)
OTHER = replace(HERE, urn=f"{URN}-2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "fal-compute" / "creates"


@pytest.fixture
def records(folder: Path) -> Journal:
    return Journal(folder)


def file_of(records: Journal) -> Path:
    """The one entry's file."""
    (path,) = records.folder.glob("*.json")
    return path


def of_another() -> Entry:
    """The entry of another resource's create."""
    return replace(ENTRY, origin=OTHER, file=new_file(OTHER))


def test_an_entry_is_read_by_another_process_as_it_was_written(folder: Path) -> None:
    """Another process reads an entry exactly as it was written."""
    Journal(folder).write(ENTRY)
    assert Journal(folder).of(HERE) == list(Journal(folder).entries()) == [ENTRY]


def test_the_file_is_for_people_too_and_for_nobody_else(records: Journal) -> None:
    """The file is JSON with names, and only its owner may read it.

    On Windows, what a person may read is decided by the folder: nobody else's home can be read.
    """
    records.write(ENTRY)
    data = json.loads(file_of(records).read_text())
    assert (data["version"], data["origin"]["urn"], data["phase"]) == (VERSION, URN, "asked")
    if os.name == "nt":
        return
    assert stat.S_IMODE(file_of(records).stat().st_mode) == 0o600
    assert stat.S_IMODE(records.folder.stat().st_mode) == 0o700


def test_a_create_has_one_file_and_shares_it_with_no_other(records: Journal) -> None:
    """A second write takes the place of the first."""
    records.write(ENTRY)
    records.write(replace(ENTRY, problem="no answer").as_created("new-one"))
    (entry,) = records.of(HERE)
    assert (entry.phase, entry.instance_id, entry.problem) == (Phase.CREATED, "new-one", "")
    assert entry.file == file_of(records).name == f"{ENTRY.file[:34]}{entry.id}.json"
    assert new_file(HERE) != new_file(HERE)


def test_contents_are_on_disk_before_the_name_is_and_folders_after(
    records: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves the old entry or the new one, and never an empty file."""
    done: list[str] = []
    replaced, synced = Path.replace, os.fsync

    def rename(self: Path, target: Any) -> Any:
        done.append("rename")
        return replaced(self, target)

    def sync(descriptor: int) -> None:
        here = os.fstat(descriptor)
        if stat.S_ISREG(here.st_mode):
            done.append("contents")
        else:
            of = [records.folder, *records.folder.parents]
            done.append(next(path.name for path in of if path.stat().st_ino == here.st_ino))
        synced(descriptor)

    monkeypatch.setattr(Path, "replace", rename)
    monkeypatch.setattr(os, "fsync", sync)
    records.write(ENTRY)
    if os.name == "nt":  # folders can't be synced
        assert done == ["contents", "rename"]
        return
    assert done == ["fal-compute", "home", "contents", "rename", "creates"]
    del done[:]
    records.drop(ENTRY)
    assert done == ["creates"]


def test_a_write_that_fails_leaves_the_entry_that_was_there(
    records: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves the old entry whole, and no half of a new one."""
    records.write(ENTRY)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    records._is_synced = True  # only the file is to fail
    with pytest.raises(JournalError, match="can't be written: No space left on device"):
        records.write(ENTRY.as_created("new-one"))
    assert [path.suffix for path in records.folder.iterdir()] == [".json"]
    assert records.of(HERE) == [ENTRY]


def test_dropping_what_is_not_there_is_no_failure(records: Journal) -> None:
    """An entry can be dropped although its file or its folder is not there."""
    records.drop(ENTRY)
    records.write(ENTRY)
    records.drop(ENTRY)
    records.drop(ENTRY)
    assert records.of(HERE) == []


@pytest.mark.parametrize("in_the_way", ["file", "folder", "above"])
def test_no_access(folder: Path, records: Journal, in_the_way: str) -> None:
    """What can't be read may have records, and without a record no machine may be created."""
    path = {"file": folder / ENTRY.file, "folder": folder, "above": folder.parent}[in_the_way]
    path.parent.mkdir(parents=True)
    if in_the_way == "file":
        path.mkdir()
        with pytest.raises(JournalError, match="can't be written"):
            records.drop(ENTRY)
    else:
        path.write_text("in the way")
        with pytest.raises(JournalError, match=r"(?s)creates\) can't be written.*no machine is"):
            records.write(ENTRY)
        with pytest.raises(JournalError, match="can't be read"):
            list(records.entries())
    with pytest.raises(JournalError, match="can't be read"):
        records.of(HERE)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"version": 1}',
        b'{"version": "one"}',
        b'{"version": 1, "origin": null, "before": []}',
        b'{"version": 1, "origin": {"urn": "u"}, "before": [], "unheard": "of"}',
    ],
)
def test_a_damaged_entry_is_reported(records: Journal, contents: bytes) -> None:
    """It may be about a machine that runs, of any stack that has such a resource."""
    records.write(ENTRY)
    file_of(records).write_bytes(contents)
    with pytest.raises(JournalError, match="is damaged"):
        records.of(replace(HERE, urn=URN.replace("dev", "prod")))
    (error,) = records.entries()
    assert isinstance(error, JournalError)
    assert records.of(OTHER) == []


RECORDED = Path(__file__).parent / "recorded"


RENAMED = replace(HERE, urn=URN.replace("dev", "prod"))
A_DIGEST, ANOTHER_DIGEST = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_recorded_entry_of_each_version_is_read(records: Journal, version: int) -> None:
    """A create that an earlier version began must be found by this one, with what it requested."""
    records.write(ENTRY)
    text = (RECORDED / f"entry-version-{version}.json").read_text()
    file_of(records).write_text(text)
    (entry,) = records.of(HERE)
    assert entry.origin == (replace(HERE, provider="an-id") if version == VERSION else HERE)
    assert entry.requested == NewInstance(EIGHT, "f" * 32, "sector_2")
    assert (entry.phase, entry.instance_id, entry.before) == (Phase.CREATED, ID, ("an-old-one",))
    if version == VERSION:
        assert json.loads(json.dumps(entry.as_json())) == json.loads(text)


@pytest.mark.parametrize("late", ["", f"-late-{A_DIGEST}"])
@pytest.mark.parametrize("origin", [HERE, RENAMED])
def test_a_file_that_an_earlier_version_named_is_found(
    records: Journal, origin: Origin, late: str
) -> None:
    """It was named after a hash of the URN, and is found under any name of the stack."""
    records.write(of_another())
    old = f"{A_DIGEST}-{ANOTHER_DIGEST}{late}.json"
    (records.folder / old).write_text((RECORDED / "entry-version-4.json").read_text())
    (entry,) = records.of(origin)
    assert (entry.file, entry.instance_id) == (old, ID)
    assert records.of(OTHER) == [of_another()]
    lock = records.try_lock(entry)
    assert lock is not None
    with lock:
        assert (records.folder / f"{A_DIGEST}-{ANOTHER_DIGEST}.lock").exists()
    assert records.exchange(entry, replace(entry, file=new_file(HERE)))
    assert not (records.folder / old).exists()


def test_a_damaged_file_that_an_earlier_version_named_is_reported(records: Journal) -> None:
    """The hash of its URN is in its name."""
    digest = hashlib.sha256(URN.encode()).hexdigest()[:16]
    records.write(of_another())
    (records.folder / f"{digest}-{A_DIGEST}.json").write_text("{")
    with pytest.raises(JournalError, match="is damaged"):
        records.of(HERE)
    assert records.of(OTHER) == [of_another()]


def test_the_password_of_a_backend_does_not_stay_on_record(records: Journal) -> None:
    """Earlier versions recorded its URL as it was."""
    old = replace(ENTRY, origin=replace(HERE, backend="postgres://me:s3cr3t@host/db"))
    records.write(old)
    (entry,) = records.of(HERE)
    assert entry.origin.backend == "postgres://host/db"
    assert records.exchange(entry, replace(entry, seen=True))
    assert "s3cr3t" not in file_of(records).read_text()


def test_an_entry_of_a_newer_version_is_reported_as_such(records: Journal) -> None:
    """An entry of a newer version may say what this version doesn't understand."""
    records.write(ENTRY)
    path = file_of(records)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": VERSION + 1}))
    with pytest.raises(JournalError, match="was written by a newer pulumi-fal"):
        records.of(HERE)


def test_an_unreadable_entry_hides_no_other_one(records: Journal) -> None:
    """The entries around an unreadable one are still read."""
    for entry in (ENTRY, of_another()):
        records.write(entry)
    (records.folder / ENTRY.file).write_text("{")
    found = list(records.entries())
    assert [item for item in found if isinstance(item, Entry)] == [of_another()]
    assert [str(item) for item in found if isinstance(item, JournalError)] != []


def test_an_entry_that_is_dropped_while_it_is_read_is_none(
    records: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that another process drops at this moment counts as absent."""
    records.write(ENTRY)
    read = Path.read_text

    def late(self: Path, *args: Any, **kwargs: Any) -> str:
        self.unlink()
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", late)
    assert records.of(HERE) == []


@pytest.mark.parametrize(
    "other, is_found",
    [
        (replace(HERE, backend="file:///there"), True),
        (replace(HERE, provider="an-id"), True),
        (RENAMED, True),
        (replace(HERE, urn=URN.replace("shop", "bank")), True),
        (replace(HERE, urn=URN.replace("::web", "::web-2")), False),
        (replace(HERE, urn=URN.replace("fal:", "other:")), False),
        (replace(HERE, urn=URN.replace("::pulumi", "::my:Parent$pulumi")), False),
    ],
)
def test_all_records_of_a_resources_name_are_found(
    records: Journal, other: Origin, is_found: bool
) -> None:
    """The stack, the project and the backend may have another name by now."""
    records.write(replace(ENTRY, origin=other, file=new_file(other)))
    assert len(records.of(HERE)) == is_found


def test_a_urn_names_stack_and_project() -> None:
    """A URN is split correctly with parents and with colons in names."""
    nested = Origin("urn:pulumi:dev::shop::my:comp:Onent$pulumi-python:dynamic/fal:X::a::b")
    assert (nested.stack, nested.project) == ("dev", "shop")
    assert (Origin("nonsense").stack, Origin("nonsense").project) == ("", "")


MADE = ENTRY.as_created("made")


READER = URN.replace("web", "reader")


@pytest.mark.parametrize(
    "seen, urn, id_, is_proven, is_kept",
    [
        (False, URN, "made", False, True),
        (True, URN, "made", False, False),
        (False, URN, "made", True, False),
        (True, URN, "made", True, False),
        (True, URN, "another", True, True),
        # A `ComputeInstance.get` of the same machine reads it, and does not have it.
        (True, READER, "made", True, True),
        (True, "", "made", True, True),
    ],
)
def test_settled(
    folder: Path, seen: bool, urn: str, id_: str, is_proven: bool, is_kept: bool
) -> None:
    """An earlier process's entry goes once its resource has the machine, and the API showed it."""
    Journal(folder).write(replace(MADE, seen=seen))
    now = Journal(folder)
    now.drop_entry_for(urn, id_, is_proven=is_proven)
    assert bool(now.of(HERE)) is is_kept


def test_calls_at_the_same_time_read_the_folder_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh of hundreds of machines would read hundreds of files for each of them."""
    Journal(folder).write(replace(MADE, seen=True))
    now, all_there, has_read = Journal(folder), threading.Barrier(8), threading.Event()
    readable = now.readable

    def read() -> list[Entry]:
        if has_read.is_set():
            raise AssertionError("another call reads the folder as well")
        has_read.set()
        return readable()

    def drop(number: int) -> None:
        all_there.wait()
        now.drop_entry_for(URN, f"{number}", is_proven=True)

    monkeypatch.setattr(now, "readable", read)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(drop, range(8)))
    now.drop_entry_for(URN, "made", is_proven=True)
    assert now.of(HERE) == []


@pytest.mark.parametrize("recorded", [HERE, RENAMED])
@pytest.mark.parametrize("is_in_state, is_kept", [(False, True), (True, False), (None, False)])
def test_an_entry_stays_where_the_stack_has_no_such_machine(
    folder: Path, recorded: Origin, is_in_state: bool | None, is_kept: bool
) -> None:
    """Under the same URN the machine may merely be read, or be in a stack of another backend."""
    asked: list[tuple[str, str]] = []

    def ask(origin: Origin, instance_id: str) -> bool | None:
        asked.append((origin.urn, instance_id))
        return is_in_state

    Journal(folder).write(replace(MADE, origin=recorded, seen=True))
    now = Journal(folder, ask)
    now.drop_entry_for(URN, "another", is_proven=True)
    assert asked == []  # it takes a command
    now.drop_entry_for(URN, "made", is_proven=True)
    assert asked == [(URN, "made")]
    assert bool(now.of(HERE)) is is_kept


def test_settling_leaves_the_entries_of_this_process(records: Journal) -> None:
    """The entries of this process stay, since state can't know of their machines yet."""
    records.drop_entry_for(URN, "made", is_proven=True)
    records.write(MADE)
    records.drop_entry_for(URN, "made", is_proven=True)
    assert records.of(HERE) == [MADE]


def test_settling_in_a_journal_that_fails_is_no_failure(folder: Path, records: Journal) -> None:
    """A journal that fails doesn't stop a diff or a delete."""
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    records.drop_entry_for(URN, "made", is_proven=True)
    folder.unlink()
    records.write(MADE)
    records.drop_entry_for(URN, "made", is_proven=True)
    assert records.of(HERE) == [MADE]  # it is this process's own


LOCK = f"{ENTRY.file[:33]}.lock"
WITH_ID = replace(HERE, provider="an-id")


def test_others_see_that_a_create_is_under_way_until_it_is_not(folder: Path) -> None:
    """A lock shows that a process works on a create, and only one process can have it."""
    mine, others = Journal(folder), Journal(folder)
    mine.write(ENTRY)
    assert not others.is_locked(ENTRY)
    with locked(mine, HERE):
        assert others.is_locked(ENTRY)
        assert others.try_lock(HERE) is others.try_lock(ENTRY) is None
        assert list(others.entries()) == [ENTRY]
    assert not others.is_locked(ENTRY)
    assert others.try_lock(HERE) is not None


@pytest.mark.parametrize(
    "recorded, origin, is_shared",
    [
        (HERE, HERE, True),
        (WITH_ID, replace(RENAMED, provider="an-id", backend="file:///there"), True),
        (HERE, WITH_ID, False),
        (HERE, RENAMED, False),
        (HERE, replace(HERE, backend="file:///there"), False),
        (WITH_ID, replace(HERE, provider="another-id"), False),
        (HERE, OTHER, False),
    ],
)
def test_creates_are_locked_together_if_they_surely_are_of_one_resource(
    records: Journal, recorded: Origin, origin: Origin, is_shared: bool
) -> None:
    """The id says so if it is known, else the URN and the backend."""
    entry = replace(ENTRY, origin=recorded, file=new_file(recorded))
    assert records.shares_lock(entry, origin) is is_shared
    with locked(records, origin):
        assert records.is_locked(entry) is is_shared


def test_a_lock_that_a_killed_process_left_behind_holds_nothing(records: Journal) -> None:
    """The lock of a killed process is free although its file is still there."""
    records.write(ENTRY)
    (records.folder / LOCK).touch()
    assert not records.is_locked(ENTRY)


def test_without_a_place_for_the_lock_the_create_goes_on(folder: Path, records: Journal) -> None:
    """A create goes on where no lock can be made, since the record is what counts."""
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    lock = records.try_lock(HERE)
    assert lock is not None
    with lock:
        assert not records.is_locked(ENTRY)


def test_what_killed_processes_left_behind_is_cleared_away(records: Journal) -> None:
    """Old half-written files are removed. Another process may just have opened a lock's file."""
    records.write(ENTRY)
    for name in (LOCK, "old.tmp", "new.tmp", "other.txt"):
        (records.folder / name).touch()
    os.utime(records.folder / "old.tmp", (0, 0))
    records.clear_leftovers()
    left = {path.name for path in records.folder.iterdir()}
    assert left == {ENTRY.file, LOCK, "new.tmp", "other.txt"}


def test_where_there_is_no_folder_there_is_nothing_to_clear(records: Journal) -> None:
    """A folder that doesn't exist needs no clearing."""
    records.clear_leftovers()
    assert not records.folder.exists()


@pytest.mark.parametrize(
    "environ, place",
    [
        ({"PULUMI_HOME": "/pulumi-home"}, lambda: Path("/pulumi-home")),
        ({"PULUMI_HOME": ""}, lambda: Path.home() / ".pulumi"),
        ({}, lambda: Path.home() / ".pulumi"),
    ],
)
def test_the_journal_is_where_pulumi_keeps_its_own(
    environ: dict[str, str], place: Callable[[], Path]
) -> None:
    """The journal is below PULUMI_HOME, or below ~/.pulumi."""
    assert journal.default_folder(environ) == place() / "fal-compute" / "creates"


# Changes by a process that doesn't hold the lock.

MOVED = replace(MADE, origin=OTHER, file=new_file(OTHER))


def locked(records: Journal, origin: Origin) -> AbstractContextManager[None]:
    """The lock of a create, which another process holds, or another create of this process."""
    lock = records.try_lock(origin)
    assert lock is not None
    return lock


@pytest.mark.parametrize("new", [None, MADE, MOVED])
def test_an_entry_that_is_as_it_was_read_is_exchanged(records: Journal, new: Entry | None) -> None:
    """An entry is dropped, changed, or moved to another resource."""
    records.write(ENTRY)
    assert records.exchange(ENTRY, new)
    assert list(records.entries()) == ([] if new is None else [new])


@pytest.mark.parametrize("new", [None, MADE, MOVED])
@pytest.mark.parametrize("now", [None, replace(ENTRY, seen=True), ENTRY.as_created("another")])
def test_an_entry_that_has_changed_since_it_was_read_is_left_alone(
    records: Journal, new: Entry | None, now: Entry | None
) -> None:
    """The entry may be the only record of another machine by now, or have served its purpose."""
    if now is not None:
        records.write(now)
    assert not records.exchange(ENTRY, new)
    assert list(records.entries()) == ([] if now is None else [now])


@pytest.mark.parametrize("new", [None, MADE])
def test_an_entry_whose_create_is_in_progress_is_left_alone(
    records: Journal, new: Entry | None
) -> None:
    """Only the create that holds the lock knows what its entry must say."""
    records.write(ENTRY)
    for other in (records, Journal(records.folder)):
        with locked(other, HERE):
            assert not records.exchange(ENTRY, new)
    assert list(records.entries()) == [ENTRY]
    assert records.exchange(ENTRY, new)


def test_an_entry_is_moved_only_to_a_resource_without_a_create_in_progress(
    records: Journal,
) -> None:
    """That create has looked for records already."""
    records.write(ENTRY)
    with locked(records, OTHER):
        assert not records.exchange(ENTRY, MOVED)
    assert records.readable() == [ENTRY]


def test_settling_leaves_what_a_create_writes_while_the_stack_is_asked(folder: Path) -> None:
    """An `up` may replace the machine in the second that `pulumi stack export` takes."""
    new = ENTRY.as_created("new")

    def replaced_meanwhile(origin: Origin, instance_id: str) -> bool:
        Journal(folder).write(new)
        return True

    Journal(folder).write(replace(MADE, seen=True))
    now = Journal(folder, replaced_meanwhile)
    now.drop_entry_for(URN, "made", is_proven=True)
    assert now.of(HERE) == [new]


def test_settling_leaves_the_entry_of_a_create_in_progress(folder: Path) -> None:
    """The create holds the lock until the engine knows of its machine."""
    Journal(folder).write(replace(MADE, seen=True))
    now = Journal(folder, lambda origin, instance_id: True)
    with locked(Journal(folder), HERE):
        now.drop_entry_for(URN, "made", is_proven=True)
    assert now.of(HERE) != []


def test_an_entry_begins_as_a_question() -> None:
    """A new entry has no machine and no problem."""
    assert (ENTRY.phase, ENTRY.instance_id, ENTRY.problem) == (Phase.REQUESTED, None, "")
