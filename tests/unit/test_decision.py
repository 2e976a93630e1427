"""What to do about a create that was left unresolved: a row for each decision, and its message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import LATE_SECONDS, Entry, Phase
from pulumi_fal.machines.unresolved import (
    Ask,
    Facts,
    Resume,
    Search,
    SendAgain,
    StartFresh,
    Stop,
    decide,
)
from pulumi_fal.machines.whose import Same, candidates

from ..fakes import ECDSA, ED25519, EIGHT, HERE, ONE, URN, refusal

NOW = 1_700_000_000.0
PROD = "organization/shop/prod"
SPEC, COMMENTED = NewInstance(ONE, ED25519), NewInstance(ONE, f"{ED25519} me@laptop")
MADE = Instance("made", ONE, None, "198.18.0.1", "ready")
UNSEEN, BIG = Instance("made", ONE), replace(MADE, instance_type=EIGHT)
FOUND = Search((replace(MADE, id="found"),), {PROD: "it took too long"})
DENIED = refusal(403)
OLD = replace(HERE, urn=URN.replace("dev", "old"))
UNANSWERED = Entry(HERE, "mine", SPEC.hashed(), (), NOW, problem="it was reset")
SEARCHED = replace(UNANSWERED, searched=True)
LATE = NOW + LATE_SECONDS + 1
CREATED = UNANSWERED.as_created("made")
REPORTED = replace(CREATED, phase=Phase.REPORTED)
ADOPTED = replace(CREATED, phase=Phase.ADOPTED)
THEIRS = replace(CREATED, account="theirs")


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


def row(case: str, entry: Entry, expected: object, **found: Any) -> Any:
    return pytest.param(entry, facts(**found), expected, id=case)


UNSURE = Stops("it is not known whether that is this stack", "made")
ANY = Stops("It may be any of these:\n  found (", "found")
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
TAKEN = Stops(f"it is in the state of {PROD}", "made")
MEANWHILE = Stops("Another `pulumi up` of this stack has just made made", "made")
CHANGED = Stops("the resource's inputs have changed since", "made")
FRESH, FRESH_AND_LATE = (
    StartFresh(),
    StartFresh(unresolved.late_warning(SEARCHED, FOUND)),
)
BACK = CREATED.as_gone(NOW)
OF_2, IN_2 = replace(SPEC, sector="sector_2"), replace(MADE, sector="sector_2")
GONE, THEIRS_GONE = replace(CREATED, seen=True), replace(THEIRS, seen=True)
LOST = replace(UNANSWERED, phase=Phase.LATE, found=("made",))
REKEYED = replace(ADOPTED, requested=NewInstance(ONE, "another"))
THEIRS_UNANSWERED = replace(UNANSWERED, account="theirs")
KEYED = replace(UNANSWERED, idempotency_key="key", first_sent=NOW)
THEIR_POST = Stops(THEIR_KEY)
ALL, SEARCH = frozenset(Ask), frozenset({Ask.SEARCH})


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        # Where the API can't be asked, nothing is known to be safe.
        row("no answer about the machine", CREATED, CANT_ASK, error=DENIED),
        row("in state, no answer", CREATED, CANT_ASK, in_state=True, error=DENIED),
        row("no answer about candidates", UNANSWERED, NO_LIST, error=DENIED),
        # Where state has the machine, the create is for another one.
        row("in state", CREATED, FRESH, in_state=True, instance=MADE),
        row("in state and reported", REPORTED, FRESH, in_state=True, instance=MADE),
        row("in state and adopted", ADOPTED, FRESH, in_state=True, instance=MADE),
        row("in state, of another account", THEIRS, FRESH, in_state=True, is_own=False),
        # Unless another process has put it there, of which the engine does not know.
        row(
            "in state meanwhile",
            CREATED,
            MEANWHILE,
            in_state=True,
            instance=MADE,
            is_replacement=False,
        ),
        row("reported meanwhile", REPORTED, MEANWHILE, in_state=True, is_replacement=False),
        row("gone in its refresh", BACK, FRESH, in_state=True, is_replacement=False),
        # What takes long is asked only where the decision needs it.
        row("not asked", CREATED, Ask.INSTANCE, unasked=ALL),
        row("in state, not asked", CREATED, FRESH, in_state=True, unasked=ALL),
        row("key still kept, not asked", KEYED, SendAgain(), unasked=ALL),
        row("not searched", UNANSWERED, Ask.SEARCH, unasked=SEARCH),
        row("shown, not searched", CREATED, Resume(MADE), instance=MADE, unasked=SEARCH),
        row("not to be searched", THEIRS_UNANSWERED, THEIR_POST, is_own=False, unasked=SEARCH),
        # A create without an answer.
        row("nothing found", UNANSWERED, FRESH),
        row("found", UNANSWERED, CANDIDATE, search=FOUND),
        row("found, a stack unread", UNANSWERED, UNREAD, search=FOUND),
        row("found, process killed", replace(UNANSWERED, problem=""), KILLED, search=FOUND),
        row("found late", SEARCHED, FRESH_AND_LATE, search=FOUND, now=LATE),
        row("found, not yet late", SEARCHED, CANDIDATE, search=FOUND, now=LATE - 1),
        row("found at the first look", UNANSWERED, CANDIDATE, search=FOUND, now=LATE),
        row("unanswered to another account", THEIRS_UNANSWERED, THEIR_POST, is_own=False),
        # The API doesn't show the machine.
        row("not shown to this account", THEIRS_GONE, NOT_OURS, is_own=False),
        row("new, not shown to this account", THEIRS, NOT_OURS, is_own=False),
        row("gone", GONE, FRESH),
        row("gone after Pulumi was told", replace(REPORTED, seen=True), FRESH),
        row("never shown", CREATED, Resume(UNSEEN), now=NOW + 86_400),
        row("reported and never shown", REPORTED, NOT_IN_STATE, in_state=False),
        # It was gone.
        row("still gone", BACK, FRESH),
        row("still gone, in state", BACK, FRESH, in_state=True),
        row("gone in another account", replace(BACK, account="theirs"), FRESH, is_own=False),
        row("back", BACK, Resume(MADE), instance=MADE),
        row("back, in another stack", BACK, TAKEN, instance=MADE, holder=PROD),
        row("back in its sector", BACK, Resume(IN_2), requested=OF_2, instance=IN_2),
        row(
            "back in a sector", replace(BACK, requested=OF_2.hashed()), Resume(IN_2), instance=IN_2
        ),
        row("back in another sector", BACK, CHANGED, requested=OF_2, instance=MADE),
        row("back, key changed", BACK, CHANGED, requested=NewInstance(ONE, ECDSA), instance=MADE),
        row("back, of another type", BACK, CHANGED, instance=BIG),
        # The API shows the machine.
        row("there", CREATED, Resume(MADE), in_state=False, instance=MADE),
        row("there, stack silent", CREATED, Resume(MADE), instance=MADE),
        row("adopted and there", ADOPTED, Resume(MADE), instance=MADE),
        row("reported and there", REPORTED, NOT_IN_STATE, in_state=False, instance=MADE),
        row("reported and there, stack silent", REPORTED, SILENT, instance=MADE),
        row("there, and in another stack", CREATED, TAKEN, instance=MADE, holder=PROD),
        row("type changed", CREATED, CHANGED, requested=NewInstance(EIGHT, ED25519), instance=MADE),
        row("key changed", CREATED, CHANGED, requested=NewInstance(ONE, ECDSA), instance=MADE),
        row("sector changed", CREATED, CHANGED, requested=replace(SPEC, sector="x"), instance=MADE),
        row("comment changed", CREATED, Resume(MADE), requested=COMMENTED, instance=MADE),
        row("nothing known to be requested", CREATED, Resume(BIG), requested=None, instance=BIG),
        row("machine of another type", CREATED, CHANGED, instance=BIG),
        row("adopted with another key", REKEYED, Resume(MADE), instance=MADE),
        row("adopted and of another type", ADOPTED, CHANGED, instance=BIG),
    ],
)
def test_decide(entry: Entry, known: Facts, expected: object) -> None:
    """An entry and what is known about it lead to exactly one decision."""
    assert expected == decide(entry, known)


@pytest.mark.parametrize(
    "entry, known, expected",
    [
        row("there", CREATED, UNSURE, instance=MADE),
        row(
            "there, stacks unread",
            CREATED,
            Stops(f"  {PROD}: no access", "made"),
            instance=MADE,
            unread={PROD: "no access"},
        ),
        row("reported and there", REPORTED, UNSURE, instance=MADE),
        row("adopted and there", ADOPTED, UNSURE, instance=MADE),
        row("never shown", CREATED, UNSURE, now=NOW + 86_400),
        row("gone, and back", BACK, UNSURE, instance=MADE),
        row("still gone", BACK, FRESH),
        row("gone", GONE, FRESH),
        row("not shown to this account", THEIRS_GONE, NOT_OURS, is_own=False),
        row("candidate found", UNANSWERED, ANY, search=FOUND),
        row("nothing found", UNANSWERED, FRESH),
        row("nothing found, key still kept", KEYED, FRESH),
        row("unanswered to another account", THEIRS_UNANSWERED, THEIR_POST, is_own=False),
        row("in state", REPORTED, FRESH, in_state=True),
        row("in another stack", CREATED, FRESH, instance=MADE, holder=PROD),
        row("no answer", CREATED, CANT_ASK, error=DENIED),
    ],
)
def test_uncertain(entry: Entry, known: Facts, expected: object) -> None:
    """A second machine must not be made, and the other stack's not be taken."""
    known = replace(known, same=Same.UNKNOWN)
    assert expected == decide(entry, known)
    renamed = decide(replace(entry, origin=OLD), known)
    assert expected == renamed
    if isinstance(renamed, Stop) and known.error is None and known.is_own:
        assert f"adopt {OLD.urn}" in str(renamed.error)
        assert f" --for {URN}" in str(renamed.error)


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
        pytest.param({}, {"instance_type": ""}, True, id="a type that is not told"),
    ],
)
def test_candidate(entry: dict[str, Any], instance: dict[str, Any], is_one: bool) -> None:
    """A machine that surely comes from elsewhere must not stop a create."""
    machine = replace(MADE, **instance)
    found = candidates(replace(UNANSWERED, **entry), [machine], taken={"known"})
    assert found == ([machine] if is_one else [])


