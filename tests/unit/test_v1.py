"""The v1 API: creates that are sent again with their key, and stacks that move to it.

What becomes of a create under either API is a table of docs/recovering.md, which is played here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.api import dialects
from pulumi_fal.api.dialects import KEPT_SECONDS, Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import API, ENDPOINTS, AccountId, Settings
from pulumi_fal.errors import (
    APIError,
    ConfigurationError,
    ElsewhereError,
    FalError,
    UnresolvedCreateError,
)
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.creates import Create
from pulumi_fal.machines.journal import KEY_SECONDS, Entry, Phase, new_file
from pulumi_fal.machines.lifecycle import STOPPED_SECONDS
from pulumi_fal.resource import operations
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import StackMachine

from .. import fakes
from ..docs import ROOT
from ..fakes import ECDSA, ED25519, HERE, ONE, URN
from ..fakes import refusal as refused
from .world import CALL, INPUTS, SPEC, World

LEGACY = fakes.settings(ENDPOINTS["legacy"], api="legacy")
V1 = fakes.settings(ENDPOINTS["v1"], api="v1")
PAGE, RECOVERING = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("api-versions", "recovering")
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home", V1)


def launch(world: World, **others: Any) -> Instance:
    world.restart()
    with world.creates.launch(SPEC, HERE, **others) as instance:
        return instance


def refusal(world: World, *, names_all: bool = True) -> str:
    """What a create by a new process says that stops, and mostly names all that there is."""
    with pytest.raises(UnresolvedCreateError) as caught:
        launch(world)
    assert not names_all or set(caught.value.candidates) == world.state.alive()
    return str(caught.value)


def killed(world: World, *, taken: bool = True, **others: Any) -> None:
    """Leave the entry of a process that was killed while its POST was in flight."""
    sent = {"idempotency_key": "the-key", "first_sent": world.clock.wall()}
    world.earlier(Phase.REQUESTED, **{**sent, **others})
    if taken:
        world.state.create(NewInstance(ONE, ED25519), None, "the-key")


V1_CREATE = dialects.V1.create_instance(SPEC)


def lose() -> None:
    raise fakes.unanswered(V1_CREATE)


def test_replacement(world: World) -> None:
    """It gets another machine than it replaces, whose record a full disk has left without an id."""
    killed(world)
    (old,) = world.state.alive()
    world.stacks.in_state = {old}
    world.restart()
    world.account.in_engine[URN] = set()
    with world.creates.launch(SPEC, HERE) as new:
        assert new.id != old


def test_replacement_fails(world: World) -> None:
    """What the record without an id is of is not the machine of the create that has failed."""
    killed(world)
    (old,) = world.state.alive()
    world.stacks.in_state = {old}
    world.restart()
    world.account.in_engine[URN] = {old}

    def refuse_new() -> None:
        if world.api.keys[-1] != "the-key":
            raise refused(403)

    world.at_post(refuse_new)
    with pytest.raises(APIError), world.creates.launch(SPEC, HERE):
        pass
    assert world.account.records.made(HERE) is None


def test_replacement_beside_another(world: World) -> None:
    """A record of the machine that is to be replaced hides no other that stops the create."""
    other = world.state.create(NewInstance(ONE, ED25519)).id
    killed(world, file=f"{new_file(HERE).rpartition('-')[0]}-0.json")  # it comes first
    world.earlier(Phase.REPORTED, other, seen=True)
    (old,) = world.state.alive() - {other}
    world.stacks.in_state = {old}
    world.restart()
    world.account.in_engine[URN] = {old}
    with pytest.raises(UnresolvedCreateError) as caught, world.creates.launch(SPEC, HERE):
        pass
    assert caught.value.candidates == (other,)


@pytest.mark.parametrize("taken", [True, False])
def test_killed(world: World, taken: bool) -> None:
    """The machine is the one that the first attempt made, or the only one that is made."""
    killed(world, taken=taken)
    read = world.record
    world.clock.time += 60
    on_record: list[Entry] = []
    world.at_post(lambda: on_record.append(world.record))
    instance = launch(world)
    assert world.state.alive() == {instance.id}
    assert world.api.keys == ["the-key"]
    assert (world.record.phase, world.record.instance_id) == (Phase.CREATED, instance.id)
    assert [entry != read for entry in on_record] == [True]  # who has read it must not drop it


NOT_SENT: dict[str, tuple[float, str, dict[str, Any]]] = {
    "of the future": (-60, "v1", {}),
    "of the legacy API": (0, "v1", {"idempotency_key": ""}),
    "to the legacy API, which ignores the key": (0, "legacy", {}),
    "perhaps of a stack that was removed": (0, "v1", {"origin": Origin(URN.replace("dev", "old"))}),
}


@pytest.mark.parametrize("set_by, api, entry", NOT_SENT.values(), ids=NOT_SENT)
def test_not_sent_again(world: World, set_by: float, api: str, entry: dict[str, Any]) -> None:
    """The kept answer may be forgotten or another's, so the candidates are named."""
    killed(world, **entry)
    world.clock.set_by += set_by
    world.settings = replace(V1, api=api)  # the same endpoint may serve both
    refusal(world)
    assert world.api.keys == []


