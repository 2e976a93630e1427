"""A machine is created exactly once: records, locks and searches around the POST.

test_decision.py has what is decided about the create of an earlier process; here is what only the
whole shows.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from pulumi_fal import errors
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import AccountId
from pulumi_fal.emulator.faults import fault
from pulumi_fal.errors import JournalError, UnresolvedCreateError
from pulumi_fal.machines.entry import GRACE_SECONDS, Entry, Phase
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ECDSA, ED25519, EIGHT, HERE, ONE, URN, FakeStacks
from .world import SETTLE_SECONDS, SPEC, World

TWO = replace(HERE, urn=f"{URN}-2")
"""Another resource of the stack."""
OLD = replace(HERE, urn=URN.replace("dev", "old"))
"""The resource in a stack of another name."""
VAGUE = replace(HERE, backend="")
"""The resource where the backend is unknown."""
LOST = {"problem": "it was reset"}
"""Of an entry whose POST is known to have ended without an answer."""


def launch(world: World, spec: NewInstance = SPEC, origin: Origin = HERE) -> Instance:
    """A create, to the moment when its lock is released."""
    with world.creates.launch(spec, origin) as instance:
        return instance


def refusal(world: World, spec: NewInstance = SPEC, origin: Origin = HERE) -> UnresolvedCreateError:
    """What a create that makes nothing says."""
    before = world.state.creations
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, spec, origin)
    assert world.state.creations == before
    return caught.value


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
            seen.append((world.entry(), world.journal.is_locked(HERE)))

    world.api.before = look
    instance = launch(world)
    ((requested, is_locked),) = seen
    assert is_locked
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
    assert ED25519.split()[1] not in next(world.folder.iterdir()).read_text()


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
    world.creates.records.discard(HERE)
    assert len(world.warnings) == 3
    assert all(URN in warning for warning in world.warnings[1:])


def test_a_create_is_locked_until_its_block_ends(world: World) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    with world.creates.launch(SPEC, HERE):
        assert Journal(world.folder).is_locked(HERE)
    assert not Journal(world.folder).is_locked(HERE)


@pytest.mark.parametrize("call, failure", [("create", "reset_after"), ("list", "403")])
def test_a_create_that_fails_is_no_longer_locked(world: World, call: str, failure: str) -> None:
    """The next create would wait for it for ever."""
    world.api.faults.add(call, failure)
    with pytest.raises(errors.FalError):
        launch(world)
    assert not world.journal.is_locked(HERE)


def test_a_create_waits_for_another_process_that_works_on_it(world: World) -> None:
    """A process that a killed engine left behind records what it has begun."""
    entry = world.earlier(Phase.REQUESTED)
    other = Journal(world.folder).try_lock(HERE)
    assert other is not None
    sleep, ending = world.clock.sleep, ExitStack()

    def answered(seconds: float) -> None:
        if world.clock.slept:
            world.journal.write(entry.as_created(world.machine()))
            ending.close()
        sleep(seconds)

    world.clock.sleep = answered  # type: ignore[method-assign]
    ending.enter_context(other)
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


def test_a_late_record_of_a_renamed_stack_stops_nothing(world: World) -> None:
    """The resource of a late record got another machine."""
    other = world.machine()
    world.stacks.is_known_gone = True
    world.earlier(Phase.LATE, origin=OLD, found=(other,), **LOST)
    assert launch(world).id != other


@pytest.mark.parametrize("passed", [0, 5, SETTLE_SECONDS, 1000])
def test_the_machine_of_a_killed_process_has_all_of_its_time_to_appear(
    world: World, passed: float
) -> None:
    """Nobody saw the POST end: it may have been sent a moment ago, whenever the create began."""
    world.earlier(Phase.REQUESTED)
    world.clock.time += passed
    world.state.list_lag = SETTLE_SECONDS - 1
    made = world.machine()
    assert refusal(world).candidates == (made,)


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


def test_the_time_to_appear_begins_with_the_answer(world: World) -> None:
    """A POST that is refused with 429 is sent again later, and only then makes a machine."""
    world.api.faults.add("create", fault("429", retry_after=60))
    made = launch(world).id
    world.hide(made, 25)
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
    """The create that stopped has seen it, so its absence counts however new it is."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    assert "inputs have changed" in str(refusal(world, NewInstance(ONE, ECDSA)))
    world.state.kill(made)
    world.restart()
    assert launch(world, NewInstance(ONE, ECDSA)).id != made


