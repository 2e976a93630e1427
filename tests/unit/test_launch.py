"""A machine is made once, come what may: each way in which a create can end, and begin again."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.support import ECDSA, ED25519, TurnedClock, settings

from pulumi_fal import errors
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import Home
from pulumi_fal.emulator.state import State, UnknownMachineError
from pulumi_fal.errors import JournalError, UnresolvedCreateError
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.entry import Entry, Phase, Spec
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.launcher import Launcher
from pulumi_fal.stack import Elsewhere, Origin, StackMachine

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::web"
HERE = Origin(URN, "organization", "file:///here")
SPEC = Spec(ONE, ED25519)
SETTLE = 20.0


class Clock(TurnedClock):
    """Its time of day passes with it."""

    def wall(self) -> float:
        return 1_700_000_000 + self.time


class Stacks:
    """What stacks hold: this one `in_state`, and others of its backend `elsewhere`."""

    def __init__(self) -> None:
        self.in_state: set[str] | None = set()
        self.account = ""
        self.others: dict[str, set[str] | str] = {}
        """By name, the ids of a stack's machines, or why it can't be read."""
        self.is_known_gone: bool | None = False

    def origin(self, urn: str, organization: str) -> Origin:
        return Origin(urn, organization, HERE.backend)

    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None:
        if self.in_state is None:
            return None
        return tuple(
            StackMachine(each, URN, Home(account=self.account)) for each in sorted(self.in_state)
        )

    def ids(self, origin: Origin) -> frozenset[str] | None:
        return None if self.in_state is None else frozenset(self.in_state)

    def is_gone(self, origin: Origin) -> bool | None:
        return self.is_known_gone

    def elsewhere(self, origin: Origin) -> Elsewhere:
        read = [each for each in self.others.values() if not isinstance(each, str)]
        unread = {name: each for name, each in self.others.items() if isinstance(each, str)}
        return Elsewhere(frozenset().union(*read), unread)


class World:
    """An API whose time is the clock's, a journal, and stacks."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.state = State(self.clock.now)
        self.journal = Journal(folder)
        self.stacks = Stacks()
        self.before: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None
        self.warnings: list[str] = []
        self.calls: list[str] = []
        self.settings = settings(appear_seconds=SETTLE)
        self.home = self.settings.home
        self.launcher = self.restart()

    def restart(self) -> Launcher:
        """A process that knows nothing but what is on disk."""
        self.launcher = Account(
            self.settings,
            self.clock,
            self.journal,
            self.stacks,
            send=self.send,
            warn=self.warnings.append,
        ).launcher
        return self.launcher

    def launch(self, spec: Spec = SPEC, origin: Origin = HERE) -> Instance:
        """A create, to the moment when its lock is released."""
        with self.launcher.launch(spec, origin) as instance:
            return instance

    def send(self, request: Request[Any], timeout: float | None = None) -> Any:
        call = f"{request.method} {request.path}"
        self.calls.append(call)
        self.before(call)
        try:
            if request.body:
                made = vars(
                    self.state.create(request.body["instance_type"], request.body["ssh_key"])
                )
                self.after(call)
                return made
            if request.method == "GET" and request.instance_id:
                return vars(self.state.get(request.instance_id))
        except UnknownMachineError:
            raise request.error(errors.NotFoundError, "no such machine", status=404) from None
        return [vars(each) for each in self.state.list()]

    def entry(self) -> Entry | None:
        return self.journal.find(HERE)

    @property
    def searched(self) -> bool:
        """Whether it is on record that there was time for a machine to appear, and none did."""
        entry = self.entry()
        return entry is not None and entry.searched

    def earlier(self, phase: Phase, instance_id: str | None = None, **others: Any) -> Entry:
        """An entry that an earlier process left behind."""
        entry = Entry(
            origin=HERE,
            account=self.home.account,
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
            self.launch(spec, origin)
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
            seen.append((entry, world.journal.is_locked(HERE)))

    world.before = look
    instance = world.launch()
    ((asked, is_locked),) = seen
    assert is_locked
    assert (asked.phase, asked.before, asked.started) == (
        Phase.REQUESTED,
        (there_before,),
        world.clock.wall(),
    )
    answered = world.entry()
    assert answered == replace(asked, phase=Phase.CREATED, instance_id=instance.id)
    assert world.launcher.resumed_ids == set()


def test_the_journal_has_no_key_and_knows_it_again(world: World) -> None:
    """Whatever its comment is."""
    world.launch(Spec(EIGHT, ED25519, "sector_2"), HERE)
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
        world.launch()
    assert world.entry() is None


def test_a_create_that_is_interrupted_before_its_post_leaves_no_trace(world: World) -> None:
    """Ctrl-C in the pause between two refusals."""

    def limited(call: str) -> None:
        if call.startswith("POST"):
            world.clock.interrupt()
            raise errors.RateLimitedError("POST", "/compute/instance", "slow down", status=429)

    world.before = limited
    with pytest.raises(errors.Interrupted):
        world.launch()
    assert world.entry() is None


def test_what_this_computer_can_not_send_leaves_no_trace(world: World) -> None:
    """A missing CA bundle: the POST never left, so nothing has to be looked for."""

    def unsendable(call: str) -> None:
        if call.startswith("POST"):
            raise errors.ConfigurationError("no CA bundle")

    world.before = unsendable
    with pytest.raises(errors.ConfigurationError):
        world.launch()
    assert world.entry() is None


def test_nothing_is_asked_for_without_a_journal(world: World) -> None:
    """A machine that nothing remembers is the one that is lost."""
    world.journal.folder.parent.mkdir(parents=True)
    world.journal.folder.write_text("in the way")
    with pytest.raises(JournalError):
        world.launch()
    assert world.state.creations == 0


def test_a_journal_that_fails_after_the_post_does_not_lose_the_answer(world: World) -> None:
    """The machine goes to state all the same, and a warning names it."""

    def break_disk(call: str) -> None:
        (path,) = (each for each in world.journal.folder.iterdir() if each.suffix == ".json")
        path.unlink()
        path.mkdir()

    world.after = break_disk
    instance = world.launch()
    (warning,) = world.warnings
    assert instance.id in warning
    world.launcher.mark_reported(HERE, seen=True)
    world.launcher.discard(HERE)
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
        world.earlier(Phase.CREATED, others[-1], origin=other_origin)
        lost(call)

    world.after = others_appear
    with pytest.raises(UnresolvedCreateError) as caught:
        world.launch()
    made = (world.state.alive() - set(others)).pop()
    said = str(caught.value)
    assert caught.value.candidates == (made,)
    assert not world.searched
    assert made in said
    assert not any(each in said for each in others)
    assert "reset" in said
    assert f"pulumi-fal pending adopt {URN} {made}" in said
    assert f"pulumi-fal pending forget {URN}" in said


def test_a_lost_answer_stays_on_disk(world: World) -> None:
    """With its reason, and the moment from which its machine has time to appear."""

    def late(call: str) -> None:
        if call.startswith("POST"):
            world.clock.time += 60
        lost(call)

    world.after = late
    with pytest.raises(UnresolvedCreateError):
        world.launch()
    entry = world.entry()
    assert entry is not None
    assert (entry.phase, entry.instance_id) == (Phase.REQUESTED, None)
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
        world.launch()
    assert set(caught.value.candidates) == world.state.alive()


def test_where_nothing_appeared_it_says_so_and_the_next_create_goes_on(world: World) -> None:
    """It looks twice more, in case of a lapse, and does not wait for the whole time again."""
    world.before = lost
    error = world.refusal()
    assert world.searched
    assert error.candidates == ()
    assert "No machine of type gpu_1x_h100_sxm5 has appeared since" in str(error)
    assert "safe to run `pulumi up` again" in str(error)
    world.before = lambda call: None
    began = world.clock.time
    world.restart()
    instance = world.launch()
    assert world.state.alive() == {instance.id}
    assert 2 <= world.clock.time - began < 2.5


@pytest.mark.parametrize("lapse", [1, 2])
def test_one_list_that_lapses_hides_no_candidate(world: World, lapse: int) -> None:
    """A second machine would be made beside the one that a lost answer is about."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, problem="it was reset", started=0.0)

    def hide(call: str) -> None:
        if call == "GET /compute/instances" and world.calls.count(call) == lapse:
            world.state.hide(made, "list", 0.1)

    world.before = hide
    assert world.refusal().candidates == (made,)


def test_where_there_is_no_list_nothing_is_made(world: World) -> None:
    """What can't be told is no permission."""

    def blind(call: str) -> None:
        lost(call)
        if world.calls.count("POST /compute/instance"):
            unlisted(call)

    world.before = blind
    for _ in range(2):
        error = world.refusal()
        assert not world.searched
        assert "Which machines exist now can't be told" in str(error)
    assert world.entry() is not None


def test_the_next_create_stops_while_a_candidate_runs(world: World) -> None:
    """It names the same one, and makes nothing beside it."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, problem="it was reset")
    error = world.refusal()
    assert error.candidates == (made,)
    assert "it was reset" in str(error)
    assert world.entry() is not None


def test_the_next_create_goes_on_once_the_candidate_is_gone(world: World) -> None:
    """By itself, without a word from anybody."""
    made = world.machine()
    world.earlier(Phase.REQUESTED, problem="it was reset")
    world.state.delete(made)
    instance = world.launch()
    assert world.state.alive() == {instance.id}


def test_the_next_create_goes_on_once_the_candidate_is_in_state(world: World) -> None:
    """Another resource of the stack has it."""
    world.stacks.in_state = {world.machine()}
    world.earlier(Phase.REQUESTED, problem="it was reset")
    instance = world.launch()
    assert instance.id not in world.stacks.in_state


def test_the_next_create_goes_on_once_another_create_claims_the_candidate(world: World) -> None:
    """Its own entry has the id."""
    world.earlier(Phase.CREATED, world.machine(), origin=replace(HERE, urn=f"{URN}-2"))
    world.earlier(Phase.REQUESTED, problem="it was reset")
    world.launch()
    assert world.state.creations == 2


def test_a_stack_that_gives_no_answer_claims_nothing(world: World) -> None:
    """So the candidate stays one."""
    made = world.machine()
    world.stacks.in_state = None
    world.earlier(Phase.REQUESTED, problem="it was reset")
    assert world.refusal().candidates == (made,)


@pytest.mark.parametrize("sector, is_one", [(None, True), ("sector_2", False), ("sector_1", True)])
def test_a_machine_in_another_sector_is_no_candidate(
    world: World, sector: str | None, is_one: bool
) -> None:
    """The emulator's first machine is in sector_1."""
    made = world.machine(EIGHT)
    world.earlier(Phase.REQUESTED, instance_type=EIGHT, sector=sector, problem="it was reset")
    if is_one:
        assert world.refusal(Spec(EIGHT, ED25519, sector)).candidates == (made,)
    else:
        assert world.launch(Spec(EIGHT, ED25519, sector), HERE).id != made


def test_a_machine_without_a_sector_yet_may_be_in_any(world: World) -> None:
    """It is too new for one to show."""
    world.state.provisioning = 1000
    made = world.machine(EIGHT)
    world.earlier(Phase.REQUESTED, instance_type=EIGHT, sector="sector_3", problem="it was reset")
    assert world.refusal(Spec(EIGHT, ED25519, "sector_3")).candidates == (made,)


@pytest.mark.parametrize("passed", [0, 5, SETTLE, 1000])
def test_a_killed_processs_machine_has_all_of_the_settle_time(world: World, passed: float) -> None:
    """Nobody saw the end: its last try may have been a moment ago, however long it had tried."""
    world.earlier(Phase.REQUESTED)
    world.clock.time += passed
    world.state.list_lag = SETTLE - 1
    made = world.machine()
    error = world.refusal()
    assert error.candidates == (made,)
    assert "the process ended before the answer came" in str(error)


def test_a_create_of_a_living_process_is_waited_for(world: World) -> None:
    """Its engine was killed, and it ends and records what it has begun."""
    entry = world.earlier(Phase.REQUESTED)
    other = Journal(world.journal.folder).try_lock(HERE)
    assert other is not None
    sleep, ending = world.clock.sleep, ExitStack()

    def answered(seconds: float) -> None:
        if world.clock.slept:
            world.journal.write(replace(entry, phase=Phase.CREATED, instance_id=world.machine()))
            ending.close()
        sleep(seconds)

    world.clock.sleep = answered  # type: ignore[method-assign]
    ending.enter_context(other)
    instance = world.launch()
    assert world.state.alive() == {instance.id}
    (warning,) = world.warnings
    assert "resource 'web' is still in progress" in warning


def test_a_create_is_under_way_for_others_until_it_is_handed_over(world: World) -> None:
    """A preview beside a running `up` must not call its machines forgotten."""
    with world.launcher.launch(SPEC, HERE):
        assert Journal(world.journal.folder).is_locked(HERE)
    assert not Journal(world.journal.folder).is_locked(HERE)


@pytest.mark.parametrize("fails", [lost, refused, unlisted], ids=lambda each: each.__name__)
def test_a_create_that_fails_is_under_way_no_more(
    world: World, fails: Callable[[str], None]
) -> None:
    """The next one would wait for it for ever."""
    world.before = fails
    with pytest.raises(errors.FalError):
        world.launch()
    assert not world.journal.is_locked(HERE)


# Machines that appear later, and those of other stacks.


@pytest.mark.parametrize("passed, stops", [(590, True), (610, False)])
def test_once_nothing_was_found_what_appears_much_later_stops_nothing(
    world: World, passed: float, stops: bool
) -> None:
    """Somebody rents the same type every day: then it would never be safe to run again."""
    world.before = lost
    assert not world.refusal().candidates
    assert world.searched
    world.before = lambda call: None
    world.clock.time += passed - SETTLE
    others = world.machine()
    world.restart()
    if stops:
        assert world.refusal().candidates == (others,)
        world.clock.time += 1000
        assert world.refusal().candidates == (others,)  # it did not appear late
        return
    assert world.launch().id != others
    (warning,) = world.warnings
    assert others in warning
    assert "resource 'web'" in warning


def test_a_look_that_fails_takes_nothing_back_of_an_earlier_one(world: World) -> None:
    """It found nothing, and nothing has appeared since, for all that is known."""
    world.before = lost
    assert not world.refusal().candidates
    assert world.searched
    world.before = unlisted
    assert not world.refusal().candidates
    world.before = lambda call: None
    world.clock.time += 1000
    others = world.machine()
    assert world.launch().id != others


def test_without_an_earlier_look_nothing_is_late(world: World) -> None:
    """The process that sent the POST was killed: its machine may be there since then."""
    world.earlier(Phase.REQUESTED)
    world.clock.time += 5000
    made = world.machine()
    assert world.refusal().candidates == (made,)


def test_a_machine_that_another_stack_of_the_backend_holds_is_no_candidate(world: World) -> None:
    """Its state knows it, so it is nobody's lost machine."""
    theirs, made = world.machine(), world.machine()
    world.stacks.others = {"organization/shop/prod": {theirs}}
    world.earlier(Phase.REQUESTED, problem="it was reset")
    assert world.refusal().candidates == (made,)


def test_a_stack_that_can_not_be_read_is_named(world: World) -> None:
    """One of the candidates may be there."""
    world.machine()
    world.stacks.others = {"organization/shop/prod": "it took too long"}
    world.earlier(Phase.REQUESTED, problem="it was reset")
    assert "organization/shop/prod: it took too long" in str(world.refusal())


# A stack, or a project, under another name.

BEFORE = replace(HERE, urn=URN.replace("dev", "old"))


@pytest.mark.parametrize("is_gone", [True, None])
@pytest.mark.parametrize("renamed", [BEFORE, replace(HERE, urn=URN.replace("shop", "store"))])
@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REPORTED, Phase.ADOPTED])
def test_what_a_renamed_stack_has_on_record_stops_a_create_by_name(
    world: World, renamed: Origin, phase: Phase, is_gone: bool | None
) -> None:
    """The record is under the old name, and a second machine would be made.

    Also where it can't be told whether that stack is still there.
    """
    made = world.machine()
    world.stacks.is_known_gone = is_gone
    world.earlier(phase, made, origin=renamed)
    error = world.refusal()
    assert error.candidates == (made,)
    said = str(error)
    assert f"pulumi-fal pending adopt {renamed.urn} {made} --for {URN}`" in said
    assert f"pulumi-fal pending forget {renamed.urn}`" in said


