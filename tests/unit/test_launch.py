"""A machine is made once, come what may: each way in which a create can end, and begin again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.support import ECDSA, ED25519, TurnedClock, settings

from pulumi_fal import errors
from pulumi_fal.client import Client
from pulumi_fal.emulator.state import State, UnknownMachineError
from pulumi_fal.errors import JournalError, UnresolvedCreateError
from pulumi_fal.fleet import Fleet
from pulumi_fal.journal import ADOPTED, ASKED, RETURNED, WAITING, Entry, Journal, Origin
from pulumi_fal.launch import Launcher, Spec
from pulumi_fal.lifecycle import Lifecycle

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::web"
HERE = Origin(URN, "organization", "file:///here")
SPEC = Spec(ONE, ED25519)
SETTLE = 20.0


class Clock(TurnedClock):
    """Its time of day passes with it."""

    def wall(self) -> float:
        return 1_700_000_000 + self.time


class World:
    """An API whose time is the clock's, a journal, and a stack that holds `in_state`."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.state = State(self.clock.now)
        self.journal = Journal(folder)
        self.in_state: set[str] | None = set()
        self.before: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None
        self.warnings: list[str] = []
        self.calls: list[str] = []
        self.account = "0123456789ab"
        self.launcher = self.restart()

    def restart(self) -> Launcher:
        """A process that knows nothing but what is on disk."""
        client = Client(settings(), self.clock, send=self.send)
        fleet = Fleet(client, self.clock, 2.0, uniform=lambda low, high: 1.0)
        self.launcher = Launcher(
            client,
            fleet,
            Lifecycle(client, fleet, self.clock),
            self.journal,
            self.clock,
            account=self.account,
            settle_seconds=SETTLE,
            ids_in_state=lambda origin: None if self.in_state is None else frozenset(self.in_state),
            warn=self.warnings.append,
        )
        return self.launcher

    def send(self, method: str, path: str, body: Any = None, **request: Any) -> Any:
        call = f"{method} {path}"
        self.calls.append(call)
        self.before(call)
        try:
            if body:
                made = vars(self.state.create(body["instance_type"], body["ssh_key"]))
                self.after(call)
                return made
            if method == "GET" and request.get("instance_id"):
                return vars(self.state.get(request["instance_id"]))
        except UnknownMachineError:
            raise errors.NotFoundError(method, path, "no such machine", status=404) from None
        return [vars(each) for each in self.state.list()]

    def entry(self) -> Entry | None:
        return self.journal.find(HERE)

    def earlier(self, phase: str, instance_id: str | None = None, **others: Any) -> Entry:
        """An entry that an earlier process left behind."""
        entry = Entry(
            origin=HERE,
            account=self.account,
            instance_type=ONE,
            ssh_key=SPEC.fingerprint,
            sector=None,
            before=(),
            started=self.clock.wall(),
            phase=phase,
            instance_id=instance_id,
        )
        entry = replace(entry, **others)
        self.journal.write(entry)
        return entry

    def machine(self, instance_type: str = ONE) -> str:
        """One that is there, whoever made it."""
        return self.state.create(instance_type, ED25519).id

    def refusal(self, spec: Spec = SPEC, origin: Origin = HERE) -> UnresolvedCreateError:
        """What a create that makes nothing says."""
        before = self.state.creations
        with pytest.raises(UnresolvedCreateError) as caught:
            self.launcher.launch(spec, origin)
        assert self.state.creations == before
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home" / "fal-compute" / "creates")


def lost(call: str) -> None:
    """The answer to a POST never arrives."""
    if call.startswith("POST"):
        raise errors.UnreachableError("POST", "/compute/instance", "reset", sent=True)


def refused(call: str) -> None:
    """The API takes no POST."""
    if call.startswith("POST"):
        raise errors.InvalidRequestError("POST", "/compute/instance", "no capacity", status=400)


def unlisted(call: str) -> None:
    """There is no list."""
    if call == "GET /compute/instances":
        raise errors.AuthenticationError("GET", "/compute/instances", "no", status=403)


# A create of its own.


