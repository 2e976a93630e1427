"""A machine is created exactly once: records, locks and searches around the POST.

test_decision.py has what is decided about an earlier create; here is what only the whole shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from math import inf
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import APIError, Interrupted, JournalError, UnresolvedCreateError
from pulumi_fal.machines import creates, journal
from pulumi_fal.machines.capacity import Patience
from pulumi_fal.machines.journal import LATE_SECONDS, Entry, Journal, Phase
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import CREATE, ECDSA, ED25519, EIGHT, HERE, ONE, URN, settings
from ..fakes import refusal as refused
from .world import SETTLE_SECONDS, SPEC, World

TWO = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
OLD, OLD_NAME = replace(HERE, urn=URN.replace("dev", "old")), "organization/shop/old"
"""The resource in a stack of another name."""
THERE = replace(HERE, backend="file:///there")
"""The resource in a stack of another backend."""
FAL = "pulumi:providers:fal"
LOST = {"problem": "it was reset"}
"""Of an entry whose POST is known to have ended without an answer."""


def launch(
    world: World, spec: NewInstance = SPEC, origin: Origin = HERE, aliases: Sequence[str] = ()
) -> Instance:
    with world.creates.launch(spec, origin, aliases=aliases) as instance:
        return instance


def refusal(world: World, spec: NewInstance = SPEC, **others: Any) -> UnresolvedCreateError:
    """What a create that makes nothing says."""
    before = world.state.creations
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, spec, **others)
    assert world.state.creations == before
    return caught.value


def is_locked(world: World, of: Origin = HERE) -> bool:
    taken = Journal(world.folder).try_lock(of)
    with taken or ExitStack():
        return taken is None


def meanwhile(
    world: World, end: Callable[[], object], of: Entry | Origin = HERE, looks: int = 2
) -> None:
    """Another process works on a create until this one has waited so many times."""
    held = ExitStack()
    held.enter_context(world.lock(of))

    def look() -> None:
        if len(world.clock.slept) == looks - 1:
            end()
            held.close()

    world.before_sleep(look)


def change_answers(world: World, change: Callable[[Any], Any]) -> None:
    serve = world.api.serve

    def changed(request: Request[Any], account: str | None = None) -> Any:
        answer = serve(request, account)
        return change(answer) if request.creates else answer

    world.api.serve = changed  # type: ignore[method-assign]


# A create of its own.


def test_on_disk(world: World) -> None:
    """A process that dies at any moment leaves a trace of what it may have made."""
    there_before, seen = world.machine(), []
    world.at_post(lambda: seen.append((world.record, is_locked(world))))
    made = launch(world).id
    assert ED25519.split()[1] not in next(world.folder.glob("*.json")).read_text()
    ((requested, is_held),) = seen
    assert is_held
    assert (requested.phase, requested.before) == (Phase.REQUESTED, (there_before,))
    assert requested.started == world.clock.wall()
    assert world.record == replace(requested, phase=Phase.CREATED, instance_id=made)
    assert world.creates.resumed_ids == set()
    with world.creates.launch(SPEC, TWO):
        assert is_locked(world, TWO)  # a preview beside it calls the machine not forgotten
    assert not is_locked(world, TWO)


def test_no_journal(world: World) -> None:
    """A machine that nothing remembers is the one that would be lost."""
    world.folder.parent.mkdir(parents=True)
    world.folder.write_text("in the way")
    with pytest.raises(JournalError):
        launch(world)
    assert world.state.creations == 0


def test_journal_breaks(world: World) -> None:
    """After the POST, the machine goes to state all the same, and a warning names it."""

    def break_disk() -> None:
        (path,) = (path for path in world.folder.iterdir() if path.suffix == ".json")
        path.unlink()
        path.mkdir()

    world.at_post(break_disk, answered=True)
    made = launch(world).id
    world.account.records.mark_reported(HERE, seen=True)
    world.account.records.let_go(HERE)
    for warning, named in zip(world.warnings, (made, URN), strict=True):
        assert named in warning


@pytest.mark.parametrize("then", ["the report", "another create"])
def test_full_disk(world: World, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """The id is written with the next record, or every command would call the machine lost."""
    write = Journal.write

    def full(journal: Journal, entry: Entry) -> None:
        if entry.phase is Phase.CREATED:
            raise JournalError(world.folder, "can't be written: No space left on device")
        write(journal, entry)

    monkeypatch.setattr(Journal, "write", full)
    made = launch(world).id
    (warning,) = world.warnings
    assert made in warning
    if then == "the report":
        world.account.records.mark_reported(HERE, seen=True)
    else:
        monkeypatch.setattr(Journal, "write", write)
        launch(world, origin=TWO)
    assert world.phase() is (Phase.REPORTED if then == "the report" else Phase.CREATED)
    assert (world.record.instance_id, world.record.problem) == (made, "")


@pytest.mark.parametrize("is_earlier", [True, False])
def test_full_before_post(world: World, monkeypatch: pytest.MonkeyPatch, is_earlier: bool) -> None:
    """Nothing was sent, so an earlier create still counts, and no later record says otherwise."""
    left = [world.earlier(Phase.REQUESTED, **LOST)] if is_earlier else []
    write = Journal.write

    def full(journal: Journal, entry: Entry) -> None:
        if entry.file not in {earlier.file for earlier in left}:
            raise JournalError(world.folder, "full")
        write(journal, entry)

    with monkeypatch.context() as disk:
        disk.setattr(Journal, "write", full)
        with pytest.raises(JournalError):
            launch(world)
    if not is_earlier:
        launch(world, origin=TWO)
    assert [entry for entry in world.journal.readable() if entry.origin == HERE] == left


def test_no_locks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes could make the same machines then, which is told once."""
    unlockable = mock.Mock(side_effect=OSError(37, "No locks available"))
    monkeypatch.setattr(journal, "try_lock", unlockable)
    launch(world)
    launch(world, origin=TWO)
    (warning,) = world.warnings
    assert f"The file system of {world.folder} can't lock files" in warning
    assert len(world.journal.readable()) == 2


