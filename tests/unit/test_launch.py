"""A machine is created exactly once: records, locks and searches around the POST.

test_decision.py has what is decided about the create of an earlier process; here is what only the
whole shows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from typing import Any
from unittest import mock

import pytest

from pulumi_fal import errors
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import JournalError, UnresolvedCreateError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Entry, Journal, Phase
from pulumi_fal.machines.whose import LATE_SECONDS
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import Stack, StackMachine

from ..fakes import DEV, ECDSA, ED25519, EIGHT, HERE, ONE, URN, FakeStacks, settings
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
    """A create, to the moment when its lock is released."""
    with world.creates.launch(spec, origin, aliases=aliases) as instance:
        return instance


def refusal(world: World, spec: NewInstance = SPEC, **others: Any) -> UnresolvedCreateError:
    """What a create that makes nothing says."""
    before = world.state.creations
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, spec, **others)
    assert world.state.creations == before
    return caught.value


def is_locked(world: World, of: Entry | Origin = HERE) -> bool:
    """Whether another process would find the create locked."""
    lock = Journal(world.folder).try_lock(of)
    with lock or ExitStack():
        return lock is None


def meanwhile(world: World, end: Callable[[], None], of: Entry | Origin = HERE) -> None:
    """Another process works on a create until this one has waited twice."""
    lock = Journal(world.folder).try_lock(of)
    assert lock is not None
    sleep, ending = world.clock.sleep, ExitStack()
    ending.enter_context(lock)

    def answered(seconds: float) -> None:
        if world.clock.slept:
            end()
            ending.close()
        sleep(seconds)

    world.clock.sleep = answered  # type: ignore[method-assign]


def lose_answers(world: World, seconds: float = 0.0) -> None:
    """The answer to the next POST never arrives, which takes so long to be noticed."""

    def take_time(request: Request[Any]) -> None:
        world.clock.time += seconds if request.creates else 0.0

    world.api.after = take_time
    world.api.faults.add("create", "reset_after")


# A create of its own.


def test_a_create_is_on_disk_and_locked_before_its_post_and_has_the_id_after_it(
    world: World,
) -> None:
    """A process that dies at any moment leaves a trace of what it may have made."""
    there_before = world.machine()
    seen: list[tuple[Entry | None, bool]] = []

    def look(request: Request[Any]) -> None:
        if request.creates:
            seen.append((world.entry(), is_locked(world)))

    world.api.before = look
    instance = launch(world)
    ((requested, is_held),) = seen
    assert is_held
    assert requested is not None
    assert (requested.phase, requested.before) == (Phase.REQUESTED, (there_before,))
    assert requested.started == world.clock.wall()
    assert world.entry() == replace(requested, phase=Phase.CREATED, instance_id=instance.id)
    assert world.creates.resumed_ids == set()


def test_the_record_has_a_fingerprint_in_place_of_the_key(world: World) -> None:
    """The fingerprint tells one key from another, and a comment makes no other key."""
    launch(world, NewInstance(EIGHT, ED25519, "sector_2"))
    entry = world.entry()
    assert entry is not None
    assert (entry.instance_type, entry.requested.sector) == (EIGHT, "sector_2")
    assert entry.requested.ssh_key == NewInstance(ONE, f"{ED25519} me@laptop").hashed().ssh_key
    assert entry.requested.ssh_key != NewInstance(ONE, ECDSA).hashed().ssh_key
    assert ED25519.split()[1] not in next(world.folder.glob("*.json")).read_text()


@pytest.mark.parametrize("why", ["refused", "interrupted", "unsendable"])
def test_a_create_that_the_api_surely_did_not_take_leaves_no_trace(world: World, why: str) -> None:
    """The error itself says all that there is to say, since there is no machine."""

    def fail(request: Request[Any]) -> None:
        if request.creates and why == "interrupted":  # in the pause before another attempt
            world.clock.interrupt()
            world.api.faults.add("create", "429")
        if request.creates and why == "unsendable":
            raise errors.ConfigurationError("no CA bundle")

    world.api.before = fail
    world.state.capacity = 0 if why == "refused" else None
    expected = {
        "refused": errors.InvalidRequestError,
        "interrupted": errors.Interrupted,
        "unsendable": errors.ConfigurationError,
    }[why]
    with pytest.raises(expected):
        launch(world)
    assert world.entry() is None
    assert world.state.creations == 0


def test_nothing_is_requested_without_a_journal(world: World) -> None:
    """A machine that nothing remembers is the one that would be lost."""
    world.folder.parent.mkdir(parents=True)
    world.folder.write_text("in the way")
    with pytest.raises(JournalError):
        launch(world)
    assert world.state.creations == 0


def test_a_journal_that_fails_after_the_post_does_not_lose_the_machine(world: World) -> None:
    """The machine goes to state all the same, and a warning names it."""

    def break_disk(request: Request[Any]) -> None:
        if request.creates:
            (path,) = (path for path in world.folder.iterdir() if path.suffix == ".json")
            path.unlink()
            path.mkdir()

    world.api.after = break_disk
    instance = launch(world)
    (warning,) = world.warnings
    assert instance.id in warning
    world.creates.records.mark_reported(HERE, seen=True)
    world.creates.records.let_go(HERE, 0)
    assert len(world.warnings) == 3
    assert URN in world.warnings[1]
    assert instance.id in world.warnings[2]


@pytest.mark.parametrize("then", ["the report", "another create"])
def test_the_id_that_a_full_disk_did_not_take_is_written_with_the_next_record(
    world: World, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Without its id, every command would call the machine lost, although state has it."""
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
        world.creates.records.mark_reported(HERE, seen=True)
    else:
        monkeypatch.setattr(Journal, "write", write)
        launch(world, origin=TWO)
    entry = world.entry()
    assert entry is not None
    assert entry.phase is (Phase.REPORTED if then == "the report" else Phase.CREATED)
    assert (entry.instance_id, entry.problem) == (made, "")


