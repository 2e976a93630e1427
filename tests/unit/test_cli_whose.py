"""Whose a machine is: `ls`, `audit`, `delete` and `import-file` say the same of each situation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.machines.journal import Phase
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from ..fakes import ED25519
from .cli_support import (
    BACKEND,
    DEV,
    ELSEWHERE,
    PROD,
    TEST,
    CommandLine,
    M,
    command_line,
    filled,
    urn,
)

FINE, FOUND, CANT_TELL = 0, 1, 2
OLD = 601.0
OF_PULUMI_DO = "urn:pulumi:do::::fal:index:ComputeInstance::do-7a3b575a"
"""How earlier versions recorded a create of `pulumi do --stateless`, which no stack has."""
STACK, PENDING, ABANDONED, UNKNOWN, FORGOTTEN = (
    "stack",
    "pending",
    "abandoned",
    "unknown",
    "forgotten",
)
MADE: dict[str, Any] = {"phase": Phase.CREATED, "instance_id": M}
REPORTED: dict[str, Any] = {"phase": Phase.REPORTED, "instance_id": M}


@dataclass
class Situation:
    """One machine, and what is known of it."""

    whose: str
    code: int
    """The exit code of `audit`."""
    record: dict[str, Any] | None = None
    """A create on record."""
    stacks: dict[str, Any] = field(default_factory=lambda: {DEV: {}})
    elsewhere: dict[str, Any] = field(default_factory=dict)
    """The stacks of another backend."""
    damaged: str = ""
    is_running: bool = False
    stack: str = ""
    """The name of the stack that has the machine, or may get it, if that is checked."""
    asks: bool = False
    """Whether `delete` asks, and deletes if a person says so, without --force."""


SITUATIONS = {
    "no stack has it": Situation(FORGOTTEN, FOUND),
    "a stack has it": Situation(STACK, FINE, stacks={DEV: {"a": M}, PROD: {}}),
    "a stack of the native plugin has it": Situation(STACK, FINE, stacks={DEV: {"native": M}}),
    "a stack has it, and another one can't be read": Situation(
        STACK, CANT_TELL, stacks={DEV: {"a": M}, PROD: "damaged"}
    ),
    "a stack has it and a record": Situation(
        STACK, FINE, {**REPORTED, "age": OLD}, {DEV: {"box": M}}
    ),
    "a stack can't be read": Situation(UNKNOWN, CANT_TELL, stacks={DEV: {}, PROD: "damaged"}),
    "a record can't be read": Situation(UNKNOWN, CANT_TELL, damaged="record"),
    "no record can be read": Situation(UNKNOWN, CANT_TELL, damaged="folder"),
    "just made": Situation(PENDING, FINE, MADE),
    "just reported to Pulumi, and state is not saved yet": Situation(PENDING, FINE, REPORTED),
    "its create takes long": Situation(PENDING, FINE, {**MADE, "age": OLD}, is_running=True),
    "made by `pulumi do` with an earlier version": Situation(
        ABANDONED, FOUND, {**MADE, "urn": OF_PULUMI_DO}
    ),
    "its create was killed long ago": Situation(ABANDONED, FOUND, {**MADE, "age": OLD}),
    "its stack was removed": Situation(ABANDONED, FOUND, MADE, {PROD: {}}),
    "its stack was removed, and a record can't be read": Situation(
        ABANDONED, FOUND, MADE, {PROD: {}}, damaged="record"
    ),
    "its stack was renamed": Situation(
        PENDING, FINE, {**MADE, "provider": PROD}, {PROD: {}}, stack=PROD
    ),
    "its stack was destroyed": Situation(PENDING, FINE, {**MADE, "provider": "former"}),
    "its stack may be one that can't be read": Situation(
        PENDING, CANT_TELL, {**MADE, "provider": "former"}, {PROD: "damaged"}
    ),
    "its create was killed long ago, and a stack can't be read": Situation(
        UNKNOWN, CANT_TELL, {**MADE, "age": OLD}, {DEV: {}, PROD: "damaged"}
    ),
    "another backend has it": Situation(
        STACK,
        FINE,
        {**REPORTED, "backend": ELSEWHERE, "age": OLD},
        elsewhere={DEV: {"box": M}},
        stack=f"{DEV} in {ELSEWHERE}",
    ),
    "another backend can't be read": Situation(
        UNKNOWN,
        CANT_TELL,
        {**REPORTED, "backend": ELSEWHERE, "age": OLD},
        elsewhere={DEV: "no access"},
    ),
    "an answer was lost": Situation(UNKNOWN, CANT_TELL, {}, asks=True),
    "an answer was lost, and a stack can't be read": Situation(
        UNKNOWN, CANT_TELL, {}, {DEV: {}, PROD: "damaged"}
    ),
    "an answer was lost, and its backend can't be read": Situation(
        UNKNOWN, CANT_TELL, {"backend": ELSEWHERE}, elsewhere={DEV: "no access"}
    ),
    "an answer was lost after it had been made": Situation(FORGOTTEN, FOUND, {"before": (M,)}),
    "an answer is awaited": Situation(UNKNOWN, CANT_TELL, {}, is_running=True),
    "an answer was lost before another create": Situation(
        UNKNOWN, CANT_TELL, {"phase": Phase.LATE, "found": (M,)}, asks=True
    ),
    "another create's backend can't be read": Situation(
        FORGOTTEN,
        FOUND,
        {**REPORTED, "instance_id": "another", "backend": ELSEWHERE},
        elsewhere={DEV: "no access"},
    ),
}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        Path("key.pub").write_text(ED25519)
        yield line


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_all_commands_agree(line: CommandLine, situation: Situation) -> None:
    """Only what is forgotten is deleted or imported; what may be somebody's is left alone."""
    id_ = line.rent()

    line.backends = filled({BACKEND: situation.stacks, ELSEWHERE: situation.elsewhere}, id_)
    line.types = {"native": NATIVE_TYPE_TOKEN}
    line.providers = {PROD: PROD, DEV: DEV}
    record = None if situation.record is None else line.pend(**filled(situation.record, id_))
    if situation.damaged:
        line.damage(situation.damaged)
    lock = line.journal.try_lock(record) if record and situation.is_running else nullcontext()
    is_free = situation.whose == FORGOTTEN
    is_unread = situation.damaged or any(isinstance(held, str) for held in line.stacks.values())
    assert lock is not None
    with lock:
        (row,) = line.json("ls")
        report = line.json("audit", code=situation.code)
        assert report["machines"] == [row]
        assert not (is_free and report["unreadable"])
        assert row["whose"] == situation.whose
        assert situation.stack in ("", row["stack"])
        assert line.run("audit", "--ids", code=situation.code) == (f"{id_}\n" if is_free else "")
        said = line.run("import-file", "--ssh-key", "key.pub", code=1 if is_unread else 0)
        assert ("Wrote 1 machine" in said) is (is_free and not is_unread)
        if not is_free:
            assert "Nothing was deleted" in line.refused("delete", id_, "--yes")
        line.run("delete", id_, typed="y\n", code=0 if is_free or situation.asks else 1)
        assert (id_ in line.emulator.state.alive()) is not (is_free or situation.asks)
        if line.emulator.state.alive():
            line.run("delete", id_, "--yes", "--force")
    if record is not None and record.instance_id == id_:
        assert record not in line.pending() or situation.is_running