# An answer that is not what it should be.


@pytest.mark.parametrize("is_other_process", [True, False])
def test_mixed_up_answers(world: World, is_other_process: bool) -> None:
    """A cache on the way may mix up two creates. The machine of the second is named."""
    answers: list[Any] = []

    def cached(answer: Any) -> Any:
        answers.append(answer)
        return answers[0]

    change_answers(world, cached)
    first = launch(world).id
    if is_other_process:
        world.hide(first)  # else it is seen to have been there before
        world.restart()
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, origin=TWO)
    assert set(caught.value.candidates) == world.state.alive() - {first}
    assert f"the API answered with {first}, which another resource has" in str(caught.value)


@pytest.mark.parametrize("odd", [{"sector": {"name": "sector_1"}}, {"instance_type": None}])
def test_odd_answer(world: World, odd: dict[str, Any]) -> None:
    """An id is enough: the machine runs, whatever else cannot be read."""
    change_answers(world, lambda answer: {**answer, **odd})
    made = launch(world)
    assert ({made.id}, made.instance_type) == (world.state.alive(), ONE)
    assert world.record.instance_id == made.id


# A POST without an answer.


def test_candidates(world: World) -> None:
    others = [world.machine(), world.machine(EIGHT)]

    def others_appear() -> None:
        others.extend((world.machine(EIGHT), world.machine()))
        world.earlier(Phase.CREATED, others[-1], origin=TWO)

    world.at_post(others_appear, answered=True)
    world.api.faults.add("create", "reset_after")
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world)
    (made,) = world.state.alive() - set(others)
    assert caught.value.candidates == (made,)
    said = str(caught.value)
    assert not any(other in said for other in others)
    assert "reset" in said
    assert f"pulumi-fal pending adopt {URN} {made}" in said


def test_time_to_appear(world: World) -> None:
    """The time in which a machine may appear begins when the POST ended, not when it was sent."""

    def take_time() -> None:
        world.clock.time += 60

    world.state.list_lag = 60 + SETTLE_SECONDS - 1
    world.at_post(take_time, answered=True)
    world.api.faults.add("create", "reset_after")
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world)
    assert set(caught.value.candidates) == world.state.alive()
    entry = world.record
    assert (entry.phase, entry.instance_id, entry.searched) == (Phase.REQUESTED, None, False)
    assert "reset" in entry.problem
    assert entry.started == world.clock.wall() - SETTLE_SECONDS


