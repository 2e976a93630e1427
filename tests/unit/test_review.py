"""What a command says first of machines that may exist outside state, and what it drops."""

from __future__ import annotations

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
from pulumi_fal.machines.decision import BACK_SECONDS
from pulumi_fal.machines.journal import Entry, Journal, Phase, new_file
from pulumi_fal.machines.process import Machines
from pulumi_fal.machines.whose import LATE_SECONDS
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import Stack

from ..fakes import DEV, HERE, ONE, URN, FakeStacks, TurnedClock, unanswered
from .world import World

OF = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
ENTRY = Entry(
    HERE, "account", NewInstance(ONE, "f00d"), ("old",), 1_700_000_000.0, file=new_file(HERE)
)
MADE: dict[str, Any] = {"phase": Phase.CREATED, "instance_id": "made"}
TOLD: dict[str, Any] = {"phase": Phase.REPORTED, "instance_id": "made"}
PROD, THERE = "organization/shop/prod", "file:///there"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


def pend(journal: Journal, origin: Origin = HERE, **others: Any) -> Entry:
    entry = replace(ENTRY, origin=origin, file=new_file(origin), **others)
    journal.write(entry)
    return entry


def locked(journal: Journal) -> AbstractContextManager[None]:
    """The lock of the create of HERE, which another process holds."""
    lock = Journal(journal.folder).try_lock(HERE)
    assert lock is not None
    return lock


def said(journal: Journal, stacks: FakeStacks, provider: str = "") -> list[str]:
    """The warnings of a process that has just heard of a resource of the stack."""
    warnings: list[str] = []
    machines = Machines(
        journal, stacks, TurnedClock(), mock.Mock(), warn=warnings.append, provider=provider
    )
    for _ in range(2):  # the second resource of a process brings no second review
        machines.review(OF.urn)
    return warnings


def test_what_state_lacks_is_named_and_kept(journal: Journal) -> None:
    """A create stops for it, because somebody may have removed it from state on purpose."""
    entry = pend(journal, **TOLD)
    (reminder,) = said(journal, FakeStacks("others"))
    assert "Machine made (" in reminder
    assert "`pulumi up` stops and says how to go on." in reminder
    assert list(journal.entries()) == [entry]


@pytest.mark.parametrize("answers", [True, False])
def test_a_machine_outside_of_state_is_named_and_what_each_command_does_with_it(
    journal: Journal, answers: bool
) -> None:
    """A machine outside state is named although the stack can't be asked."""
    stacks = FakeStacks(answers=answers)
    for number, phase in enumerate((Phase.CREATED, Phase.ADOPTED)):
        origin = replace(HERE, urn=URN.replace("web", str(number)))
        pend(journal, origin, phase=phase, instance_id=f"machine-{number}")
    reminders = sorted(said(journal, stacks))
    for number, reminder in enumerate(reminders):
        assert f"Machine machine-{number} (gpu_1x_h100_sxm5)" in reminder
        assert f"resource '{number}'" in reminder
        assert "`pulumi up` continues with it" in reminder
        assert "`pulumi destroy` does not delete it" in reminder
    assert len(reminders) == 2


def test_a_create_without_an_answer_is_named(journal: Journal) -> None:
    """A create without an answer is named by its resource, since no machine is known."""
    pend(journal)
    (reminder,) = said(journal, FakeStacks())
    assert "resource 'web' ended without an answer" in reminder
    assert "`pulumi up` looks for it" in reminder


@pytest.mark.parametrize("phase", [Phase.REPORTED, Phase.CREATED])
@pytest.mark.parametrize("seen", [True, False])
def test_what_state_has_is_settled_without_a_word_once_it_was_seen(
    journal: Journal, phase: Phase, seen: bool
) -> None:
    """A machine that state has is not named, and its entry goes once the API has shown it."""
    pend(journal, phase=phase, instance_id="made", seen=seen)
    assert said(journal, FakeStacks("made", "others")) == []
    assert len(list(journal.entries())) == (0 if seen else 1)


def test_what_a_stack_has_that_may_be_this_one_is_settled_without_a_word(journal: Journal) -> None:
    """The organization is not known, and one of those with such a stack has the machine."""
    stacks = FakeStacks(answers=False)
    stacks.others = {"acme/shop/dev": {"made"}}
    pend(journal, **MADE, seen=True)
    assert said(journal, stacks) == []
    assert list(journal.entries()) == []


@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.CREATED, Phase.REPORTED])
def test_a_create_that_is_under_way_is_passed_by(journal: Journal, phase: Phase) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    pend(journal, phase=phase, instance_id=None if phase == Phase.REQUESTED else "made")
    with locked(journal):
        assert said(journal, FakeStacks()) == []
    assert len(said(journal, FakeStacks())) == 1


