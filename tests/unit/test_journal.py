"""The record of creates under way: whole or not there, and found under any name of its stack."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.clock import Clock
from pulumi_fal.errors import JournalError
from pulumi_fal.machines import journal
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import VERSION, Entry, Journal, Phase, new_file
from pulumi_fal.machines.records import Records
from pulumi_fal.stacks.cache import Origin

from ..fakes import EIGHT, HERE, ID, ONE, URN, FakeStacks, settings

ENTRY = Entry(
    origin=HERE,
    account="0123456789ab",
    requested=NewInstance(ONE, "f00d"),
    before=("an-old-one",),
    started=1_700_000_000.0,
    file=new_file(HERE),
)
OTHER = replace(HERE, urn=f"{URN}-2")
RENAMED = replace(HERE, urn=URN.replace("dev", "prod"))
OF_ANOTHER = replace(ENTRY, origin=OTHER, file=new_file(OTHER))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "fal-compute" / "creates"


@pytest.fixture
def records(folder: Path) -> Journal:
    return Journal(folder)


def file_of(records: Journal) -> Path:
    (path,) = records.folder.glob("*.json")
    return path


def process(
    records: Journal, ask: Callable[[Origin, str], bool | None] = lambda origin, id_: None
) -> Records:
    """A process with this journal. `ask` says whether its stack has a machine."""
    stacks = FakeStacks()
    vars(stacks).update(has=ask)
    return Account(records, stacks, Clock(), settings).records


def test_an_entry_is_one_file(folder: Path) -> None:
    """Another process reads it as it was written, and a second write takes its place."""
    records = Journal(folder)
    records.drop(ENTRY)
    records.write(ENTRY)
    assert Journal(folder).of(HERE) == list(Journal(folder).entries()) == [ENTRY]
    records.write(replace(ENTRY, problem="no answer").as_created("new-one"))
    (entry,) = records.of(HERE)
    assert (entry.phase, entry.instance_id, entry.problem) == (Phase.CREATED, "new-one", "")
    assert entry.file == file_of(records).name == f"{ENTRY.file[:34]}{entry.id}.json"
    assert new_file(HERE) != new_file(HERE)
    for _ in range(2):
        records.drop(ENTRY)
    assert records.of(HERE) == []


def test_only_its_owner_reads_it(records: Journal) -> None:
    """The file is JSON with names. On Windows, the folder decides who may read it."""
    records.write(ENTRY)
    data = json.loads(file_of(records).read_text())
    assert (data["version"], data["origin"]["urn"], data["phase"]) == (VERSION, URN, "asked")
    if os.name != "nt":
        assert stat.S_IMODE(file_of(records).stat().st_mode) == 0o600
        assert stat.S_IMODE(records.folder.stat().st_mode) == 0o700


def test_order_of_syncs(records: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure leaves the old entry or the new one, and never an empty file."""
    done: list[str] = []
    replaced, synced = Path.replace, os.fsync

    def rename(self: Path, target: Any) -> Any:
        done.append("rename")
        return replaced(self, target)

    def sync(descriptor: int) -> None:
        here = os.fstat(descriptor)
        of = [] if stat.S_ISREG(here.st_mode) else [records.folder, *records.folder.parents]
        names = [path.name for path in of if path.stat().st_ino == here.st_ino]
        done.append((names or ["contents"])[0])
        synced(descriptor)

    monkeypatch.setattr(Path, "replace", rename)
    monkeypatch.setattr(os, "fsync", sync)
    records.write(ENTRY)
    if os.name == "nt":  # folders can't be synced
        assert done == ["contents", "rename"]
        return
    assert done == ["fal-compute", "home", "contents", "rename", "creates"]
    records.drop(ENTRY)
    assert done[5:] == ["creates"]


