"""`pulumi-fal pending`: what it shows of creates that are not settled, and the ways out of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.cli.evidence import Reader
from pulumi_fal.errors import UnresolvedCreateError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.machines.whose import Evidence
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .cli_support import (
    BACKEND,
    DEV,
    ELSEWHERE,
    NOW,
    PROD,
    TEST,
    CommandLine,
    M,
    command_line,
    filled,
    urn,
)

MADE, REPORTED, ADOPTED, LATE = Phase.CREATED, Phase.REPORTED, Phase.ADOPTED, Phase.LATE
NATIVE = urn("box", type_=NATIVE_TYPE_TOKEN)
OF_PULUMI_DO = "urn:pulumi:do::::fal:index:ComputeInstance::do-7a3b575a"
"""How earlier versions recorded a create of `pulumi do --stateless`, which no stack has."""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks = {DEV: {}, PROD: {}}
        line.providers = {DEV: "dev's", PROD: "prod's", TEST: "prod's"}
        yield line


# ls


def test_nothing_is_pending(line: CommandLine) -> None:
    """A person reads a sentence and a program an empty list; nobody is asked."""
    assert line.run("pending", "ls") == "No create is pending.\n"
    assert line.json("pending", "ls") == []
    assert (line.emulator.state.calls.total(), line.exported) == (0, [])


def test_a_record_as_text_and_as_json(line: CommandLine) -> None:
    """Each part has a name, for people and for programs."""
    id_ = line.rent()
    entry = line.pend(age=90, phase=MADE, instance_id=id_, provider="dev's")
    shown = re.sub(" {2,}", "  ", line.run("pending", "ls"))
    machine = f"{id_} (gpu_1x_h100_sxm5, ready, 198.18.0.1)"
    for part in (
        f"box\n  record  {entry.id}\n  urn  {urn('box')}\n  stack  {DEV}, {BACKEND}\n  since  2023",
        " (1m ago)\n  phase  the API created the machine, but Pulumi was not told of it; it is not",
        f" in state\n  machine  {machine}\n  to do  Run `pulumi up`, unless it is already running:",
    ):
        assert part in shown
    (record,) = line.json("pending", "ls")
    assert record.pop("what_to_do").startswith("Run `pulumi up`")
    assert record == {
        "record": entry.id,
        "urn": urn("box"),
        "name": "box",
        "stack": "dev",
        "project": "train",
        "provider": "dev's",
        "backend": BACKEND,
        "phase": "waiting",
        "problem": None,
        "instance_type": ONE,
        "sector": None,
        "id": id_,
        "status": "ready",
        "ip": "198.18.0.1",
        "candidates": None,
        "unread_stacks": {},
        "in_state": False,
        "stack_is_gone": False,
        "present_stacks": [DEV],
        "machines_unknown": None,
        "since": "2023-11-14T22:11:50+00:00",
    }


CONTINUES = "it continues with this machine if the program has the resource."
STOPS = "To use the machine for this resource:\npulumi-fal pending adopt "
NO_UP = "No `pulumi up` will continue with it, unless the stack was renamed or moved"
DELETE = "To delete the machine, run:\npulumi-fal delete the machine --force\n"
SHOWN: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "made": ({"phase": MADE}, {}, (f"{DEV}, {BACKEND}", CONTINUES)),
    "the stack was renamed": (
        {"phase": MADE, "urn": urn("box", "old"), "provider": "prod's"},
        {},
        (f"{PROD}, {BACKEND}\n", CONTINUES),
    ),
    "the stack was moved here": (
        {"phase": MADE, "backend": ELSEWHERE, "provider": "dev's"},
        {ELSEWHERE: {}},
        (f"{DEV}, {BACKEND}\n", CONTINUES),
    ),
    "a copy is here": (
        {"phase": MADE, "urn": urn("box", "prod"), "backend": ELSEWHERE, "provider": "prod's"},
        {ELSEWHERE: {PROD: {}}, BACKEND: {TEST: {}}},
        (f"{PROD}, {ELSEWHERE} or {TEST}, {BACKEND}\n", CONTINUES),
    ),
    "the stack was destroyed": (
        {"phase": MADE, "provider": "former"},
        {},
        (f"{DEV}, {BACKEND}\n", CONTINUES),
    ),
    "the stack was removed": (
        {"phase": MADE},
        {BACKEND: {PROD: {}}},
        (f"{DEV}, which no longer exists\n", NO_UP, DELETE),
    ),
    "made by `pulumi do` with an earlier version": (
        {"phase": MADE, "urn": OF_PULUMI_DO},
        {},
        ("organization//do, which no longer exists\n", NO_UP, DELETE, "pending forget "),
    ),
    "the stack and the machine were removed": (
        {"phase": MADE, "instance_id": "i-gone", "seen": True},
        {BACKEND: {}},
        ("i-gone (gpu_1x_h100_sxm5); gone: the API does not list it", "There is no machine and no"),
    ),
    "the stack can't be read": ({"phase": REPORTED}, {BACKEND: {DEV: "locked"}}, (STOPS,)),
    "another stack has imported it": (
        {"phase": MADE},
        {BACKEND: {DEV: {}, PROD: {"a": M}}},
        (f"; it is in the state of {PROD}\n", "If the machine is to stay in that stack, remove"),
    ),
    "state lost it": ({"phase": REPORTED}, {}, ("Pulumi was told of it; it is not in", STOPS)),
    "it is gone": (
        {"phase": MADE, "instance_id": "i-gone", "seen": True},
        {},
        ("gone: the API does not list it", "run `pulumi up`, which creates a new machine."),
    ),
    "it was never shown": (
        {"phase": MADE, "instance_id": "i-new", "age": 86_400},
        {},
        ("i-new (gpu_1x_h100_sxm5); not shown by the API yet", CONTINUES),
    ),
    "it was gone": (
        {"phase": LATE, "instance_id": "i-gone", "seen": True},
        {},
        (
            "the machine was gone; it is not in state",
            "gone: the API does not list it",
            "Nothing now: if it comes back, every command names it.",
        ),
    ),
    "it was gone for an hour": (
        {"phase": LATE, "instance_id": "i-gone", "seen": True, "age": 3601},
        {},
        ("Nothing: the next run of `pulumi` removes this record.",),
    ),
    "it was gone, and is back": (
        {"phase": LATE, "seen": True},
        {},
        ("If resource 'box' has no other machine, `pulumi up` continues", f"delete {M} --force"),
    ),
    "it was gone, and another stack has imported it": (
        {"phase": LATE, "seen": True},
        {BACKEND: {DEV: {}, PROD: {"a": M}}},
        (f"; it is in the state of {PROD}\n", "Nothing now"),
    ),
    "an answer was lost": (
        {"problem": "POST /compute/instance got no answer: timed out"},
        {},
        ("no usable answer: POST /compute/instance got no", f"pending adopt {urn('box')} {M}\n"),
    ),
    "an answer was lost, and nothing appeared": (
        {"instance_type": EIGHT},
        {},
        ("none has appeared", "Run `pulumi up`: it looks for the machine before it creates one."),
    ),
    "an answer was lost long before a machine appeared": (
        {"problem": "no answer", "searched": True, "age": 601},
        {},
        ("Run `pulumi up`, which creates a new machine, because these were first seen long after",),
    ),
    "it can be sent again": (
        {"idempotency_key": "k", "first_sent": NOW},
        {},
        ("it sends the create again with the same idempotency key",),
    ),
    "of another key": (
        {"phase": MADE, "instance_id": "i-1", "account": "another"},
        {},
        ("i-1 (gpu_1x_h100_sxm5); it was created with another key",),
    ),
}


@pytest.mark.parametrize("record, backends, says", SHOWN.values(), ids=SHOWN)
def test_ls_says_what_up_does(
    line: CommandLine, record: dict[str, Any], backends: dict[str, Any], says: tuple[str, ...]
) -> None:
    """The stack has its present name, and what `up` does is what it decides by."""
    id_ = line.rent()
    line.backends |= filled(backends, id_)
    line.pend(**({"instance_id": id_} if "phase" in record else {}) | record)
    shown = re.sub("\n +", "\n", line.run("pending", "ls")).replace(id_, M)
    for part in says:
        assert part in shown


def test_ls_shows_a_create_in_progress(line: CommandLine) -> None:
    """The process has not ended, and there is nothing to do."""
    lock = line.journal.try_lock(line.pend())
    assert lock is not None
    with lock:
        shown = line.run("pending", "ls")
    assert "in progress in another process" in shown
    assert "Nothing, while that process runs." in shown


def test_ls_names_what_may_be_of_a_lost_answer(line: CommandLine) -> None:
    """Machines of the type that nobody else has. Stacks that may have one are named."""
    before, _, theirs, pending, mine = (line.rent(k) for k in (ONE, EIGHT, ONE, ONE, ONE))
    line.stacks = {DEV: {}, PROD: {"other": theirs}, TEST: "the checkpoint is damaged"}
    line.pend("second", phase=MADE, instance_id=pending)
    line.pend(before=(before,), problem="no answer")
    record = next(one for one in line.json("pending", "ls") if one["name"] == "box")
    assert record["candidates"] == [mine]
    assert record["unread_stacks"] == {TEST: "the checkpoint is damaged"}
    assert re.search(f"not read +{TEST}: the checkpoint is damaged", line.run("pending", "ls"))
    second = line.rent()
    record = next(one for one in line.json("pending", "ls") if one["name"] == "box")
    assert record["candidates"] == [mine, second]
    assert f"\n  pulumi-fal pending adopt {urn('box')} ID\n" in record["what_to_do"]


def test_ls_counts_what_is_in_state(line: CommandLine) -> None:
    """The next command removes those records, of whatever type the resource is."""
    held = {"box": line.rent(), "native": line.rent()}
    line.stacks, line.types = {DEV: held, PROD: {}}, {"native": NATIVE_TYPE_TOKEN}
    for name, id_ in held.items():
        line.pend(name, phase=REPORTED, instance_id=id_)
    assert line.run("pending", "ls") == (
        "No create is pending.\n"
        "Records of creates whose machine is in state: 2. The next run of `pulumi` removes them.\n"
    )
    records = line.json("pending", "ls")
    assert [(one["in_state"], one["what_to_do"][:7]) for one in records] == [(True, "Nothing")] * 2


def test_without_a_key(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are shown, and why there is no more. What may run is said all the same."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.pend(phase=MADE, instance_id="i-1")
    line.pend("asked")
    shown = line.run("pending", "ls")
    assert "i-1 (gpu_1x_h100_sxm5); the machines can't be listed: No fal API key is set" in shown
    assert {record["candidates"] for record in line.json("pending", "ls")} == {None}
    assert "a machine whose id is not known" in line.run("pending", "forget", "asked", "--yes")


def test_a_damaged_record(line: CommandLine) -> None:
    """It is named beside the others, and may be the one that is asked for."""
    entry = line.pend()
    line.damage()
    shown = re.sub(" {2,}", "  ", line.run("pending", "ls"))
    assert "0-0-0.json\n  phase  unreadable: it is damaged" in shown
    broken, whole = sorted(line.json("pending", "ls"), key=lambda record: "urn" in record)
    assert (broken["problem"], whole["urn"]) == ("is damaged", entry.origin.urn)
    assert "is damaged" in line.refused("pending", "forget", "other", "--yes")


def test_a_journal_that_cannot_be_read(line: CommandLine) -> None:
    """It may have records, so it is not taken for an empty one."""
    line.damage("folder")
    for options in ((), ("--json",)):
        assert "creates) can't be read: " in line.refused("pending", "ls", *options)


# Which create is meant.


def test_a_create_by_name_urn_and_record(line: CommandLine) -> None:
    """A name or a URN that several have is refused with their records; one of those is enough."""
    elsewhere = line.pend(backend=ELSEWHERE, age=601)
    for resource in (urn("box"), NATIVE, urn("other")):
        line.pend(urn=resource, age=601)
    for create in ("box", urn("box")):
        says = line.refused("pending", "forget", create, "--yes")
        assert f"Several creates match {create!r}. Name one by its record:\n" in says
        assert f"\n  {elsewhere.id}  {urn('box')} {ELSEWHERE}\n" in f"{says}\n"
    for create in (NATIVE, elsewhere.id, "box", "other"):
        line.run("pending", "forget", create, "--yes")
    assert line.pending() == []
    assert "No create of 'box' is pending. `pulumi-fal pending ls`" in line.refused(
        "pending", "adopt", "box", "i-1"
    )


def test_a_create_whose_machine_is_in_state_is_not_meant(line: CommandLine) -> None:
    """An ordinary `up` leaves a record until the next command, of whatever organization."""
    id_ = line.rent()
    line.stacks = {"acme/train/dev": {"box": id_}, "me/train/dev": {}}
    line.providers = {"acme/train/dev": "acme's", "me/train/dev": "me's"}
    settled = line.pend(provider="acme's", phase=REPORTED, instance_id=id_)
    line.pend(provider="me's", phase=REPORTED, instance_id=line.rent())
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == [settled]
    forgotten = line.run("pending", "forget", "box", "--yes")
    assert f"Machine {id_} stays in state." in forgotten
    assert "may still run" not in forgotten


# adopt


def test_adopt(line: CommandLine) -> None:
    """The record holds the machine and its stack's id for the next `up`. It can be corrected."""
    wrong, right = line.rent(), line.rent()
    line.pend(problem="no answer")
    said = line.run("pending", "adopt", "box", wrong)
    assert said == (
        f"Machine {wrong} is assigned to resource 'box'. The next `pulumi up` of train/dev "
        "continues with it.\n"
    )
    line.run("pending", "adopt", urn("box"), right, "--yes")
    (entry,) = line.pending()
    assert (entry.phase, entry.instance_id, entry.problem) == (ADOPTED, right, "")
    assert entry.origin == Origin(urn("box"), "dev's", BACKEND)
    assert line.exported == [DEV, PROD] * 2  # the second look of each reads none again


ADOPTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, Origin]] = {
    "another key of the account": (
        {"account": "0123"},
        {},
        "",
        Origin(urn("box"), "dev's", BACKEND),
    ),
    "what its create made": (
        {"phase": MADE, "instance_id": M},
        {DEV: {}, PROD: "damaged"},
        "",
        Origin(urn("box"), "dev's", BACKEND),
    ),
    "of a renamed stack": (
        {"urn": urn("box", "old"), "phase": MADE, "instance_id": M},
        {},
        f"--for {urn('box')}",
        Origin(urn("box"), "dev's", BACKEND),
    ),
    "of a renamed stack that is known": (
        {"urn": urn("box", "old"), "provider": "dev's"},
        {},
        "",
        Origin(urn("box"), "dev's", BACKEND),
    ),
    "of a type that the program has left": (
        {},
        {},
        f"--for {NATIVE}",
        Origin(NATIVE, "dev's", BACKEND),
    ),
    "of a stack that was moved": (
        {"backend": ELSEWHERE, "provider": "dev's"},
        {},
        "",
        Origin(urn("box"), "dev's", BACKEND),
    ),
    "of one of two organizations": (
        {},
        {"acme/train/dev": {}, "me/train/dev": {}},
        "--stack me/train/dev",
        Origin(urn("box"), "", BACKEND),
    ),
    "beside a late record": ({}, {}, "", Origin(urn("box"), "dev's", BACKEND)),
}