def test_the_question_is_on_disk_before_it_is_asked_and_the_answer_after(world: World) -> None:
    """So that a process which dies in between leaves a trace."""
    there_before = world.machine()
    seen: list[tuple[Entry, bool]] = []

    def look(call: str) -> None:
        entry = world.entry()
        if call.startswith("POST") and entry is not None:
            seen.append((entry, world.journal.is_held(entry)))

    world.before = look
    instance = world.launcher.launch(SPEC, HERE)
    ((asked, is_held),) = seen
    assert is_held
    assert (asked.phase, asked.before, asked.started) == (
        ASKED,
        (there_before,),
        world.clock.wall(),
    )
    answered = world.entry()
    assert answered == replace(asked, phase=WAITING, instance_id=instance.id)
    assert world.launcher.taken_over == set()


def test_the_journal_has_no_key_and_knows_it_again(world: World) -> None:
    """Whatever its comment is."""
    world.launcher.launch(Spec(EIGHT, ED25519, "sector_2"), HERE)
    entry = world.entry()
    assert entry is not None
    assert (entry.instance_type, entry.sector) == (EIGHT, "sector_2")
    assert entry.ssh_key == Spec(ONE, f"{ED25519} me@laptop").fingerprint
    assert entry.ssh_key != Spec(ONE, ECDSA).fingerprint
    assert ED25519.split()[1] not in next(world.journal.folder.iterdir()).read_text()


def test_what_the_api_refuses_leaves_no_trace(world: World) -> None:
    """Its own word is the answer, and there is no machine."""
    world.before = refused
    with pytest.raises(errors.InvalidRequestError, match="no capacity"):
        world.launcher.launch(SPEC, HERE)
    assert world.entry() is None


def test_a_create_that_is_interrupted_before_its_post_leaves_no_trace(world: World) -> None:
    """Ctrl-C in the pause between two refusals."""

    def limited(call: str) -> None:
        if call.startswith("POST"):
            world.clock.interrupt()
            raise errors.RateLimitedError("POST", "/compute/instance", "slow down", status=429)

    world.before = limited
    with pytest.raises(errors.Interrupted):
        world.launcher.launch(SPEC, HERE)
    assert world.entry() is None


def test_nothing_is_asked_for_without_a_journal(world: World) -> None:
    """A machine that nothing remembers is the one that is lost."""
    world.journal.folder.parent.mkdir(parents=True)
    world.journal.folder.write_text("in the way")
    with pytest.raises(JournalError):
        world.launcher.launch(SPEC, HERE)
    assert world.state.creations == 0


def test_a_journal_that_fails_after_the_post_does_not_lose_the_answer(world: World) -> None:
    """The machine goes to state all the same, and a warning names it."""

    def break_disk(call: str) -> None:
        (path,) = (each for each in world.journal.folder.iterdir() if each.suffix == ".json")
        path.unlink()
        path.mkdir()

    world.after = break_disk
    instance = world.launcher.launch(SPEC, HERE)
    (warning,) = world.warnings
    assert instance.id in warning
    world.launcher.hand_over(HERE)
    world.launcher.give_up(HERE)
    assert len(world.warnings) == 3
    assert all(URN in each for each in world.warnings[1:])


# A POST without an answer.


def test_a_lost_answer_names_what_appeared_and_nothing_else(world: World) -> None:
    """Not what was there before, not another type, not what another create made."""
    others = [world.machine(), world.machine(EIGHT)]
    other_origin = replace(HERE, urn=f"{URN}-2")

    def others_appear(call: str) -> None:
        others.append(world.machine(EIGHT))
        others.append(world.machine())
        world.earlier(WAITING, others[-1], origin=other_origin)
        lost(call)

    world.after = others_appear
    with pytest.raises(UnresolvedCreateError) as caught:
        world.launcher.launch(SPEC, HERE)
    made = (world.state.alive() - set(others)).pop()
    said = str(caught.value)
    assert caught.value.candidates == (made,)
    assert not caught.value.is_settled
    assert made in said
    assert not any(each in said for each in others)
    assert "reset" in said
    assert f"pulumi-fal pending adopt {URN} ID" in said
    assert f"pulumi-fal pending forget {URN}" in said


def test_a_lost_answer_stays_on_disk(world: World) -> None:
    """With its reason, and the moment from which its machine has time to appear."""

    def late(call: str) -> None:
        if call.startswith("POST"):
            world.clock.time += 60
        lost(call)

    world.after = late
    with pytest.raises(UnresolvedCreateError):
        world.launcher.launch(SPEC, HERE)
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.instance_id) == (ASKED, None)
    assert "reset" in entry.problem
    assert entry.started == world.clock.wall() - SETTLE


