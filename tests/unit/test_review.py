"""What a command says first of machines that may exist outside state, and what it drops."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.request import Request
from pulumi_fal.errors import ConfigurationError
from pulumi_fal.machines.decision import LATE_SECONDS
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.process import Machines
from pulumi_fal.machines.records import Records
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ED25519, HERE, ONE, URN, FakeStacks, TurnedClock, unanswered
from .world import World

OF = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
ENTRY = Entry(HERE, "account", NewInstance(ONE, "f00d"), ("old",), 1_700_000_000.0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


def said(journal: Journal, stacks: FakeStacks) -> list[str]:
    """The warnings of a process that has just heard of a resource of the stack."""
    warnings: list[str] = []
    machines = Machines(journal, stacks, TurnedClock(), mock.Mock(), warn=warnings.append)
    for _ in range(2):  # the second resource of a process brings no second review
        machines.review(OF.urn, OF.organization)
    return warnings


def test_of_a_machine_that_was_reported_nothing_is_promised(journal: Journal) -> None:
    """A create stops for it, because somebody may have removed it from state on purpose."""
    journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made"))
    (reminder,) = said(journal, FakeStacks())
    assert "`pulumi up` stops and says how to go on." in reminder


@pytest.mark.parametrize("answers", [True, False])
def test_a_machine_outside_of_state_is_named_and_what_each_command_does_with_it(
    journal: Journal, answers: bool
) -> None:
    """A machine outside state is named although the stack can't be asked."""
    stacks = FakeStacks(answers=answers)
    for number, phase in enumerate((Phase.CREATED, Phase.ADOPTED)):
        origin = replace(HERE, urn=URN.replace("web", str(number)))
        journal.write(replace(ENTRY, origin=origin, phase=phase, instance_id=f"machine-{number}"))
    reminders = sorted(said(journal, stacks))
    for number, reminder in enumerate(reminders):
        assert f"Machine machine-{number} (gpu_1x_h100_sxm5)" in reminder
        assert f"resource '{number}'" in reminder
        assert "`pulumi up` continues with it" in reminder
        assert "`pulumi destroy` does not delete it" in reminder
    assert len(reminders) == 2


def test_a_create_without_an_answer_is_named(journal: Journal) -> None:
    """A create without an answer is named by its resource, since no machine is known."""
    journal.write(ENTRY)
    (reminder,) = said(journal, FakeStacks())
    assert "resource 'web' ended without an answer" in reminder
    assert "`pulumi up` looks for it" in reminder


@pytest.mark.parametrize("phase", [Phase.REPORTED, Phase.CREATED])
@pytest.mark.parametrize("seen", [True, False])
def test_what_state_has_is_settled_without_a_word_once_it_was_seen(
    journal: Journal, phase: Phase, seen: bool
) -> None:
    """A machine that state has is not named, and its entry goes once the API has shown it."""
    journal.write(replace(ENTRY, phase=phase, instance_id="made", seen=seen))
    assert said(journal, FakeStacks("made", "others")) == []
    assert len(list(journal.entries())) == (0 if seen else 1)


def test_what_a_stack_has_that_may_be_this_one_is_settled_without_a_word(journal: Journal) -> None:
    """The organization is not known, and one of those with such a stack has the machine."""
    stacks = FakeStacks(answers=False)
    stacks.namesakes = [StackMachine("made", URN)]
    journal.write(replace(ENTRY, phase=Phase.CREATED, instance_id="made", seen=True))
    assert said(journal, stacks) == []
    assert list(journal.entries()) == []


@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.CREATED, Phase.REPORTED])
def test_a_create_that_is_under_way_is_passed_by(journal: Journal, phase: Phase) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    journal.write(
        replace(ENTRY, phase=phase, instance_id=None if phase == Phase.REQUESTED else "made")
    )
    lock = journal.try_lock(HERE)
    assert lock is not None
    with lock:
        assert said(journal, FakeStacks()) == []
    assert len(said(journal, FakeStacks())) == 1


def test_a_create_that_ends_while_the_stack_is_asked_is_passed_by(journal: Journal) -> None:
    """The answer of the stack is older than the end of that create."""
    for number in range(2):
        origin = replace(HERE, urn=f"{URN}-{number}")
        journal.write(replace(ENTRY, origin=origin, phase=Phase.CREATED, instance_id=f"m{number}"))
    lost, running = journal.readable()
    lock = journal.try_lock(running.origin)
    assert lock is not None
    held = ExitStack()
    held.enter_context(lock)

    class SlowStacks(FakeStacks):
        def ids(self, origin: Origin) -> frozenset[str]:
            journal.write(replace(running, phase=Phase.REPORTED, seen=True))
            held.close()
            return frozenset()

    (reminder,) = said(journal, SlowStacks())
    assert not journal.is_locked(running.origin)
    assert f"Machine {lost.instance_id}" in reminder


