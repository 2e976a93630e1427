"""A stack moves from the legacy API to v1: what v1 knows goes on, and nothing else is dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api import dialects
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.settings import ENDPOINTS, AccountId, Settings
from pulumi_fal.errors import ElsewhereError, UnresolvedCreateError
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.process import Machines
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.outputs import UNFINISHED
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

from ..fakes import ED25519, ONE, URN, FakeApi, FakeStacks, TurnedClock, settings, unanswered

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

    def provider(self, used: Settings) -> Machines:
        """A new process of the provider with those settings."""
        send = self.send_v1 if used.api == "v1" else self.legacy.send
        machines = Machines(self.journal, self, self.clock, lambda: used, send=send)
        machines.known.update(self.state)  # as the engine's own state has them
        return machines

    def send_v1(self, request: Request[Any], timeout: float | None = None) -> Any:
        """The v1 API tells a machine's region as well."""
        answer = self.v1.send(request, timeout)
        if not isinstance(answer, dict):
            return answer
        for machine in answer.get("instances", [answer]):
            machine.update(region="us-west", creator_user_nickname="developer")
        return answer

    def create(self, used: Settings = LEGACY) -> str:
        created = operations.create(self.provider(used), CALL, INPUTS)
        self.state[created.id] = created.outputs
        self.in_state = set(self.state)
        return created.id

    def refresh(self, used: Settings, id_: str) -> dict[str, Any] | None:
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


def test_a_machine_that_v1_knows_gets_its_new_home_and_its_region(known: Stack) -> None:
    """Whatever else state has of the machine stays as it is."""
    id_ = known.create()
    before = known.state[id_]
    assert (before["endpoint"], before["account"]) == (LEGACY.endpoint, LEGACY.account)
    assert known.refresh(V1, id_) == {
        **before,
        "endpoint": V1.endpoint,
        "account": V1.account,
        "region": "us-west",
        "creator_user_nickname": "developer",
    }
    assert LEGACY.account != V1.account
    assert known.legacy.state.creations == 1


def test_a_machine_that_v1_knows_is_neither_replaced_nor_made_again(known: Stack) -> None:
    """An `up` before the refresh finds nothing to do, and one after it doesn't either."""
    id_ = known.create()
    for outputs in (known.state[id_], known.refresh(V1, id_)):
        assert outputs is not None
        diff = operations.diff(known.provider(V1), CALL, id_, outputs, INPUTS)
        assert (diff.replaces, diff.changes) == ([], None)


@pytest.mark.parametrize("is_refreshed", [True, False])
def test_a_machine_that_v1_knows_is_deleted_there(known: Stack, is_refreshed: bool) -> None:
    """A destroy needs no refresh before it."""
    id_ = known.create()
    outputs = known.refresh(V1, id_) if is_refreshed else known.state[id_]
    assert outputs is not None
    operations.delete(known.provider(V1), CALL, id_, outputs)
    assert known.legacy.state.alive() == set()
    assert known.v1.requests[-1].reason is dialects.V1.reason


def test_a_machine_that_v1_knows_is_awaited_there(known: Stack) -> None:
    """A wait that ended early under the legacy API is resumed under v1."""
    id_ = known.create()
    olds = {**known.state[id_], UNFINISHED: True, "status": "pending"}
    outputs = operations.update(known.provider(V1), CALL, id_, olds, INPUTS)
    assert (outputs["status"], outputs["region"]) == ("ready", "us-west")
    assert UNFINISHED not in outputs


def test_a_machine_that_v1_does_not_know_is_kept_and_both_endpoints_are_named(
    unknown: Stack,
) -> None:
    """Refresh, destroy and a resumed wait all stop, and send nothing that changes anything."""
    id_ = unknown.create()
    olds = unknown.state[id_]
    provider = unknown.provider(V1)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: operations.read(provider, CALL, id_, olds),
        lambda: operations.delete(provider, CALL, id_, olds),
        lambda: operations.update(provider, CALL, id_, {**olds, UNFINISHED: True}, INPUTS),
    )
    for attempt in attempts:
        with pytest.raises(ElsewhereError) as caught:
            attempt()
        assert f"Machine {id_} was last seen at {LEGACY.endpoint}," in str(caught.value)
        assert f"the endpoint that is set now, {V1.endpoint}," in str(caught.value)
        assert "FAL_COMPUTE_API or fal:api to the API that it was made with" in str(caught.value)
    assert set(unknown.v1.calls) <= {"list", "get"}
    assert unknown.legacy.state.alive() == {id_}
    assert unknown.refresh(LEGACY, id_) == olds


def test_a_preview_does_not_replace_an_unfinished_machine_that_v1_does_not_know(
    unknown: Stack,
) -> None:
    """Only the account that has the machine can say that it is gone."""
    id_ = unknown.create()
    olds = {**unknown.state[id_], UNFINISHED: True}
    diff = operations.diff(unknown.provider(V1), CALL, id_, olds, INPUTS)
    assert (diff.replaces, diff.changes) == ([], True)


def test_a_machine_is_kept_although_v1_knows_another_one_of_the_stack(known: Stack) -> None:
    """If v1 knows one machine by its id, it doesn't follow that it knows the others by theirs."""
    gone, there = known.create(), known.create()
    known.legacy.state.kill(gone)
    assert known.refresh(V1, there) is not None
    with pytest.raises(ElsewhereError):
        known.refresh(V1, gone)


def test_the_only_machine_of_a_stack_is_never_taken_for_gone(known: Stack) -> None:
    """Nothing shows that v1 would know a machine of the legacy API."""
    id_ = known.create()
    known.legacy.state.kill(id_)
    with pytest.raises(ElsewhereError):
        known.refresh(V1, id_)


def lose_an_answer(stack: Stack, call: Call) -> None:
    """A create under the legacy API gets no answer, and makes a machine."""

    def lose(request: Request[Any]) -> None:
        if request.kind == "create":
            raise unanswered(request)

    stack.legacy.after = lose
    with pytest.raises(UnresolvedCreateError):
        operations.create(stack.provider(LEGACY), call, INPUTS)
    stack.legacy.after = lambda request: None


def test_a_legacy_create_without_an_answer_stops_a_create_under_v1(unknown: Stack) -> None:
    """The machine may run where v1 doesn't see it, and the legacy API took no idempotency key."""
    lose_an_answer(unknown, CALL)
    with pytest.raises(UnresolvedCreateError) as caught:
        operations.create(unknown.provider(V1), CALL, INPUTS)
    assert "the endpoint and the API that it was made with" in str(caught.value)
    assert "create" not in unknown.v1.calls
    assert len(list(unknown.journal.entries())) == 1
