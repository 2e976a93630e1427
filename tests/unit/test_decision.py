"""What to do about a create that an earlier process left unresolved: a row for each decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import (
    LATE_SECONDS,
    Facts,
    Resume,
    Search,
    StartFresh,
    Stop,
    as_late,
    candidates,
    decide,
    decide_renamed,
    made_at_another_time,
)
from pulumi_fal.machines.entry import GRACE_SECONDS, Entry, Phase
from pulumi_fal.stacks.origin import Origin

from ..fakes import ECDSA, ED25519, EIGHT, HERE, ONE, URN, refusal

NOW = 1_700_000_000.0
SPEC, COMMENTED = NewInstance(ONE, ED25519), NewInstance(ONE, f"{ED25519} me@laptop")
MADE = Instance("made", ONE, None, "198.18.0.1", "ready")
UNSEEN, BIG = Instance("made", ONE), replace(MADE, instance_type=EIGHT)
FOUND = Search((replace(MADE, id="found"),), {"organization/shop/prod": "it took too long"})
DENIED = refusal(403)
VAGUE, NOBODYS = replace(HERE, backend=""), replace(HERE, organization="")
OLD = replace(HERE, urn=URN.replace("dev", "old"))
UNANSWERED = Entry(HERE, "mine", SPEC.hashed(), (), NOW, problem="it was reset")
SEARCHED = replace(UNANSWERED, searched=True)
LATE = NOW + LATE_SECONDS + 1
CREATED = UNANSWERED.as_created("made")
REPORTED = replace(CREATED, phase=Phase.REPORTED)
ADOPTED = replace(CREATED, phase=Phase.ADOPTED)
THEIRS = replace(CREATED, account="theirs")


def in_(origin: Origin, entry: Entry) -> Entry:
    return replace(entry, origin=origin)


class Stops:
    """A Stop whose message has these words, and which names these machines."""

    def __init__(self, words: str, *candidates: str) -> None:
        self.words = words
        self.candidates = candidates

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Stop)
            and self.words in str(other.error)
            and self.candidates == other.error.candidates
        )

    def __repr__(self) -> str:
        return f"Stops({self.words!r}, {self.candidates})"


def facts(**found: Any) -> Facts:
    """What is known where nothing else is said: this stack, this account, and no machine."""
    return Facts(**{"origin": HERE, "requested": SPEC, "account": "mine", "now": NOW, **found})


def row(case: str, entry: Entry, expected: Resume | StartFresh | Stops | None, **found: Any) -> Any:
    return pytest.param(entry, facts(**found), expected, id=case)


WHOSE = Stops("it is not known whether it was made for this stack", "made")
CANT_ASK = Stops(
    "The API could not be asked whether it still runs and bills: GET /compute/instances", "made"
)
NO_LIST = Stops("The API could not be asked which machines exist: GET /compute/instances")
THEIR_KEY = "with the key of another account (theirs), and the key that is set now (account mine)"
NOT_OURS = Stops(THEIR_KEY, "made")
CANDIDATE = Stops("it was reset", "found")
UNREAD = Stops("organization/shop/prod: it took too long", "found")
KILLED = Stops("the process ended before the answer came", "found")
NOT_IN_STATE = Stops("it was reported to Pulumi, but it is not in state", "made")
SILENT = Stops("it was reported to Pulumi, but the stack can't be read", "made")
CHANGED = Stops("the resource's inputs have changed since", "made")
FRESH, FRESH_AND_LATE = StartFresh(), StartFresh(unresolved.late(SEARCHED, FOUND.candidates))
GONE, THEIRS_GONE = replace(CREATED, seen=True), replace(THEIRS, seen=True)
REKEYED = replace(ADOPTED, requested=NewInstance(ONE, "another"))
THEIRS_UNANSWERED = replace(UNANSWERED, account="theirs")


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        # Where it isn't certain that the entry is of this resource, the stack has to have it.
        row("this backend unknown", CREATED, WHOSE, origin=VAGUE, machine=MADE),
        row("this organization unknown", CREATED, WHOSE, origin=NOBODYS, machine=MADE),
        row("entry's backend unknown", in_(VAGUE, CREATED), WHOSE, machine=MADE),
        row("entry's organization unknown", in_(NOBODYS, CREATED), WHOSE, machine=MADE),
        row("both backends unknown", in_(VAGUE, CREATED), WHOSE, origin=VAGUE, machine=MADE),
        row("backend and machine unknown", UNANSWERED, Stops(WHOSE.words), origin=VAGUE),
        row("backend unknown, not in state", in_(VAGUE, CREATED), WHOSE, in_state=False),
        row("backend unknown, in state", in_(VAGUE, REPORTED), FRESH, in_state=True),
        row("unknown, no answer", in_(VAGUE, REPORTED), WHOSE, in_state=True, error=DENIED),
        # Where the API can't be asked, nothing is known to be safe.
        row("no answer about the machine", CREATED, CANT_ASK, error=DENIED),
        row("in state, no answer", CREATED, CANT_ASK, in_state=True, error=DENIED),
        row("no answer about candidates", UNANSWERED, NO_LIST, error=DENIED),
        # Where state has the machine, the create is for another one.
        row("in state", CREATED, FRESH, in_state=True, machine=MADE),
        row("in state and reported", REPORTED, FRESH, in_state=True, machine=MADE),
        row("in state and adopted", ADOPTED, FRESH, in_state=True, machine=MADE),
        row("in state, of another account", THEIRS, FRESH, in_state=True, is_own=False),
        # A create without an answer.
        row("nothing found", UNANSWERED, FRESH),
        row("found", UNANSWERED, CANDIDATE, search=FOUND),
        row("found, a stack unread", UNANSWERED, UNREAD, search=FOUND),
        row("found, process killed", replace(UNANSWERED, problem=""), KILLED, search=FOUND),
        row("found late", SEARCHED, FRESH_AND_LATE, search=FOUND, now=LATE),
        row("found, not yet late", SEARCHED, CANDIDATE, search=FOUND, now=LATE - 1),
        row("found at the first look", UNANSWERED, CANDIDATE, search=FOUND, now=LATE),
        row("unanswered to another account", THEIRS_UNANSWERED, Stops(THEIR_KEY), is_own=False),
        # The API doesn't show the machine.
        row("not shown to this account", THEIRS_GONE, NOT_OURS, is_own=False),
        row("new, not shown to this account", THEIRS, NOT_OURS, is_own=False),
        row("gone", GONE, FRESH),
        row("gone after Pulumi was told", replace(REPORTED, seen=True), FRESH),
        row("never shown in time", CREATED, FRESH, now=NOW + GRACE_SECONDS),
        row("not shown yet", CREATED, Resume(UNSEEN), now=NOW + GRACE_SECONDS - 1),
        row("reported and not shown yet", REPORTED, NOT_IN_STATE, in_state=False),
        # The API shows the machine.
        row("there", CREATED, Resume(MADE), in_state=False, machine=MADE),
        row("there, stack silent", CREATED, Resume(MADE), machine=MADE),
        row("adopted and there", ADOPTED, Resume(MADE), machine=MADE),
        row("reported and there", REPORTED, NOT_IN_STATE, in_state=False, machine=MADE),
        row("reported and there, stack silent", REPORTED, SILENT, machine=MADE),
        row("type changed", CREATED, CHANGED, requested=NewInstance(EIGHT, ED25519), machine=MADE),
        row("key changed", CREATED, CHANGED, requested=NewInstance(ONE, ECDSA), machine=MADE),
        row("sector changed", CREATED, CHANGED, requested=replace(SPEC, sector="x"), machine=MADE),
        row("comment changed", CREATED, Resume(MADE), requested=COMMENTED, machine=MADE),
        row("nothing known to be requested", CREATED, Resume(BIG), requested=None, machine=BIG),
        row("machine of another type", CREATED, CHANGED, machine=BIG),
        row("adopted with another key", REKEYED, Resume(MADE), machine=MADE),
        row("adopted and of another type", ADOPTED, CHANGED, machine=BIG),
    ],
)
def test_a_create_resumes_starts_fresh_or_stops(
    entry: Entry, known: Facts, expected: object
) -> None:
    """An entry and what is known about it lead to exactly one decision."""
    assert expected == decide(entry, known)


ADOPT = Stops(f"pending adopt {OLD.urn} made --for {URN}", "made")


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        row("in state", REPORTED, FRESH, in_state=True),
        row("in state, no answer", REPORTED, FRESH, in_state=True, error=DENIED),
        row("no answer", CREATED, CANT_ASK, error=DENIED),
        row("there", CREATED, ADOPT, machine=MADE),
        row("reported and there", REPORTED, ADOPT, machine=MADE),
        row("adopted and there", ADOPTED, ADOPT, machine=MADE),
        row("not shown yet", CREATED, ADOPT),
        row("gone", GONE, None),
        row("not shown to this account", THEIRS_GONE, ADOPT, is_own=False),
        row("candidate found", UNANSWERED, Stops("pending adopt", "found"), search=FOUND),
        row("nothing found", UNANSWERED, None),
        row("unanswered to another account", THEIRS_UNANSWERED, Stops(THEIR_KEY), is_own=False),
    ],
)
def test_a_create_of_a_renamed_stack_stops_as_long_as_it_may_have_left_a_machine(
    entry: Entry, known: Facts, expected: object
) -> None:
    """The record is under the stack's old name, so a second machine would be made unnoticed."""
    assert expected == decide_renamed(in_(OLD, entry), known, is_gone=True)


