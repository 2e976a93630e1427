"""`pulumi-fal pending`: what it shows of creates that are not settled, and the ways out of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.machines.unresolved import Facts, Search
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .cli_support import (
    BACKEND,
    DEV,
    ELSEWHERE,
    NOW,
    OF_PULUMI_DO,
    PROD,
    TEST,
    CommandLine,
    M,
    filled,
    urn,
)

MADE, REPORTED, ADOPTED, LATE = Phase.CREATED, Phase.REPORTED, Phase.ADOPTED, Phase.LATE
OLD = urn("box", "old")
NATIVE = urn("box", type_=NATIVE_TYPE_TOKEN)
HERE = Origin(urn("box"), "dev's", BACKEND)


@pytest.fixture(autouse=True)
def _providers(line: CommandLine) -> None:
    line.providers = {DEV: "dev's", PROD: "prod's", TEST: "prod's"}


# ls


def test_ls_of_nothing(line: CommandLine) -> None:
    """A person reads a sentence and a program an empty list; nobody is asked."""
    assert line.run("pending", "ls") == "No create is pending.\n"
    assert line.json("pending", "ls") == []
    assert (line.emulator.state.calls.total(), line.exported) == (0, [])


def test_ls(line: CommandLine) -> None:
    """Each part has a name, for programs."""
    id_ = line.rent()
    entry = line.made(age=90, instance_id=id_, provider="dev's")
    (record,) = line.json("pending", "ls")
    assert record.pop("what_to_do").startswith("Run `pulumi up`")
    assert {name: value for name, value in record.items() if value not in (None, False, {})} == {
        "record": entry.id,
        "urn": urn("box"),
        "name": "box",
        "stack": "dev",
        "project": "train",
        "provider": "dev's",
        "backend": BACKEND,
        "phase": "waiting",
        "instance_type": ONE,
        "id": id_,
        "status": "ready",
        "ip": "198.18.0.1",
        "present_stacks": [DEV],
        "since": "2023-11-14T22:11:50+00:00",
    }


ON, OFF = f"{DEV}, {BACKEND}\n", f"{DEV}, which no longer exists\n"
IN_PROD = f"; it is in the state of {PROD}\n"
CONTINUES = "it continues with this machine if the program has the resource."
STOPS = "To use it for this resource:\npulumi-fal pending adopt "
NO_UP = "No `pulumi up` will continue with it, unless"
DELETE = "To delete the machine, run:\npulumi-fal delete the machine --force\n"
IS_GONE = "gone: the API does not list it"
made: dict[str, Any] = {"phase": MADE}
gone: dict[str, Any] = {"phase": MADE, "instance_id": "i-gone", "seen": True}
lost: dict[str, Any] = {"problem": "POST got no answer"}
back: dict[str, Any] = {"phase": LATE, "seen": True}
OF_A_COPY = {**made, "urn": urn("box", "prod"), "backend": ELSEWHERE, "provider": "prod's"}
NEW = {**made, "instance_id": "i-new", "age": 86_400}
OF_OTHERS: dict[str, Any] = {**made, "instance_id": "i-1", "account": "another"}
SAYS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "made": (made, {}, (ON, CONTINUES)),
    "renamed": (
        {**made, "urn": OLD, "provider": "prod's"},
        {},
        (f"{PROD}, {BACKEND}\n", CONTINUES),
    ),
    "a copy is here": (
        OF_A_COPY,
        {ELSEWHERE: {PROD: {}}, BACKEND: {TEST: {}}},
        (f"{PROD}, {ELSEWHERE} or {TEST}, {BACKEND}\n", CONTINUES),
    ),
    "removed": (made, {BACKEND: {PROD: {}}}, (OFF, NO_UP, DELETE, "pending forget ")),
    "stack and machine removed": (gone, {BACKEND: {}}, (IS_GONE, "There is no machine and no")),
    "of `pulumi do`": ({**made, "urn": OF_PULUMI_DO}, {}, ("do, which no longer exists\n", NO_UP)),
    "unread": ({"phase": REPORTED}, {BACKEND: {DEV: "locked"}}, (STOPS,)),
    "elsewhere": (made, {BACKEND: {PROD: {"a": M}}}, (IN_PROD, "If the machine is to stay")),
    "state lost it": ({"phase": REPORTED}, {}, ("Pulumi was told of it; it is not in", STOPS)),
    "gone": (gone, {}, (IS_GONE, "run `pulumi up`, which creates a new machine.")),
    "never shown": (NEW, {}, ("i-new (gpu_1x_h100_sxm5); not shown by the API yet", CONTINUES)),
    "late": (
        {**gone, "phase": LATE},
        {},
        ("the machine was gone; it is not in state", IS_GONE, "Nothing now: if it comes back,"),
    ),
    "late for an hour": (
        {**gone, "phase": LATE, "age": 3601},
        {},
        ("Nothing: the next run of `pulumi` removes",),
    ),
    "late, and back": (back, {}, ("has no other machine, `pulumi up`", f"delete {M} --force")),
    "lost answer": (
        lost,
        {},
        ("no usable answer: POST got no answer", f"pending adopt {urn('box')} {M}\n"),
    ),
    "lost answer without a machine": (
        {"instance_type": EIGHT},
        {},
        ("none has appeared", "it looks for the machine before it creates one"),
    ),
    "lost answer long before a machine": (
        {**lost, "searched": True, "age": 601},
        {},
        ("creates a new machine, because these were first seen",),
    ),
    "sent again": (
        {"idempotency_key": "k", "first_sent": NOW},
        {},
        ("with the same idempotency key",),
    ),
    "another key": (OF_OTHERS, {}, ("i-1 (gpu_1x_h100_sxm5); it was created with another key",)),
}
"""A record, what the backends hold, and what `ls` says of it."""


@pytest.mark.parametrize("name", SAYS)
def test_ls_says(line: CommandLine, name: str) -> None:
    """The stack has its present name, and what `up` does is what it decides by."""
    record, backends, says = SAYS[name]
    id_ = line.rent()
    line.backends |= filled(backends, id_)
    line.pend(**({"instance_id": id_} if "phase" in record else {}) | record)
    printed = re.sub("\n +", "\n", line.run("pending", "ls")).replace(id_, M)
    assert [part for part in says if part not in printed] == []


def test_in_progress(line: CommandLine) -> None:
    """The process that works on a create writes its record, and there is nothing to do."""
    entry = line.pend()
    with line.running(entry):
        printed = line.run("pending", "ls")
        for command in ("forget box --yes", "adopt box i-1"):
            assert "in progress in another" in line.refused("pending", *command.split())
    assert "in progress in another process" in printed
    assert "Nothing, while that process runs." in printed
    assert line.pending() == [entry]


def test_candidates(line: CommandLine) -> None:
    """Machines of the type that nobody else has. Stacks that may have one are named."""
    before, _, theirs, pending, mine = (line.rent(k) for k in (ONE, EIGHT, ONE, ONE, ONE))
    line.stacks = {DEV: {}, PROD: {"other": theirs}, TEST: "the checkpoint is damaged"}
    line.made("second", instance_id=pending)
    line.pend(before=(before,), problem="no answer")
    assert re.search(f"not read +{TEST}: the checkpoint is damaged", line.run("pending", "ls"))
    candidates = [mine]
    for _ in range(2):
        record = next(one for one in line.json("pending", "ls") if one["name"] == "box")
        assert record["candidates"] == candidates
        assert record["unread_stacks"] == {TEST: "the checkpoint is damaged"}
        candidates.append(line.rent())
    assert f"\n  pulumi-fal pending adopt {urn('box')} ID\n" in record["what_to_do"]


def test_in_state(line: CommandLine) -> None:
    """The next command removes those records, of whatever type the resource is."""
    held = {"box": line.rent(), "native": line.rent()}
    line.stacks, line.types = {DEV: held, PROD: {}}, {"native": NATIVE_TYPE_TOKEN}
    for name, id_ in held.items():
        line.pend(name, phase=REPORTED, instance_id=id_)
    assert "creates whose machine is in state: 2. The next run" in line.run("pending", "ls")
    records = line.json("pending", "ls")
    assert [(one["in_state"], one["what_to_do"][:7]) for one in records] == [(True, "Nothing")] * 2


def test_without_a_key(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are shown, and why there is no more. What may run is said all the same."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.made(instance_id="i-1")
    line.pend("asked")
    printed = line.run("pending", "ls")
    assert "i-1 (gpu_1x_h100_sxm5); the machines can't be listed: No fal API key is set" in printed
    assert {record["candidates"] for record in line.json("pending", "ls")} == {None}
    assert "a machine whose id is not known" in line.run("pending", "forget", "asked", "--yes")


def test_damaged(line: CommandLine) -> None:
    """A damaged record is named beside the others, and may be the one that is asked for."""
    entry = line.pend()
    line.damage()
    printed = re.sub(" {2,}", "  ", line.run("pending", "ls"))
    assert "0-0-0.json\n  phase  unreadable: it is damaged" in printed
    broken, whole = sorted(line.json("pending", "ls"), key=lambda record: "urn" in record)
    assert (broken["problem"], whole["urn"]) == ("is damaged", entry.origin.urn)
    assert "is damaged" in line.refused("pending", "forget", "other", "--yes")


def test_no_journal(line: CommandLine) -> None:
    """A journal that can't be read may have records, so it is not taken for an empty one."""
    line.damage("folder")
    for command in ("ls --json", "forget box --yes"):
        says = line.refused("pending", *command.split())
        assert "creates) can't be read: " in says
        assert "pending ls" not in says  # it can't read more than these