@pytest.mark.parametrize("record, stacks, options, origin", ADOPTS.values(), ids=ADOPTS)
def test_adopt_takes_it(
    line: CommandLine, record: dict[str, Any], stacks: dict[str, Any], options: str, origin: Origin
) -> None:
    """The record is that of the resource, in the stack as it is now."""
    id_ = line.rent()
    line.stacks = stacks or line.stacks
    entry = line.pend(**filled(record, id_))
    late = line.pend(phase=LATE)
    assert "is assigned" in line.run("pending", "adopt", entry.id, id_, *options.split())
    (adopted,) = [one for one in line.pending() if one != late]
    assert (adopted.origin, adopted.phase, adopted.instance_id) == (origin, ADOPTED, id_)


UNREAD = "these could not be read, and may have the machine:\n  "
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "no such machine": ({}, {}, "i-1", "there is no such machine"),
    "another account": (
        {"account": "0123456789ab", "endpoint": "https://rest.alpha.fal.ai"},
        {},
        "i-1",
        "its create used account 0123456789ab at https://rest.alpha.fal.ai, and the key that is",
    ),
    "another type": (
        {"instance_type": EIGHT},
        {},
        M,
        f"its type is gpu_1x_h100_sxm5, but {EIGHT} was requested",
    ),
    "another sector": (
        {"instance_type": EIGHT, "sector": "sector_1"},
        {},
        "eight",
        "its sector is sector_2, but sector_1 was requested",
    ),
    "made before": ({"before": (M,)}, {}, M, "it existed before this create. Import it instead"),
    "another one was made": ({"phase": MADE, "instance_id": "i-2"}, {}, M, "its create made i-2."),
    "pending for another": ({}, {}, "pending", f"it is pending for {urn('first')}."),
    "in its own state": ({}, {DEV: {"first": M}}, M, "it is already in the state of its stack."),
    "in another stack": (
        {},
        {DEV: {}, PROD: {"box": M}},
        M,
        f"it is in the state of the stack {PROD}. If both stacks had it, destroying one would",
    ),
    "a stack can't be read": ({}, {DEV: {}, PROD: "damaged"}, M, f"{UNREAD}stack {PROD}: damaged"),
    "late": ({"phase": LATE}, {}, M, "Import the machine into a stack instead."),
    "no stack": (
        {"urn": urn("box", "test"), "backend": ELSEWHERE},
        {},
        M,
        f"here. If it is in {ELSEWHERE}, set PULUMI_BACKEND_URL to that. If it was renamed, add",
    ),
    "two organizations": (
        {},
        {"acme/train/dev": {}, "me/train/dev": {}},
        M,
        "Several stacks have that name: acme/train/dev, me/train/dev. Add --stack.",
    ),
    "a new name with a create of its own": (
        {"urn": urn("box", "old")},
        {},
        f"{M} --for {urn('first')}",
        f"A create of {urn('first')} is already pending.",
    ),
}