def test_a_create_that_a_full_disk_has_stopped_is_not_put_on_record_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, and a record would say that a machine may be running."""
    with monkeypatch.context() as full:
        full.setattr(Journal, "write", mock.Mock(side_effect=JournalError(world.folder, "full")))
        with pytest.raises(JournalError):
            launch(world)
    launch(world, origin=TWO)
    assert [entry.origin for entry in world.journal.readable()] == [TWO]


def test_a_create_writes_no_record_that_another_one_is_writing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that it does, the other one may have the id of its machine."""
    write, written = Journal.write, []

    def slow(journal: Journal, entry: Entry) -> None:
        written.append(entry.origin)
        if written == [HERE]:
            launch(world, origin=TWO)
        write(journal, entry)

    monkeypatch.setattr(Journal, "write", slow)
    launch(world)
    assert written == [HERE, TWO, TWO, HERE]


def test_a_folder_without_locks_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes could make the same machines then. Each create has a file of its own."""
    monkeypatch.setattr(
        journal, "try_lock", mock.Mock(side_effect=OSError(37, "No locks available"))
    )
    launch(world)
    launch(world, origin=TWO)
    (warning,) = world.warnings
    assert f"The file system of {world.folder} can't lock files" in warning
    assert len(world.journal.readable()) == 2


# An answer that is not what it should be.


@pytest.mark.parametrize("is_other_process", [True, False])
def test_one_answer_to_two_creates_is_the_machine_of_the_first(
    world: World, is_other_process: bool
) -> None:
    """A cache on the way may mix them up, and the machine of the second is named."""
    serve, answers = world.api.serve, []

    def cached(request: Request[Any], account: str | None = None) -> Any:
        answer = serve(request, account)
        if request.creates:
            answers.append(answer)
        return answers[0] if request.creates else answer

    world.api.serve = cached  # type: ignore[method-assign]
    first = launch(world).id
    if is_other_process:
        world.hide(first)  # else it is seen to have been there before
        world.restart()
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, origin=TWO)
    assert set(caught.value.candidates) == world.state.alive() - {first}
    assert f"the API answered with {first}, which another resource has" in str(caught.value)


@pytest.mark.parametrize("odd", [{"sector": {"name": "sector_1"}}, {"instance_type": None}])
def test_an_id_is_enough_of_an_answer(world: World, odd: dict[str, Any]) -> None:
    """The machine runs, whatever else cannot be read."""
    serve = world.api.serve

    def changed(request: Request[Any], account: str | None = None) -> Any:
        answer: Any = serve(request, account)
        return {**answer, **odd} if request.creates else answer

    world.api.serve = changed  # type: ignore[method-assign]
    made = launch(world)
    assert {made.id} == world.state.alive()
    assert made.instance_type == ONE
    entry = world.entry()
    assert entry is not None
    assert entry.instance_id == made.id


def test_a_create_is_locked_until_its_block_ends(world: World) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    with world.creates.launch(SPEC, HERE):
        assert is_locked(world)
    assert not is_locked(world)


@pytest.mark.parametrize("call, failure", [("create", "reset_after"), ("list", "403")])
def test_a_create_that_fails_is_no_longer_locked(world: World, call: str, failure: str) -> None:
    """The next create would wait for it for ever."""
    world.api.faults.add(call, failure)
    with pytest.raises(errors.FalError):
        launch(world)
    assert not is_locked(world)


def test_a_create_waits_for_another_process_that_works_on_it(world: World) -> None:
    """A process that a killed engine left behind records what it has begun."""
    entry = world.earlier(Phase.REQUESTED)
    meanwhile(world, lambda: world.journal.write(entry.as_created(world.machine())))
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    (warning,) = world.warnings
    assert "resource 'web' is still in progress" in warning


def test_a_create_says_nothing_of_a_process_that_only_changes_its_record(world: World) -> None:
    """A preview beside it holds the lock for a moment, and creates nothing."""
    other = Journal(world.folder).try_lock(HERE)
    assert other is not None
    ending = ExitStack()
    ending.enter_context(other)
    sleep = world.clock.sleep

    def end(seconds: float) -> None:
        ending.close()
        sleep(seconds)

    world.clock.sleep = end  # type: ignore[method-assign]
    launch(world)
    assert world.warnings == []


# A POST without an answer.


def test_an_unanswered_post_names_the_machines_that_it_may_have_made_and_no_others(
    world: World,
) -> None:
    """A machine that was there before, of another type or of another create is not among them."""
    others = [world.machine(), world.machine(EIGHT)]

    def others_appear(request: Request[Any]) -> None:
        if request.creates:
            others.extend((world.machine(EIGHT), world.machine()))
            world.earlier(Phase.CREATED, others[-1], origin=TWO)

    world.api.after = others_appear
    world.api.faults.add("create", "reset_after")
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world)
    made = (world.state.alive() - set(others)).pop()
    assert caught.value.candidates == (made,)
    said = str(caught.value)
    assert not any(other in said for other in others)
    assert "reset" in said
    assert f"pulumi-fal pending adopt {URN} {made}" in said


def test_an_unanswered_post_is_on_record_with_its_reason_and_the_moment_of_its_end(
    world: World,
) -> None:
    """The time in which its machine may appear begins when the POST ended, not when it was sent."""
    world.state.list_lag = 60 + SETTLE_SECONDS - 1
    lose_answers(world, seconds=60)
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world)
    assert set(caught.value.candidates) == world.state.alive()
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.instance_id, entry.searched) == (Phase.REQUESTED, None, False)
    assert "reset" in entry.problem
    assert entry.started == world.clock.wall() - SETTLE_SECONDS


def test_the_next_create_looks_again_but_does_not_wait_again(world: World) -> None:
    """A search that found nothing is on record, and two more lists are enough."""
    world.api.faults.add("create", "reset_before")
    error = refusal(world)
    assert error.candidates == ()
    assert "No machine of type gpu_1x_h100_sxm5 has appeared since" in str(error)
    entry = world.entry()
    assert entry is not None
    assert entry.searched
    began = world.clock.time
    world.restart()
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert 2 <= world.clock.time - began < 2.5


def late(world: World) -> list[Entry]:
    """The entries of creates that another one has followed."""
    return [entry for entry in world.journal.readable() if entry.is_late]


def test_a_create_that_starts_afresh_keeps_the_record_of_the_one_without_an_answer(
    world: World,
) -> None:
    """A gateway may give up long before the API does, so the first machine may appear yet."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    world.restart()
    on_disk: list[list[Entry]] = []

    def look(request: Request[Any]) -> None:
        if request.creates:
            on_disk.append(late(world))

    world.api.before = look
    instance = launch(world)
    assert on_disk == [late(world)]
    (entry,) = late(world)
    assert (entry.origin, entry.instance_id, entry.found) == (HERE, None, ())
    assert "reset" in entry.problem
    present = world.entry()
    assert present is not None
    assert present.instance_id == instance.id


