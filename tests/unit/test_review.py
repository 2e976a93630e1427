"""What a command says first of machines that may exist outside state, and what it drops."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import BACK_SECONDS, LATE_SECONDS, Entry, Journal, Phase, new_file
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import DEV, HERE, ONE, URN, FakeStacks, TurnedClock, refusal, unanswered
from .world import World

OF = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
ENTRY = Entry(
    HERE, "account", NewInstance(ONE, "f00d"), ("old",), 1_700_000_000.0, file=new_file(HERE)
)
MADE: dict[str, Any] = {"phase": Phase.CREATED, "instance_id": "made"}
TOLD: dict[str, Any] = {"phase": Phase.REPORTED, "instance_id": "made"}
ADOPTED: dict[str, Any] = {"phase": Phase.ADOPTED, "instance_id": "made"}
PROD, THERE = "organization/shop/prod", "file:///there"
PATIENCE = 10.0
"""Seconds until a test that hangs fails."""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


def pend(journal: Journal, origin: Origin = HERE, **others: Any) -> Entry:
    entry = replace(ENTRY, origin=origin, file=new_file(origin), **others)
    journal.write(entry)
    return entry


def locked(journal: Journal) -> AbstractContextManager[object]:
    """The lock of the create of HERE, which another process holds."""
    lock = Journal(journal.folder).try_lock(HERE)
    assert lock is not None
    return lock


def said(journal: Journal, stacks: FakeStacks, provider: str = "") -> list[str]:
    """The warnings of a process that has just heard of a resource of the stack."""
    warnings: list[str] = []
    account = Account(
        journal, stacks, TurnedClock(), mock.Mock(), warn=warnings.append, provider=provider
    )
    for _ in range(2):  # the second resource of a process brings no second review
        account.review(OF.urn)
    return warnings


FORGOTTEN = ("Machine made (gpu_1x_h100_sxm5)", "resource 'web'")
CONTINUES = ("`pulumi up` continues with it", "`pulumi destroy` does not delete it")
STOPS = ("`pulumi up` stops and says how to go on.",)
NO_ANSWER = ("resource 'web' ended without an answer", "`pulumi up` looks for it")
UNREAD = FakeStacks(answers=False)


@pytest.mark.parametrize(
    "record, stacks, words, is_kept",
    [
        pytest.param(TOLD, FakeStacks("x"), FORGOTTEN + STOPS, True, id="state lacks it"),
        pytest.param(MADE, FakeStacks(), FORGOTTEN + CONTINUES, True, id="Pulumi was not told"),
        pytest.param(MADE, UNREAD, FORGOTTEN + CONTINUES, True, id="nor can the stack be read"),
        pytest.param(ADOPTED, UNREAD, FORGOTTEN + CONTINUES, True, id="adopted"),
        pytest.param({}, FakeStacks(), NO_ANSWER, True, id="no answer"),
        pytest.param(TOLD, UNREAD, (), True, id="most likely in the stack"),
        pytest.param(TOLD, FakeStacks("made"), (), True, id="in state, never shown"),
        pytest.param(MADE, FakeStacks("made"), (), True, id="in state, never shown nor told"),
        pytest.param({**TOLD, "seen": True}, FakeStacks("made"), (), False, id="in state"),
        pytest.param({**MADE, "seen": True}, FakeStacks("made"), (), False, id="in state, untold"),
    ],
)
def test_reminder(
    journal: Journal,
    record: dict[str, Any],
    stacks: FakeStacks,
    words: tuple[str, ...],
    is_kept: bool,
) -> None:
    """What state lacks is named, and what it has is settled once the API has shown it."""
    entry = pend(journal, **record)
    reminders = said(journal, stacks)
    assert len(reminders) == (1 if words else 0)
    assert all(part in text for text in reminders for part in words)
    assert list(journal.entries()) == [entry] * is_kept


def test_settled_by_organization(journal: Journal) -> None:
    """The organization is not known, and one of those with such a stack has the machine."""
    stacks = FakeStacks(answers=False)
    stacks.others = {"acme/shop/dev": {"made"}}
    pend(journal, **MADE, seen=True)
    assert said(journal, stacks) == []
    assert list(journal.entries()) == []


@pytest.mark.parametrize("record", [{}, MADE, TOLD])
def test_under_way(journal: Journal, record: dict[str, Any]) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    pend(journal, **record)
    with locked(journal):
        assert said(journal, FakeStacks()) == []
    assert len(said(journal, FakeStacks())) == 1


def test_ends_while_stack_is_read(journal: Journal) -> None:
    """The answer of the stack is older than the end of that create."""
    running = pend(journal, **MADE)
    pend(journal, replace(HERE, urn=f"{URN}-lost"), phase=Phase.CREATED, instance_id="lost")
    held, stacks = ExitStack(), FakeStacks()
    held.enter_context(locked(journal))

    def end() -> None:
        journal.write(replace(running, phase=Phase.REPORTED, seen=True))
        held.close()

    stacks.on_read = end
    (reminder,) = said(journal, stacks)
    assert "Machine lost" in reminder


def test_ends_while_journal_is_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry was read before the answer came, and by now names the machine."""
    entry = pend(journal)

    def end(entry_: Entry) -> bool:
        journal.write(replace(entry, **TOLD, seen=True))
        return False

    monkeypatch.setattr(journal, "is_locked", end)
    assert said(journal, FakeStacks("made")) == []