def test_a_machine_has_the_settle_time_to_appear(world: World) -> None:
    """Also after an answer that took longer than that to be lost."""
    world.state.list_lag = 60 + SETTLE - 1

    def late(call: str) -> None:
        if call.startswith("POST"):
            world.clock.time += 60
        lost(call)

    world.after = late
    with pytest.raises(UnresolvedCreateError) as caught:
        world.launcher.launch(SPEC, HERE)
    assert set(caught.value.candidates) == world.state.alive()


def test_where_nothing_appeared_it_says_so_and_the_next_create_goes_on(world: World) -> None:
    """It looks once more, without waiting again."""
    world.before = lost
    error = world.refusal()
    assert error.is_settled
    assert error.candidates == ()
    assert "None of type gpu_1x_h100_sxm5 has appeared since" in str(error)
    assert "safe to run `pulumi up` again" in str(error)
    world.before = lambda call: None
    began = world.clock.time
    world.restart()
    instance = world.launcher.launch(SPEC, HERE)
    assert world.state.alive() == {instance.id}
    assert world.clock.time == began


def test_where_there_is_no_list_nothing_is_made(world: World) -> None:
    """What can't be told is no permission."""

    def blind(call: str) -> None:
        lost(call)
        if world.calls.count("POST /compute/instance"):
            unlisted(call)

    world.before = blind
    for _ in range(2):
        error = world.refusal()
        assert not error.is_settled
        assert "Which machines there are now can't be told" in str(error)
    assert world.entry() is not None


def test_the_next_create_stops_while_a_candidate_runs(world: World) -> None:
    """It names the same one, and makes nothing beside it."""
    made = world.machine()
    world.earlier(ASKED, problem="it was reset")
    error = world.refusal()
    assert error.candidates == (made,)
    assert "it was reset" in str(error)
    assert world.entry() is not None


def test_the_next_create_goes_on_once_the_candidate_is_gone(world: World) -> None:
    """By itself, without a word from anybody."""
    made = world.machine()
    world.earlier(ASKED, problem="it was reset")
    world.state.delete(made)
    instance = world.launcher.launch(SPEC, HERE)
    assert world.state.alive() == {instance.id}


def test_the_next_create_goes_on_once_the_candidate_is_in_state(world: World) -> None:
    """Another resource of the stack has it."""
    world.in_state = {world.machine()}
    world.earlier(ASKED, problem="it was reset")
    instance = world.launcher.launch(SPEC, HERE)
    assert instance.id not in world.in_state


def test_the_next_create_goes_on_once_another_create_claims_the_candidate(world: World) -> None:
    """Its own entry has the id."""
    world.earlier(WAITING, world.machine(), origin=replace(HERE, urn=f"{URN}-2"))
    world.earlier(ASKED, problem="it was reset")
    world.launcher.launch(SPEC, HERE)
    assert world.state.creations == 2


def test_a_stack_that_gives_no_answer_claims_nothing(world: World) -> None:
    """So the candidate stays one."""
    made = world.machine()
    world.in_state = None
    world.earlier(ASKED, problem="it was reset")
    assert world.refusal().candidates == (made,)


@pytest.mark.parametrize("sector, is_one", [(None, True), ("sector_2", False), ("sector_1", True)])
def test_a_machine_in_another_sector_is_no_candidate(
    world: World, sector: str | None, is_one: bool
) -> None:
    """The emulator's first machine is in sector_1."""
    made = world.machine(EIGHT)
    world.earlier(ASKED, instance_type=EIGHT, sector=sector, problem="it was reset")
    if is_one:
        assert world.refusal(Spec(EIGHT, ED25519, sector)).candidates == (made,)
    else:
        assert world.launcher.launch(Spec(EIGHT, ED25519, sector), HERE).id != made


def test_a_machine_without_a_sector_yet_may_be_in_any(world: World) -> None:
    """It is too new for one to show."""
    world.state.provisioning = 1000
    made = world.machine(EIGHT)
    world.earlier(ASKED, instance_type=EIGHT, sector="sector_3", problem="it was reset")
    assert world.refusal(Spec(EIGHT, ED25519, "sector_3")).candidates == (made,)