# Which create is meant.


def test_which_create(line: CommandLine) -> None:
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
    assert "No create of 'box' is pending." in line.refused("pending", "adopt", "box", "i-1")


def test_what_is_in_state_is_not_meant(line: CommandLine) -> None:
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


def test_what_the_api_has_not_shown(line: CommandLine) -> None:
    """Without its record, a new machine would count as gone after a minute of looks."""
    line.stacks[DEV] = {"box": "i-new", "old": "i-old"}
    new = line.pend(provider="dev's", phase=REPORTED, instance_id="i-new", age=600)
    line.pend("old", provider="dev's", phase=REPORTED, instance_id="i-old", age=601)
    says = line.refused("pending", "forget", "box", "--yes")
    assert "is in state, and the API has not shown it yet" in says
    line.run("pending", "forget", "old", "--yes")
    assert line.pending() == [new]


# adopt


def test_adopt(line: CommandLine) -> None:
    """The record holds the machine and its stack's id for the next `up`. It can be corrected.

    A record for a URN that is no machine's would never be found again.
    """
    wrong, right = line.rent(), line.rent()
    line.pend(problem="no answer")
    line.run("pending", "adopt", "box", wrong, "--for", "box", code=2)
    assert "not the URN of a ComputeInstance" in line.stderr
    said = line.run("pending", "adopt", "box", wrong)
    assert f"{wrong} is assigned to resource 'box'. The next `pulumi up` of train/dev" in said
    line.run("pending", "adopt", urn("box"), right, "--yes")
    (entry,) = line.pending()
    assert (entry.phase, entry.instance_id, entry.problem) == (ADOPTED, right, "")
    assert entry.origin == HERE
    assert line.exported == [DEV, PROD] * 2  # the second look of each reads none again


