"""The v1 API: creates that are sent again with their key, and stacks that move to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api import dialects
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import ENDPOINTS, AccountId, Settings
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.errors import (
    ConfigurationError,
    ConflictError,
    ElsewhereError,
    RateLimitedError,
    UnresolvedCreateError,
)
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.journal import KEY_SECONDS, Entry, Journal, Phase
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.outputs import UNFINISHED
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from ..fakes import (
    ECDSA,
    ED25519,
    HERE,
    ONE,
    URN,
    FakeApi,
    FakeStacks,
    TurnedClock,
    settings,
    unanswered,
)
from ..fakes import refusal as refused
from .world import SPEC, World

SETTINGS = settings(endpoint="https://fal.test/v1", api="v1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home", SETTINGS)


def launch(
    world: World,
    spec: NewInstance = SPEC,
    origin: Origin = HERE,
    api_key: str = SETTINGS.api_key,
    aliases: Sequence[str] = (),
) -> Instance:
    """A create by a new process."""
    world.settings = replace(SETTINGS, api_key=api_key)
    world.restart()
    with world.creates.launch(spec, origin, aliases=aliases) as instance:
        return instance


def refusal(world: World, *, names_all: bool = True, **others: Any) -> str:
    """What a create by a new process says that stops, and mostly names all that there is."""
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world, **others)
    assert not names_all or set(caught.value.candidates) == world.state.alive()
    return str(caught.value)


def killed(world: World, *, taken: bool = True, **others: Any) -> None:
    """Leave the entry of a process that was killed while its POST was in flight."""
    sent = {"idempotency_key": "the-key", "first_sent": world.clock.wall()}
    world.earlier(Phase.REQUESTED, **{**sent, **others})
    if taken:
        world.state.create(NewInstance(ONE, ED25519), None, "the-key")


def kept(world: World) -> Entry:
    entry = world.entry()
    assert entry is not None
    return entry


def at_creates(act: Callable[[Request[Any]], None]) -> Callable[[Request[Any]], None]:
    """Do this at each create."""
    return lambda request: act(request) if request.creates else None


def lose(request: Request[Any]) -> None:
    raise unanswered(request)


def raising(error: Exception) -> Callable[[Request[Any]], None]:
    def fail(request: Request[Any]) -> None:
        raise error

    return fail


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize(
    "fault", ["reset_before", "reset_after", "late", "500_after", "522", "html_after", "empty"]
)
def test_sent_again(world: World, fault: str, times: int) -> None:
    """A create without a usable answer makes one machine, with the same key for each attempt."""
    world.api.faults.add("create", fault, times)
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert len(world.api.keys) == times + 1
    assert len(set(world.api.keys)) == 1


def test_key_on_disk(world: World) -> None:
    """A process that is killed before its POST leaves what the next one needs."""
    seen: list[Entry] = []
    world.api.before = at_creates(lambda request: seen.append(kept(world)))
    launch(world)
    (entry,) = seen
    assert [entry.idempotency_key] == world.api.keys
    assert (entry.phase, entry.first_sent) == (Phase.REQUESTED, world.clock.wall())


def test_replacement(world: World) -> None:
    """It gets another machine than it replaces, whose record a full disk has left without an id."""
    killed(world)
    (old,) = world.state.alive()
    world.stacks.in_state = {old}
    world.restart()
    world.account.known.add(URN)
    with world.creates.launch(SPEC, HERE) as new:
        assert new.id != old


@pytest.mark.parametrize("taken", [True, False])
def test_killed(world: World, taken: bool) -> None:
    """The machine is the one that the first attempt made, or the only one that is made."""
    killed(world, taken=taken)
    read = kept(world)
    world.clock.time += 60
    on_record: list[Entry] = []
    world.api.before = at_creates(lambda request: on_record.append(kept(world)))
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert world.api.keys == ["the-key"]
    assert (kept(world).phase, kept(world).instance_id) == (Phase.CREATED, instance.id)
    assert [entry != read for entry in on_record] == [True]  # who has read it must not drop it


@pytest.mark.parametrize(
    "passed, set_by, entry, create, said",
    [
        pytest.param(KEY_SECONDS, 0, {}, {}, "", id="after its time"),
        pytest.param(0, -60, {}, {}, "", id="of the future"),
        pytest.param(0, 0, {}, {"spec": NewInstance(ONE, ECDSA)}, "", id="another SSH key"),
        pytest.param(0, 0, {}, {"spec": NewInstance("8x", ED25519)}, "", id="another type"),
        pytest.param(
            0, 0, {}, {"api_key": "another"}, "the key of another account", id="another account"
        ),
        pytest.param(0, 0, {"idempotency_key": ""}, {}, "", id="of the legacy API"),
        pytest.param(
            0,
            0,
            {"origin": replace(HERE, urn=URN.replace("dev", "old"))},
            {},
            "",
            id="perhaps of a stack that was removed",
        ),
    ],
)
def test_not_sent_again(
    world: World,
    passed: float,
    set_by: float,
    entry: dict[str, Any],
    create: dict[str, Any],
    said: str,
) -> None:
    """The kept answer may be forgotten or another's, so the candidates are named."""
    killed(world, **entry)
    world.clock.time += passed
    world.clock.set_by += set_by
    assert said in refusal(world, names_all=not said, **create)
    assert world.api.keys == []