@pytest.mark.parametrize("passed", [0, 5, SETTLE, 1000])
def test_a_killed_processs_machine_has_all_of_the_settle_time(world: World, passed: float) -> None:
    """Nobody saw the end: its last try may have been a moment ago, however long it had tried."""
    world.earlier(ASKED)
    world.clock.time += passed
    world.state.list_lag = SETTLE - 1
    made = world.machine()
    error = world.refusal()
    assert error.candidates == (made,)
    assert "the process ended before the answer came" in str(error)


def test_a_post_of_a_living_process_is_waited_for(world: World) -> None:
    """Its engine was killed, and it ends and records what it has begun."""
    entry = world.earlier(ASKED)
    lock = (world.journal.folder / entry.file_name).with_suffix(".lock")
    sleep = world.clock.sleep

    def answered(seconds: float) -> None:
        lock.unlink()
        world.journal.write(replace(entry, phase=WAITING, instance_id=world.machine()))
        sleep(seconds)

    world.clock.sleep = answered  # type: ignore[method-assign]
    with Journal(world.journal.folder).held(entry):
        instance = world.launcher.launch(SPEC, HERE)
    assert world.state.alive() == {instance.id}
    (warning,) = world.warnings
    assert "still waits for the API's answer" in warning


# A machine that an earlier create left.


def test_a_create_goes_on_with_the_machine_that_an_earlier_one_made(world: World) -> None:
    """And says so, since nobody may delete that one now."""
    made = world.machine()
    entry = world.earlier(WAITING, made)
    assert world.launcher.launch(SPEC, HERE).id == made
    assert world.state.creations == 1
    assert world.launcher.taken_over == {made}
    assert world.entry() == entry


def test_a_create_makes_another_where_the_earlier_machine_is_gone(world: World) -> None:
    """Neither listed nor there when asked for."""
    gone = world.machine()
    world.state.delete(gone)
    world.earlier(WAITING, gone)
    instance = world.launcher.launch(SPEC, HERE)
    assert world.state.alive() == {instance.id}
    assert world.launcher.taken_over == set()


def test_a_machine_that_only_the_list_lacks_is_not_gone(world: World) -> None:
    """A list may lag behind."""
    made = world.machine()
    world.state.hide(made, "list")
    world.earlier(WAITING, made)
    assert world.launcher.launch(SPEC, HERE).id == made


def test_where_the_earlier_machine_cannot_be_looked_at_it_is_named(world: World) -> None:
    """Nothing is made, and the entry stays."""
    made = world.machine()
    world.earlier(WAITING, made)
    world.before = unlisted
    error = world.refusal()
    assert error.candidates == (made,)
    assert made in str(error)
    assert "403" in str(error)
    assert world.entry() is not None


@pytest.mark.parametrize("phase", [WAITING, RETURNED, ADOPTED])
def test_a_machine_that_state_has_is_never_taken_up(world: World, phase: str) -> None:
    """The create is for another one, as with `--replace`, which runs no diff first."""
    old = world.machine()
    world.in_state = {old}
    world.earlier(phase, old)
    instance = world.launcher.launch(SPEC, HERE)
    assert instance.id != old
    assert world.launcher.taken_over == set()
    entry = world.entry()
    assert entry is not None
    assert entry.instance_id == instance.id


@pytest.mark.parametrize(
    "in_state, why", [(set[str](), "it is not in state"), (None, "the stack could not be asked")]
)
def test_a_machine_that_pulumi_was_told_of_is_not_taken_up_on_a_guess(
    world: World, in_state: set[str] | None, why: str
) -> None:
    """It may be the one to be replaced, or one that nobody has."""
    made = world.machine()
    world.in_state = in_state
    world.earlier(RETURNED, made)
    error = world.refusal()
    assert error.candidates == (made,)
    assert f"{why}, although Pulumi was told of it" in str(error)
    assert f"pulumi-fal pending adopt {URN} {made}" in str(error)
    assert f"pulumi-fal pending forget {URN}" in str(error)


def test_a_machine_that_pulumi_did_not_hear_of_needs_no_answer_of_the_stack(world: World) -> None:
    """A stack that can't be asked stops nobody whose engine was killed."""
    made = world.machine()
    world.in_state = None
    world.earlier(WAITING, made)
    assert world.launcher.launch(SPEC, HERE).id == made


@pytest.mark.parametrize(
    "spec", [Spec(EIGHT, ED25519), Spec(ONE, ECDSA), Spec(ONE, ED25519, "sector_1")]
)
def test_a_machine_of_other_inputs_is_not_taken_up(world: World, spec: Spec) -> None:
    """It is not what is asked for now, and not to be passed by either."""
    made = world.machine()
    world.earlier(WAITING, made)
    error = world.refusal(spec)
    assert error.candidates == (made,)
    assert "inputs have changed" in str(error)