@pytest.mark.parametrize("passed", [0, SETTLE_SECONDS, LATE_SECONDS])
def test_time_after_kill(world: World, passed: float) -> None:
    """Nobody saw the POST end: it may have been sent a moment ago, whenever the create began."""
    world.earlier(Phase.REQUESTED)
    world.clock.time += passed
    world.state.list_lag = SETTLE_SECONDS - 1
    made = world.machine()
    assert refusal(world).candidates == (made,)


def test_repeats_on_record(world: World) -> None:
    """The time in which the machine of a killed process may appear begins with the last attempt."""
    sent: list[tuple[float, float]] = []
    world.at_post(lambda: sent.append((world.record.started, world.clock.wall())))
    world.api.faults.add("create", "429", 3)
    launch(world)
    assert [began for began, _ in sent] == [now for _, now in sent]
    assert len({now for _, now in sent}) == 4


def leave_nothing(world: World) -> None:
    """A create whose POST was lost on the way, and whose search finds nothing."""
    world.api.faults.add("create", "reset_before")
    error = refusal(world)
    assert error.candidates == ()
    assert "No machine of type gpu_1x_h100_sxm5 has appeared since" in str(error)
    assert world.record.searched


@pytest.mark.parametrize(
    "passed, appears, is_late",
    [
        pytest.param(0, False, True, id="its machine may appear yet"),
        pytest.param(1000, False, False, id="nothing appeared in time"),
        pytest.param(1000, True, True, id="a machine appeared too late to be its own"),
    ],
)
def test_nothing_found(world: World, passed: float, appears: bool, is_late: bool) -> None:
    """The next create looks again, without a wait, and keeps the record if there may be more."""
    leave_nothing(world)
    world.clock.time += passed
    other = world.machine() if appears else ""
    world.restart()
    on_disk: list[list[Entry]] = []
    world.at_post(lambda: on_disk.append(world.late))
    began = world.clock.time
    made = launch(world).id
    assert made != other
    assert 2 <= world.clock.time - began < 2.5
    found = (other,) if other else ()
    assert [(entry.origin, entry.found) for entry in world.late] == [(HERE, found)] * is_late
    assert on_disk == [world.late]
    assert world.record.instance_id == made
    assert len(world.warnings) == appears
    assert all(other in text and "resource 'web'" in text for text in world.warnings)


@pytest.mark.parametrize("lapse", [1, 2])
def test_stale_list(world: World, lapse: int) -> None:
    """A second machine would be made beside the one that the POST has made."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, **LOST, started=0.0)

    def hide(request: Request[Any]) -> None:
        if world.api.calls.count("list") == lapse:
            world.state.hide(made, "list", 0.1)

    world.api.before = hide
    assert refusal(world).candidates == (made,)


def test_no_list(world: World) -> None:
    """The record stays as it was, for this create and for the next one."""
    world.at_post(lambda: world.api.faults.add("list", "403", inf))
    world.api.faults.add("create", "reset_before")
    for _ in range(2):
        assert "The API could not be asked which machines exist" in str(refusal(world))
        assert not world.record.searched


def test_candidate(world: World) -> None:
    """A machine that appeared soon after the POST is one until it is gone, however late it is."""
    leave_nothing(world)
    made = world.machine()
    for passed in (0, 1000):
        world.clock.time += passed
        assert refusal(world).candidates == (made,)
    world.state.delete(made)
    assert {launch(world).id} == world.state.alive()


@pytest.mark.parametrize("whose", ["another resource", "another create", "another stack"])
def test_no_candidate(world: World, whose: str) -> None:
    """State, the journal and the other stacks of the backend tell whose a machine is."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, **LOST)
    if whose == "another resource":
        world.stacks.in_state = {made}
    if whose == "another create":
        world.earlier(Phase.CREATED, made, origin=TWO)
    if whose == "another stack":
        world.stacks.others = {"organization/shop/prod": {made}, "organization/shop/test": "slow"}
    assert launch(world).id != made


# A machine that an earlier create left.


