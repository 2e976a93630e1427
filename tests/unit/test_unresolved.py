"""What a command says first of machines that may exist outside of state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import ADOPTED, ASKED, RETURNED, WAITING, Entry, Journal
from pulumi_fal.stack import Origin

URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::{}"
HERE = Origin(URN.format("web"), "organization", "file:///here")
OF = replace(HERE, urn=URN.format("another of the stack"))
ENTRY = Entry(HERE, "account", "gpu_1x_h100_sxm5", "f00d", None, ("old",), 1_700_000_000.0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home" / "fal-compute" / "creates")


class Stacks:
    """What `pulumi stack export` says, and who asked."""

    def __init__(self, *ids: str, answers: bool = True) -> None:
        self.ids = frozenset(ids) if answers else None
        self.asked: list[Origin] = []

    def __call__(self, origin: Origin) -> frozenset[str] | None:
        self.asked.append(origin)
        return self.ids


def said(journal: Journal, stacks: Callable[[Origin], frozenset[str] | None]) -> list[str]:
    return list(unresolved.review(journal, OF, stacks))


@pytest.mark.parametrize("answers", [True, False])
def test_a_machine_outside_of_state_is_named_and_what_each_command_does_with_it(
    journal: Journal, answers: bool
) -> None:
    """For every phase that says so, even if the stack doesn't."""
    stacks = Stacks(answers=answers)
    for number, phase in enumerate((WAITING, ADOPTED)):
        origin = replace(HERE, urn=URN.format(number))
        journal.write(replace(ENTRY, origin=origin, phase=phase, instance_id=f"machine-{number}"))
    reminders = sorted(said(journal, stacks))
    assert [f"Machine machine-{n} (gpu_1x_h100_sxm5)" in each for n, each in enumerate(reminders)]
    for number, reminder in enumerate(reminders):
        assert f"machine-{number}" in reminder
        assert f"resource '{number}'" in reminder
        assert "`pulumi up` goes on with it" in reminder
        assert "`pulumi destroy` does not delete it" in reminder
    assert len(reminders) == 2


def test_a_create_without_an_answer_is_named(journal: Journal) -> None:
    """Its machine has no name as yet."""
    journal.write(ENTRY)
    (reminder,) = said(journal, Stacks())
    assert "resource 'web' ended without an answer" in reminder
    assert "`pulumi up` looks for it" in reminder


@pytest.mark.parametrize("phase", [RETURNED, WAITING])
@pytest.mark.parametrize("seen", [True, False])
def test_what_state_has_is_settled_without_a_word_once_it_was_seen(
    journal: Journal, phase: str, seen: bool
) -> None:
    """Nobody is bothered; but what the API has never shown may still be lost from state.

    It need not have come there from its create: a person may have imported it.
    """
    journal.write(replace(ENTRY, phase=phase, instance_id="made", seen=seen))
    assert said(journal, Stacks("made", "others")) == []
    assert len(list(journal.entries())) == (0 if seen else 1)


@pytest.mark.parametrize("phase", [ASKED, WAITING, RETURNED])
def test_a_create_that_is_under_way_is_passed_by(journal: Journal, phase: str) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    journal.write(replace(ENTRY, phase=phase, instance_id=None if phase == ASKED else "made"))
    lock = journal.try_lock(HERE)
    assert lock is not None
    with lock:
        assert said(journal, Stacks()) == []
    assert len(said(journal, Stacks())) == 1


def test_what_state_lacks_is_named_and_kept(journal: Journal) -> None:
    """It was returned, and nobody took it."""
    journal.write(replace(ENTRY, phase=RETURNED, instance_id="made"))
    (reminder,) = said(journal, Stacks("others"))
    assert "made" in reminder
    assert len(list(journal.entries())) == 1


def test_without_an_answer_of_the_stack_the_entry_is_kept_in_silence(journal: Journal) -> None:
    """Most likely all is well, and every command would say otherwise."""
    journal.write(replace(ENTRY, phase=RETURNED, instance_id="made"))
    assert said(journal, Stacks(answers=False)) == []
    assert len(list(journal.entries())) == 1


