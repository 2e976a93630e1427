"""The emulated machines, on a clock that the tests turn."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.state import NoCapacityError, State, TurnedClock, UnknownMachineError

from ..fakes import ED25519, EIGHT, ONE


@pytest.fixture
def state() -> State:
    """Ten seconds until a machine is ready, two until a deleted one is gone."""
    return State(TurnedClock(), provisioning=10, deletion=2)


def made(state: State, kind: str = ONE, sector: str | None = None, account: str = "") -> str:
    """The id of a new machine."""
    return state.create(NewInstance(kind, ED25519, sector), account or None).id


@pytest.mark.parametrize(
    "kind, ip_at, seconds, status, ip, sector",
    [
        (ONE, 0.8, 0, "pending", None, None),
        (ONE, 0.8, 1, "init", None, None),
        (EIGHT, 0.8, 2.9, "init", None, None),
        (EIGHT, 0.8, 3, "provisioning", None, "sector_1"),
        (ONE, 0.8, 7.9, "provisioning", None, None),
        (ONE, 0.8, 8, "provisioning", "198.18.0.1", None),
        (EIGHT, 0.8, 10, "ready", "198.18.0.1", "sector_1"),
        (ONE, 1.0, 9.9, "provisioning", None, None),
        (ONE, 1.0, 10, "ready", "198.18.0.1", None),
    ],
)
def test_provisioning(
    state: State,
    kind: str,
    ip_at: float,
    seconds: float,
    status: str,
    ip: str | None,
    sector: str | None,
) -> None:
    """A machine gets its IP near the end, or with `ip_at`; only an 8x machine gets a sector."""
    state.ip_at = ip_at
    id_ = made(state, kind)
    state.advance(seconds)
    machine = state.get(id_)
    assert (machine.status, machine.ip, machine.sector) == (status, ip, sector)


def test_unique() -> None:
    """The ip and the id of a machine that is gone are not given again."""
    state = State(TurnedClock())
    state.delete(made(state))
    for _ in range(3):
        made(state)
    ips = {machine.ip for machine in state.machines.values()}
    assert len(ips) == len(state.machines) == 4


def test_seeded_ids() -> None:
    """A schedule that fails can be run again only if its ids are the same."""
    random.seed(7)
    first = made(State())
    random.seed(7)
    assert made(State()) == first


def test_sectors(state: State) -> None:
    """A requested sector is shown from the start, and the others are given in turn."""
    for asked in (None, None, "sector_3"):
        assert state.create(NewInstance(EIGHT, "key", asked)).sector == asked
    state.advance(10)
    assert [machine.sector for machine in state.list()] == ["sector_1", "sector_2", "sector_3"]


def test_delete(state: State) -> None:
    """A deleted machine is shown for two seconds, which a second DELETE does not prolong."""
    id_ = made(state)
    state.delete(id_)
    state.advance(1.9)
    state.delete(id_)
    assert [machine.id for machine in state.list()] == [state.get(id_).id] == [id_]
    state.advance(0.1)
    assert (state.list(), state.alive(), state.deletions) == ([], set(), 1)
    for call in (state.get, state.delete):
        with pytest.raises(UnknownMachineError, match=id_):
            call(id_)


def test_stuck(state: State) -> None:
    """A stuck machine keeps its status and ip, and can still be deleted."""
    id_ = made(state, EIGHT)
    state.advance(5)
    state.stuck(id_)
    before = state.get(id_)
    state.advance(1e6)
    assert state.get(id_) == before
    assert before.status == "provisioning"
    state.delete(id_)
    state.advance(2)
    assert state.alive() == set()


def test_any_status(state: State) -> None:
    """The API may add statuses; the ip goes on as before."""
    id_ = made(state)
    state.set_status(id_, "repairing")
    state.advance(10)
    assert (state.get(id_).status, state.get(id_).ip) == ("repairing", "198.18.0.1")


def shown_by(state: State, id_: str) -> set[str]:
    """The calls that show the machine."""
    shown = {"list"} if id_ in {machine.id for machine in state.list()} else set()
    try:
        state.get(id_)
    except UnknownMachineError:
        return shown
    return shown | {"get"}


def test_list_lag(state: State) -> None:
    """A new machine is listed only after the lag, and a GET finds it before that."""
    state.list_lag = 3
    id_ = made(state)
    assert (shown_by(state, id_), state.alive()) == ({"get"}, {id_})
    state.advance(3)
    assert shown_by(state, id_) == {"list", "get"}


@pytest.mark.parametrize("call, other", [("list", "get"), ("get", "list")])
def test_hidden(state: State, call: str, other: str) -> None:
    """A machine that is hidden from one call for a time is shown by the other."""
    id_ = made(state)
    state.hide(id_, call, 5)  # type: ignore[arg-type]
    assert shown_by(state, id_) == {other}
    state.advance(5)
    assert shown_by(state, id_) == {"list", "get"}


def test_capacity(state: State) -> None:
    """A machine that is being deleted still takes its place."""
    state.capacity = 1
    id_ = made(state)
    with pytest.raises(NoCapacityError, match=ONE):
        made(state)
    state.delete(id_)
    with pytest.raises(NoCapacityError):
        made(state)
    state.advance(2)
    made(state)
    assert state.creations == 2


def test_sector_capacity(state: State) -> None:
    """The choice of a sector skips the full ones, and 1x machines need no capacity in any."""
    state.sector_capacity = 2
    for _ in range(2):
        made(state, EIGHT, "sector_1")
    with pytest.raises(NoCapacityError, match="no capacity left in sector_1"):
        made(state, EIGHT, "sector_1")
    for _ in range(4):
        made(state, EIGHT)
    taken = Counter(machine.sector for machine in state.existing())
    assert taken == {"sector_1": 2, "sector_2": 2, "sector_3": 2}
    with pytest.raises(NoCapacityError, match="no capacity left in any sector"):
        made(state, EIGHT)
    made(state)


def test_accounts(state: State) -> None:
    """A machine of another account does not exist; one that no account made is every account's."""
    id_, free = made(state, account="mine"), made(state)
    calls: tuple[Callable[[str, str], object], ...] = (state.get, state.delete)
    for call in calls:
        with pytest.raises(UnknownMachineError, match=id_):
            call(id_, "another")
    assert [machine.id for machine in state.list("another")] == [free]
    assert state.list("mine") == state.list() == [state.get(id_, "mine"), state.get(free, "mine")]
    state.delete(id_, "mine")
    state.delete(free, "another")
    assert state.deletions == 2