def test_each_create_without_an_answer_keeps_its_record_and_none_stops_the_next(
    world: World,
) -> None:
    """Two answers were lost, and either machine may appear."""
    for _ in range(2):
        world.api.faults.add("create", "reset_before")
        refusal(world)
        world.restart()
    launch(world)
    assert len(late(world)) == 2
    assert {entry.origin for entry in late(world)} == {HERE}


@pytest.mark.parametrize("why", ["refused", "interrupted"])
def test_a_create_that_makes_nothing_puts_the_earlier_record_back(world: World, why: str) -> None:
    """The resource has no machine, so the next create looks for that of the earlier one again."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    earlier = world.entry()
    world.restart()
    world.state.capacity = 0
    if why == "interrupted":  # in the pause before another attempt
        world.api.before = lambda request: world.clock.interrupt() if request.creates else None
        world.api.faults.add("create", "429")
    with pytest.raises(errors.FalError) as caught:
        launch(world)
    assert not isinstance(caught.value, UnresolvedCreateError)
    assert world.journal.readable() == [earlier]
    world.state.capacity, world.api.before = None, lambda request: None
    world.clock.interrupted.clear()
    made = world.machine()
    world.restart()
    assert refusal(world).candidates == (made,)


def test_a_machine_first_seen_late_stays_on_record(world: World) -> None:
    """The machine may still be that of the POST, so every command names it."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    world.clock.time += 1000
    seen_late = world.machine()
    world.restart()
    launch(world)
    (entry,) = late(world)
    assert entry.found == (seen_late,)