def test_a_lost_answer_of_a_renamed_stack_stops_a_create_while_it_may_have_made_a_machine(
    world: World,
) -> None:
    """And no longer once nothing can be it."""
    made = world.machine()
    world.stacks.is_known_gone = True
    world.earlier(Phase.REQUESTED, origin=BEFORE, problem="it was reset")
    assert "--for" in str(world.refusal())
    world.state.delete(made)
    assert world.launch().id != made


def test_everything_that_earlier_names_of_a_stack_left_is_named_at_once(world: World) -> None:
    """One after the other would take a run each, and hide what bills meanwhile."""
    first, second = world.machine(), world.machine()
    world.stacks.is_known_gone = True
    world.earlier(Phase.CREATED, first, origin=BEFORE)
    world.earlier(Phase.CREATED, second, origin=replace(HERE, urn=URN.replace("dev", "older")))
    error = world.refusal()
    assert set(error.candidates) == {first, second}
    assert str(error).count("pending adopt") == 2


def test_a_record_of_a_renamed_stack_goes_once_state_has_its_machine(world: World) -> None:
    """It has moved on with the stack, and would stop a create once it is replaced."""
    made = world.machine()
    world.stacks.is_known_gone, world.stacks.in_state = True, {made}
    world.earlier(Phase.REPORTED, made, origin=BEFORE, seen=True)
    assert world.launch().id != made
    assert world.journal.find(BEFORE) is None