HOUR = NOW + 3600


@pytest.mark.parametrize(
    "entry, found, now, kept",
    [
        pytest.param(UNANSWERED, (), NOW, replace(LOST, found=()), id="it may still appear"),
        pytest.param(UNANSWERED, (), LATE, None, id="it has not appeared in time"),
        pytest.param(UNANSWERED, (MADE,), NOW, LOST, id="found"),
        pytest.param(UNANSWERED, (MADE,), LATE, LOST, id="found late"),
        pytest.param(BACK, (), HOUR, BACK, id="gone, and may come back"),
        pytest.param(BACK, (), HOUR + 1, None, id="gone for an hour"),
        pytest.param(BACK, (MADE,), HOUR + 1, BACK, id="back"),
    ],
)
def test_as_late(entry: Entry, found: tuple[Instance, ...], now: float, kept: Entry | None) -> None:
    """What may exist is named, and what has not appeared for long does not exist."""
    assert entry.as_late(found, now) == kept


def test_as_gone() -> None:
    """The API has shown it, however long ago its create was."""
    assert CREATED.as_gone(HOUR) == replace(CREATED, phase=Phase.LATE, started=HOUR, seen=True)


# How the messages read.

REQUESTED = replace(UNANSWERED, problem="")
IN_CLOUD = replace(HERE, backend="https://api.pulumi.com")
NEW = Instance("new", ONE, None, None, "pending")
WAYS = ("pending adopt {0} made", "delete made", "pending forget {0}")