def test_a_create_that_left_nothing_long_ago_leaves_no_record(world: World) -> None:
    """What has not appeared for ten minutes does not exist."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    world.clock.time += 1000
    world.restart()
    launch(world)
    assert late(world) == []


@pytest.mark.parametrize("passed", [0, 5, SETTLE_SECONDS, LATE_SECONDS])
def test_the_machine_of_a_killed_process_has_all_of_its_time_to_appear(
    world: World, passed: float
) -> None:
    """Nobody saw the POST end: it may have been sent a moment ago, whenever the create began."""
    world.earlier(Phase.REQUESTED)
    world.clock.time += passed
    world.state.list_lag = SETTLE_SECONDS - 1
    made = world.machine()
    assert refusal(world).candidates == (made,)


def test_each_repeat_of_a_post_is_on_record(world: World) -> None:
    """The time in which the machine of a killed process may appear begins with the last attempt."""
    sent: list[tuple[float, float]] = []

    def look(request: Request[Any]) -> None:
        entry = world.entry()
        if request.creates and entry:
            sent.append((entry.started, world.clock.wall()))

    world.api.before = look
    world.api.faults.add("create", "429", 3)
    launch(world)
    assert [began for began, _ in sent] == [now for _, now in sent]
    assert len({now for _, now in sent}) == 4


@pytest.mark.parametrize("lapse", [1, 2])
def test_one_list_that_lapses_hides_no_candidate(world: World, lapse: int) -> None:
    """A second machine would be made beside the one that the POST has made."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, **LOST, started=0.0)

    def hide(request: Request[Any]) -> None:
        if world.api.calls.count("list") == lapse:
            world.state.hide(made, "list", 0.1)

    world.api.before = hide
    assert refusal(world).candidates == (made,)


def test_nothing_is_made_where_the_machines_cannot_be_listed_after_the_post(world: World) -> None:
    """The record stays as it was, for this create and for the next one."""

    def blind(request: Request[Any]) -> None:
        if request.creates:
            world.api.faults.add("list", "403", inf)

    world.api.before = blind
    world.api.faults.add("create", "reset_before")
    for _ in range(2):
        assert "The API could not be asked which machines exist" in str(refusal(world))
        entry = world.entry()
        assert entry is not None
        assert not entry.searched


@pytest.mark.parametrize("answers", [True, False])
def test_a_candidate_stops_the_next_create_until_it_is_gone(world: World, answers: bool) -> None:
    """A stack that can't be asked has no say about whose the machine is."""
    made = world.machine()
    world.stacks = FakeStacks(answers=answers)
    world.restart()
    world.earlier(Phase.REQUESTED, **LOST)
    assert refusal(world).candidates == (made,)
    world.state.delete(made)
    instance = launch(world)
    assert world.state.alive() == {instance.id}


@pytest.mark.parametrize("whose", ["another resource", "another create", "another stack"])
def test_a_machine_that_is_known_to_be_anothers_is_no_candidate(world: World, whose: str) -> None:
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


@pytest.mark.parametrize("call", ["a search", "a search that fails"])
def test_only_a_machine_that_appears_long_after_an_empty_search_stops_nothing(
    world: World, call: str
) -> None:
    """Somebody rents the same type every day, so a create that stopped for it would never end."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    if call == "a search that fails":
        world.api.faults.add("list", "403")
        refusal(world)
    world.clock.time += 1000
    others = world.machine()
    world.restart()
    assert launch(world).id != others
    (warning,) = world.warnings
    assert others in warning
    assert "resource 'web'" in warning


def test_a_candidate_that_was_found_once_never_counts_as_late(world: World) -> None:
    """A machine that appeared soon after the POST is a candidate however late anybody looks."""
    world.api.faults.add("create", "reset_before")
    refusal(world)
    made = world.machine()
    assert refusal(world).candidates == (made,)
    world.clock.time += 1000
    assert refusal(world).candidates == (made,)


# A machine that an earlier create left.


def test_a_create_resumes_the_machine_of_an_earlier_one_and_remembers_that_it_did(
    world: World,
) -> None:
    """A resumed machine must not be deleted by this process under another name."""
    made = world.machine()
    entry = world.earlier(Phase.CREATED, made)
    assert launch(world).id == made
    assert world.state.creations == 1
    assert world.creates.resumed_ids == {made}
    assert world.entry() == replace(entry, seen=True)


def test_a_machine_that_only_the_list_lacks_is_resumed(world: World) -> None:
    """A list may lag behind, so the machine is asked for as well."""
    made = world.machine()
    world.state.hide(made, "list")
    world.earlier(Phase.CREATED, made, seen=True)
    assert launch(world).id == made


def test_a_machine_that_the_api_has_never_shown_is_resumed(world: World) -> None:
    """It may still appear."""
    made = launch(world).id
    world.hide(made)
    world.restart()
    began = world.clock.time
    assert launch(world).id == made
    assert world.clock.time - began < 3  # the wait for ready handles that


def test_an_adopted_machine_is_on_record_with_what_is_requested_once_it_is_resumed(
    world: World,
) -> None:
    """The person's word about the key counts, so the next create must not doubt it."""
    made = world.machine()
    world.earlier(Phase.ADOPTED, made, requested=NewInstance(ONE, "another"))
    assert launch(world).id == made
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.requested.ssh_key) == (Phase.CREATED, SPEC.hashed().ssh_key)