def test_a_lost_answer_of_a_renamed_stack_and_another_account_is_not_passed_by(
    world: World,
) -> None:
    """This key can't see what that POST may have made."""
    world.stacks.is_known_gone = True
    world.earlier(Phase.REQUESTED, origin=BEFORE, problem="it was reset", account="another")
    assert "the key of another account (another)" in str(world.refusal())


@pytest.mark.parametrize(
    "case",
    ["stack there", "in state", "machine gone", "name", "backend", "unknown backend"],
)
def test_what_is_no_renamed_stacks_stops_nothing(world: World, case: str) -> None:
    """Another stack's creates are its own, and what state has is settled."""
    made = world.machine()
    origin, others = BEFORE, dict[str, Any]()
    world.stacks.is_known_gone = case != "stack there"
    if case == "in state":
        world.stacks.in_state = {made}
    if case == "machine gone":
        world.state.delete(made)
        others["seen"] = True
    if case == "name":
        origin = replace(BEFORE, urn=f"{BEFORE.urn}-2")
    if case == "backend":
        origin = replace(BEFORE, backend="file:///there")
    here = HERE
    if case == "unknown backend":
        origin, here = replace(BEFORE, backend=""), replace(HERE, backend="")
    world.earlier(Phase.CREATED, made, origin=origin, **others)
    assert world.launch(origin=here).id != made