@pytest.mark.parametrize("provider", ["", "an-id"])
@pytest.mark.parametrize(
    "other, record, is_named",
    [
        # The stack under another name, or in another backend.
        ({"provider": "an-id", "urn": URN.replace("dev", "old")}, MADE, True),
        ({"provider": "an-id", "backend": THERE}, MADE, True),
        ({"backend": ""}, MADE, True),
        ({"backend": "file:///gone"}, MADE, True),
        # Others that exist.
        ({"provider": "another-id", "backend": THERE}, MADE, False),
        ({"provider": "another-id", "urn": URN.replace("dev", "prod")}, MADE, False),
        ({"backend": THERE}, {}, False),
        # Others that may be gone are looked for by a create, or by `pulumi-fal audit`.
        ({"urn": URN.replace("dev", "old")}, {}, False),
        ({"urn": URN.replace("shop", "bank")}, MADE, False),
        ({"provider": "gone", "urn": URN.replace("dev", "old")}, MADE, False),
        ({"backend": THERE}, TOLD, False),
    ],
)
def test_other_stacks(
    journal: Journal, other: dict[str, str], record: dict[str, Any], is_named: bool, provider: str
) -> None:
    """The entry of a stack that is surely another one is neither named nor dropped."""
    entry = pend(journal, replace(HERE, **other), **record, seen=True)
    stacks, fal = FakeStacks("others"), "pulumi:providers:fal"
    stacks.providers = {"an-id": fal}
    stacks.others = {
        PROD: Stack(PROD, HERE.backend, (), {"another-id": fal}),
        "there": Stack(DEV, THERE, (), {"another-id": fal}),
    }
    assert len(said(journal, stacks, provider)) == is_named
    assert list(journal.entries()) == [entry]


def test_costs_nothing(journal: Journal) -> None:
    """The last `up` of every stack leaves entries, until the next command of that stack."""
    pend(journal, replace(HERE, urn=URN.replace("::shop::", "::bank::")))
    stacks = mock.Mock(FakeStacks)
    assert said(journal, stacks) == []
    assert stacks.mock_calls == []


@pytest.mark.parametrize("fails", [False, True])
def test_lists_meanwhile(world: World, fails: bool) -> None:
    """A refresh lists the machines while it reads the stack. Only a list that fails is repeated."""
    asked: list[list[str]] = []

    def read_stack() -> None:
        for thread in threading.enumerate():
            if thread.name == "list-ahead":
                thread.join(PATIENCE)
        asked.append(list(world.api.calls))
        world.api.before = lambda request: None

    world.stacks.in_state = {world.machine()}
    world.stacks.on_read = read_stack
    (id_,) = world.stacks.in_state
    world.earlier(Phase.REPORTED, id_)
    if fails:
        world.fail("list", refusal(503))
    world.account.list_ahead()
    world.account.review(URN)
    assert asked[0] == ["list"]
    assert world.account.lifecycle.look(id_) is not None
    assert world.api.calls == ["list"] * (2 if fails else 1)


def test_damaged(journal: Journal) -> None:
    """An unreadable entry may be any stack's, and hides no other."""
    pend(journal, **MADE)
    (journal.folder / "0-damaged.json").write_text("{")
    damaged, reminder = said(journal, FakeStacks())
    assert "is damaged" in damaged
    assert "made" in reminder


def test_create_meanwhile(journal: Journal) -> None:
    """An `up` may begin in the second that `pulumi stack export` takes, and decide about it."""
    entry, stacks = pend(journal, **TOLD, seen=True), FakeStacks("made")
    new = replace(entry, instance_id="new")
    stacks.on_read = lambda: journal.write(new)
    assert said(journal, stacks) == []
    assert list(journal.entries()) == [new]


# A create without an answer that another create has followed.


def late(world: World, **others: Any) -> Entry:
    """The entry of a create that another one has followed, whose machine is in state."""
    world.stacks.in_state = {world.machine()}
    return world.earlier(Phase.LATE, problem="it was reset", **others)


def found(world: World) -> list[tuple[str, ...]]:
    """What late entries say has appeared."""
    return [entry.found for entry in world.late]