def test_rotated_keys(state: State) -> None:
    """Each key is an account until it is said to be of another; the key itself is not kept."""
    keys = ("s3cr3t-1", "s3cr3t-2", "s3cr3t-3")
    assert len({state.account_of(key) for key in keys}) == 3
    state.same_account(keys[0], keys[1])
    state.same_account(keys[1], keys[2])
    assert len({state.account_of(key) for key in keys}) == 1
    assert state.account_of("another") != state.account_of(keys[0])
    made(state, account=state.account_of(keys[2]))
    assert "s3cr3t" not in repr(vars(state))


def test_unclaimed(state: State) -> None:
    """A hidden machine counts, and a killed one is gone at once, even if somebody knows it."""
    known, hidden, killed = (made(state) for _ in range(3))
    state.hide(hidden, "list")
    state.kill(killed)
    assert state.unclaimed([known, killed]) == {hidden}
    assert (state.alive(), state.deletions) == ({known, hidden}, 0)


def test_calls_are_counted(state: State) -> None:
    """A call counts and is in flight until it ends, with an error or without."""
    with state.call("get"), state.call("list"):
        pass
    with pytest.raises(KeyError), state.call("get"):
        raise KeyError
    assert state.calls == {"create": 0, "list": 1, "get": 2, "delete": 0}
    assert (state.in_flight, state.most_in_flight) == (0, 2)


def test_idempotency_key(state: State) -> None:
    """Once the key is forgotten, or for another account, the same create makes another machine."""

    def keyed(account: str) -> str:
        return state.create(NewInstance(ONE, ED25519), account, "key").id

    first = keyed("one")
    assert keyed("one") == first
    assert keyed("two") != first
    state.advance(600)
    assert keyed("one") != first