# A machine that an earlier create left.


def test_a_create_goes_on_with_the_machine_that_an_earlier_one_made(world: World) -> None:
    """And says so, since nobody may delete that one now."""
    made = world.machine()
    entry = world.earlier(Phase.CREATED, made)
    assert world.launch().id == made
    assert world.state.creations == 1
    assert world.launcher.resumed_ids == {made}
    assert world.entry() == replace(entry, seen=True)


def test_a_create_goes_on_with_a_new_machine_that_does_not_show_yet(world: World) -> None:
    """The process was killed just after the answer, and reads lag."""
    made = world.machine()
    for call in ("list", "get"):
        world.state.hide(made, call, 25)
    world.earlier(Phase.CREATED, made)
    assert world.launch().id == made


def test_the_time_to_appear_begins_with_the_answer(world: World) -> None:
    """A POST that was told to come later was sent long before its machine was made."""
    slowed = [True]

    def slow_down(call: str) -> None:
        if call.startswith("POST") and slowed:
            slowed.pop()
            raise errors.RateLimitedError("POST", "/x", "slow", status=429, retry_after=60.0)

    world.before = slow_down
    made = world.launch().id
    for call in ("list", "get"):
        world.state.hide(made, call, 25)
    world.restart()
    assert world.launch().id == made