def test_late(world: World) -> None:
    """A late machine keeps billing, so every command names it until it is gone."""
    late(world)
    assert world.review() == []
    assert found(world) == [()]
    made = world.machine()
    for passed in (0, 10_000):
        world.clock.time += passed
        began = world.clock.time
        (warning,) = world.review()
        assert world.clock.time == began  # one list is enough
        assert f"  {made} (" in warning
        assert found(world) == [(made,)]
    world.state.kill(made)
    assert world.review() == []
    assert found(world) == []


@pytest.mark.parametrize("was_gone", [True, False])
@pytest.mark.parametrize("whose", ["own stack", "other stack", "pending"])
def test_late_settled(world: World, whose: str, was_gone: bool) -> None:
    """A late machine may be imported, or turn out to be another resource's."""
    made = world.machine()
    late(world, **({"instance_id": made, "seen": True} if was_gone else {}))
    assert len(world.review()) == 1
    if whose == "own stack":
        world.stacks.siblings = [StackMachine(made, OF.urn)]
    if whose == "other stack":
        world.stacks.others = {PROD: {made}}
    if whose == "pending":
        world.earlier(Phase.CREATED, made, origin=Origin("urn:pulumi:x::y::z::a", backend="b"))
    assert world.review() == []
    assert found(world) == [()]
    world.clock.time += BACK_SECONDS + 1 if was_gone else LATE_SECONDS + 1
    assert world.review() == []
    assert found(world) == []


@pytest.mark.parametrize("known", ["nothing", "it was gone", "it was found"])
def test_stale_list(world: World, known: str) -> None:
    """Nothing else would know of the machine that is in the next list, or that a GET shows."""
    made = "" if known == "nothing" else world.machine()
    records: dict[str, Any] = {
        "it was gone": {"instance_id": made},
        "it was found": {"found": (made,)},
    }
    late(world, **records.get(known, {}))
    world.clock.time += BACK_SECONDS + 1
    made = made or world.machine()
    world.state.hide(made, "list", 0.1)
    (warning,) = world.review()
    assert made in warning
    assert found(world) == [() if known == "it was gone" else (made,)]


@pytest.mark.parametrize(
    "trouble, was_gone",
    [*product(["refused", "silent", "no key", "stack"], [True, False]), ("another account", False)],
)
def test_late_unknown(world: World, trouble: str, was_gone: bool) -> None:
    """The machine may run, so the entry stays, and what was found before is named."""
    made = world.machine()
    entry = late(world, **({"instance_id": made, "seen": True} if was_gone else {"found": (made,)}))

    def say_nothing(request: Request[Any]) -> None:
        world.clock.sleep(world.api.timeouts[-1] or 600)
        raise unanswered(request)

    if trouble == "refused":
        world.api.faults.add("list", "403")
    if trouble == "silent":
        world.api.before = say_nothing
    if trouble == "no key":
        world.used_settings = mock.Mock(side_effect=ConfigurationError("No fal API key is set."))
    if trouble == "stack":
        world.stacks.in_state = None
    if trouble == "another account":
        entry = replace(entry, account="another")
        world.journal.write(entry)
        world.hide(made)
    began = world.clock.time
    (warning,) = world.review()
    if not was_gone:
        assert "It is not known whether the earlier create made a machine as well" in warning
    elif trouble != "stack":  # it is named as one that is back
        assert f"Machine {made} of resource 'web' was gone. Whether it is back is not" in warning
    assert made in warning
    assert world.clock.time - began < 10
    assert world.journal.readable() == [entry]


def test_other_accounts_process(world: World) -> None:
    """Each account of a stack has its own process, which sees whether the machine is back."""
    entry = late(world, instance_id=world.machine(), seen=True, account="another")
    assert world.review() == []
    assert world.journal.readable() == [entry]


@pytest.mark.parametrize("answers", [True, False])
def test_many_late(world: World, answers: bool) -> None:
    """A create that is repeated many times must not make every command wait for as long."""
    for number in range(20):
        late(world, started=world.clock.wall() - LATE_SECONDS - 1 - number)
    made = world.machine()
    if not answers:
        world.api.faults.add("list", "403", 99)
    began = world.clock.time
    (warning,) = world.review()
    assert (made in warning) is answers
    assert world.api.calls.count("list") <= 2
    assert world.clock.time - began < 5


def test_many_found(world: World) -> None:
    """One second look for all candidates that are missing."""
    made = [world.machine() for _ in range(8)]
    late(world, found=tuple(made))
    for id_ in made:
        world.state.kill(id_)
    began = world.clock.time
    assert world.review() == []
    assert world.clock.time - began < 5


def test_late_beside_create(world: World) -> None:
    """A late entry's own create is over, but the process in progress may change its record."""
    late(world)
    made, lock = world.machine(), world.journal.try_lock(HERE)
    assert lock is not None
    with lock:
        (warning,) = world.review()
        assert made in warning
        assert found(world) == [()]