@pytest.mark.parametrize(
    "phase, others, hidden",
    [
        pytest.param(Phase.CREATED, {}, "", id="it is there"),
        pytest.param(Phase.CREATED, {"seen": True}, "list", id="only the list lacks it"),
        pytest.param(Phase.CREATED, {}, "all", id="it was never shown"),
        pytest.param(Phase.ADOPTED, {"requested": SPEC}, "", id="it was adopted"),
        pytest.param(Phase.CREATED, {"account": "another"}, "", id="the key was rotated since"),
    ],
)
def test_resume(world: World, phase: Phase, others: dict[str, Any], hidden: str) -> None:
    """What this process resumed, it must not delete under another name."""
    made = world.machine()
    if hidden:
        world.state.hide(made, "list")
    if hidden == "all":
        world.hide(made)
    entry = world.earlier(phase, made, **others)
    assert launch(world).id == made
    assert world.state.creations == 1
    assert world.creates.resumed_ids == {made}
    assert world.record == replace(
        entry,
        phase=Phase.CREATED,
        account=world.settings.account,  # or the same process would take it for another account's
        requested=SPEC.hashed(),
        seen=hidden != "all",
    )
    assert world.clock.passed < 3  # the wait for ready handles the rest


def test_other_inputs(world: World) -> None:
    """The create that stopped has seen the machine, so the next one knows that it is gone."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    assert "inputs have changed" in str(refusal(world, NewInstance(ONE, ECDSA)))
    world.state.kill(made)
    world.restart()
    assert launch(world, NewInstance(ONE, ECDSA)).id != made
    (warning,) = world.warnings
    assert f"Machine {made} ({ONE}), which an earlier create made for resource 'web'" in warning
    assert [entry.instance_id for entry in world.late] == [made]


@pytest.mark.parametrize("recorded", [HERE, THERE, OLD])
@pytest.mark.parametrize("seen", [True, False])
def test_replacement(world: World, recorded: Origin, seen: bool) -> None:
    """The record of one that was never shown is kept, or a refresh would take it for gone."""
    world.stacks.in_state = {"old"}
    world.account.in_engine[URN] = {"old"}
    world.earlier(Phase.REPORTED, "old", origin=recorded, seen=seen)
    new = launch(world).id
    assert world.api.calls == ["list", "create"]
    assert world.creates.resumed_ids == set()
    on_record = {entry.instance_id for entry in world.journal.readable()}
    assert on_record == ({new} if seen else {"old", new})


@pytest.mark.parametrize(
    "known, is_made",
    [({}, False), ({URN: set()}, True), ({URN: {"made"}}, True), ({URN: {"replaced"}}, False)],
)
@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REPORTED])
def test_two_ups(world: World, phase: Phase, known: dict[str, set[str]], is_made: bool) -> None:
    """A machine in state that the engine doesn't know of was put there by another `up`.

    The engine has checked the resource for `--replace`, and compared the machine otherwise.
    """

    def end_other() -> None:
        world.journal.write(replace(entry, instance_id="made"))
        world.stacks.in_state = {"made"}

    world.account.in_engine.update(known)
    entry = world.earlier(phase)
    meanwhile(world, end_other)
    if is_made:
        assert launch(world).id != "made"
    else:
        assert refusal(world).candidates == ("made",)
        assert [entry.instance_id for entry in world.journal.readable()] == ["made"]


def test_replaced_in_state(world: World) -> None:
    """An earlier `up` could not delete it, and the new machine is gone from state."""
    world.earlier(Phase.REPORTED, "old", seen=True)
    world.stacks.siblings = [StackMachine("old", URN, is_replaced=True)]
    assert launch(world).id != "old"


@pytest.mark.parametrize("phase, seen", [(Phase.LATE, True), (Phase.REPORTED, False)])
def test_name_of_another(world: World, phase: Phase, seen: bool) -> None:
    """A new resource with the earlier name of another one leaves that its machine."""
    theirs = world.machine()
    world.earlier(phase, theirs, seen=seen)
    world.stacks.siblings = [StackMachine(theirs, TWO.urn)]
    assert launch(world).id != theirs


CUT_OFF = {"creating": (URN, URN)}
NEW_ONE = StackMachine("", URN, instance_type=ONE, ssh_key=ED25519)
OF_EIGHT = replace(NEW_ONE, instance_type=EIGHT)
OLD_ONE = replace(OF_EIGHT, id="old")
ELSEWHERE = replace(HERE, provider="another-id", backend="file:///elsewhere")
OF_OLD = {"phase": Phase.REPORTED, "origin": replace(OLD, provider="another-id")}
OLD_STACK = {OLD_NAME: Stack(OLD_NAME, HERE.backend, (), {"another-id": FAL})}


CUT_OFFS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "this create alone": ({"creating": (URN,)}, {}, False),
    "beside another resource's": ({"creating": (URN, TWO.urn)}, {}, False),
    "beside one that was cut off": ({}, {}, True),
    "which is on record": ({}, LOST, False),
    "another stack's is": ({"others": OLD_STACK}, OF_OLD, True),
    "one is that may be another's": ({}, {**LOST, "origin": ELSEWHERE}, True),
    "its machine in state": ({"siblings": [replace(NEW_ONE, id="x")]}, {}, False),
    "its machine, whose key has another comment": (
        {"siblings": [replace(NEW_ONE, id="x", ssh_key=f"{ED25519} you@here")]},
        {},
        False,
    ),
    "one whose key is secret is": ({"siblings": [StackMachine("x", URN)]}, {}, True),
    "an old one's is": ({"siblings": [StackMachine("x", URN, is_replaced=True)]}, {}, True),
    "a replacement": ({"siblings": [OLD_ONE], "creating": (NEW_ONE, NEW_ONE)}, {}, True),
    "a replacement with another key": (
        {"siblings": [OLD_ONE], "creating": (NEW_ONE, replace(NEW_ONE, ssh_key=ECDSA))},
        {},
        True,
    ),
    "one of another type": ({"creating": (OF_EIGHT, NEW_ONE), "made": EIGHT}, {}, True),
    "and no machine of its type": ({"creating": (OF_EIGHT, NEW_ONE)}, {}, False),
    "not the one on record": ({"creating": (OF_EIGHT, NEW_ONE), "made": EIGHT}, LOST, True),
    "its machine is to be replaced": (
        {"siblings": [OLD_ONE], "creating": (replace(OLD_ONE, id=""), NEW_ONE)},
        {},
        False,
    ),
    "a machine that was gone is": ({}, {"instance_id": "gone", "seen": True}, True),
    "a machine in state under another name is": (
        {"siblings": [StackMachine("other", TWO.urn)]},
        {"instance_id": "other", "phase": Phase.REPORTED, "seen": True},
        True,
    ),
    "when the stack could be read": ({"creating": (URN,), "asked": 0.0}, {}, True),
    "under an earlier name": (
        {"creating": (replace(NEW_ONE, urn=TWO.urn), NEW_ONE), "aliases": [TWO.urn]},
        {},
        True,
    ),
    "and no machine of the type": ({"made": EIGHT}, {}, False),
    "which another stack has": ({"others": OLD_NAME}, {}, False),
    "and the stack can't be read": ({"in_state": None}, {}, False),
}
"""What state and the journal have of the create, and whether it stops."""


@pytest.mark.parametrize("stacks, record, stops", CUT_OFFS.values(), ids=CUT_OFFS)
@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_cut_off(
    world: World, stacks: dict[str, Any], record: dict[str, Any], stops: bool, api: str
) -> None:
    """State has two operations of a create that another computer began: there is no record here."""
    world.settings = settings(api=api, settle_seconds=SETTLE_SECONDS)
    state = {**CUT_OFF, "providers": {"an-id": FAL}, **stacks}
    made, aliases = world.machine(state.pop("made", ONE)), state.pop("aliases", ())
    if state.get("others") == OLD_NAME:
        state["others"] = {OLD_NAME: {made}}
    vars(world.stacks).update(state)
    if record:
        world.earlier(**{"phase": Phase.LATE, **record})
    if not stops:
        assert launch(world, aliases=aliases).id != made
        return
    assert refusal(world, aliases=aliases).candidates == (made,)
    world.restart()  # the next `up` has the record, and no key that it could send
    error = refusal(world, aliases=aliases)
    assert error.candidates == (made,)
    assert "its stack's state says that it was cut off" in str(error)
    assert "run `pulumi refresh --clear-pending-creates`" in str(error)
    assert "create" not in world.api.calls


@pytest.mark.parametrize("fails, stops", [(1, False), (2, True)])
def test_cut_off_unread(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: int, stops: bool
) -> None:
    """If the stack can't be read again, what the first read showed still counts.

    It may be the operation of this create, so a second attempt is made after the search.
    """
    stacks = world.stacks
    vars(stacks).update(creating=(URN,), asked=0.0, providers={"an-id": FAL})
    shown = stacks.in_state

    def forget(*args: Any) -> None:
        stacks.forgotten += 1
        is_read = stacks.forgotten > fails
        stacks.in_state, stacks.asked = (shown, inf) if is_read else (None, 0.0)

    monkeypatch.setattr(stacks, "forget", forget)
    made = world.machine()
    if stops:
        assert refusal(world).candidates == (made,)
    else:
        assert launch(world).id != made


def test_cut_off_beside_posts(world: World) -> None:
    """What other creates of this `up` make meanwhile is on record once they have an answer."""
    vars(world.stacks).update(CUT_OFF, providers={"an-id": FAL})
    made, other = world.machine(), ExitStack()

    def answer() -> None:
        if world.passed > SETTLE_SECONDS + 5 and world.creates.in_flight:
            world.earlier(Phase.CREATED, made, origin=TWO)
            other.close()

    other.enter_context(world.creates.sending())
    world.before_sleep(answer)
    assert launch(world).id != made


def test_cut_off_reads(world: World) -> None:
    """Creates that begin after the stack was first read don't have it read again, each for itself.

    The operation that state has for each by then can only be its own, however old the answer is
    that another create had it read for.
    """
    stacks = world.stacks
    world.machine()
    for stacks.creating, stacks.asked, origin in [((URN,), inf, HERE), ((TWO.urn,), 0.0, TWO)]:
        launch(world, origin=origin)
        assert stacks.forgotten == 1


def test_place_in_queue(world: World) -> None:
    """A create that fails while its error is kept leaves the queue, or the others would wait."""
    answers = iter([refused(400, "no capacity left", CREATE), refused(422, "no", CREATE)])

    def before(request: Request[Any]) -> None:
        if request.creates and (answer := next(answers, None)) is not None:
            raise answer

    world.api.before = before
    patience = Patience("6h", 21600.0, lambda waited: None)
    with pytest.raises(APIError) as kept, world.creates.launch(SPEC, HERE, patience=patience):
        pass
    assert kept.value.status == 422
    with world.creates.launch(SPEC, TWO, patience=patience) as other:
        assert world.clock.passed < 600
    assert other.id in world.state.alive()


def test_back_in_the_queue(world: World) -> None:
    """A machine that was gone, and is back while its resource waits for capacity, is its again."""
    old = world.machine()
    world.hide(old, 300)
    world.earlier(Phase.LATE, old, seen=True)
    world.fail("create", refused(400, "no capacity left", CREATE))
    patience = Patience("6h", 21600.0, lambda waited: None)
    with world.creates.launch(SPEC, HERE, patience=patience) as instance:
        assert instance.id == old


# A resource under another name, as its aliases say.

API = replace(HERE, urn=URN.replace("::web", "::api"))
BELOW = replace(HERE, urn=URN.replace("shop::", "shop::my:index:Parent$"))


@pytest.mark.parametrize("earlier", [API, BELOW])
@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REQUESTED, Phase.REPORTED])
def test_alias(world: World, earlier: Origin, phase: Phase) -> None:
    """A create resumes or stops as if the name had not changed, and its record gets the new one."""
    made = world.machine()
    is_known = phase is not Phase.REQUESTED
    entry = world.earlier(phase, made if is_known else None, origin=earlier, **LOST)
    aliases = [earlier.urn, URN, earlier.urn]
    if phase is Phase.CREATED:
        assert launch(world, aliases=aliases).id == made
        (kept,) = world.journal.readable()
        assert (kept, kept.file == entry.file) == (replace(entry, origin=HERE, seen=True), False)
        assert not world.journal.is_locked(kept)
        return
    error = refusal(world, aliases=aliases)
    assert error.candidates == (made,)
    assert str(error).count("pending forget") == 1
    world.restart()
    assert launch(world).id != made


def test_swapped(world: World) -> None:
    """Two creates of one `up` that wait for each other's lock would wait for ever."""
    made = {origin: world.machine() for origin in (HERE, API)}
    for origin, id_ in made.items():
        world.earlier(Phase.CREATED, id_, origin=origin)
    with world.lock():
        world.clock.interrupt()
        with pytest.raises(Interrupted):  # a create that has begun, and waits
            launch(world, aliases=[API.urn])
        world.clock.interrupted.clear()
        assert launch(world, origin=API, aliases=[URN]).id == made[API]
    assert launch(world, aliases=[API.urn]).id == made[HERE]


