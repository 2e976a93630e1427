"""The emulated machines, on a clock that the tests turn."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.state import NoCapacityError, State, TurnedClock, UnknownMachineError

from ..fakes import ED25519, EIGHT, ONE


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def state(clock: TurnedClock) -> State:
    """Ten seconds until a machine is ready, two until a deleted one is gone."""
    return State(clock, provisioning=10, deletion=2)


@pytest.mark.parametrize(
    "kind, ip_at, seconds, status, ip, sector",
    [
        (ONE, None, 0, "pending", None, None),
        (ONE, None, 1, "init", None, None),
        (ONE, None, 2, "init", None, None),
        (EIGHT, None, 2.9, "init", None, None),
        (EIGHT, None, 3, "provisioning", None, "sector_1"),
        (ONE, None, 3, "provisioning", None, None),
        (ONE, None, 7.9, "provisioning", None, None),
        (ONE, None, 8, "provisioning", "198.18.0.1", None),
        (ONE, None, 9.9, "provisioning", "198.18.0.1", None),
        (EIGHT, None, 10, "ready", "198.18.0.1", "sector_1"),
        (ONE, None, 10, "ready", "198.18.0.1", None),
        (ONE, 1.0, 9.9, "provisioning", None, None),
        (ONE, 1.0, 10, "ready", "198.18.0.1", None),
    ],
)
def test_provisioning(
    state: State,
    clock: TurnedClock,
    kind: str,
    ip_at: float | None,
    seconds: float,
    status: str,
    ip: str | None,
    sector: str | None,
) -> None:
    """A machine gets its IP near the end, or with `ip_at`; only an 8x machine gets a sector."""
    state.ip_at = ip_at or state.ip_at
    machine_id = state.create(NewInstance(kind, "key")).id
    clock.advance(seconds)
    machine = state.get(machine_id)
    assert (machine.status, machine.ip, machine.sector) == (status, ip, sector)


def test_at_once() -> None:
    """Without a provisioning time, a machine is ready at once."""
    assert State(TurnedClock()).create(NewInstance(EIGHT, "key")).is_ready


def test_ips_and_ids_are_never_given_twice(state: State) -> None:
    """The ip and the id of a machine that is gone are not given again."""
    state.deletion = 0
    first = state.create(NewInstance(ONE, "key"))
    state.delete(first.id)
    others = [state.create(NewInstance(ONE, "key")) for _ in range(3)]
    ips = {state.machines[machine.id].ip for machine in (first, *others)}
    assert len(ips) == len(state.machines) == 4


def test_sectors(state: State, clock: TurnedClock) -> None:
    """A requested sector is kept from the start, and the others are given in turn."""
    for asked in (None, None, "sector_3"):
        assert state.create(NewInstance(EIGHT, "key", asked)).sector == asked
    clock.advance(10)
    assert [machine.sector for machine in state.list()] == ["sector_1", "sector_2", "sector_3"]


def test_a_deleted_machine_is_shown_until_its_time_is_over(
    state: State, clock: TurnedClock
) -> None:
    """A deleted machine is listed and found for two seconds more, and then neither."""
    machine_id = state.create(NewInstance(ONE, "key")).id
    state.delete(machine_id)
    clock.advance(1.9)
    assert [machine.id for machine in state.list()] == [state.get(machine_id).id] == [machine_id]
    clock.advance(0.1)
    assert state.list() == []
    with pytest.raises(UnknownMachineError, match=machine_id):
        state.get(machine_id)
    with pytest.raises(UnknownMachineError, match=machine_id):
        state.delete(machine_id)


def test_deleting_twice_neither_prolongs_a_machine_nor_counts_twice(
    state: State, clock: TurnedClock
) -> None:
    """The first DELETE decides when a machine is gone, and a second counts for nothing."""
    machine_id = state.create(NewInstance(ONE, "key")).id
    state.delete(machine_id)
    clock.advance(1)
    state.delete(machine_id)
    clock.advance(1)
    assert (state.alive(), state.deletions) == (set(), 1)


def test_a_stuck_machine_stays_as_it_is_for_ever(state: State, clock: TurnedClock) -> None:
    """A stuck machine keeps its status and ip, and can still be deleted."""
    machine_id = state.create(NewInstance(EIGHT, "key")).id
    clock.advance(5)
    state.stuck(machine_id)
    before = state.get(machine_id)
    clock.advance(1e6)
    assert state.get(machine_id) == before
    assert before.status == "provisioning"
    state.delete(machine_id)
    clock.advance(2)
    assert state.alive() == set()


def test_a_killed_machine_is_gone_at_once_and_nobody_deleted_it(state: State) -> None:
    """A killed machine is gone without the time that a deletion takes."""
    machine_id = state.create(NewInstance(ONE, "key")).id
    state.kill(machine_id)
    assert (state.list(), state.alive(), state.deletions) == ([], set(), 0)


def test_any_text_can_be_a_status(state: State, clock: TurnedClock) -> None:
    """The API may add statuses; the ip goes on as before."""
    machine_id = state.create(NewInstance(ONE, "key")).id
    state.set_status(machine_id, "repairing")
    clock.advance(10)
    assert (state.get(machine_id).status, state.get(machine_id).ip) == ("repairing", "198.18.0.1")


def test_a_new_machine_is_listed_only_after_the_lag(state: State, clock: TurnedClock) -> None:
    """A GET finds it before that."""
    state.list_lag = 3
    machine_id = state.create(NewInstance(ONE, "key")).id
    assert (state.list(), state.get(machine_id).id, state.alive()) == ([], machine_id, {machine_id})
    clock.advance(3)
    assert [machine.id for machine in state.list()] == [machine_id]


@pytest.mark.parametrize("call", ["list", "get"])
def test_a_machine_can_be_hidden_from_one_call_for_a_time(
    state: State, clock: TurnedClock, call: str
) -> None:
    """A machine that is hidden from one call is shown by the other."""

    def shown_by() -> set[str]:
        shown = {"list"} if state.list() else set()
        try:
            state.get(machine_id)
        except UnknownMachineError:
            return shown
        return shown | {"get"}

    machine_id = state.create(NewInstance(ONE, "key")).id
    state.hide(machine_id, call, 5)  # type: ignore[arg-type]
    assert shown_by() == {"list", "get"} - {call}
    clock.advance(5)
    assert shown_by() == {"list", "get"}


def test_no_more_machines_than_the_capacity_exist(state: State, clock: TurnedClock) -> None:
    """A machine that is being deleted still takes its place."""
    state.capacity = 1
    machine_id = state.create(NewInstance(ONE, "key")).id
    with pytest.raises(NoCapacityError, match=ONE):
        state.create(NewInstance(ONE, "key"))
    state.delete(machine_id)
    with pytest.raises(NoCapacityError):
        state.create(NewInstance(ONE, "key"))
    clock.advance(2)
    state.create(NewInstance(ONE, "key"))
    assert state.creations == 2


def test_no_more_machines_than_its_capacity_are_in_a_sector(state: State) -> None:
    """The choice of a sector skips the full ones, and 1x machines need no room in any."""
    state.sector_capacity = 2
    for _ in range(2):
        state.create(NewInstance(EIGHT, "key", "sector_1"))
    with pytest.raises(NoCapacityError, match="no capacity left in sector_1"):
        state.create(NewInstance(EIGHT, "key", "sector_1"))
    for _ in range(4):
        state.create(NewInstance(EIGHT, "key"))
    taken = Counter(machine.sector for machine in state.existing())
    assert taken == {"sector_1": 2, "sector_2": 2, "sector_3": 2}
    with pytest.raises(NoCapacityError, match="no capacity left in any sector"):
        state.create(NewInstance(EIGHT, "key"))
    state.create(NewInstance(ONE, "key"))


def test_a_machine_of_another_account_is_as_if_it_did_not_exist(state: State) -> None:
    """A machine of another account is not listed, found or deleted."""
    machine_id = state.create(NewInstance(ONE, "key"), account="mine").id
    assert state.list("another") == []
    with pytest.raises(UnknownMachineError, match=machine_id):
        state.get(machine_id, "another")
    with pytest.raises(UnknownMachineError, match=machine_id):
        state.delete(machine_id, "another")
    assert state.deletions == 0
    assert state.list("mine") == state.list() == [state.get(machine_id)]
    assert state.get(machine_id, "mine") == state.get(machine_id)
    state.delete(machine_id, "mine")
    assert state.deletions == 1


def test_a_machine_that_no_account_made_is_seen_by_every_one(state: State) -> None:
    """A test that makes one need not know any key."""
    machine_id = state.create(NewInstance(ONE, "key")).id
    assert [machine.id for machine in state.list("any")] == [state.get(machine_id, "any").id]
    state.delete(machine_id, "any")


def test_each_key_is_an_account_of_its_own_until_it_is_said_to_be_of_another(state: State) -> None:
    """A key may be rotated twice, and the old ones go on working."""
    keys = ("first", "second", "third")
    assert len({state.account_of(key) for key in keys}) == 3
    state.same_account("first", "second")
    state.same_account("second", "third")
    assert {state.account_of(key) for key in keys} == {state.account_of("first")}
    assert state.account_of("another") != state.account_of("first")


def test_the_keys_themselves_are_kept_nowhere(state: State) -> None:
    """A key may be a real one, and a failing test would print what is kept of it."""
    state.same_account("s3cr3t", "s3cr3t-too")
    state.create(NewInstance(ONE, "key"), account=state.account_of("s3cr3t"))
    assert "s3cr3t" not in repr(vars(state))


def test_unclaimed_are_those_alive_that_nobody_knows(state: State) -> None:
    """Hidden machines count, and gone ones don't, even if somebody knows them."""
    known, hidden, gone = (state.create(NewInstance(ONE, "key")).id for _ in range(3))
    state.hide(hidden, "list")
    state.kill(gone)
    assert state.unclaimed([known, gone]) == {hidden}