@pytest.mark.parametrize("record, stacks, args, says", REFUSED.values(), ids=REFUSED)
def test_adopt_refuses(
    line: CommandLine, record: dict[str, Any], stacks: dict[str, Any], args: str, says: str
) -> None:
    """A machine that the create can't have made, or that somebody has or may have."""
    id_, pending = line.rent(), line.rent()
    eight = line.rent(EIGHT, "sector_2")
    line.stacks = filled(stacks or line.stacks, id_)
    line.pend("first", phase=MADE, instance_id=pending)
    entry = line.pend(**filled(record, id_))
    args = args.replace(M, id_).replace("pending", pending).replace("eight", eight)
    assert says in line.refused("pending", "adopt", entry.id, *args.split())
    assert line.journal.current(entry) == entry


def test_adopt_looks_again(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many stacks are read, one of them may import the machine."""
    id_ = line.rent()
    line.pend()
    read = Reader.read

    def meanwhile(reader: Reader, machines: Any) -> Evidence:
        evidence = read(reader, machines)
        line.stacks[PROD] = {"a": id_}
        return evidence

    monkeypatch.setattr(Reader, "read", meanwhile)
    assert f"in the state of the stack {PROD}" in line.refused("pending", "adopt", "box", id_)


def test_adopt_takes_no_other_urn(line: CommandLine) -> None:
    """A record for a URN that is no machine's would never be found again."""
    line.pend()
    line.run("pending", "adopt", "box", line.rent(), "--for", "box", code=2)
    assert "not the URN of a ComputeInstance" in line.stderr


@pytest.mark.parametrize("change", ["changed", "dropped", "in progress"])
@pytest.mark.parametrize("command", ["adopt", "forget"])
def test_a_record_that_changes_meanwhile(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, change: str
) -> None:
    """An `up` may begin while a person reads the question, and write the record."""
    id_ = line.rent()
    entry = line.pend()
    now = replace(entry, problem="of another create")
    with ExitStack() as lock:

        def meanwhile(*_: object, **__: object) -> Evidence:
            if change == "changed":
                line.journal.write(now)
            elif change == "dropped":
                line.journal.drop(entry)
            elif (taken := line.journal.try_lock(entry)) is not None:
                lock.enter_context(taken)
            return Evidence()

        if command == "forget":
            monkeypatch.setattr(click, "confirm", meanwhile)
            says = line.refused("pending", "forget", "box")
        else:
            monkeypatch.setattr(Reader, "read", meanwhile)
            monkeypatch.setattr("pulumi_fal.cli.pending._origin", lambda *_: entry.origin)
            says = line.refused("pending", "adopt", "box", id_)
    assert "has changed since this command read it, so nothing was done" in says
    assert "`pulumi-fal pending ls` again" in says
    expected = {"changed": [now], "dropped": [], "in progress": [entry]}[change]
    assert line.pending() == expected


@pytest.mark.parametrize("command", ["forget box --yes", "adopt box i-1"])
def test_a_create_in_progress_is_left_alone(line: CommandLine, command: str) -> None:
    """The process that works on it writes its record."""
    entry = line.pend()
    lock = line.journal.try_lock(entry)
    assert lock is not None
    with lock:
        said = line.refused("pending", *command.split())
    assert "is in progress in another process" in said
    assert line.pending() == [entry]


# forget


def test_forget_names_what_may_run_and_asks(line: CommandLine) -> None:
    """Nobody else knows of the machine then. The machine itself is not touched."""
    id_ = line.rent()
    line.pend(phase=MADE, instance_id=id_)
    for typed in ("n\n", ""):
        line.run("pending", "forget", "box", code=1, typed=typed)
    assert len(line.pending()) == 1
    shown = line.run("pending", "forget", "box", typed="y\n")
    assert f"This machine may still run and bill, but is not in state: {id_}" in shown
    assert "The next `pulumi up` creates a new machine for resource 'box'." in shown
    assert (line.pending(), line.emulator.state.alive()) == ([], {id_})


def test_forget_a_create_of_pulumi_do(line: CommandLine) -> None:
    """No stack has such a machine, which is only on record with an earlier version."""
    id_ = line.rent()
    line.pend(urn=OF_PULUMI_DO, phase=MADE, instance_id=id_)
    said = line.run("pending", "forget", "do-7a3b575a", "--yes")
    assert f"but is not in state: {id_}" in said
    assert "No machine was touched." in said
    assert line.pending() == []


def test_forget_names_a_machine_that_one_list_lacks(line: CommandLine) -> None:
    """A single list may come from a stale replica."""
    id_ = line.rent()
    line.pend(problem="no answer")
    line.emulator.faults.add("list", "lapse")
    assert id_ in line.run("pending", "forget", "box", "--yes")


def test_a_forgotten_create_stays_as_late(line: CommandLine) -> None:
    """The machine that the list shows is not its own, as the person says, but another may come."""
    others = line.rent()
    line.pend(problem="no answer", first_sent=NOW)
    said = line.run("pending", "forget", "box", "--yes")
    assert "If the API still makes the machine of this create, every command names it." in said
    (late,) = line.pending()
    assert (late.phase, late.found, late.before) == (LATE, (), (others,))
    made = line.rent()
    (shown,) = line.json("pending", "ls")
    assert shown["candidates"] == [made]
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []


def test_late_records(line: CommandLine) -> None:
    """They are of another machine than the present create's, and are forgotten by themselves."""
    present = line.pend()
    late = line.pend(phase=LATE, problem="no answer", age=601)
    assert "removes this record" in line.run("pending", "ls")
    line.pend(phase=LATE, problem="no answer")
    assert "Nothing now: if a machine still" in line.run("pending", "ls")
    made = line.rent()
    shown = line.run("pending", "ls")
    assert "followed by another one or forgotten" in shown
    assert f"\n              pulumi-fal pending forget {urn('box')} --late" in shown
    shown = line.run("pending", "forget", "box", "--late", "--yes")
    assert shown.count(made) == 1
    assert "present machine of resource 'box' is not affected" in shown
    assert line.pending() == [present]
    says = line.refused("pending", "forget", "box", "--late", "--yes")
    assert "No create of 'box' is pending" in says
    line.journal.write(late)
    line.run("pending", "forget", "box", "--yes")
    assert [entry.phase for entry in line.pending()] == [LATE, LATE]


# Errors


def test_an_error_is_one_message(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on stderr, without a traceback, and the exit code is 1."""
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", "http://fal.test")
    line.pend()
    says = line.refused("pending", "adopt", "box", "i-1")
    assert says.startswith("Error: The endpoint (http://fal.test) can't be used")


HERE = Origin(urn("box"), "dev's", BACKEND)


def messages(entry: Entry, machine: Instance) -> dict[str, UnresolvedCreateError]:
    """Every error that stops a create and names commands."""
    known = replace(entry, instance_id=machine.id)
    return {
        "unanswered": unresolved.unanswered(entry, [machine]),
        "stopped": unresolved.stopped(known, "the resource's inputs have changed since"),
        "uncertain": unresolved.uncertain(known, HERE, [], {}),
    }


@pytest.mark.parametrize("verb", ["adopt", "forget"])
@pytest.mark.parametrize(
    "message, recorded",
    [
        ("unanswered", {}),
        ("stopped", {"phase": REPORTED}),
        ("uncertain", {"phase": MADE, "backend": ""}),
        ("uncertain", {"phase": MADE, "urn": urn("box", "old")}),
    ],
)
def test_the_commands_that_an_error_names(
    line: CommandLine, message: str, recorded: dict[str, Any], verb: str
) -> None:
    """They do what it says, as they are printed, with only ID filled in."""
    id_ = line.rent()
    entry = line.pend(**recorded, **({"instance_id": id_} if "phase" in recorded else {}))
    said = str(messages(entry, line.emulator.state.get(id_))[message])
    (command,) = re.findall(rf"(?m)^  pulumi-fal (pending {verb} .+)$", said)
    words = [id_ if word == "ID" else word for word in shlex.split(command)]
    if verb == "forget":
        line.run(*words, "--yes")
        assert [entry.phase for entry in line.pending()] == [] if recorded else [LATE]
    else:
        line.run(*words)
        (adopted,) = line.pending()
        assert (adopted.origin, adopted.phase, adopted.instance_id) == (HERE, ADOPTED, id_)