def test_a_create_that_replaces_a_machine_takes_over_its_record(world: World) -> None:
    """A record that no diff has dropped, as with `--replace`, goes without asking the API."""
    world.stacks.in_state = {"old"}
    world.earlier(Phase.REPORTED, "old", seen=True)
    instance = launch(world)
    assert world.api.calls == ["list", "create"]
    assert world.creates.resumed_ids == set()
    entry = world.entry()
    assert entry is not None
    assert entry.instance_id == instance.id


@pytest.mark.parametrize("shown_after, until", [(10.0, 10.0), (inf, GRACE_SECONDS)])
@pytest.mark.parametrize("recorded", [HERE, VAGUE])
def test_a_create_keeps_the_record_of_a_replaced_machine_until_it_appears_or_its_absence_counts(
    world: World, recorded: Origin, shown_after: float, until: float
) -> None:
    """Without that record, a refresh would take the new machine's absence for its end."""
    old = world.machine()
    world.hide(old, shown_after)
    world.stacks.in_state = {old}
    world.earlier(Phase.REPORTED, old, origin=recorded)
    kept_until = 0.0

    def look(request: Request[Any]) -> None:
        nonlocal kept_until
        entry = world.entry()
        if entry is not None and entry.instance_id == old:
            kept_until = world.clock.passed

    world.api.before = look
    instance = launch(world)
    assert until <= kept_until < until + 3
    assert [entry.instance_id for entry in world.journal.readable()] == [instance.id]


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


@pytest.mark.parametrize("recorded, here", [(HERE, VAGUE), (VAGUE, HERE), (VAGUE, VAGUE)])
def test_the_record_of_what_may_be_another_stack_is_kept_without_asking_the_api(
    world: World, recorded: Origin, here: Origin
) -> None:
    """Only a person, or the stack's own state, can tell whose create it was."""
    entry = world.earlier(Phase.CREATED, world.machine(), origin=recorded)
    assert "it is not known whether it was made for this stack" in str(refusal(world, origin=here))
    assert world.entry(here) == entry
    assert world.api.calls == []


def test_a_machine_that_one_of_the_namesakes_has_stops_no_create(world: World) -> None:
    """The stack that has the machine in state is the one that its record belongs to."""
    made = world.machine()
    world.stacks.in_state, world.stacks.namesakes = None, [StackMachine(made, URN)]
    world.earlier(Phase.REPORTED, made, seen=True)
    assert launch(world, origin=VAGUE).id != made


# A stack, or a project, under another name.


@pytest.mark.parametrize("is_gone", [True, None])
@pytest.mark.parametrize("earlier", [OLD, replace(HERE, urn=URN.replace("shop", "store"))])
def test_the_record_of_a_renamed_stack_stops_a_create_until_its_machine_is_gone(
    world: World, earlier: Origin, is_gone: bool | None
) -> None:
    """The record is under the old name, also where the stack can't be known to be gone."""
    made = world.machine()
    world.stacks.is_known_gone = is_gone
    world.earlier(Phase.REQUESTED, origin=earlier, **LOST)
    error = refusal(world)
    assert error.candidates == (made,)
    assert f"pulumi-fal pending adopt {earlier.urn} {made} --for {URN}" in str(error)
    world.state.kill(made)
    world.restart()
    assert launch(world).id != made