def test_time_can_be_advanced_on_a_clock_that_runs_by_itself() -> None:
    """An hour can pass at once, even on a clock that runs by itself."""
    state = State(provisioning=3600)
    machine_id = state.create(NewInstance(ONE, "key")).id
    state.advance(3600)
    assert state.get(machine_id).is_ready


def test_a_simulation_that_seeds_random_meets_the_same_ids_again() -> None:
    """A schedule that fails can be run again only if its ids are the same."""
    random.seed(7)
    first = State().create(NewInstance(ONE, "key")).id
    random.seed(7)
    assert State().create(NewInstance(ONE, "key")).id == first


def test_calls_are_counted_by_kind_and_the_most_in_flight_is_kept(state: State) -> None:
    """A call counts and is in flight until it ends, with an error or without."""
    with state.call("get"), state.call("list"):
        pass
    with pytest.raises(KeyError), state.call("get"):
        raise KeyError
    assert state.calls == {"create": 0, "list": 1, "get": 2, "delete": 0}
    assert (state.in_flight, state.most_in_flight) == (0, 2)


def test_an_idempotency_key_is_kept_for_its_time_and_for_its_account(state: State) -> None:
    """Once the key is forgotten, or for another account, the same create makes another machine."""
    first = state.create(NewInstance(ONE, ED25519), "one", "key")
    assert state.create(NewInstance(ONE, ED25519), "one", "key").id == first.id
    assert state.create(NewInstance(ONE, ED25519), "two", "key").id != first.id
    state.advance(600)
    assert state.create(NewInstance(ONE, ED25519), "one", "key").id != first.id