def test_a_machine_of_other_inputs_stops_nothing_once_it_is_deleted(world: World) -> None:
    """The create that stopped has seen it, so it is gone, which another create says."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    assert "inputs have changed" in str(refusal(world, NewInstance(ONE, ECDSA)))
    world.state.kill(made)
    world.restart()
    assert launch(world, NewInstance(ONE, ECDSA)).id != made
    (warning,) = world.warnings
    assert f"Machine {made} ({ONE}), which an earlier create made for resource 'web'" in warning
    assert [entry.instance_id for entry in late(world)] == [made]


@pytest.mark.parametrize("recorded", [HERE, THERE])
@pytest.mark.parametrize("seen", [True, False])
def test_a_create_that_replaces_a_machine_asks_nothing_about_it(
    world: World, recorded: Origin, seen: bool
) -> None:
    """The record of one that was never shown is kept, or a refresh would take it for gone."""
    world.stacks.in_state = {"old"}
    world.machines.known.add("old")
    world.earlier(Phase.REPORTED, "old", origin=recorded, seen=seen)
    new = launch(world).id
    assert world.api.calls == ["list", "create"]
    assert world.creates.resumed_ids == set()
    on_record = {entry.instance_id for entry in world.journal.readable()}
    assert on_record == ({new} if seen else {"old", new})


@pytest.mark.parametrize("known, is_made", [(set(), False), ({URN}, True), ({"made"}, True)])
@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REPORTED])
def test_a_machine_in_state_is_replaced_only_where_the_engine_knows_of_it(
    world: World, phase: Phase, known: set[str], is_made: bool
) -> None:
    """If the engine does not, another `up`, which goes on after a cancel, has put it there.

    The engine has checked the resource for `--replace`, and compared the machine otherwise.
    """
    world.machines.known.update(known)
    entry = world.earlier(phase)
    meanwhile(world, lambda: end_other(world, replace(entry, instance_id="made")))
    if is_made:
        assert launch(world).id != "made"
    else:
        assert refusal(world).candidates == ("made",)
        assert [entry.instance_id for entry in world.journal.readable()] == ["made"]


def test_a_replaced_machine_that_is_still_in_state_stops_no_create(world: World) -> None:
    """An earlier `up` could not delete it, and the new machine is gone from state."""
    world.earlier(Phase.REPORTED, "old", seen=True)
    world.stacks.siblings = [StackMachine("old", URN, is_replaced=True)]
    assert launch(world).id != "old"


def end_other(world: World, entry: Entry) -> None:
    """Another `up` of the stack ends, and writes state."""
    world.journal.write(entry)
    world.stacks.in_state = {"made"}


# A create that another computer has begun, as state says, and no record here.


@pytest.mark.parametrize(
    "creating, trace, stops",
    [
        pytest.param([URN], "", False, id="this create alone"),
        pytest.param([URN, TWO.urn], "", False, id="beside another resource's"),
        pytest.param([URN, URN], "", True, id="beside one that was cut off"),
        pytest.param([URN, URN], "record", False, id="which is on record"),
        pytest.param([URN, URN], "record of another stack", True, id="another stack's is"),
        pytest.param([URN, URN], "machine in state", False, id="whose machine is in state"),
        pytest.param([URN, URN], "another type", False, id="and no machine of the type"),
        pytest.param([URN, URN], "another stack", False, id="which another stack has"),
        pytest.param([URN, URN], "unreadable", False, id="and the stack can't be read"),
    ],
)
@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_a_create_that_state_calls_cut_off_may_have_made_a_machine(
    world: World, creating: list[str], trace: str, stops: bool, api: str
) -> None:
    """The one that goes ahead has its own operation in state as well."""
    world.settings = settings(api=api, settle_seconds=SETTLE_SECONDS)
    made = world.machine(EIGHT if trace == "another type" else ONE)
    world.stacks.creating = tuple(creating)
    if trace == "record":
        world.earlier(Phase.LATE, **LOST)
    if trace == "record of another stack":
        world.stacks.others = {OLD_NAME: another(OLD_NAME)}
        world.stacks.providers = {"an-id": FAL}
        world.earlier(Phase.REPORTED, "x", origin=replace(OLD, provider="another-id"))
    if trace == "machine in state":
        world.stacks.siblings = [StackMachine("x", URN)]
    if trace == "another stack":
        world.stacks.others = {OLD_NAME: {made}}
    if trace == "unreadable":
        world.stacks.in_state = None
    if not stops:
        assert launch(world).id != made
        return
    assert refusal(world).candidates == (made,)
    world.restart()  # the next `up` has the record, and no key that it could send
    error = refusal(world)
    assert error.candidates == (made,)
    assert "its stack's state says that it was cut off" in str(error)
    assert "create" not in world.api.calls


# A resource under another name, as its aliases say.

API = replace(HERE, urn=URN.replace("::web", "::api"))
BELOW = replace(HERE, urn=URN.replace("shop::", "shop::my:index:Parent$"))


@pytest.mark.parametrize("earlier", [API, BELOW])
@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REQUESTED, Phase.REPORTED])
def test_a_create_finds_that_of_an_earlier_name_by_an_alias(
    world: World, earlier: Origin, phase: Phase
) -> None:
    """It resumes or stops as if the name had not changed, and its record gets the new one."""
    made = world.machine()
    is_known = phase is not Phase.REQUESTED
    entry = world.earlier(phase, made if is_known else None, origin=earlier, **LOST)
    aliases = [earlier.urn, URN, earlier.urn]
    if phase is Phase.CREATED:
        assert launch(world, aliases=aliases).id == made
        (kept,) = world.journal.readable()
        assert (kept, kept.file == entry.file) == (replace(entry, origin=HERE, seen=True), False)
        assert is_locked(world, kept) is False
    else:
        error = refusal(world, aliases=aliases)
        assert error.candidates == (made,)
        assert str(error).count("pending forget") == 1
    world.restart()
    if phase is not Phase.CREATED:
        assert launch(world).id != made


def test_a_create_waits_for_one_of_an_earlier_name(world: World) -> None:
    """The plugin of a killed engine may still wait for its answer."""
    made, entry = world.machine(), world.earlier(Phase.REQUESTED, origin=API)
    meanwhile(world, lambda: world.journal.write(entry.as_created(made)), entry)
    assert launch(world, aliases=[API.urn]).id == made


# The key of another account.


@pytest.mark.parametrize("instance_id", [None, "made"])
def test_nothing_is_made_where_the_api_cannot_be_asked_about_an_earlier_create(
    world: World, instance_id: str | None
) -> None:
    """The record stays, even where it isn't known whether the create was this account's."""
    phase = Phase.CREATED if instance_id else Phase.REQUESTED
    world.earlier(phase, instance_id, account="another", seen=True)
    world.api.faults.add("list", "403", inf)
    said = str(refusal(world))
    assert "The API could not be asked" in said
    assert "GET /compute/instances answered 403" in said
    assert world.entry() is not None


@pytest.mark.parametrize("phase, made", [(Phase.REQUESTED, None), (Phase.CREATED, "made")])
def test_what_another_account_made_is_not_taken_for_gone(
    world: World, phase: Phase, made: str | None
) -> None:
    """This account can't see the machine; the message says which account can."""
    world.stacks.in_state = None
    world.earlier(phase, made, account="another", seen=True)
    assert "with the key of another account (another)" in str(refusal(world))
    assert world.entry() is not None
    assert world.clock.passed < 3