def test_everything_that_earlier_names_of_a_stack_left_is_named_at_once(world: World) -> None:
    """One error after the other would take a run each, and hide what bills meanwhile."""
    first, second = world.machine(), world.machine()
    world.stacks.is_known_gone = True
    world.earlier(Phase.CREATED, first, origin=OLD)
    world.earlier(Phase.CREATED, second, origin=replace(HERE, urn=URN.replace("dev", "older")))
    error = refusal(world)
    assert set(error.candidates) == {first, second}
    assert str(error).count("pending adopt") == 2


@pytest.mark.parametrize("earlier", [OLD, VAGUE])
def test_the_record_of_another_create_in_progress_is_left_to_it(
    world: World, earlier: Origin
) -> None:
    """A create holds the lock of its own resource only, and another may begin at any time."""
    old = world.machine()
    entry = world.earlier(Phase.REPORTED, old, origin=earlier, seen=True)
    lock = ExitStack()

    class SlowStacks(FakeStacks):
        def ids(self, origin: Origin) -> frozenset[str]:
            taken = Journal(world.folder).try_lock(earlier)
            if taken is not None:
                lock.enter_context(taken)
            return frozenset({old})

    world.stacks = SlowStacks()
    world.stacks.is_known_gone = True
    world.restart()
    with lock:
        assert launch(world).id != old
    assert entry in world.journal.readable()


def test_the_record_of_a_renamed_stack_goes_once_state_has_its_machine(world: World) -> None:
    """The machine has moved on with the stack, and its record would stop a later replacement."""
    made = world.machine()
    world.stacks.is_known_gone, world.stacks.in_state = True, {made}
    world.earlier(Phase.REPORTED, made, origin=OLD, seen=True)
    assert launch(world).id != made
    assert world.entry(OLD) is None


@pytest.mark.parametrize(
    "case", ["the stack is there", "the create is under way", "name", "backend", "unknown backend"]
)
def test_the_record_of_a_stack_that_was_not_renamed_stops_nothing(world: World, case: str) -> None:
    """The creates of another stack are its own, wherever it is."""
    world.stacks.is_known_gone = case != "the stack is there"
    origin, here = OLD, HERE
    if case == "name":
        origin = replace(OLD, urn=f"{OLD.urn}-2")
    if case == "backend":
        origin = replace(OLD, backend="file:///there")
    if case == "unknown backend":
        origin, here = replace(OLD, backend=""), replace(HERE, backend="")
    made = world.machine()
    entry = world.earlier(Phase.CREATED, made, origin=origin)
    with ExitStack() as locked:
        if case == "the create is under way":
            lock = Journal(world.folder).try_lock(origin)
            assert lock is not None
            locked.enter_context(lock)
        assert launch(world, origin=here).id != made
    assert world.entry(origin) == entry


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
        world.earlier(Phase.REPORTED, "new", seen=True)
    else:
        taken = Journal(world.folder).try_lock(HERE)
        assert taken is not None
        lock.enter_context(taken)
    before = world.entry()
    with lock:
        world.creates.records.mark_unreported(HERE)
    assert world.entry() == before


@pytest.mark.parametrize(
    "others, passed, may",
    [({}, 29, True), ({}, 31, False), ({"seen": True}, 1, False), ({"instance_id": "x"}, 1, False)],
)
def test_a_new_machine_that_the_api_never_showed_may_still_appear(
    world: World, others: dict[str, Any], passed: float, may: bool
) -> None:
    """Once it was shown, or after a while, its absence means what it says."""
    world.earlier(Phase.REPORTED, **{"instance_id": "made", **others})
    world.clock.time += passed
    assert world.creates.may_still_appear(URN, "made") is may
    assert not world.creates.may_still_appear(TWO.urn, "made")


def test_marks_without_a_record_change_nothing(world: World) -> None:
    """A diff may have dropped the record meanwhile, and a discarded machine has none."""
    launch(world)
    world.creates.records.discard(HERE)
    world.creates.records.mark_reported(HERE, seen=True)
    world.creates.records.mark_unreported(HERE)
    world.creates.records.discard(HERE)
    assert world.entry() is None
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