TWO: dict[str, Any] = {"acme/train/dev": {}, "me/train/dev": {}}
NO_ID = replace(HERE, provider="")
TAKES: dict[str, tuple[dict[str, Any], dict[str, Any], str, Origin]] = {
    "another key": ({"account": "0123"}, {}, "", HERE),
    "made": ({"phase": MADE, "instance_id": M}, {DEV: {}, PROD: "damaged"}, "", HERE),
    "renamed": ({**made, "urn": OLD, "instance_id": M}, {}, f"--for {urn('box')}", HERE),
    "renamed, with an id": ({"urn": OLD, "provider": "dev's"}, {}, "", HERE),
    "another type": ({}, {}, f"--for {NATIVE}", replace(HERE, urn=NATIVE)),
    "moved": ({"backend": ELSEWHERE, "provider": "dev's"}, {}, "", HERE),
    "two organizations": ({}, TWO, "--stack me/train/dev", NO_ID),
}
"""A record, what the stacks hold, options, and the resource that gets the machine."""


@pytest.mark.parametrize("name", TAKES)
def test_adopt_takes(line: CommandLine, name: str) -> None:
    """The record is that of the resource, in the stack as it is now. A late one stays."""
    record, stacks, options, origin = TAKES[name]
    id_ = line.rent()
    line.stacks = stacks or line.stacks
    entry = line.pend(**filled(record, id_))
    late = line.pend(phase=LATE)
    assert "is assigned" in line.run("pending", "adopt", entry.id, id_, *options.split())
    (taken,) = [one for one in line.pending() if one != late]
    assert (taken.origin, taken.phase, taken.instance_id) == (origin, ADOPTED, id_)