def test_a_machine_that_this_key_sees_is_resumed_whoever_made_it(world: World) -> None:
    """The key was rotated since, and both are keys of one account."""
    made = world.machine()
    world.earlier(Phase.CREATED, made, account="another")
    assert launch(world).id == made


@pytest.mark.parametrize("shown", ["before the POST", "in state"])
@pytest.mark.parametrize("phase, made", [(Phase.REQUESTED, None), (Phase.CREATED, "gone")])
def test_a_key_that_sees_another_machine_of_the_account_is_one_of_its_keys(
    world: World, shown: str, phase: Phase, made: str | None
) -> None:
    """Keys are rotated, and the record of a create must not become a dead end."""
    known = world.machine()
    world.stacks.account_id = AccountId(account="another")
    world.stacks.in_state = {known} if shown == "in state" else set()
    before = (known,) if shown == "before the POST" else ()
    world.earlier(phase, made, account="another", before=before, seen=True)
    assert launch(world).id != known


# A stack under another name or in another backend, or another stack: see test_whose.py.


def another(name: str = DEV, backend: str = HERE.backend) -> Stack:
    return Stack(name, backend, (), {"another-id": FAL})


@pytest.mark.parametrize("is_busy", [True, False])
@pytest.mark.parametrize(
    "origin, stack",
    [
        (replace(THERE, provider="another-id"), another(backend=THERE.backend)),
        (replace(OLD, provider="another-id"), another(OLD_NAME)),
        (OLD, another(OLD_NAME)),
        (replace(OLD, urn=f"{OLD.urn}-2"), another("organization/shop/test")),
    ],
)
def test_the_record_of_another_stack_that_exists_stops_nothing(
    world: World, origin: Origin, stack: Stack, is_busy: bool
) -> None:
    """Its creates are its own, and are not waited for."""
    world.stacks.providers, world.stacks.others["another"] = {"an-id": FAL}, stack
    made = world.machine()
    entry = world.earlier(Phase.CREATED, made, origin=origin)
    lock = Journal(world.folder).try_lock(entry) if is_busy else ExitStack()
    assert lock is not None
    with lock:
        assert launch(world).id != made
    assert world.entry(origin) == entry


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("earlier", [OLD, replace(HERE, urn=URN.replace("shop", "store")), THERE])
def test_a_record_that_may_be_of_this_stack_stops_a_create_until_its_machine_is_gone(
    world: World, earlier: Origin, is_read: bool
) -> None:
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