def test_long_outage(world: World) -> None:
    """No attempt is made once the key may be forgotten."""
    world.api.faults.add("create", "500_after", inf)
    refusal(world)
    assert world.passed < KEY_SECONDS + SETTINGS.settle_seconds + 20
    assert len(set(world.api.keys)) == 1
    assert world.state.creations == 1


def suspend_in_the_pause(clock: TurnedClock) -> None:
    clock.suspended = 3600


def suspend_in_the_post(clock: TurnedClock) -> None:
    clock.set_by += 3600


def set_back(clock: TurnedClock) -> None:
    clock.set_by -= 300


@pytest.mark.parametrize("happens", [suspend_in_the_pause, suspend_in_the_post, set_back])
def test_wall_clock(world: World, happens: Callable[[TurnedClock], None]) -> None:
    """A create is not sent again where the wall clock says that its key may be forgotten.

    Other clocks stand still while a laptop sleeps, and a clock that was set back proves nothing.
    """

    def lose_the_first(request: Request[Any]) -> None:
        if len(world.api.keys) == 1:
            happens(world.clock)
            lose(request)

    world.api.after = at_creates(lose_the_first)
    assert "POST /compute/instances got no answer: reset" in refusal(world)
    assert len(world.api.keys) == 1


def test_clock_set_back(world: World) -> None:
    """Of the two clocks the one that says that the time is up is believed."""
    world.api.faults.add("create", "500_after", inf)
    moments: list[float] = []

    def set_back_later(request: Request[Any]) -> None:
        moments.append(world.clock.passed)
        if len(moments) == 10:
            world.clock.set_by -= 30

    world.api.after = at_creates(set_back_later)
    refusal(world)
    assert len(moments) > 10
    assert moments[-1] <= KEY_SECONDS