def test_a_machine_that_did_not_show_for_long_is_not_waited_for(world: World) -> None:
    """Something took it away before anybody saw it."""
    world.earlier(Phase.CREATED, "never-there")
    world.clock.time += 31
    assert world.launch().id in world.state.alive()


def test_a_create_makes_another_where_the_earlier_machine_is_gone(world: World) -> None:
    """It was seen, and now it is neither listed nor there when asked for."""
    gone = world.machine()
    world.state.delete(gone)
    world.earlier(Phase.CREATED, gone, seen=True)
    instance = world.launch()
    assert world.state.alive() == {instance.id}
    assert world.launcher.resumed_ids == set()


def test_a_machine_that_only_the_list_lacks_is_not_gone(world: World) -> None:
    """A list may lag behind."""
    made = world.machine()
    world.state.hide(made, "list")
    world.earlier(Phase.CREATED, made)
    assert world.launch().id == made


def test_where_the_earlier_machine_cannot_be_looked_at_it_is_named(world: World) -> None:
    """Nothing is made, and the entry stays."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    world.before = unlisted
    error = world.refusal()
    assert error.candidates == (made,)
    assert made in str(error)
    assert "403" in str(error)
    assert world.entry() is not None


@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.REPORTED, Phase.ADOPTED])
def test_a_machine_that_state_has_is_never_taken_up(world: World, phase: Phase) -> None:
    """The create is for another one, as with `--replace`, which runs no diff first."""
    old = world.machine()
    world.stacks.in_state = {old}
    world.earlier(phase, old)
    instance = world.launch()
    assert instance.id != old
    assert world.launcher.resumed_ids == set()
    entry = world.entry()
    assert entry is not None
    assert entry.instance_id == instance.id


@pytest.mark.parametrize(
    "in_state, why", [(set[str](), "it is not in state"), (None, "the stack can't be read")]
)
def test_a_machine_that_pulumi_was_told_of_is_not_taken_up_on_a_guess(
    world: World, in_state: set[str] | None, why: str
) -> None:
    """It may be the one to be replaced, or one that nobody has."""
    made = world.machine()
    world.stacks.in_state = in_state
    world.earlier(Phase.REPORTED, made)
    error = world.refusal()
    assert error.candidates == (made,)
    assert f"it was reported to Pulumi, but {why}" in str(error)
    assert f"pulumi-fal pending adopt {URN} {made}" in str(error)
    assert f"pulumi-fal pending forget {URN}" in str(error)


def test_a_machine_that_pulumi_did_not_hear_of_needs_no_answer_of_the_stack(world: World) -> None:
    """A stack that can't be asked stops nobody whose engine was killed."""
    made = world.machine()
    world.stacks.in_state = None
    world.earlier(Phase.CREATED, made)
    assert world.launch().id == made