@pytest.mark.parametrize(
    "recorded",
    [replace(OLD, provider="an-id"), replace(THERE, provider="an-id"), replace(HERE, provider="x")],
)
def test_the_machine_of_this_stack_is_resumed_under_another_name(
    world: World, recorded: Origin
) -> None:
    """The id says that it is, or that it is destroyed and up again. Nobody has to decide."""
    world.stacks.providers = {"an-id": FAL}
    made = world.machine()
    entry = world.earlier(Phase.CREATED, made, origin=recorded)
    assert launch(world).id == made
    kept = replace(HERE, provider=recorded.provider)
    assert world.journal.readable() == [replace(entry, origin=kept, seen=True)]


def test_all_that_may_be_of_this_stack_is_named_at_once(world: World) -> None:
    """One error after the other would take a run each, and hide what bills meanwhile."""
    first, second = world.machine(), world.machine()
    world.earlier(Phase.CREATED, first, origin=OLD)
    world.earlier(Phase.CREATED, second, origin=OLD)
    error = refusal(world)
    assert set(error.candidates) == {first, second}
    assert str(error).count("pending adopt") == 2


@pytest.mark.parametrize("earlier", [OLD, THERE])
def test_a_create_that_may_be_of_this_stack_is_waited_for(world: World, earlier: Origin) -> None:
    """The plugin of a killed engine, whose stack was renamed since, still waits for the answer."""
    entry = world.earlier(Phase.REQUESTED, origin=earlier)
    made = world.machine()
    meanwhile(world, lambda: world.journal.write(entry.as_created(made)), entry)
    assert refusal(world).candidates == (made,)
    (warning,) = world.warnings
    assert "resource 'web' is still in progress" in warning


def test_a_create_that_ends_while_the_stacks_are_read_is_read_again(world: World) -> None:
    """By then it is not locked any more, and its record has the machine."""
    entry, made = world.earlier(Phase.REQUESTED, origin=OLD), world.machine()
    world.stacks.on_read = lambda: world.journal.write(entry.as_created(made))
    assert f"made {made}" in str(refusal(world))
    assert world.warnings == []


def test_a_record_goes_once_state_has_its_machine(world: World) -> None:
    """The machine has moved on with the stack, and its record would stop a later replacement."""
    made = world.machine()
    world.stacks.in_state = {made}
    world.machines.known.add(made)
    world.earlier(Phase.REPORTED, made, origin=OLD, seen=True)
    assert launch(world).id != made
    assert world.entry(OLD) is None


@pytest.mark.parametrize("phase", [Phase.REPORTED, Phase.CREATED])
def test_the_machine_of_another_stack_stops_no_create(world: World, phase: Phase) -> None:
    """The stack that has the machine in state is the one that its record belongs to."""
    made = world.machine()
    world.stacks.others = {"organization/shop/test": {made}}
    entry = world.earlier(phase, made, origin=OLD, seen=True)
    assert launch(world).id != made
    assert world.entry(OLD) == entry