def test_late_decision(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The computer may be suspended at any moment, so the clock is read right before a POST."""
    killed(world)
    send = Creates._send

    def late(creates: Creates, *args: Any, **kwargs: Any) -> Any:
        world.clock.set_by += KEY_SECONDS
        return send(creates, *args, **kwargs)

    monkeypatch.setattr(Creates, "_send", late)
    refusal(world)
    assert world.api.keys == []


def test_never_taken(world: World) -> None:
    """A key with which no request was accepted is as good as new, and needs no time left."""
    world.api.faults.add("create", "429", inf)
    world.clock.suspended = 3600
    with pytest.raises(RateLimitedError):
        launch(world)
    assert world.entry() is None


def conflict(world: World, before: str, detail: str) -> None:
    """Have two creates get a 409, after another failure or after a create that was killed."""
    if before == "killed":
        killed(world)
    elif before:
        world.api.faults.add("create", before)
    world.api.faults.add("create", Fault("409", "in progress", False, 409, detail=detail), 2)


@pytest.mark.parametrize("before", ["", "429", "reset_before", "killed"])
def test_conflict(world: World, before: str) -> None:
    """It passes: a process, or a gateway on the way, may have sent the same create before."""
    conflict(world, before, "a request with this key is in progress")
    assert {launch(world).id} == world.state.alive()
    assert len(set(world.api.keys)) == 1


def test_endless_conflict(world: World) -> None:
    """A create that never gets past it may have made a machine, and stays on record."""
    world.api.faults.add("create", "409", inf)
    assert "answered 409" in refusal(world)
    assert "answered 409" in kept(world).problem


@pytest.mark.parametrize("before", ["", "429", "reset_before", "killed"])
def test_conflict_for_want_of_capacity(world: World, before: str) -> None:
    """It says that this attempt has made no machine, and nothing of earlier ones."""
    conflict(world, before, "no capacity left")
    if before in ("", "429"):
        with pytest.raises(ConflictError, match="no capacity left"):
            launch(world)
        assert world.entry() is None
    else:
        refusal(world)
        assert "to send it again failed" in kept(world).problem
        assert "no capacity left" in kept(world).problem


RENAMED = replace(HERE, urn=URN.replace("dev", "old"), provider="an-id")
ALIASED = replace(HERE, urn=f"{URN}-earlier")


@pytest.mark.parametrize("earlier", [RENAMED, ALIASED], ids=["stack", "resource"])
def test_renamed(world: World, earlier: Origin) -> None:
    """The key is sent under the new name if the record surely is of this stack and resource."""
    world.stacks.providers = {"an-id": "pulumi:providers:fal"}
    killed(world, origin=earlier)
    assert {launch(world, aliases=[ALIASED.urn]).id} == world.state.alive()
    assert world.api.keys == ["the-key"]


def test_machine_of_others(world: World) -> None:
    """A machine that existed before the create is somebody else's, whoever answers with it."""
    theirs = world.state.create(NewInstance(ONE, ED25519), None, "the-key")
    killed(world, taken=False, before=(theirs.id,))
    with pytest.raises(UnresolvedCreateError, match="which existed before it") as caught:
        launch(world)
    assert f"the API answered with {theirs.id}" in str(caught.value)
    assert theirs.id not in caught.value.candidates


REFUSED = refused(403, "no", dialects.V1.create_instance(SPEC))
LIMITED = refused(429, "no", dialects.V1.create_instance(SPEC))
UNSENT = ConfigurationError("Nothing was sent to the API: no proxy.")


@pytest.mark.parametrize(
    "error, said",
    [
        (REFUSED, "POST /compute/instances answered 403: no."),
        (LIMITED, "POST /compute/instances answered 429: no."),
        (UNSENT, "Nothing was sent to the API: no proxy."),
    ],
    ids=["refused", "rate-limited", "not sent"],
)
def test_repeat_fails(world: World, error: Exception, said: str) -> None:
    """The first attempt may have made a machine, so nothing is forgotten."""
    killed(world)
    world.api.before = at_creates(raising(error))
    for _ in range(2):  # the next `up` says the same, and the refusals don't pile up
        assert kept(world).problem in refusal(world)
        problem = kept(world).problem
        assert problem.startswith(
            "the process ended before the answer came. The attempt to send it again failed: "
        )
        assert problem.count(said) == 1


def test_interrupted_repeats(world: World) -> None:
    """A rate limit may last longer than a person waits, and `pending ls` then says what it was."""
    killed(world)
    world.api.faults.add("create", "429", inf)
    world.api.before = lambda _: world.clock.interrupt() if len(world.api.keys) == 3 else None
    assert "answered 429" in refusal(world, names_all=False)
    assert "to send it again failed: POST /compute/instances answered 429" in kept(world).problem


@pytest.mark.parametrize("outcome", ["400", "interrupt"])
def test_end_of_repeats(world: World, outcome: str) -> None:
    """A refusal, or Ctrl-C, takes nothing back after an attempt that may have made a machine."""

    def end(request: Request[Any]) -> None:
        if len(world.api.keys) > 1:
            raise refused(400, "no", request)
        if outcome == "interrupt":
            world.clock.interrupt()

    world.api.before, world.api.after = at_creates(end), at_creates(lose)
    assert "may have made a machine" in refusal(world, names_all=False)
    assert "reset" in kept(world).problem
    assert ("answered 400: no" in kept(world).problem) is (outcome == "400")


# From the legacy API to v1

LEGACY = settings(ENDPOINTS["legacy"], api="legacy")
V1 = settings(ENDPOINTS["v1"], api="v1")
INPUTS = {"instance_type": ONE, "ssh_key": ED25519}
CALL = Call(URN)


class Stack(FakeStacks):
    """A stack's state: the outputs of its machines, and the provider that every command starts.

    Both APIs are served. `legacy` and `v1` are one and the same where v1 knows the machines.
    """

    def __init__(self, folder: Path, *, is_known: bool) -> None:
        super().__init__()
        self.clock = TurnedClock()
        self.journal = Journal(folder)
        self.state: dict[str, dict[str, Any]] = {}
        self.legacy = FakeApi(self.clock.now)
        self.v1 = self.legacy if is_known else FakeApi(self.clock.now)

    def provider(self, used: Settings = V1) -> Account:
        """A new process of the provider with those settings."""
        send = self.send_v1 if used.api == "v1" else self.legacy.send
        account = Account(self.journal, self, self.clock, lambda: used, send=send)
        account.known.update(self.state)  # as the engine's own state has them
        return account

    def send_v1(self, request: Request[Any], timeout: float | None = None) -> Any:
        """The v1 API tells a machine's region as well."""
        answer = self.v1.send(request, timeout)
        if not isinstance(answer, dict):
            return answer
        for machine in answer.get("instances", [answer]):
            machine.update(region="us-west", creator_user_nickname="developer")
        return answer

    def create(self) -> str:
        created = operations.create(self.provider(LEGACY), CALL, INPUTS)
        self.state[created.id] = created.outputs
        self.in_state = set(self.state)
        return created.id

    def refresh(self, id_: str, used: Settings = V1) -> dict[str, Any] | None:
        return operations.read(self.provider(used), CALL, id_, self.state[id_])

    def machines(self, origin: Origin) -> tuple[StackMachine, ...]:
        return tuple(
            StackMachine(id_, URN, AccountId.of(outputs)) for id_, outputs in self.state.items()
        )


@pytest.fixture
def known(tmp_path: Path) -> Stack:
    """Machines have the same ids under both APIs."""
    return Stack(tmp_path, is_known=True)


@pytest.fixture
def unknown(tmp_path: Path) -> Stack:
    """The v1 API has none of the legacy one's machines."""
    return Stack(tmp_path, is_known=False)


def test_refresh(known: Stack) -> None:
    """A machine that v1 knows gets its new home and its region, and all else stays as it is."""
    id_ = known.create()
    before = known.state[id_]
    assert (before["endpoint"], before["account"]) == (LEGACY.endpoint, LEGACY.account)
    after = known.refresh(id_)
    home = {"endpoint": V1.endpoint, "account": V1.account}
    assert after == {**before, **home, "region": "us-west", "creator_user_nickname": "developer"}
    for outputs in (before, after):  # neither replaced nor made again
        diff = operations.diff(known.provider(), CALL, id_, outputs, INPUTS)
        assert (diff.replaces, diff.changes) == ([], None)


@pytest.mark.parametrize("is_refreshed", [True, False])
def test_delete(known: Stack, is_refreshed: bool) -> None:
    """A machine that v1 knows is deleted there, which needs no refresh before it."""
    id_ = known.create()
    outputs = known.refresh(id_) if is_refreshed else known.state[id_]
    assert outputs is not None
    operations.delete(known.provider(), CALL, id_, outputs)
    assert known.legacy.state.alive() == set()
    assert known.v1.requests[-1].reason is dialects.V1.reason


def test_unfinished(known: Stack) -> None:
    """A wait that ended early under the legacy API is resumed under v1."""
    id_ = known.create()
    olds = {**known.state[id_], UNFINISHED: True, "status": "pending"}
    outputs = operations.update(known.provider(), CALL, id_, olds, INPUTS)
    assert (outputs["status"], outputs["region"]) == ("ready", "us-west")
    assert UNFINISHED not in outputs


def test_unknown_machine(unknown: Stack) -> None:
    """Refresh, destroy and a resumed wait all stop, and send nothing that changes anything."""
    id_ = unknown.create()
    olds, provider = unknown.state[id_], unknown.provider()
    unfinished = {**olds, UNFINISHED: True}
    attempts: tuple[Callable[[], object], ...] = (
        lambda: operations.read(provider, CALL, id_, olds),
        lambda: operations.delete(provider, CALL, id_, olds),
        lambda: operations.update(provider, CALL, id_, unfinished, INPUTS),
    )
    for attempt in attempts:
        with pytest.raises(ElsewhereError) as caught:
            attempt()
        assert f"Machine {id_} was last seen at {LEGACY.endpoint}," in str(caught.value)
        assert f"the endpoint that is set now, {V1.endpoint}," in str(caught.value)
        assert "FAL_COMPUTE_API or fal:api to the API that it was made with" in str(caught.value)
    diff = operations.diff(unknown.provider(), CALL, id_, unfinished, INPUTS)
    assert (diff.replaces, diff.changes) == ([], True)
    assert set(unknown.v1.calls) <= {"list", "get"}
    assert unknown.legacy.state.alive() == {id_}
    assert unknown.refresh(id_, LEGACY) == olds


@pytest.mark.parametrize("is_alone", [True, False])
def test_gone_machine(known: Stack, is_alone: bool) -> None:
    """It is kept: even if v1 knows one machine by its id, it need not know the others by theirs."""
    gone = known.create()
    if not is_alone:
        assert known.refresh(known.create()) is not None
    known.legacy.state.kill(gone)
    with pytest.raises(ElsewhereError):
        known.refresh(gone)


def test_unanswered_legacy_create(unknown: Stack) -> None:
    """It stops a create under v1: its machine may run where v1 doesn't see it."""
    unknown.legacy.after = at_creates(lose)
    with pytest.raises(UnresolvedCreateError):
        operations.create(unknown.provider(LEGACY), CALL, INPUTS)
    with pytest.raises(UnresolvedCreateError, match="the endpoint and the API that it was made"):
        operations.create(unknown.provider(), CALL, INPUTS)
    assert "create" not in unknown.v1.calls
    assert len(list(unknown.journal.entries())) == 1