def test_a_full_disk(records: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old entry whole, and no half of a new one."""
    records.write(ENTRY)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", mock.Mock(side_effect=full))
    records._is_synced = True  # only the file is to fail
    with pytest.raises(JournalError, match="can't be written: No space left on device"):
        records.write(ENTRY.as_created("new-one"))
    assert [path.suffix for path in records.folder.iterdir()] == [".json"]
    assert records.of(HERE) == [ENTRY]


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


DIGEST = hashlib.sha256(URN.encode()).hexdigest()[:16]
A_DIGEST, ANOTHER_DIGEST = "0123456789abcdef", "fedcba9876543210"
DAMAGED = {
    "empty": b"",
    "cut off": b"{",
    "no object": b"[]",
    "null": b"null",
    "no text": b"\xff\xfe\x00",
    "too deep": b"[" * 100_000,
    "nothing but a version": b'{"version": 1}',
    "an odd version": b'{"version": "one"}',
    "no origin": b'{"version": 1, "origin": null, "before": []}',
    "an unknown field": b'{"version": 1, "origin": {"urn": "u"}, "before": [], "unheard": "of"}',
    "newer": b'{"version": %d}' % (VERSION + 1),
}


@pytest.mark.parametrize("contents", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("file", [ENTRY.file, f"{DIGEST}-{A_DIGEST}.json"], ids=["now", "earlier"])
def test_damaged(records: Journal, file: str, contents: bytes) -> None:
    """It may be about a machine of any stack with such a resource. Other entries are still read."""
    records.write(OF_ANOTHER)
    (records.folder / file).write_bytes(contents)
    says = (
        "was written by a newer pulumi-fal" if b"%d" % (VERSION + 1) in contents else "is damaged"
    )
    with pytest.raises(JournalError, match=says):
        records.of(RENAMED if file == ENTRY.file else HERE)
    error, other = sorted(records.entries(), key=lambda found: isinstance(found, Entry))
    assert isinstance(error, JournalError)
    assert records.of(OTHER) == [other] == [OF_ANOTHER]


RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_earlier_versions(records: Journal, version: int) -> None:
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


@pytest.mark.parametrize("late", ["", f"-late-{A_DIGEST}"], ids=["present", "late"])
@pytest.mark.parametrize("origin", [HERE, RENAMED], ids=["here", "renamed"])
def test_earlier_names(records: Journal, origin: Origin, late: str) -> None:
    """A file was named after a hash of the URN, and is found under any name of the stack."""
    records.write(OF_ANOTHER)
    old = f"{A_DIGEST}-{ANOTHER_DIGEST}{late}.json"
    (records.folder / old).write_text((RECORDED / "entry-version-4.json").read_text())
    (entry,) = records.of(origin)
    assert (entry.file, entry.instance_id) == (old, ID)
    assert records.of(OTHER) == [OF_ANOTHER]
    lock = records.try_lock(entry)
    assert lock is not None
    with lock:
        assert (records.folder / f"{A_DIGEST}-{ANOTHER_DIGEST}.lock").exists()
    assert records.exchange(entry, replace(entry, file=new_file(HERE)))
    assert not (records.folder / old).exists()


def test_passwords_go(records: Journal) -> None:
    """Earlier versions recorded the URL of a backend as it was."""
    records.write(replace(ENTRY, origin=replace(HERE, backend="postgres://me:s3cr3t@host/db")))
    (entry,) = records.of(HERE)
    assert entry.origin.backend == "postgres://host/db"
    assert records.exchange(entry, replace(entry, seen=True))
    assert "s3cr3t" not in file_of(records).read_text()


@pytest.mark.parametrize("moved", [[], [OF_ANOTHER]], ids=["dropped", "moved"])
def test_gone_while_read(
    records: Journal, monkeypatch: pytest.MonkeyPatch, moved: list[Entry]
) -> None:
    """`pending adopt` may write an entry to another file between the list and the read."""
    records.write(ENTRY)
    read = Path.read_text

    def late(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == ENTRY.file:
            for entry in moved:
                records.write(entry)
            self.unlink()
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", late)
    assert records.readable() == moved
    assert records.of(HERE) == []


FINDS = {
    "another backend": (replace(HERE, backend="file:///there"), True),
    "a provider's id": (replace(HERE, provider="an-id"), True),
    "another stack": (RENAMED, True),
    "another project": (replace(HERE, urn=URN.replace("shop", "bank")), True),
    "another name": (OTHER, False),
    "another type": (replace(HERE, urn=URN.replace("fal:", "other:")), False),
    "a parent": (replace(HERE, urn=URN.replace("::pulumi", "::my:Parent$pulumi")), False),
}


@pytest.mark.parametrize("other, is_found", FINDS.values(), ids=FINDS)
def test_found_by_name(records: Journal, other: Origin, is_found: bool) -> None:
    """The stack, the project and the backend may have another name by now."""
    records.write(replace(ENTRY, origin=other, file=new_file(other)))
    assert len(records.of(HERE)) == is_found


def test_urns() -> None:
    """A URN is split correctly with parents and with colons in names."""
    nested = Origin("urn:pulumi:dev::shop::my:comp:Onent$pulumi-python:dynamic/fal:X::a::b")
    assert (nested.stack, nested.project) == ("dev", "shop")
    assert (Origin("nonsense").stack, Origin("nonsense").project) == ("", "")


MADE = ENTRY.as_created("made")
SHOWN = replace(MADE, seen=True)
RENAMED_URN = f"{URN}-renamed"
READER = URN.replace("web", "reader")


@pytest.mark.parametrize(
    "entry, urn, id_, is_proven, is_kept",
    [
        pytest.param(MADE, URN, "made", False, True, id="never shown"),
        pytest.param(SHOWN, URN, "made", False, False, id="shown"),
        pytest.param(MADE, URN, "made", True, False, id="proven"),
        pytest.param(SHOWN.as_gone(0.0), URN, "made", True, True, id="leaving state"),
        pytest.param(SHOWN, URN, "another", True, True, id="another machine"),
        pytest.param(SHOWN, READER, "made", True, True, id="read by ComputeInstance.get"),
        pytest.param(SHOWN, RENAMED_URN, "made", True, False, id="another name by now"),
        pytest.param(SHOWN, "", "made", True, True, id="no resource"),
    ],
)
def test_settled(
    folder: Path, entry: Entry, urn: str, id_: str, is_proven: bool, is_kept: bool
) -> None:
    """An earlier process's entry goes once its resource has the machine, and the API showed it."""
    Journal(folder).write(entry)
    now = Journal(folder)
    process(now, lambda origin, id_: origin.urn == RENAMED_URN or None).settle(
        urn, id_, is_proven=is_proven
    )
    assert bool(now.of(HERE)) is is_kept


def test_the_folder_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh of hundreds of machines would read hundreds of files for each of them."""
    Journal(folder).write(replace(MADE, seen=True))
    now, all_there, reads = Journal(folder), threading.Barrier(8), []
    readable, known = now.readable, process(now)

    def read() -> list[Entry]:
        reads.append(1)
        return readable()

    def drop(number: int) -> None:
        all_there.wait()
        known.settle(URN, f"{number}", is_proven=True)

    monkeypatch.setattr(now, "readable", read)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(drop, range(8)))
    known.settle(URN, "made", is_proven=True)
    assert reads == [1]
    monkeypatch.undo()
    assert now.of(HERE) == []


@pytest.mark.parametrize("recorded", [HERE, RENAMED], ids=["here", "renamed"])
@pytest.mark.parametrize("is_in_state, is_kept", [(False, True), (True, False), (None, False)])
def test_settled_by_state(
    folder: Path, recorded: Origin, is_in_state: bool | None, is_kept: bool
) -> None:
    """Under the same URN the machine may merely be read, or be in a stack of another backend."""
    asked: list[tuple[str, str]] = []

    def ask(origin: Origin, instance_id: str) -> bool | None:
        asked.append((origin.urn, instance_id))
        return is_in_state

    Journal(folder).write(replace(MADE, origin=recorded, seen=True))
    now = Journal(folder)
    known = process(now, ask)
    known.settle(URN, "another", is_proven=True)
    assert asked == []  # it takes a command
    known.settle(URN, "made", is_proven=True)
    assert asked == [(URN, "made")]
    assert bool(now.of(HERE)) is is_kept


@pytest.mark.parametrize("is_written", [True, False], ids=["replaced", "in progress"])
def test_settling_beside_a_create(folder: Path, is_written: bool) -> None:
    """An `up` may replace the machine in the second that `pulumi stack export` takes."""
    new, old = ENTRY.as_created("new"), replace(MADE, seen=True)

    def ask(origin: Origin, instance_id: str) -> bool:
        if is_written:
            Journal(folder).write(new)
        return True

    Journal(folder).write(old)
    now = Journal(folder)
    with nullcontext() if is_written else locked(Journal(folder), HERE):
        process(now, ask).settle(URN, "made", is_proven=True)
    assert now.of(HERE) == [new if is_written else old]


def test_settling_fails(folder: Path, records: Journal) -> None:
    """A journal that fails stops no diff or delete. An entry of this process stays."""
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    known = process(records)
    known.settle(URN, "made", is_proven=True)
    folder.unlink()
    records.write(MADE)
    known.settle(URN, "made", is_proven=True)
    assert records.of(HERE) == [MADE]


LOCK = f"{ENTRY.file[:33]}.lock"
WITH_ID = replace(HERE, provider="an-id")


SHARED = {
    "the same": (HERE, HERE, True),
    "one id": (WITH_ID, replace(RENAMED, provider="an-id", backend="file:///there"), True),
    "one without an id": (HERE, WITH_ID, False),
    "another stack": (HERE, RENAMED, False),
    "another backend": (HERE, replace(HERE, backend="file:///there"), False),
    "another id": (WITH_ID, replace(HERE, provider="another-id"), False),
    "another resource": (HERE, OTHER, False),
}


@pytest.mark.parametrize("recorded, origin, is_shared", SHARED.values(), ids=SHARED)
def test_shared_locks(records: Journal, recorded: Origin, origin: Origin, is_shared: bool) -> None:
    """The id says whether both are of one resource if it is known, else the URN and the backend."""
    entry = replace(ENTRY, origin=recorded, file=new_file(recorded))
    assert records.shares_lock(entry, origin) is is_shared
    with locked(records, origin):
        assert records.is_locked(entry) is is_shared


def test_leftovers(records: Journal) -> None:
    """Old half-written files are removed. Another process may just have opened a lock's file."""
    records.clear_leftovers()
    assert not records.folder.exists()
    records.write(ENTRY)
    for name in (LOCK, "old.tmp", "new.tmp", "other.txt"):
        (records.folder / name).touch()
    os.utime(records.folder / "old.tmp", (0, 0))
    records.clear_leftovers()
    left = {path.name for path in records.folder.iterdir()}
    assert left == {ENTRY.file, LOCK, "new.tmp", "other.txt"}


@pytest.mark.parametrize(
    "environ, home", [({"PULUMI_HOME": "/home"}, "/home"), ({"PULUMI_HOME": ""}, ""), ({}, "")]
)
def test_its_place(environ: dict[str, str], home: str) -> None:
    place = Path(home) if home else Path.home() / ".pulumi"
    assert journal.default_folder(environ) == place / "fal-compute" / "creates"


# Changes by a process that doesn't hold the lock.

MOVED = replace(MADE, origin=OTHER, file=new_file(OTHER))


def locked(records: Journal, origin: Origin) -> AbstractContextManager[object]:
    """The lock of a create, which another process holds, or another create of this process."""
    lock = records.try_lock(origin)
    assert lock is not None
    return lock


NEW = pytest.mark.parametrize("new", [None, MADE, MOVED], ids=["drop", "change", "move"])


@NEW
@pytest.mark.parametrize(
    "now",
    [ENTRY, None, replace(ENTRY, seen=True), ENTRY.as_created("another")],
    ids=["as it was read", "dropped", "seen", "another machine"],
)
def test_exchange(records: Journal, new: Entry | None, now: Entry | None) -> None:
    """A changed entry may be the only record of another machine, or have served its purpose."""
    if now is not None:
        records.write(now)
    assert records.exchange(ENTRY, new) is (now == ENTRY)
    left = new if now == ENTRY else now
    assert list(records.entries()) == ([left] if left else [])


@NEW
def test_exchange_in_progress(records: Journal, new: Entry | None) -> None:
    """Only the create that holds the lock knows what its entry must say."""
    records.write(ENTRY)
    held = [HERE, OTHER] if new is MOVED else [HERE]
    for other, origin in product((records, Journal(records.folder)), held):
        with locked(other, origin):
            assert not records.exchange(ENTRY, new)
    assert list(records.entries()) == [ENTRY]
    assert records.exchange(ENTRY, new)
