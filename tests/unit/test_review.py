"""What a command says first of machines that may exist outside state, and what it drops."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.machines.journal import BACK_SECONDS, LATE_SECONDS, Entry, Journal, Phase
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import DEV, HERE, URN, FakeStacks, refusal, unanswered
from .world import World

OF = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
MADE: dict[str, Any] = {"phase": Phase.CREATED, "instance_id": "made"}
TOLD: dict[str, Any] = {"phase": Phase.REPORTED, "instance_id": "made"}
ADOPTED: dict[str, Any] = {"phase": Phase.ADOPTED, "instance_id": "made"}
PROD, THERE = "organization/shop/prod", "file:///there"
PATIENCE = 10.0
"""Seconds until a test that hangs fails."""


FORGOTTEN = ("Machine made (gpu_1x_h100_sxm5)", "resource 'web'")
CONTINUES = ("`pulumi up` continues with it", "`pulumi destroy` does not delete it")
STOPS = ("`pulumi up` stops and says how to go on.",)
NO_ANSWER = ("resource 'web' ended without an answer", "`pulumi up` looks for it")
UNREAD = FakeStacks(answers=False)
OF_ORGANIZATIONS = FakeStacks(answers=False)
"""Which of them the stack is in is not known, and one with such a stack has the machine."""
OF_ORGANIZATIONS.others = {"acme/shop/dev": {"made"}}


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
        pytest.param({**MADE, "seen": True}, OF_ORGANIZATIONS, (), False, id="in an organization"),
    ],
)
def test_reminder(
    world: World, record: dict[str, Any], stacks: FakeStacks, words: tuple[str, ...], is_kept: bool
) -> None:
    """What state lacks is named, and what it has is settled once the API has shown it."""
    world.stacks, entry = stacks, world.earlier(**record)
    reminders = world.review()
    assert len(reminders) == (1 if words else 0)
    assert all(part in text for text in reminders for part in words)
    assert world.journal.readable() == [entry] * is_kept
    assert world.api.calls == []


@pytest.mark.parametrize("record", [{}, MADE, TOLD])
def test_under_way(world: World, record: dict[str, Any]) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    world.earlier(**record)
    with world.lock():
        assert world.review() == []
    assert len(world.review()) == 1


def test_ends_while_stack_is_read(world: World) -> None:
    """The answer of the stack is older than the end of that create."""
    running = world.earlier(**MADE)
    world.earlier(Phase.CREATED, "lost", origin=replace(HERE, urn=f"{URN}-lost"))
    held = ExitStack()
    held.enter_context(world.lock())

    def end() -> None:
        world.journal.write(replace(running, phase=Phase.REPORTED, seen=True))
        held.close()

    world.stacks.on_read = end
    (reminder,) = world.review()
    assert "Machine lost" in reminder


def test_ends_while_journal_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry was read before the answer came, and by now names the machine."""
    entry = world.earlier()

    def end(self: Journal, entry_: Entry) -> bool:
        self.write(replace(entry, **TOLD, seen=True))
        return False

    monkeypatch.setattr(Journal, "is_locked", end)
    world.stacks.in_state = {"made"}
    assert world.review() == []


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
    world: World, other: dict[str, str], record: dict[str, Any], is_named: bool, provider: str
) -> None:
    """The entry of a stack that is surely another one is neither named nor dropped."""
    entry = world.earlier(**record, origin=replace(HERE, **other), seen=True)
    fal = "pulumi:providers:fal"
    world.stacks.in_state = {"others"}
    world.stacks.providers = {"an-id": fal}
    world.stacks.others = {
        PROD: Stack(PROD, HERE.backend, (), {"another-id": fal}),
        "there": Stack(DEV, THERE, (), {"another-id": fal}),
    }
    assert len(world.review(provider)) == is_named
    assert world.journal.readable() == [entry]


def test_costs_nothing(world: World) -> None:
    """The last `up` of every stack leaves entries, until the next command of that stack."""
    world.earlier(origin=replace(HERE, urn=URN.replace("::shop::", "::bank::")))
    world.stacks = mock.Mock(FakeStacks)
    assert world.review() == []
    assert world.stacks.mock_calls == []


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


def test_damaged(world: World) -> None:
    """An unreadable entry may be any stack's, and hides no other."""
    world.earlier(**MADE)
    (world.folder / "0-damaged.json").write_text("{")
    damaged, reminder = world.review()
    assert "is damaged" in damaged
    assert "made" in reminder


def test_create_meanwhile(world: World) -> None:
    """An `up` may begin in the second that `pulumi stack export` takes, and decide about it."""
    new = replace(world.earlier(**TOLD, seen=True), instance_id="new")
    world.stacks.in_state = {"made"}
    world.stacks.on_read = lambda: world.journal.write(new)
    assert world.review() == []
    assert world.journal.readable() == [new]


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
    made = world.machine()
    with world.lock():
        (warning,) = world.review()
        assert made in warning
        assert found(world) == [()]