def test_the_records_of_removed_stacks_take_one_search(world: World) -> None:
    """They are a day old, so nothing is waited for, and what left no machine is dropped."""
    for number in range(4):
        name = replace(HERE, urn=URN.replace("dev", f"pr-{number}"))
        world.earlier(Phase.REQUESTED, origin=name, started=world.clock.wall() - 86_400)
    launch(world)
    assert world.api.calls == ["list", "list", "create"]
    assert world.clock.passed < 2.5
    assert len(world.journal.readable()) == 1


@pytest.mark.parametrize("recorded", [HERE, OLD])
def test_a_record_of_an_earlier_version_is_resumed(world: World, recorded: Origin) -> None:
    """It has no id, its file is named after the organization, and the stack may be renamed."""
    made, file = world.machine(), f"{'0' * 16}-{'1' * 16}.json"
    world.earlier(Phase.CREATED, made, origin=recorded, file=file)
    old = {"urn": recorded.urn, "organization": "organization", "backend": recorded.backend}
    data = {**json.loads((world.folder / file).read_text()), "origin": old, "version": 4}
    (world.folder / file).write_text(json.dumps(data))
    world.stacks.providers = {"an-id": FAL}
    if recorded == HERE:
        assert launch(world).id == made
    else:
        assert refusal(world).candidates == (made,)


# What becomes of the record.


def test_the_record_says_whether_pulumi_was_told_and_whether_the_api_showed_the_machine(
    world: World,
) -> None:
    """What was seen once stays seen, and what did not reach Pulumi counts as not told."""
    launch(world)
    marks: list[tuple[Phase, bool]] = []
    for seen in (False, True):
        world.creates.records.mark_reported(HERE, seen=seen)
        told = world.entry()
        world.creates.records.mark_unreported(HERE)
        marks += [(entry.phase, entry.seen) for entry in (told, world.entry()) if entry]
    assert marks == [
        (Phase.REPORTED, False),
        (Phase.CREATED, False),
        (Phase.REPORTED, True),
        (Phase.CREATED, True),
    ]


@pytest.mark.parametrize("change", ["another process changed it", "its create is in progress"])
def test_a_report_that_did_not_arrive_changes_no_record_of_another_create(
    world: World, change: str
) -> None:
    """The engine's death is noticed late, and the next `up` may have begun since."""
    launch(world)
    world.creates.records.mark_reported(HERE, seen=True)
    lock = ExitStack()
    if change == "another process changed it":
        entry = world.entry()
        assert entry is not None
        world.journal.write(replace(entry, instance_id="new"))
    else:
        taken = Journal(world.folder).try_lock(HERE)
        assert taken is not None
        lock.enter_context(taken)
    before = world.entry()
    with lock:
        world.creates.records.mark_unreported(HERE)
    assert world.entry() == before


@pytest.mark.parametrize(
    "others, was_shown",
    [
        ({}, False),
        ({"seen": True}, True),
        ({"instance_id": "x"}, True),
        ({"phase": Phase.LATE}, True),
    ],
)
def test_a_machine_counts_as_shown_unless_a_record_says_that_it_never_was(
    world: World, others: dict[str, Any], was_shown: bool
) -> None:
    """However long ago its create was."""
    world.earlier(**{"phase": Phase.REPORTED, "instance_id": "made", **others})
    world.clock.time += 86_400
    assert world.creates.was_never_shown(URN, "made") is not was_shown
    assert not world.creates.was_never_shown(TWO.urn, "made")


def test_marks_without_a_record_change_nothing(world: World) -> None:
    """A diff may have dropped the record meanwhile, and a machine that was let go has none."""
    made = launch(world)
    world.creates.records.let_go(HERE, 0)
    for _ in range(2):
        world.creates.records.mark_reported(HERE, seen=True)
        world.creates.records.mark_unreported(HERE)
        world.creates.records.let_go(HERE, 0)
    (entry,) = world.journal.readable()
    assert (entry.instance_id, entry.is_late) == (made.id, True)
    assert world.warnings == []


def test_a_process_whose_engine_died_is_quiet_once_the_answer_is_on_disk(world: World) -> None:
    """The process may end when no POST is in flight and every answer is recorded, not before."""
    found: list[Phase | None] = []

    def end() -> None:
        world.machines.wait_until_quiet(60)
        entry = world.entry()
        found.append(entry.phase if entry else None)

    def engine_dies(request: Request[Any]) -> None:
        if request.creates:
            ending.start()
            world.machines.wait_until_quiet(0.05)  # which gives up while a POST is in flight

    ending = threading.Thread(target=end, daemon=True)
    world.api.before = engine_dies
    launch(world)
    ending.join(5)
    assert found == [Phase.CREATED]
    world.machines.wait_until_quiet(inf)