def test_a_machine_that_a_person_chose_may_have_another_key(world: World) -> None:
    """Nothing tells a machine's key, so the person's word counts."""
    made = world.machine()
    world.earlier(ADOPTED, made, ssh_key="another")
    assert world.launcher.launch(SPEC, HERE).id == made
    entry = world.entry()
    assert entry is not None
    assert entry.phase == WAITING


def test_a_machine_that_a_person_chose_must_be_of_the_type(world: World) -> None:
    """Or state would say what isn't so."""
    world.earlier(ADOPTED, world.machine(EIGHT))
    assert "inputs have changed" in str(world.refusal())


@pytest.mark.parametrize("phase, instance_id", [(ASKED, None), (WAITING, "gone-or-elsewhere")])
def test_what_was_made_with_another_key_is_not_taken_for_gone(
    world: World, phase: str, instance_id: str | None
) -> None:
    """This key can't see it."""
    world.earlier(phase, instance_id, account="another")
    assert "another key or at another endpoint" in str(world.refusal())
    assert world.entry() is not None


def test_a_machine_that_another_key_of_the_account_shows_is_taken_up(world: World) -> None:
    """A key that was rotated in between changes nothing."""
    made = world.machine()
    world.earlier(WAITING, made, account="another")
    assert world.launcher.launch(SPEC, HERE).id == made


@pytest.mark.parametrize("place", ["backend", "organization"])
@pytest.mark.parametrize("phase", [ASKED, WAITING])
def test_what_may_be_another_stacks_is_left_alone(world: World, place: str, phase: str) -> None:
    """Where one of the two doesn't know which stack it is, or neither does."""
    vague = replace(HERE, **{place: ""})
    made = world.machine() if phase == WAITING else None
    entry = world.earlier(phase, made)
    assert "it can't be told whether that was in this stack" in str(world.refusal(origin=vague))
    world.journal.drop(entry)
    world.earlier(phase, made, origin=vague)
    assert "it can't be told" in str(world.refusal())
    assert "it can't be told" in str(world.refusal(origin=vague))


def test_another_stacks_entry_is_no_concern(world: World) -> None:
    """Same names, another backend."""
    theirs = world.machine()
    world.earlier(WAITING, theirs, origin=replace(HERE, backend="file:///there"))
    assert world.launcher.launch(SPEC, HERE).id != theirs


# What becomes of the entry.


def test_the_phase_follows_what_pulumi_was_told(world: World) -> None:
    """Told, and taken back where it did not hear."""
    world.launcher.launch(SPEC, HERE)
    phases = []
    for note in (world.launcher.hand_over, world.launcher.take_back, world.launcher.hand_over):
        note(HERE)
        entry = world.entry()
        phases.append(entry and entry.phase)
    assert phases == [RETURNED, WAITING, RETURNED]


def test_a_machine_that_is_given_up_leaves_no_trace(world: World) -> None:
    """It is gone."""
    world.launcher.launch(SPEC, HERE)
    world.launcher.give_up(HERE)
    assert world.entry() is None


def test_nothing_is_noted_where_there_is_no_entry(world: World) -> None:
    """As when a diff has settled it meanwhile."""
    world.launcher.hand_over(HERE)
    world.launcher.take_back(HERE)
    world.launcher.give_up(HERE)
    assert world.entry() is None
    assert world.warnings == []


def test_it_is_quiet_when_no_post_is_under_way(world: World) -> None:
    """A process whose engine died leaves then, and not before the answer is on disk."""
    quiet: list[float] = []

    def ask(call: str) -> None:
        if call.startswith("POST"):
            quiet.append(world.launcher._posting)

    world.before = ask
    world.launcher.wait_until_quiet(0)
    world.launcher.launch(SPEC, HERE)
    assert quiet == [1]
    world.launcher.wait_until_quiet(float("inf"))


def test_messages_name_the_resource_as_people_know_it(world: World) -> None:
    """By its name, with the URN in the commands only."""
    world.earlier(RETURNED, world.machine(), origin=HERE)
    said = str(world.refusal())
    assert "resource 'web'" in said
    assert len(re.findall(re.escape(URN), said)) == 2