# A stack under another name or in another backend, or another stack: see test_whose.py.

STORE = replace(HERE, urn=URN.replace("shop", "store"))


@pytest.mark.parametrize("recorded", [replace(THERE, provider="gone-id"), OLD])
@pytest.mark.parametrize("seen", [True, False])
def test_held_by_another(world: World, recorded: Origin, seen: bool) -> None:
    """Whose stack it is can't be told, but it has the machine, so it sees to the record."""
    made = world.machine()
    world.stacks.others = {"organization/shop/test": {made}}
    entry = world.earlier(Phase.REPORTED, made, origin=recorded, seen=seen)
    assert launch(world).id != made
    assert world.entry(recorded) == replace(entry, seen=True)


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("earlier", [OLD, STORE, THERE])
def test_maybe_this_stack(world: World, earlier: Origin, is_read: bool) -> None:
    """The stack was renamed or moved, or that one was removed, or can't be read."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, origin=earlier, **LOST)
    if not is_read:
        world.stacks.others[OLD_NAME] = "no access"
    error = refusal(world)
    assert error.candidates == (made,)
    assert f"pulumi-fal pending adopt {earlier.urn} {made}" in str(error)
    assert (f"{made} --for {URN}" in str(error)) is (earlier is not THERE)
    world.state.kill(made)
    world.restart()
    assert launch(world).id != made


def test_named_at_once(world: World) -> None:
    """One error after the other would take a run each, and hide what bills meanwhile."""
    made = {world.machine(), world.machine()}
    for id_ in made:
        world.earlier(Phase.CREATED, id_, origin=OLD)
    error = refusal(world)
    assert set(error.candidates) == made
    assert str(error).count("pending adopt") == 2


@pytest.mark.parametrize(
    "earlier, looks, is_told, resumes",
    [
        pytest.param(HERE, 1, False, True, id="a preview that changes the record"),
        pytest.param(HERE, 2, True, True, id="a killed engine's plugin"),
        pytest.param(API, 2, True, True, id="under an earlier name"),
        pytest.param(OLD, 2, True, False, id="in a stack of another name"),
        pytest.param(THERE, 2, True, False, id="in another backend"),
    ],
)
def test_waits_for_others(
    world: World, earlier: Origin, looks: int, is_told: bool, resumes: bool
) -> None:
    """Another process that works on the create records what it has begun."""
    entry, made = world.earlier(Phase.REQUESTED, origin=earlier), world.machine()
    meanwhile(world, lambda: world.journal.write(entry.as_created(made)), entry, looks)
    if resumes:
        assert launch(world, aliases=[API.urn]).id == made
    else:
        assert refusal(world).candidates == (made,)
    assert len(world.warnings) == is_told
    assert all("resource 'web' is still in progress" in text for text in world.warnings)


def test_ends_while_read(world: World) -> None:
    """A create that ends while the stacks are read is read again, as it is not locked any more."""
    entry, made = world.earlier(Phase.REQUESTED, origin=OLD), world.machine()
    world.stacks.on_read = lambda: world.journal.write(entry.as_created(made))
    assert f"made {made}" in str(refusal(world))
    assert world.warnings == []


@pytest.mark.parametrize(
    "other, is_made", [(replace(HERE, provider="id"), False), (replace(OLD, provider="old"), True)]
)
def test_overtaken(world: World, other: Origin, is_made: bool) -> None:
    """Another `up` begins after this one, with another lock, as only it knows the provider."""
    world.stacks.providers = {"id": FAL}
    world.stacks.others = {OLD_NAME: Stack(OLD_NAME, HERE.backend, (), {"old": FAL})}
    world.earlier(Phase.CREATED, "gone", seen=True)
    made = world.machine()
    meanwhile(world, lambda: world.earlier(Phase.REPORTED, made, origin=other), other, looks=1)
    if is_made:
        assert launch(world).id != made
    else:
        assert refusal(world).candidates == (made,)
    assert [entry.instance_id for entry in world.late] == ["gone"]


def test_removed_stacks(world: World) -> None:
    """Their records are a day old, so they take one search and no wait, and are dropped."""
    for number in range(4):
        name = replace(HERE, urn=URN.replace("dev", f"pr-{number}"))
        world.earlier(Phase.REQUESTED, origin=name, started=world.clock.wall() - 86_400)
    launch(world)
    assert world.api.calls == ["list", "list", "create"]
    assert world.clock.passed < 2.5
    assert len(world.journal.readable()) == 1


# What becomes of the record.


def test_marks(world: World) -> None:
    """What was seen once stays seen, and what did not reach Pulumi counts as not told."""
    launch(world)
    for seen, known in ((False, False), (True, True), (False, True)):
        world.account.records.mark_reported(HERE, seen=seen)
        assert (world.phase(), world.record.seen) == (Phase.REPORTED, known)
        world.account.records.undelivered(HERE)()
        assert (world.phase(), world.record.seen) == (Phase.CREATED, known)


@pytest.mark.parametrize(
    "others, was_shown",
    [
        ({}, False),
        ({"seen": True}, True),
        ({"instance_id": "x"}, True),
        ({"phase": Phase.LATE}, True),
    ],
)
def test_never_shown(world: World, others: dict[str, Any], was_shown: bool) -> None:
    """A machine counts as shown unless a record says that it never was, or may say so."""
    world.earlier(**{"phase": Phase.REPORTED, "instance_id": "made", **others})
    world.clock.time += 86_400
    assert world.account.records.was_never_shown(URN, "made") is not was_shown
    # The resource may have another name now.
    assert world.account.records.was_never_shown(TWO.urn, "made") is not was_shown
    unreadable = mock.Mock(side_effect=JournalError(world.folder, "can't be read"))
    with mock.patch.object(Journal, "of", unreadable):
        assert world.account.records.was_never_shown(URN, "made")


@pytest.mark.parametrize("change", ["another process changed it", "its create is in progress"])
def test_late_unreported(world: World, change: str) -> None:
    """The engine's death is noticed late, and the next `up` may have begun since."""
    launch(world)
    world.account.records.mark_reported(HERE, seen=True)
    is_changed = change == "another process changed it"
    if is_changed:
        world.journal.write(replace(world.record, instance_id="new"))
    before = world.entry()
    with nullcontext() if is_changed else world.lock():
        world.account.records.undelivered(HERE)()
    assert world.entry() == before


def test_let_go(world: World) -> None:
    """A machine that was let go has no record that could be marked."""
    launch(world)
    world.account.records.let_go(HERE)
    before = world.journal.readable()
    world.account.records.mark_reported(HERE, seen=True)
    world.account.records.undelivered(HERE)()
    world.account.records.let_go(HERE)
    assert (world.journal.readable(), len(before), world.late) == (before, 1, before)


def test_quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may end when no POST is in flight and every answer is recorded, not before."""
    found: list[Phase | None] = []

    def end() -> None:
        world.account.wait_until_quiet()
        found.append(world.phase())

    def engine_dies() -> None:
        ending.start()
        ending.join(0.05)

    ending = threading.Thread(target=end, daemon=True)
    world.at_post(engine_dies)
    launch(world)
    ending.join(5)
    assert found == [Phase.CREATED]
    monkeypatch.setattr(creates, "_POST_SECONDS", 0.0)
    with world.creates.sending():
        world.account.wait_until_quiet()  # a POST without an end is not waited for