def test_a_create_that_ends_while_the_journal_is_read_is_not_named(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry was read before the answer came, and by now names the machine."""
    journal.write(ENTRY)

    def end(origin: Origin) -> bool:
        journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made", seen=True))
        return False

    monkeypatch.setattr(journal, "is_locked", end)
    assert said(journal, FakeStacks("made")) == []


def test_what_state_lacks_is_named_and_kept(journal: Journal) -> None:
    """A machine that Pulumi was told of and state lacks is named, and its entry stays."""
    journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made"))
    (reminder,) = said(journal, FakeStacks("others"))
    assert "made" in reminder
    assert len(list(journal.entries())) == 1


def test_without_an_answer_of_the_stack_the_entry_is_kept_in_silence(journal: Journal) -> None:
    """A machine that Pulumi was told of is most likely in a stack that can't be asked."""
    journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made"))
    assert said(journal, FakeStacks(answers=False)) == []
    assert len(list(journal.entries())) == 1


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, backend="file:///there"),
        replace(HERE, organization="another"),
        replace(HERE, urn=HERE.urn.replace("dev", "prod")),
        replace(HERE, urn=HERE.urn.replace("shop", "bank")),
    ],
)
@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.CREATED, Phase.REPORTED])
def test_another_stacks_entries_are_left_alone(
    journal: Journal, other: Origin, phase: Phase
) -> None:
    """The entry of another stack is neither named nor dropped."""
    entry = replace(ENTRY, origin=other, phase=phase, instance_id="made")
    journal.write(entry)
    assert said(journal, FakeStacks("made")) == []
    assert list(journal.entries()) == [entry]


def test_the_entries_of_other_stacks_do_not_cost_a_question_for_the_backend(
    journal: Journal,
) -> None:
    """The last `up` of every stack leaves some, until the next command of that stack."""
    journal.write(replace(ENTRY, origin=replace(HERE, urn=URN.replace("::shop::", "::bank::"))))
    stacks = mock.Mock(FakeStacks)
    assert said(journal, stacks) == []
    assert stacks.mock_calls == []


def test_what_may_be_this_stacks_is_named(journal: Journal) -> None:
    """An entry whose backend is unknown may be this stack's, so it is named."""
    origin = replace(HERE, backend="")
    journal.write(replace(ENTRY, origin=origin, phase=Phase.CREATED, instance_id="made"))
    (reminder,) = said(journal, FakeStacks())
    assert "made" in reminder


def test_an_unreadable_entry_is_reported_and_hides_no_other(journal: Journal) -> None:
    """An unreadable entry may be any stack's, and hides no other."""
    journal.write(replace(ENTRY, phase=Phase.CREATED, instance_id="made"))
    (journal.folder / "0-damaged.json").write_text("{")
    damaged, reminder = said(journal, FakeStacks())
    assert "is damaged" in damaged
    assert "made" in reminder


def test_an_entry_that_a_create_overwrites_while_the_stack_is_asked_is_kept(
    journal: Journal,
) -> None:
    """An `up` may replace the machine in the second that `pulumi stack export` takes."""
    new = replace(ENTRY, phase=Phase.CREATED, instance_id="new")

    class SlowStacks(FakeStacks):
        def ids(self, origin: Origin) -> frozenset[str]:
            journal.write(new)
            return frozenset({"made"})

    journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made", seen=True))
    assert said(journal, SlowStacks()) == []
    assert list(journal.entries()) == [new]


def test_an_entry_whose_create_begins_while_the_stack_is_asked_is_kept(journal: Journal) -> None:
    """The create has read the entry, and decides about it."""
    begun = ExitStack()

    class SlowStacks(FakeStacks):
        def ids(self, origin: Origin) -> frozenset[str]:
            lock = Journal(journal.folder).try_lock(HERE)
            assert lock is not None
            begun.enter_context(lock)
            return frozenset({"made"})

    journal.write(replace(ENTRY, phase=Phase.REPORTED, instance_id="made", seen=True))
    with begun:
        assert said(journal, SlowStacks()) == []
    assert len(list(journal.entries())) == 1


# A create without an answer that another create has followed.


def review(world: World) -> list[str]:
    """The warnings of the next command."""
    world.restart()
    world.warnings.clear()
    world.machines.review(OF.urn, OF.organization)
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


@pytest.mark.parametrize("whose", ["own stack", "other stack", "pending"])
def test_a_late_machine_is_settled_once_it_is_known_whose_it_is(world: World, whose: str) -> None:
    """A late machine may be imported, or turn out to be another resource's."""
    late(world)
    made = world.machine()
    assert len(review(world)) == 1
    if whose == "own stack":
        assert world.stacks.in_state is not None
        world.stacks.in_state.add(made)
    if whose == "other stack":
        world.stacks.others = {"organization/shop/prod": {made}}
    if whose == "pending":
        world.earlier(
            Phase.CREATED, made, origin=replace(HERE, urn="urn:pulumi:x::y::z::a", backend="b")
        )
    assert review(world) == []
    assert found(world) == [()]
    world.clock.time += LATE_SECONDS + 1
    assert review(world) == []
    assert found(world) == []