def test_a_create_that_ends_while_the_stack_is_asked_is_passed_by(journal: Journal) -> None:
    """The answer of the stack is older than the end of that create."""
    running = pend(journal, **MADE)
    lost = replace(HERE, urn=f"{URN}-lost")
    pend(journal, lost, phase=Phase.CREATED, instance_id="lost")
    held, stacks = ExitStack(), FakeStacks()
    held.enter_context(locked(journal))

    def end() -> None:
        journal.write(replace(running, phase=Phase.REPORTED, seen=True))
        held.close()

    stacks.on_read = end
    (reminder,) = said(journal, stacks)
    assert not journal.is_locked(running)
    assert "Machine lost" in reminder


def test_a_create_that_ends_while_the_journal_is_read_is_not_named(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry was read before the answer came, and by now names the machine."""
    entry = pend(journal)

    def end(entry_: Entry) -> bool:
        journal.write(replace(entry, **TOLD, seen=True))
        return False

    monkeypatch.setattr(journal, "is_locked", end)
    assert said(journal, FakeStacks("made")) == []


def test_without_an_answer_of_the_stack_the_entry_is_kept_in_silence(journal: Journal) -> None:
    """A machine that Pulumi was told of is most likely in a stack that can't be asked."""
    pend(journal, **TOLD)
    assert said(journal, FakeStacks(answers=False)) == []
    assert len(list(journal.entries())) == 1


@pytest.mark.parametrize("provider", ["", "an-id"])
@pytest.mark.parametrize(
    "other, fields, is_named",
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
def test_what_may_be_this_stacks_is_named(
    journal: Journal, other: dict[str, str], fields: dict[str, Any], is_named: bool, provider: str
) -> None:
    """The entry of a stack that is surely another one is neither named nor dropped."""
    entry = pend(journal, replace(HERE, **other), **fields, seen=True)
    stacks, fal = FakeStacks("others"), "pulumi:providers:fal"
    stacks.providers = {"an-id": fal}
    stacks.others = {
        PROD: Stack(PROD, HERE.backend, (), {"another-id": fal}),
        "there": Stack(DEV, THERE, (), {"another-id": fal}),
    }
    assert len(said(journal, stacks, provider)) == is_named
    assert list(journal.entries()) == [entry]


def test_the_entries_of_other_stacks_do_not_cost_a_question_for_the_backend(
    journal: Journal,
) -> None:
    """The last `up` of every stack leaves some, until the next command of that stack."""
    pend(journal, replace(HERE, urn=URN.replace("::shop::", "::bank::")))
    stacks = mock.Mock(FakeStacks)
    assert said(journal, stacks) == []
    assert stacks.mock_calls == []


def test_an_unreadable_entry_is_reported_and_hides_no_other(journal: Journal) -> None:
    """An unreadable entry may be any stack's, and hides no other."""
    pend(journal, **MADE)
    (journal.folder / "0-damaged.json").write_text("{")
    damaged, reminder = said(journal, FakeStacks())
    assert "is damaged" in damaged
    assert "made" in reminder


def test_an_entry_that_a_create_overwrites_while_the_stack_is_asked_is_kept(
    journal: Journal,
) -> None:
    """An `up` may replace the machine in the second that `pulumi stack export` takes."""
    entry, stacks = pend(journal, **TOLD, seen=True), FakeStacks("made")
    new = replace(entry, instance_id="new")
    stacks.on_read = lambda: journal.write(new)
    assert said(journal, stacks) == []
    assert list(journal.entries()) == [new]


def test_an_entry_whose_create_begins_while_the_stack_is_asked_is_kept(journal: Journal) -> None:
    """The create has read the entry, and decides about it."""
    begun, stacks = ExitStack(), FakeStacks("made")

    def begin() -> None:
        if not journal.is_locked(entry):
            begun.enter_context(locked(journal))

    entry, stacks.on_read = pend(journal, **TOLD, seen=True), begin
    with begun:
        assert said(journal, stacks) == []
    assert list(journal.entries()) == [entry]


# A create without an answer that another create has followed.


def review(world: World) -> list[str]:
    """The warnings of the next command."""
    world.restart()
    world.warnings.clear()
    world.machines.review(OF.urn)
    return list(world.warnings)


def late(world: World, **others: Any) -> Entry:
    """The entry of a create that another one has followed, whose machine is in state."""
    present = world.machine()
    world.stacks.in_state = {present}
    return world.earlier(Phase.LATE, problem="it was reset", **others)


def found(world: World) -> list[tuple[str, ...]]:
    """What late entries say has appeared."""
    return [entry.found for entry in world.journal.readable() if entry.is_late]


def test_a_late_machine_is_named_by_every_command_until_it_is_gone(world: World) -> None:
    """A late machine keeps billing, and nothing but these warnings shows it."""
    late(world)
    assert review(world) == []
    assert found(world) == [()]
    made = world.machine()
    for passed in (0, 10_000):
        world.clock.time += passed
        began = world.clock.time
        (warning,) = review(world)
        assert world.clock.time == began  # one list is enough
        assert f"  {made} (" in warning
        assert found(world) == [(made,)]
    world.state.kill(made)
    assert review(world) == []
    assert found(world) == []


@pytest.mark.parametrize("was_gone", [True, False])
@pytest.mark.parametrize("whose", ["own stack", "other stack", "pending"])
def test_a_late_machine_is_settled_once_it_is_known_whose_it_is(
    world: World, whose: str, was_gone: bool
) -> None:
    """A late machine may be imported, or turn out to be another resource's."""
    made = world.machine()
    late(world, **({"instance_id": made, "seen": True} if was_gone else {}))
    assert len(review(world)) == 1
    if whose == "own stack":
        assert world.stacks.in_state is not None
        world.stacks.in_state.add(made)
    if whose == "other stack":
        world.stacks.others = {PROD: {made}}
    if whose == "pending":
        world.earlier(Phase.CREATED, made, origin=Origin("urn:pulumi:x::y::z::a", backend="b"))
    assert review(world) == []
    assert found(world) == [()]
    world.clock.time += BACK_SECONDS + 1 if was_gone else LATE_SECONDS + 1
    assert review(world) == []
    assert found(world) == []


@pytest.mark.parametrize("was_gone", [True, False])
def test_a_late_entry_is_not_dropped_because_of_one_stale_list(
    world: World, was_gone: bool
) -> None:
    """Nothing else would know of the machine that is in the next list."""
    made = world.machine() if was_gone else None
    late(world, instance_id=made)
    world.clock.time += BACK_SECONDS + 1
    made = made or world.machine()
    world.state.hide(made, "list", 0.1)
    (warning,) = review(world)
    assert made in warning
    assert found(world) == [() if was_gone else (made,)]


def test_a_machine_that_was_found_once_is_not_taken_for_gone_because_of_one_list(
    world: World,
) -> None:
    """A list may lapse, so the machine is asked for as well."""
    made = world.machine()
    late(world, found=(made,))
    world.state.hide(made, "list", 0.1)
    (warning,) = review(world)
    assert made in warning
    assert found(world) == [(made,)]


@pytest.mark.parametrize(
    "trouble, was_gone",
    [
        *product(["refused", "silent", "no key", "stack"], [True, False]),
        ("another account", False),
    ],
)
def test_where_nobody_can_tell_about_a_late_machine_the_warning_says_so(
    world: World, trouble: str, was_gone: bool
) -> None:
    """The machine may run, so the entry stays, and what was found before is named."""
    made = world.machine()
    entry = late(world, **({"instance_id": made, "seen": True} if was_gone else {"found": (made,)}))
    if trouble == "refused":
        world.api.faults.add("list", "403")
    if trouble == "silent":

        def say_nothing(request: Request[Any]) -> None:
            world.clock.sleep(world.api.timeouts[-1] or 600)
            raise unanswered(request)

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
    (warning,) = review(world)
    if not was_gone:
        assert "It is not known whether the earlier create made a machine as well" in warning
    elif trouble != "stack":  # it is named as one that is back
        assert f"Machine {made} of resource 'web' was gone. Whether it is back is not" in warning
    assert made in warning
    assert world.clock.time - began < 10
    assert world.journal.readable() == [entry]


def test_a_machine_of_another_account_that_was_gone_is_left_to_that_account(world: World) -> None:
    """Each account of a stack has its own process, which sees whether the machine is back."""
    entry = late(world, instance_id=world.machine(), seen=True, account="another")
    assert review(world) == []
    assert world.journal.readable() == [entry]


@pytest.mark.parametrize("answers", [True, False])
def test_several_late_entries_take_one_look_and_say_the_same_once(
    world: World, answers: bool
) -> None:
    """A create that is repeated many times must not make every command wait for as long."""
    for number in range(20):
        late(world, started=world.clock.wall() - LATE_SECONDS - 1 - number)
    made = world.machine()
    if not answers:
        world.api.faults.add("list", "403", 99)
    began = world.clock.time
    (warning,) = review(world)
    assert (made in warning) is answers
    assert world.api.calls.count("list") <= 2
    assert world.clock.time - began < 5


def test_a_late_entry_is_reviewed_although_the_present_create_is_in_progress(
    world: World,
) -> None:
    """The late entry's own create is over, but the process in progress may change its record."""
    late(world)
    made = world.machine()
    lock = world.journal.try_lock(HERE)
    assert lock is not None
    with lock:
        (warning,) = review(world)
        assert made in warning
        assert found(world) == [()]