def test_only_the_named_stacks_count(line: CommandLine) -> None:
    """`audit --stack` reads another one only to find out whose the machine of a create is."""
    dev, prod, test = (line.rent() for _ in range(3))
    line.stacks = {DEV: {"a": dev}, PROD: {"a": prod, "b": "i-gone"}, TEST: {"a": test}}
    line.pend("a", urn=urn("a", "prod"), phase=Phase.REPORTED, instance_id=prod)
    renamed = line.pend("b", urn=urn("b", "old"), phase=Phase.CREATED, instance_id=line.rent())
    report = line.json("audit", "--stack", DEV, code=FOUND)
    whose = {row["id"]: row["whose"] for row in report["machines"]}
    assert whose == {dev: STACK, prod: STACK, test: FORGOTTEN, renamed.instance_id: PENDING}
    assert (report["gone"], report["stacks"]) == ([], [DEV])
    assert "Age unknown" not in line.run("audit", "--stack", PROD, "--stack", TEST, code=FOUND)


def test_a_create_that_ends_while_stacks_are_read(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State may have been read before it got the machine."""
    line.stacks = {DEV: {}}
    lock = line.journal.try_lock(line.pend(**{**MADE, "instance_id": line.rent(), "age": OLD}))
    assert lock is not None
    original = line.pulumi

    with ExitStack() as create:
        create.enter_context(lock)

        def pulumi(*args: str, **others: Any) -> str:
            create.close()
            return original(*args, **others)

        monkeypatch.setattr("pulumi_fal.stacks.cli.pulumi", pulumi)
        line.run("audit")