@pytest.mark.parametrize(
    "suspended, set_by",
    [(3600, 0), (0, 3600), (0, -300)],
    ids=["suspended in the pause", "suspended in the POST", "set back"],
)
def test_wall_clock(world: World, suspended: float, set_by: float) -> None:
    """A create is not sent again where the wall clock says that its key may be forgotten.

    Other clocks stand still while a laptop sleeps, and a clock that was set back proves nothing.
    """

    def lose_the_first() -> None:
        if len(world.api.keys) == 1:
            world.clock.suspended = suspended
            world.clock.set_by += set_by
            lose()

    world.at_post(lose_the_first, answered=True)
    assert "POST /compute/instances got no answer: reset" in refusal(world)
    assert len(world.api.keys) == 1


@pytest.mark.parametrize("set_by", [0, -30])
def test_long_outage(world: World, set_by: float) -> None:
    """No attempt is made once either of the two clocks says that the key may be forgotten."""
    world.api.faults.add("create", "500_after", inf)
    moments: list[float] = []

    def set_clock() -> None:
        moments.append(world.clock.passed)
        if len(moments) == 10:
            world.clock.set_by += set_by

    world.at_post(set_clock, answered=True)
    refusal(world)
    assert len(moments) > 10
    assert moments[-1] <= KEY_SECONDS
    assert world.passed < KEY_SECONDS + V1.settle_seconds + 20
    assert (len(set(world.api.keys)), world.state.creations) == (1, 1)