@pytest.mark.parametrize(
    "spec", [Spec(EIGHT, ED25519), Spec(ONE, ECDSA), Spec(ONE, ED25519, "sector_1")]
)
def test_a_machine_of_other_inputs_is_not_taken_up(world: World, spec: Spec) -> None:
    """It is not what is asked for now, and not to be passed by either."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    error = world.refusal(spec)
    assert error.candidates == (made,)
    assert "inputs have changed" in str(error)


def test_a_machine_of_other_inputs_that_is_deleted_stops_nothing(world: World) -> None:
    """However new it is: the create that stopped has seen it."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    world.refusal(Spec(ONE, ECDSA))
    world.state.kill(made)
    world.restart()
    assert world.launch(Spec(ONE, ECDSA)).id != made


def test_a_machine_that_a_person_chose_may_have_another_key(world: World) -> None:
    """Nothing tells a machine's key, so the person's word counts."""
    made = world.machine()
    world.earlier(Phase.ADOPTED, made, ssh_key="another")
    assert world.launch().id == made
    entry = world.entry()
    assert entry is not None
    assert entry.phase == Phase.CREATED


def test_a_machine_that_a_person_chose_must_be_of_the_type(world: World) -> None:
    """Or state would say what isn't so."""
    world.earlier(Phase.ADOPTED, world.machine(EIGHT))
    assert "inputs have changed" in str(world.refusal())