@pytest.mark.parametrize(
    "is_gone, words",
    [(True, "which no longer exists: it was"), (False, "which may have been renamed.")],
)
def test_the_message_says_whether_the_stack_is_known_to_be_gone(is_gone: bool, words: str) -> None:
    """A stack that merely can't be asked may still be there, and may have the machine."""
    decision = decide_renamed(in_(OLD, CREATED), facts(machine=MADE), is_gone=is_gone)
    assert Stops(words, "made") == decision


def in_sector(sector: str) -> dict[str, Any]:
    """What differs in the entry of a create that requested a sector."""
    return {"requested": replace(SPEC.hashed(), sector=sector)}


@pytest.mark.parametrize(
    "entry, instance, is_one",
    [
        pytest.param({}, {}, True, id="the requested type"),
        pytest.param({}, {"instance_type": EIGHT}, False, id="another type"),
        pytest.param({}, {"id": "known"}, False, id="known to be another's"),
        pytest.param({"before": ("made",)}, {}, False, id="there before the POST"),
        pytest.param(in_sector("sector_1"), {"sector": "sector_1"}, True, id="requested sector"),
        pytest.param(in_sector("sector_2"), {"sector": "sector_1"}, False, id="another sector"),
        pytest.param(in_sector("sector_2"), {}, True, id="too new to have a sector"),
        pytest.param({}, {"sector": "sector_1"}, True, id="no sector was requested"),
    ],
)
def test_a_candidate_is_what_the_post_may_have_made(
    entry: dict[str, Any], instance: dict[str, Any], is_one: bool
) -> None:
    """A machine that surely comes from elsewhere must not stop a create."""
    machine = replace(MADE, **instance)
    found = candidates(replace(UNANSWERED, **entry), [machine], known={"known"})
    assert found == ([machine] if is_one else [])


