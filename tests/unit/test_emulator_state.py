"""The emulated machines, on a clock that the tests turn."""

from __future__ import annotations

import random
from collections import Counter

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


def is_gone(state: State, id_: str, account: str = "") -> bool:
    try:
        state.get(id_, account or None)
    except UnknownMachineError:
        return True
    return False


IP = "198.18.0.1"


@pytest.mark.parametrize(
    "seconds, kind, seen",
    [
        (0, ONE, ("pending", None, None)),
        (1, ONE, ("init", None, None)),
        (2.9, EIGHT, ("init", None, None)),
        (3, EIGHT, ("provisioning", None, "sector_1")),
        (7.9, ONE, ("provisioning", None, None)),
        (8, ONE, ("provisioning", IP, None)),
        (10, EIGHT, ("ready", IP, "sector_1")),
    ],
)
def test_provisioning(
    state: State, seconds: float, kind: str, seen: tuple[str | None, ...]
) -> None:
    """A machine gets its IP near the end, and only an 8x machine gets a sector."""
    id_ = made(state, kind)
    state.advance(seconds)
    machine = state.get(id_)
    assert (machine.status, machine.ip, machine.sector) == seen


def test_unique(state: State) -> None:
    """What a machine had that is gone is not given again; a seed makes the same ids again."""
    random.seed(7)
    first = made(state)
    state.kill(first)
    for _ in range(3):
        made(state)
    assert len({machine.ip for machine in state.machines.values()}) == len(state.machines) == 4
    random.seed(7)
    assert made(State()) == first


@pytest.mark.parametrize("hidden", ["list", "get", "lag"])
def test_hidden(state: State, hidden: str) -> None:
    """A machine that one call doesn't show for a time exists, and the other call shows it."""
    state.list_lag = 5 if hidden == "lag" else 0
    id_ = made(state)
    if hidden != "lag":
        state.hide(id_, hidden, 5)  # type: ignore[arg-type]
    assert (state.list() == [], is_gone(state, id_)) == (hidden != "get", hidden == "get")
    assert state.alive() == {id_}
    state.advance(5)
    assert (len(state.list()), is_gone(state, id_)) == (1, False)


def test_sector_capacity(state: State) -> None:
    """The choice of a sector skips the full ones, and 1x machines need no capacity in any."""
    state.sector_capacity = 2
    for sector in ("sector_1", "sector_1", None, None, None, None):
        made(state, EIGHT, sector)
    taken = Counter(machine.sector for machine in state.existing())
    assert taken == {"sector_1": 2, "sector_2": 2, "sector_3": 2}
    with pytest.raises(NoCapacityError, match="no capacity left in sector_1"):
        made(state, EIGHT, "sector_1")
    with pytest.raises(NoCapacityError, match="no capacity left in any sector"):
        made(state, EIGHT)
    made(state)


def test_accounts(state: State) -> None:
    """A machine of another account does not exist; one that no account made is every account's."""
    id_, free = made(state, account="mine"), made(state)
    assert is_gone(state, id_, "another")
    assert [machine.id for machine in state.list("another")] == [free]
    assert state.list("mine") == state.list() == [state.get(id_, "mine"), state.get(free, "mine")]
    state.delete(free, "another")
    with pytest.raises(UnknownMachineError, match=id_):
        state.delete(id_, "another")


def test_idempotency_key(state: State) -> None:
    """Once the key is forgotten, or for another account, the same create makes another machine."""

    def keyed(account: str) -> str:
        return state.create(NewInstance(ONE, ED25519), account, "key").id

    first = keyed("one")
    assert keyed("one") == first
    assert keyed("two") != first
    state.advance(600)
    assert keyed("one") != first