@pytest.mark.parametrize(
    "phase, instance_id", [(Phase.REQUESTED, None), (Phase.CREATED, "gone-or-elsewhere")]
)
def test_what_was_made_with_another_key_is_not_taken_for_gone(
    world: World, phase: Phase, instance_id: str | None
) -> None:
    """This key can't see it, and the message tells which one can."""
    world.earlier(phase, instance_id, account="another")
    said = str(world.refusal())
    assert (
        f"with the key of another account (another), and the key that is set now (account "
        f"{world.home.account}) does not see it" in said
    )
    assert world.entry() is not None


@pytest.mark.parametrize("instance_id", [None, "made-elsewhere"])
def test_without_a_list_nobody_can_tell_whose_account_it_is(
    world: World, instance_id: str | None
) -> None:
    """The machine is named, or that there may be one; the API's error alone would not do."""
    world.earlier(
        Phase.CREATED if instance_id else Phase.REQUESTED, instance_id, account="another", seen=True
    )
    world.before = unlisted
    said = str(world.refusal())
    assert "can't be told: GET /compute/instances answered 403" in said
    assert instance_id is None or instance_id in said


@pytest.mark.parametrize("shown", ["before the POST", "in state"])
@pytest.mark.parametrize("phase, instance_id", [(Phase.REQUESTED, None), (Phase.CREATED, "gone")])
def test_a_rotated_key_of_the_same_account_is_no_dead_end(
    world: World, shown: str, phase: Phase, instance_id: str | None
) -> None:
    """It sees another machine of the account that the record is of, so its word counts."""
    known = world.machine()
    world.stacks.in_state, world.stacks.account = set(), "another"
    if shown == "in state":
        world.stacks.in_state = {known}
    before = (known,) if shown == "before the POST" else ()
    world.earlier(phase, instance_id, account="another", before=before, seen=True)
    assert world.launch().id in world.state.alive()
    assert world.state.creations == 2


def test_a_machine_that_another_key_of_the_account_shows_is_taken_up(world: World) -> None:
    """A key that was rotated in between changes nothing."""
    made = world.machine()
    world.earlier(Phase.CREATED, made, account="another")
    assert world.launch().id == made


def test_a_record_without_a_backend_is_settled_by_the_stacks_own_word(world: World) -> None:
    """The stack has this machine, so the create is over, whatever the record doesn't know."""
    made = world.machine()
    world.stacks.in_state = {made}
    world.earlier(Phase.REPORTED, made, origin=replace(HERE, backend=""))
    assert world.launch().id != made
    assert world.entry() is not None