SENT = replace(UNANSWERED, before=("old",), first_sent=NOW - 60)
"""A create that was sent for a minute, and ended without an answer."""


def listed(after: float, *ids: str, **others: Any) -> Entry:
    """Another create, whose list of machines was taken so many seconds after SENT had ended."""
    return replace(SENT, before=ids, first_sent=NOW + after, started=NOW + after, **others)


ONE_LATE, TWO_LATE = LATE_SECONDS + 1, 2 * LATE_SECONDS + 2


@pytest.mark.parametrize(
    "others, is_known",
    [
        pytest.param([], False, id="nothing else is known"),
        pytest.param([listed(-90, "made", instance_id="old")], True, id="there with an older one"),
        pytest.param(
            [listed(-90, "made", instance_id="new")], False, id="which is not an older one"
        ),
        pytest.param([listed(-90, "made")], False, id="there before, by the clock alone"),
        pytest.param([listed(ONE_LATE), listed(TWO_LATE)], True, id="absent twice, long after"),
        pytest.param([listed(ONE_LATE)], False, id="absent once"),
        pytest.param([listed(60), listed(ONE_LATE)], False, id="absent once soon after"),
        pytest.param([listed(ONE_LATE), listed(ONE_LATE + 1)], False, id="absent at one time"),
        pytest.param([listed(ONE_LATE), listed(TWO_LATE, "made")], False, id="appeared between"),
        pytest.param(
            [listed(ONE_LATE, account="theirs"), listed(TWO_LATE)], False, id="another account"
        ),
        pytest.param(
            [listed(ONE_LATE, endpoint="there"), listed(TWO_LATE)], False, id="another endpoint"
        ),
        pytest.param(
            [replace(listed(seconds), first_sent=0.0) for seconds in (ONE_LATE, TWO_LATE)],
            False,
            id="lists of early versions, whose time is not known",
        ),
    ],
)
def test_a_machine_was_made_at_another_time_if_lists_of_other_creates_prove_it(
    others: list[Entry], is_known: bool
) -> None:
    """Neither one stale list nor one clock that was set may hide the machine of a create."""
    assert made_at_another_time(SENT, "made", [SENT, *others]) is is_known
    assert candidates(SENT, [MADE], (), [SENT, *others]) == ([] if is_known else [MADE])


def test_the_machine_of_a_killed_process_may_be_made_at_any_time() -> None:
    """Nobody saw when its last attempt ended."""
    lists = [listed(ONE_LATE), listed(TWO_LATE)]
    assert not made_at_another_time(replace(SENT, problem=""), "made", lists)


@pytest.mark.parametrize(
    "found, now, ids",
    [
        pytest.param((), NOW, (), id="it may still appear"),
        pytest.param((), LATE, None, id="it has not appeared in time"),
        pytest.param((MADE,), NOW, ("made",), id="found"),
        pytest.param((MADE,), LATE, ("made",), id="found late"),
    ],
)
def test_a_create_without_an_answer_stays_on_record_while_its_machine_may_be_there(
    found: tuple[Instance, ...], now: float, ids: tuple[str, ...] | None
) -> None:
    """What may exist is named, and what has not appeared for long does not exist."""
    kept = as_late(UNANSWERED, found, now)
    expected = None if ids is None else replace(UNANSWERED, phase=Phase.LATE, found=ids)
    assert kept == expected
