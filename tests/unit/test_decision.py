"""What to do about a create that an earlier process left unresolved: a row for each decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.decision import (
    LATE_SECONDS,
    Facts,
    Resume,
    Search,
    StartFresh,
    Stop,
    candidates,
    decide,
    decide_renamed,
)
from pulumi_fal.machines.entry import GRACE_SECONDS, Entry, Phase, Spec
from pulumi_fal.stack import Origin

from ..fakes import ECDSA, ED25519, EIGHT, HERE, ONE, URN, refusal

NOW = 1_700_000_000.0
SPEC = Spec(ONE, ED25519)
MADE = Instance("made", ONE, None, "198.18.0.1", "ready")
UNSEEN, BIG = Instance("made", ONE), replace(MADE, instance_type=EIGHT)
FOUND = Search((replace(MADE, id="found"),), {"organization/shop/prod": "it took too long"})
DENIED = refusal(403)
VAGUE, NOBODYS = replace(HERE, backend=""), replace(HERE, organization="")
OLD = replace(HERE, urn=URN.replace("dev", "old"))
UNANSWERED = Entry(HERE, "mine", ONE, SPEC.fingerprint, None, (), NOW, problem="it was reset")
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
    return Facts(**{"origin": HERE, "spec": SPEC, "account": "mine", "now": NOW, **found})


def row(case: str, entry: Entry, expected: Resume | StartFresh | Stops | None, **found: Any) -> Any:
    return pytest.param(entry, facts(**found), expected, id=case)


WHOSE = "it can't be told whether that was in this stack"
CANT_SAY = "Whether it still runs and bills can't be told: GET /compute/instances answered 403"
OTHER_KEY = "with the key of another account (theirs) than is set now (mine)"
TOLD = "although Pulumi was told of it"
CHANGED = "the resource's inputs have changed since"


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        # Where it isn't certain that the entry is of this resource, the stack has to have it.
        row("this backend unknown", CREATED, Stops(WHOSE, "made"), origin=VAGUE, machine=MADE),
        row("this organization unknown", CREATED, Stops(WHOSE, "made"), origin=NOBODYS),
        row("entry's backend unknown", in_(VAGUE, CREATED), Stops(WHOSE, "made"), machine=MADE),
        row("entry's organization unknown", in_(NOBODYS, CREATED), Stops(WHOSE, "made")),
        row("both backends unknown", in_(VAGUE, CREATED), Stops(WHOSE, "made"), origin=VAGUE),
        row("backend and machine unknown", UNANSWERED, Stops(WHOSE), origin=VAGUE),
        row(
            "backend unknown, not in state",
            in_(VAGUE, CREATED),
            Stops(WHOSE, "made"),
            in_state=False,
        ),
        row("backend unknown, in state", in_(VAGUE, REPORTED), StartFresh(), in_state=True),
        row(
            "backend unknown, in state, no answer",
            in_(VAGUE, REPORTED),
            Stops(WHOSE, "made"),
            in_state=True,
            error=DENIED,
        ),
        # Where the API can't be asked, nothing is known to be safe.
        row("no answer about the machine", CREATED, Stops(CANT_SAY, "made"), error=DENIED),
        row(
            "no answer about machine in state",
            CREATED,
            Stops(CANT_SAY, "made"),
            in_state=True,
            error=DENIED,
        ),
        row(
            "no answer about candidates",
            UNANSWERED,
            Stops("Which machines there are now can't be told: GET"),
            error=DENIED,
        ),
        row(
            "interrupted", UNANSWERED, Stops("can't be told: interrupted. Run"), error=Interrupted()
        ),
        # Where state has the machine, the create is for another one.
        row("in state", CREATED, StartFresh(), in_state=True, machine=MADE),
        row("in state and reported", REPORTED, StartFresh(), in_state=True, machine=MADE),
        row("in state and adopted", ADOPTED, StartFresh(), in_state=True, machine=MADE),
        row("in state, of another account", THEIRS, StartFresh(), in_state=True, is_own=False),
        # A create without an answer.
        row("nothing found", UNANSWERED, StartFresh()),
        row("candidate found", UNANSWERED, Stops("it was reset", "found"), search=FOUND),
        row(
            "candidate found, stack unread",
            UNANSWERED,
            Stops("organization/shop/prod: it took too long", "found"),
            search=FOUND,
        ),
        row(
            "candidate found, process killed",
            replace(UNANSWERED, problem=""),
            Stops("the process ended before the answer came", "found"),
            search=FOUND,
        ),
        row(
            "candidate late",
            SEARCHED,
            StartFresh(unresolved.late(SEARCHED, FOUND.candidates)),
            search=FOUND,
            now=LATE,
        ),
        row(
            "candidate not yet late",
            SEARCHED,
            Stops("it was reset", "found"),
            search=FOUND,
            now=LATE - 1,
        ),
        row(
            "candidate never looked for before",
            UNANSWERED,
            Stops("it was reset", "found"),
            search=FOUND,
            now=LATE,
        ),
        row(
            "unanswered by another account",
            replace(UNANSWERED, account="theirs"),
            Stops(OTHER_KEY),
            is_own=False,
        ),
        # The API doesn't show the machine.
        row(
            "not shown to this account",
            replace(THEIRS, seen=True),
            Stops(OTHER_KEY, "made"),
            is_own=False,
        ),
        row("new, not shown to this account", THEIRS, Stops(OTHER_KEY, "made"), is_own=False),
        row("gone", replace(CREATED, seen=True), StartFresh()),
        row("gone after Pulumi was told", replace(REPORTED, seen=True), StartFresh()),
        row("never shown in time", CREATED, StartFresh(), now=NOW + GRACE_SECONDS),
        row("not shown yet", CREATED, Resume(UNSEEN), now=NOW + GRACE_SECONDS - 1),
        row(
            "reported and not shown yet",
            REPORTED,
            Stops(f"it is not in state, {TOLD}", "made"),
            in_state=False,
        ),
        # The API shows the machine.
        row("there", CREATED, Resume(MADE), in_state=False, machine=MADE),
        row("there, stack silent", CREATED, Resume(MADE), machine=MADE),
        row("adopted and there", ADOPTED, Resume(MADE), machine=MADE),
        row(
            "reported and there",
            REPORTED,
            Stops(f"it is not in state, {TOLD}", "made"),
            in_state=False,
            machine=MADE,
        ),
        row(
            "reported and there, stack silent",
            REPORTED,
            Stops(f"the stack could not be asked, {TOLD}", "made"),
            machine=MADE,
        ),
        row(
            "another type requested",
            CREATED,
            Stops(CHANGED, "made"),
            spec=Spec(EIGHT, ED25519),
            machine=MADE,
        ),
        row(
            "another key requested",
            CREATED,
            Stops(CHANGED, "made"),
            spec=Spec(ONE, ECDSA),
            machine=MADE,
        ),
        row(
            "another sector requested",
            CREATED,
            Stops(CHANGED, "made"),
            spec=Spec(ONE, ED25519, "sector_1"),
            machine=MADE,
        ),
        row(
            "another comment requested",
            CREATED,
            Resume(MADE),
            spec=Spec(ONE, f"{ED25519} me@laptop"),
            machine=MADE,
        ),
        row("nothing known to be requested", CREATED, Resume(BIG), spec=None, machine=BIG),
        row("machine of another type", CREATED, Stops(CHANGED, "made"), machine=BIG),
        row(
            "adopted with another key",
            replace(ADOPTED, ssh_key="another"),
            Resume(MADE),
            machine=MADE,
        ),
        row("adopted and of another type", ADOPTED, Stops(CHANGED, "made"), machine=BIG),
    ],
)
def test_a_create_resumes_starts_fresh_or_stops(
    entry: Entry, known: Facts, expected: object
) -> None:
    """An entry and what is known about it lead to exactly one decision."""
    assert expected == decide(entry, known)


ADOPT = f"pending adopt {OLD.urn} made --for {URN}`"


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        row("in state", REPORTED, StartFresh(), in_state=True),
        row("in state, no answer", REPORTED, StartFresh(), in_state=True, error=DENIED),
        row("no answer", CREATED, Stops(CANT_SAY, "made"), error=DENIED),
        row("there", CREATED, Stops(ADOPT, "made"), machine=MADE),
        row("reported and there", REPORTED, Stops(ADOPT, "made"), machine=MADE),
        row("adopted and there", ADOPTED, Stops(ADOPT, "made"), machine=MADE),
        row("not shown yet", CREATED, Stops(ADOPT, "made")),
        row("gone", replace(CREATED, seen=True), None),
        row(
            "not shown to this account",
            replace(THEIRS, seen=True),
            Stops(ADOPT, "made"),
            is_own=False,
        ),
        row("candidate found", UNANSWERED, Stops("pending adopt", "found"), search=FOUND),
        row("nothing found", UNANSWERED, None),
        row(
            "unanswered by another account",
            replace(UNANSWERED, account="theirs"),
            Stops(OTHER_KEY),
            is_own=False,
        ),
    ],
)
def test_a_create_of_a_renamed_stack_stops_as_long_as_it_may_have_left_a_machine(
    entry: Entry, known: Facts, expected: object
) -> None:
    """The record is under the stack's old name, so a second machine would be made unnoticed."""
    assert expected == decide_renamed(in_(OLD, entry), known, is_gone=True)


@pytest.mark.parametrize(
    "is_gone, words", [(True, "which is no more: it was"), (False, "which may have been renamed.")]
)
def test_the_message_says_whether_the_stack_is_known_to_be_gone(is_gone: bool, words: str) -> None:
    """A stack that merely can't be asked may still be there, and may have the machine."""
    decision = decide_renamed(in_(OLD, CREATED), facts(machine=MADE), is_gone=is_gone)
    assert Stops(words, "made") == decision


@pytest.mark.parametrize(
    "entry, instance, is_one",
    [
        pytest.param({}, {}, True, id="the requested type"),
        pytest.param({}, {"instance_type": EIGHT}, False, id="another type"),
        pytest.param({}, {"id": "known"}, False, id="known to be another's"),
        pytest.param({"before": ("made",)}, {}, False, id="there before the POST"),
        pytest.param({"sector": "sector_1"}, {"sector": "sector_1"}, True, id="requested sector"),
        pytest.param({"sector": "sector_2"}, {"sector": "sector_1"}, False, id="another sector"),
        pytest.param({"sector": "sector_2"}, {}, True, id="too new to have a sector"),
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