def test_what_may_be_another_stacks_names_ways_out_that_work(world: World) -> None:
    """Where this stack is unknown, how to tell it; where the record's is, whose it is."""
    made = world.machine()
    world.earlier(Phase.CREATED, made)
    said = str(world.refusal(origin=replace(HERE, backend="")))
    assert "Set PULUMI_BACKEND_URL to the full URL of this stack's backend" in said
    world.earlier(Phase.CREATED, made, origin=replace(HERE, backend=""))
    world.journal.drop(world.earlier(Phase.CREATED, made))
    said = str(world.refusal())
    where = "--backend file:///here --organization organization"
    assert f"pulumi-fal pending adopt {URN} {made} {where}`" in said
    assert f"pulumi-fal pending forget {URN}`" in said


@pytest.mark.parametrize("place", ["backend", "organization"])
@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.CREATED])
def test_what_may_be_another_stacks_is_left_alone(world: World, place: str, phase: Phase) -> None:
    """Where one of the two doesn't know which stack it is, or neither does."""
    vague = replace(HERE, **{place: ""})
    made = world.machine() if phase == Phase.CREATED else None
    entry = world.earlier(phase, made)
    assert "it can't be told whether that was in this stack" in str(world.refusal(origin=vague))
    world.journal.drop(entry)
    world.earlier(phase, made, origin=vague)
    assert "it can't be told" in str(world.refusal())
    assert "it can't be told" in str(world.refusal(origin=vague))


def test_another_stacks_entry_is_no_concern(world: World) -> None:
    """Same names, another backend."""
    theirs = world.machine()
    world.earlier(Phase.CREATED, theirs, origin=replace(HERE, backend="file:///there"))
    assert world.launch().id != theirs


# What becomes of the entry.


def test_the_phase_follows_what_pulumi_was_told(world: World) -> None:
    """Told, and taken back where it did not hear."""
    world.launch()
    marks: list[tuple[Phase, bool]] = []
    for seen in (False, True):
        world.launcher.mark_reported(HERE, seen=seen)
        told = world.entry()
        world.launcher.mark_unreported(HERE)
        taken_back = world.entry()
        marks += [(each.phase, each.seen) for each in (told, taken_back) if each]
    assert marks == [
        (Phase.REPORTED, False),
        (Phase.CREATED, False),
        (Phase.REPORTED, True),
        (Phase.CREATED, True),
    ]


@pytest.mark.parametrize(
    "others, passed, may",
    [({}, 29, True), ({}, 31, False), ({"seen": True}, 1, False), ({"instance_id": "x"}, 1, False)],
)
def test_a_new_machine_that_was_never_seen_may_still_appear(
    world: World, others: dict[str, Any], passed: float, may: bool
) -> None:
    """For a while: then its absence means what it says."""
    world.earlier(Phase.REPORTED, **{"instance_id": "made", **others})
    world.clock.time += passed
    assert world.launcher.may_still_appear(URN, "made") is may
    assert not world.launcher.may_still_appear(f"{URN}-2", "made")


def test_a_machine_that_is_given_up_leaves_no_trace(world: World) -> None:
    """It is gone."""
    world.launch()
    world.launcher.discard(HERE)
    assert world.entry() is None


def test_nothing_is_noted_where_there_is_no_entry(world: World) -> None:
    """As when a diff has settled it meanwhile."""
    world.launcher.mark_reported(HERE, seen=True)
    world.launcher.mark_unreported(HERE)
    world.launcher.discard(HERE)
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
    world.launch()
    assert quiet == [1]
    world.launcher.wait_until_quiet(float("inf"))


def test_messages_name_the_resource_as_people_know_it(world: World) -> None:
    """By its name, with the URN in the commands only."""
    world.earlier(Phase.REPORTED, world.machine(), origin=HERE)
    said = str(world.refusal())
    assert "resource 'web'" in said
    assert len(re.findall(re.escape(URN), said)) == 2