@pytest.mark.parametrize(
    "message, parts",
    [
        pytest.param(
            unresolved.unanswered_error(UNANSWERED, Search((*FOUND.candidates, NEW))),
            (
                "  found (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n",
                "  new (gpu_1x_h100_sxm5, pending,",
            ),
            id="candidates as far as they are known",
        ),
        pytest.param(
            unresolved.unanswered_error(
                UNANSWERED, replace(FOUND, unread={f"a/b/{n}": "no time" for n in range(40)})
            ),
            ("\n  a/b/0, a/b/1, a/b/2 and 37 more: no time\n",),
            id="one line for each reason",
        ),
        pytest.param(
            unresolved.unanswered_error(UNANSWERED, Search()),
            ("Run `pulumi up` again: it looks once more",),
            id="nothing found, so nothing to adopt or to forget",
        ),
        pytest.param(
            unresolved.stopped_error(REPORTED, "why"),
            ("resource 'web' made made", *(way.format(URN) for way in WAYS)),
            id="a known machine",
        ),
        pytest.param(
            unresolved.stopped_error(REQUESTED, "why"),
            ("ended without an answer", "pending adopt"),
            id="a stop without a machine",
        ),
        pytest.param(
            unresolved.unseen_error(REQUESTED, Interrupted()),
            (": interrupted.\nRun",),
            id="interrupted",
        ),
        pytest.param(
            unresolved.appeared_warning(replace(LOST, found=()), FOUND),
            (
                "resource 'web' got no answer, and was followed by another one or forgotten",
                "  found (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n",
                f"  {PROD}: it took too long\n",
                "\n  pulumi-fal delete ID\n",
                "import it",
                f"\n  pulumi-fal pending forget {URN} --late",
            ),
            id="a machine beside the present one, with every way out",
        ),
        pytest.param(
            unresolved.may_appear_warning(replace(LOST, found=("one", "other")), None),
            ("belongs to another account. These may come from it: one, other.\nFor details",),
            id="found before",
        ),
        pytest.param(
            unresolved.uncertain_error(CREATED, facts(unread=FOUND.unread)),
            ("for the stack dev of the project shop, and", f"read:\n  {PROD}: it took too long\n"),
            id="perhaps another stack's",
        ),
        pytest.param(
            unresolved.uncertain_error(replace(CREATED, origin=IN_CLOUD), facts()),
            ("the stack dev of the project shop in https://api.pulumi.com, and",),
            id="in another backend",
        ),
        pytest.param(
            unresolved.uncertain_error(replace(CREATED, origin=OLD), facts()),
            ("the stack old", f"made --for {URN}\n", *(way.format(OLD.urn) for way in WAYS)),
            id="under another name",
        ),
    ],
)
def test_message(message: object, parts: tuple[str, ...]) -> None:
    """What happened, to which machine, and each command to go on with."""
    assert [part for part in parts if part not in str(message)] == []


def test_safe_to_repeat() -> None:
    """A gateway may give up while the API still makes the machine, so nothing is called safe."""
    said = str(unresolved.unanswered_error(UNANSWERED, Search()))
    assert "safe" not in said
    assert "pulumi-fal" not in said


def test_shell() -> None:
    """A URN may hold quotes and dollar signs."""
    nested = replace(HERE, urn="urn:pulumi:dev::shop::my:It's$fal:ComputeInstance::web")
    entry = replace(REPORTED, origin=nested)
    quoted = """'urn:pulumi:dev::shop::my:It'"'"'s$fal:ComputeInstance::web'"""
    for error in (
        unresolved.stopped_error(entry, "why"),
        unresolved.unanswered_error(entry, Search((MADE,))),
    ):
        assert f"pending adopt {quoted}" in str(error)
        assert f"pending forget {quoted}" in str(error)