OF_EIGHT: dict[str, Any] = {"instance_type": EIGHT}
OF_TEST: dict[str, Any] = {"urn": urn("box", "test"), "backend": ELSEWHERE}
FAR = {"account": "0123", "endpoint": "https://else.where"}
REFUSES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "no such machine": ({}, {}, "i-1", "there is no such machine"),
    "another account": (FAR, {}, "i-1", "used account 0123 at https://else.where, and"),
    "another type": (OF_EIGHT, {}, M, f"its type is {ONE}, but {EIGHT} was requested"),
    "another sector": (
        {**OF_EIGHT, "sector": "sector_1"},
        {},
        "eight",
        "its sector is sector_2, but sector_1 was requested",
    ),
    "made before": ({"before": (M,)}, {}, M, "it existed before this create. Import it instead"),
    "made another": ({**made, "instance_id": "i-2"}, {}, M, "its create made i-2."),
    "pending": ({}, {}, "pending", f"it is pending for {urn('first')}."),
    "in its state": ({}, {DEV: {"a": M}}, M, "it is already in the state of its stack."),
    "in another": ({}, {DEV: {}, PROD: {"box": M}}, M, f"in the state of the stack {PROD}. If"),
    "unread": (
        {},
        {DEV: {}, PROD: "damaged"},
        M,
        f"may have the machine:\n  stack {PROD}: damaged",
    ),
    "late": ({"phase": LATE}, {}, M, "Import the machine into a stack instead."),
    "no stack": (OF_TEST, {}, M, f"If it is in {ELSEWHERE}, set PULUMI_BACKEND_URL"),
    "two stacks": ({}, TWO, M, f"Several stacks have that name: {', '.join(TWO)}. Add --stack."),
    "another create's": (
        {"urn": OLD},
        {},
        f"{M} --for {urn('first')}",
        f"A create of {urn('first')} is already pending.",
    ),
}
"""A record, what the stacks hold, arguments, and why that is refused."""


@pytest.mark.parametrize("name", REFUSES)
def test_adopt_refuses(line: CommandLine, name: str) -> None:
    """A machine that the create can't have made, or that somebody has or may have."""
    record, stacks, args, says = REFUSES[name]
    id_, pending = line.rent(), line.rent()
    eight = line.rent(EIGHT, "sector_2")
    line.stacks = filled(stacks or line.stacks, id_)
    line.made("first", instance_id=pending)
    entry = line.pend(**filled(record, id_))
    args = args.replace(M, id_).replace("pending", pending).replace("eight", eight)
    assert says in line.refused("pending", "adopt", entry.id, *args.split())
    assert line.journal.current(entry) == entry


def test_adopt_looks_again(line: CommandLine) -> None:
    """While many stacks are read, one of them may import the machine."""
    id_ = line.rent()
    line.pend()
    line.meanwhile = lambda args: PROD in line.exported and line.stacks.update({PROD: {"a": id_}})
    assert f"in the state of the stack {PROD}" in line.refused("pending", "adopt", "box", id_)


@pytest.mark.parametrize("command", ["adopt", "forget"])
def test_changed_meanwhile(line: CommandLine, command: str) -> None:
    """An `up` may begin while the stacks are read, and write the record."""
    entry, id_ = line.pend(), line.rent()
    changed = replace(entry, problem="of another create")
    line.meanwhile = lambda args: line.journal.write(changed)
    says = line.refused("pending", command, "box", *([id_] if command == "adopt" else ["--yes"]))
    assert "has changed since this command read it, so nothing was done" in says
    assert line.pending() == [changed]


# forget