def test_a_late_entry_is_not_dropped_because_of_one_stale_list(world: World) -> None:
    """Nothing else would know of the machine that is in the next list."""
    late(world)
    world.clock.time += LATE_SECONDS + 1
    made = world.machine()
    world.state.hide(made, "list", 0.1)
    (warning,) = review(world)
    assert made in warning
    assert found(world) == [(made,)]


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


@pytest.mark.parametrize("trouble", ["refused", "silent", "no key", "stack", "another account"])
def test_where_nobody_can_tell_about_a_late_machine_the_warning_says_so(
    world: World, trouble: str
) -> None:
    """The machine may run, so the entry stays, and what was found before is named."""
    made = world.machine()
    entry = late(world, found=(made,))
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
    assert "It is not known whether the earlier create made a machine as well" in warning
    assert made in warning
    assert world.clock.time - began < 10
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


def create(world: World) -> str:
    """The id of the machine that the present command makes for another resource of the stack."""
    with world.creates.launch(NewInstance(ONE, ED25519), OF) as instance:
        return instance.id


def listed_late(world: World, seconds: float = 5.0) -> str:
    """The id of a late machine that the look at the start of the command does not show."""
    late(world)
    made = world.machine()
    world.state.hide(made, "list", seconds)
    assert review(world) == []
    world.clock.time += seconds
    return made


def test_a_late_machine_is_named_before_the_post_if_only_the_list_before_it_shows_it(
    world: World,
) -> None:
    """Nobody else would say in this command that there are two."""
    made = listed_late(world)
    named: list[bool] = []

    def note(request: Request[Any]) -> None:
        if request.creates:
            named.append(any(made in warning for warning in world.warnings))

    world.api.before = note
    create(world)
    assert named == [True]
    world.machines.creates.records.succeed(OF)
    create(world)
    assert len(world.warnings) == 1


def test_a_late_machine_that_the_start_of_a_command_names_is_not_named_again(
    world: World,
) -> None:
    """A create reads the list again, and it still shows the machine."""
    late(world)
    made = world.machine()
    (warning,) = review(world)
    assert made in warning
    world.clock.time += 5.0
    create(world)
    assert world.warnings == [warning]


def test_a_late_machine_that_appears_while_a_create_waits_is_named_when_it_ends(
    world: World,
) -> None:
    """The lists are read for the wait, and show it all the same."""
    late(world)
    assert review(world) == []
    with world.creates.launch(NewInstance(ONE, ED25519), OF):
        made = world.machine()
        world.machines.facts.fleet.fresh()
        assert world.warnings == []
    (warning,) = world.warnings
    assert made in warning


def test_no_machine_of_another_create_in_flight_is_named_as_late(world: World) -> None:
    """Until its answer is on record, it looks like one. The last create to end names the rest."""
    made = listed_late(world)
    with world.creates.in_flight.counted(HERE.urn) as is_recorded:
        own = create(world)
        assert world.warnings == []
        is_recorded()
        world.machines.creates.records.succeed(OF)
        create(world)
    (warning,) = world.warnings
    assert made in warning
    assert own not in warning


def test_a_machine_of_this_command_is_not_named_as_late_although_it_is_not_on_record(
    world: World,
) -> None:
    """Where the disk is full, the command itself still knows what it has made."""
    late(world)
    assert review(world) == []
    with (
        mock.patch.object(Records, "write"),
        world.creates.launch(NewInstance(ONE, ED25519), OF) as instance,
    ):
        assert instance.id in world.machines.facts.fleet.fresh()
    assert world.warnings == []


def test_a_machine_that_this_command_has_deleted_is_not_named_as_late(world: World) -> None:
    """A replacement may delete the old machine first, which a list has shown before."""
    late(world)
    deleted = world.machine()
    assert world.stacks.in_state is not None
    world.stacks.in_state.add(deleted)
    assert review(world) == []
    world.stacks.in_state.remove(deleted)
    world.state.kill(deleted)
    world.creates.deleted_ids.add(deleted)
    create(world)
    assert world.warnings == []


@pytest.mark.parametrize("times", [1, 2])
def test_where_the_stack_can_not_be_read_a_create_says_once_that_a_machine_may_be_late(
    world: World, times: int
) -> None:
    """The machine may as well be in that state."""
    listed_late(world)
    world.stacks.in_state = None
    for _ in range(times):
        create(world)
        world.creates.records.succeed(OF)
    (warning,) = world.warnings
    assert "The stack of the resource can't be read" in warning