def test_late_decision(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The computer may be suspended at any moment, so the clock is read right before a POST."""
    killed(world)
    send_again = Create._send_again

    def late(create: Create, *args: Any) -> Any:
        world.clock.set_by += KEY_SECONDS
        return send_again(create, *args)

    monkeypatch.setattr(Create, "_send_again", late)
    refusal(world)
    assert world.api.keys == []


RENAMED = replace(HERE, urn=URN.replace("dev", "old"), provider="an-id")
ALIASED = replace(HERE, urn=f"{URN}-earlier")


@pytest.mark.parametrize("earlier", [RENAMED, ALIASED], ids=["stack", "resource"])
def test_renamed(world: World, earlier: Origin) -> None:
    """The key is sent under the new name if the record surely is of this stack and resource."""
    world.stacks.providers = {"an-id": "pulumi:providers:fal"}
    killed(world, origin=earlier)
    assert {launch(world, aliases=[ALIASED.urn]).id} == world.state.alive()
    assert world.api.keys == ["the-key"]


def test_imported_meanwhile(world: World) -> None:
    """On another computer, after the kill: in two states, either could delete the other's."""
    killed(world)
    (made,) = world.state.alive()
    world.stacks.others = {"organization/shop/prod": {made}}
    assert "organization/shop/prod" in refusal(world)
    assert world.account.records.made(HERE) is None


def test_machine_of_others(world: World) -> None:
    """A machine that existed before the create is somebody else's, whoever answers with it."""
    theirs = world.state.create(NewInstance(ONE, ED25519), None, "the-key")
    killed(world, taken=False, before=(theirs.id,))
    with pytest.raises(UnresolvedCreateError, match="which existed before it") as caught:
        launch(world)
    assert f"the API answered with {theirs.id}" in str(caught.value)
    assert theirs.id not in caught.value.candidates


@pytest.mark.parametrize(
    "error, said",
    [
        (refused(403, "no", V1_CREATE), "POST /compute/instances answered 403: no."),
        (refused(429, "no", V1_CREATE), "POST /compute/instances answered 429: no."),
        (ConfigurationError("Nothing was sent: no proxy."), "Nothing was sent: no proxy."),
    ],
    ids=["refused", "rate-limited", "not sent"],
)
def test_repeat_fails(world: World, error: FalError, said: str) -> None:
    """The first attempt may have made a machine, so nothing is forgotten."""
    killed(world)
    world.fail("create", error)
    for _ in range(2):  # the next `up` says the same, and the refusals don't pile up
        assert world.record.problem in refusal(world)
        again = "the process ended before the answer came. The attempt to send it again failed: "
        assert world.record.problem.startswith(again)
        assert world.record.problem.count(said) == 1


def test_interrupted_repeats(world: World) -> None:
    """A rate limit may last longer than a person waits, and `pending ls` then says what it was."""
    killed(world)
    world.api.faults.add("create", "429", inf)
    world.api.before = lambda _: world.clock.interrupt() if len(world.api.keys) == 3 else None
    assert "answered 429" in refusal(world, names_all=False)
    assert "to send it again failed: POST /compute/instances answered 429" in world.record.problem


# From the legacy API to v1


def under(world: World, used: Settings) -> Account:
    """A new process with those settings, to which the engine has told the machines in state."""
    world.settings = used
    world.restart()
    world.account.in_engine[URN] = {machine.id for machine in world.stacks.siblings}
    return world.account


def made(world: World) -> tuple[str, dict[str, Any]]:
    """A machine that was made with the legacy API, and its outputs in state."""
    under(world, LEGACY)
    created = world.create()
    world.stacks.siblings.append(StackMachine(created.id, URN, AccountId.of(created.outputs)))
    return created.id, created.outputs


def test_refresh(world: World) -> None:
    """A machine that v1 knows gets its new home and its region, and all else stays as it is."""
    id_, before = made(world)
    assert (before["endpoint"], before["account"]) == (LEGACY.endpoint, LEGACY.account)
    news = {"region": "us-west", "creator_user_nickname": "developer"}
    serve = world.api.serve

    def told(request: Request[Any], account: str | None = None) -> Any:
        answer: Any = serve(request, account)
        for machine in answer["instances"]:
            machine.update(news)
        return answer

    world.api.serve = told  # type: ignore[method-assign]
    after = operations.read(under(world, V1), CALL, id_, before)
    assert after == {**before, "endpoint": V1.endpoint, "account": V1.account, **news}
    for outputs in (before, after):  # neither replaced nor made again
        diff = operations.diff(under(world, V1), CALL, id_, outputs, INPUTS)
        assert (diff.replaces, diff.changes) == ([], None)


def test_gone_machine(world: World) -> None:
    """It is kept: even if v1 knows one machine by its id, it need not know the others by theirs."""
    gone, there = made(world), made(world)
    assert operations.read(under(world, V1), CALL, *there) is not None
    world.state.kill(gone[0])
    with pytest.raises(ElsewhereError):
        operations.read(under(world, V1), CALL, *gone)


def test_unanswered_legacy_create(world: World) -> None:
    """It stops a create under v1: its machine may run where v1 doesn't see it."""
    world.at_post(lose, answered=True)
    for used, says in ((LEGACY, "reset"), (V1, "the endpoint and the API that it was made")):
        under(world, used)
        with pytest.raises(UnresolvedCreateError, match=says):
            world.create()
    assert world.api.calls.count("create") == 1
    assert len(world.journal.readable()) == 1


# The table of docs/recovering.md

AGAIN, STOPS = "sent again", "`up` stops"
ROWS: dict[str, list[int | dict[str, Any]]] = {
    "an earlier attempt got no response, and this one gets 409": [409],
    "an earlier attempt got no response, and this one gets any other 4xx": [
        400,
        401,
        403,
        404,
        422,
    ],
    "the plugin is killed, and `up` runs within 9 minutes": [{}, {"later": KEY_SECONDS - 10}],
    "the plugin is killed, and `up` runs later, with other inputs, or with another account's key": [
        {"later": KEY_SECONDS},
        {"ssh_key": ECDSA},
        {"instance_type": ONE, "sector": None},
        {"account": "another"},
    ],
}
"""The statuses of a second attempt, or what is other after a kill."""


class Killed(BaseException):
    """The process ends here."""


def outcome(world: World, used: Settings, **inputs: Any) -> str:
    """What `up` does, in the words of the table."""
    under(world, used)
    sent = len(world.api.keys)
    try:
        world.create(**inputs)
    except UnresolvedCreateError:
        return STOPS
    assert len(world.state.alive()) == 1
    assert len(world.api.keys) > sent
    return AGAIN


def refuse_second(world: World, status: int) -> None:
    """The first attempt is taken without an answer, and the second one gets this status."""

    def refuse() -> None:
        if len(world.api.keys) == 2:
            raise refused(status, "no", world.api.requests[-1])

    world.at_post(refuse)
    world.at_post(lambda: lose() if len(world.api.keys) == 1 else None, answered=True)


def kill(world: World, used: Settings) -> None:
    """A process sends a create, and ends before the answer comes."""
    under(world, used)
    world.at_post(mock.Mock(side_effect=Killed), answered=True)
    with pytest.raises(Killed):
        world.create()
    world.api.after = lambda request: None


def meet(world: World, trouble: int | dict[str, Any], used: Settings) -> str:
    """What the `up` does that meets the trouble, or the next one after a kill."""
    if isinstance(trouble, int):
        refuse_second(world, trouble)
        return outcome(world, used)
    kill(world, used)
    inputs = dict(trouble)
    world.clock.time += inputs.pop("later", 0)
    account = replace(used, api_key=inputs.pop("account", used.api_key))
    return outcome(world, account, **inputs)


def table(text: str) -> dict[str, list[str]]:
    """The rows with three columns, without their heads."""
    lines = [line.split(" | ") for line in re.findall(r"(?m)^\| ?(.*) \|$", text)]
    rows = [row for row in lines if len(row) == 3 and "legacy API" not in row]
    return {what: cells for what, *cells in rows}


CREATES = table(RECOVERING.partition("### What each API does")[2].partition("\n### ")[0])


@pytest.mark.parametrize("column, used", [(0, LEGACY), (1, V1)], ids=["legacy", "v1"])
@pytest.mark.parametrize(
    "what, trouble", [(what, trouble) for what, troubles in ROWS.items() for trouble in troubles]
)
def test_table(
    world: World, what: str, trouble: int | dict[str, Any], column: int, used: Settings
) -> None:
    """A create ends as the table says, in each of the ways that a row names."""
    assert list(CREATES) == list(ROWS)
    said = CREATES[what][column].partition(", because")[0]
    found = meet(world, trouble, used)
    if said == "not sent again":
        assert len(world.api.keys) == 1
    else:
        assert found == said
    assert world.state.creations <= 1
    if used is V1 and said == AGAIN:
        assert len(set(world.api.keys)) == 1


def test_settings() -> None:
    """The pages have the times, the default and the addresses of the code."""
    assert (KEY_SECONDS, KEPT_SECONDS, STOPPED_SECONDS) == (9 * 60, 10 * 60, 60)
    assert "10 minutes for each" in RECOVERING
    assert all("9 minutes" in text for text in (PAGE, RECOVERING))
    settings = table(PAGE)
    assert settings["setting"] == [f"`{API.default}`, the default", "`v1`"]
    assert settings["default endpoint"] == [f"`{ENDPOINTS['legacy']}`", f"`{ENDPOINTS['v1']}`"]