@pytest.mark.parametrize("is_listed", [True, False])
def test_forget(line: CommandLine, is_listed: bool) -> None:
    """It names what may run, also what only a GET shows, and asks. The machine is not touched."""
    id_ = line.rent()
    line.made(instance_id=id_, seen=True)
    if not is_listed:
        line.emulator.state.hide(id_, "list")
    for typed in ("n\n", ""):
        line.run("pending", "forget", "box", code=1, typed=typed)
    assert len(line.pending()) == 1
    said = line.run("pending", "forget", "box", typed="y\n")
    assert f"This machine may still run and bill, but is not in state: {id_}" in said
    assert "The next `pulumi up` creates a new machine for resource 'box'." in said
    assert (line.pending(), line.alive) == ([], {id_})


def test_forgotten_is_late(line: CommandLine) -> None:
    """The machine that the list shows is not its own, as the person says, but another may come.

    A single list may come from a stale replica, so the machine is named although one lacks it.
    """
    others = line.rent()
    line.pend(problem="no answer", first_sent=NOW)
    line.emulator.faults.add("list", "lapse")
    said = line.run("pending", "forget", "box", "--yes")
    assert others in said
    assert "If the API still makes the machine of this create, every command names it." in said
    (late,) = line.pending()
    assert (late.phase, late.found, late.before) == (LATE, (), (others,))
    made = line.rent()
    (record,) = line.json("pending", "ls")
    assert record["candidates"] == [made]
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []


def test_late(line: CommandLine) -> None:
    """Such records are of another machine than the present create's, and are forgotten alone."""
    present = line.pend()
    late = line.pend(phase=LATE, problem="no answer", age=601)
    line.pend(phase=LATE, problem="no answer")
    assert "Nothing now: if a machine still" in line.run("pending", "ls")
    made = line.rent()
    printed = line.run("pending", "ls")
    assert "followed by another one or forgotten" in printed
    assert f"\n              pulumi-fal pending forget {urn('box')} --late" in printed
    said = line.run("pending", "forget", "box", "--late", "--yes")
    assert said.count(made) == 1
    assert "present machine of resource 'box' is not affected" in said
    assert line.pending() == [present]
    assert "No create of 'box' is" in line.refused("pending", "forget", "box", "--late", "--yes")
    line.journal.write(late)
    line.run("pending", "forget", "box", "--yes")
    assert [entry.phase for entry in line.pending()] == [LATE, LATE]


MESSAGES: dict[str, tuple[dict[str, Any], Callable[[Entry, Instance], Exception]]] = {
    "unanswered": (
        {},
        lambda entry, machine: unresolved.unanswered_error(entry, Search((machine,))),
    ),
    "stopped": (
        {"phase": REPORTED},
        lambda entry, _: unresolved.stopped_error(
            entry, "the resource's inputs have changed since"
        ),
    ),
    "without a backend": (
        {"phase": MADE, "backend": ""},
        lambda entry, _: unresolved.uncertain_error(entry, Facts(HERE, None, "", 0.0)),
    ),
    "renamed": (
        {"phase": MADE, "urn": OLD},
        lambda entry, _: unresolved.uncertain_error(entry, Facts(HERE, None, "", 0.0)),
    ),
}
"""Every error that stops a create and names commands, with the record that it is about."""


@pytest.mark.parametrize("verb", ["adopt", "forget"])
@pytest.mark.parametrize("name", MESSAGES)
def test_commands_of_errors(line: CommandLine, name: str, verb: str) -> None:
    """They do what it says, as they are printed, with only ID filled in."""
    recorded, error = MESSAGES[name]
    id_ = line.rent()
    entry = line.pend(**recorded, **({"instance_id": id_} if recorded else {}))
    said = str(error(entry, line.emulator.state.get(id_)))
    (command,) = re.findall(rf"(?m)^  pulumi-fal (pending {verb} .+)$", said)
    words = [id_ if word == "ID" else word for word in shlex.split(command)]
    line.run(*words, *(["--yes"] if verb == "forget" else []))
    if verb == "forget":
        assert [one.phase for one in line.pending()] == ([] if recorded else [LATE])
    else:
        (taken,) = line.pending()
        assert (taken.origin, taken.phase, taken.instance_id) == (HERE, ADOPTED, id_)
