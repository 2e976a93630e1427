"""What a command says first of machines that may exist outside state, and what it drops."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.machines import Machines
from pulumi_fal.stack import Origin, StackMachine

from ..fakes import HERE, ONE, URN, FakeStacks

OF = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
ENTRY = Entry(HERE, "account", ONE, "f00d", None, ("old",), 1_700_000_000.0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


def said(journal: Journal, stacks: FakeStacks) -> list[str]:
    """The warnings of a process that has just heard of a resource of the stack."""
    warnings: list[str] = []
    machines = Machines(journal, stacks, mock.Mock(), warnings.append)
    for _ in range(2):  # the second resource of a process brings no second review
        machines.review(OF.urn, OF.organization)
    return warnings


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
    """Its entry was read before the answer came, and by now names the machine."""
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