def test_a_stack_is_asked_once_for_all(journal: Journal) -> None:
    """It takes a command each time."""
    for name in ("a", "b", "c"):
        origin = replace(HERE, urn=URN.format(name))
        journal.write(replace(ENTRY, origin=origin, phase=RETURNED, instance_id=name, seen=True))
    stacks = Stacks("a", "b", "c")
    assert said(journal, stacks) == []
    assert stacks.asked == [OF]
    assert list(journal.entries()) == []


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, backend="file:///there"),
        replace(HERE, organization="another"),
        replace(HERE, urn=HERE.urn.replace("dev", "prod")),
        replace(HERE, urn=HERE.urn.replace("shop", "bank")),
    ],
)
@pytest.mark.parametrize("phase", [ASKED, WAITING, RETURNED])
def test_another_stacks_entries_are_left_alone(journal: Journal, other: Origin, phase: str) -> None:
    """Neither named, nor settled by what this stack has."""
    entry = replace(ENTRY, origin=other, phase=phase, instance_id="made")
    journal.write(entry)
    assert said(journal, Stacks("made")) == []
    assert list(journal.entries()) == [entry]


def test_what_may_be_this_stacks_is_named(journal: Journal) -> None:
    """Its backend is not known."""
    origin = replace(HERE, backend="")
    journal.write(replace(ENTRY, origin=origin, phase=WAITING, instance_id="made"))
    (reminder,) = said(journal, Stacks())
    assert "made" in reminder


def test_an_unreadable_entry_is_reported_and_hides_no_other(journal: Journal) -> None:
    """Whatever its stack: that can't be read either."""
    journal.write(replace(ENTRY, phase=WAITING, instance_id="made"))
    (journal.folder / "0-damaged.json").write_text("{")
    damaged, reminder = said(journal, Stacks())
    assert "is damaged" in damaged
    assert "made" in reminder


def test_commands_can_be_copied_into_a_shell() -> None:
    """A URN may hold quotes and dollar signs."""
    nested = replace(HERE, urn="urn:pulumi:dev::shop::my:It's$fal:ComputeInstance::web")
    entry = replace(ENTRY, origin=nested, phase=RETURNED, instance_id="made")
    quoted = """'urn:pulumi:dev::shop::my:It'"'"'s$fal:ComputeInstance::web'"""
    found = Instance("made", "gpu_1x_h100_sxm5", None, "198.18.0.1", "ready")
    for error in (unresolved.stopped(entry, "why"), unresolved.unanswered(entry, [found])):
        assert f"pending adopt {quoted}" in str(error)
        assert f"pending forget {quoted}" in str(error)


def test_a_candidate_is_shown_as_far_as_it_is_known() -> None:
    """So that a person can tell which one it is."""
    known = Instance("one", "gpu_1x_h100_sxm5", None, "198.18.0.1", "ready")
    new = Instance("two", "gpu_1x_h100_sxm5", None, None, "pending")
    error = unresolved.unanswered(ENTRY, [known, new])
    assert error.candidates == ("one", "two")
    assert "  one (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in str(error)
    assert "  two (gpu_1x_h100_sxm5, pending, no ip)\n" in str(error)


def test_a_stop_without_a_machine_claims_none() -> None:
    """The create may have made one."""
    error = unresolved.stopped(ENTRY, "it can't be told")
    assert error.candidates == ()
    assert "ended without an answer" in str(error)
    assert "adopt" in str(error)


def test_an_interruption_reads_as_a_sentence() -> None:
    """Its own text is one word."""
    assert "can't be told: interrupted. Run" in str(unresolved.unseen(ENTRY, Interrupted()))
    unseen = unresolved.unseen(replace(ENTRY, instance_id="made"), Interrupted())
    assert "can't be told: interrupted. Run" in str(unseen)
    assert unseen.candidates == ("made",)
