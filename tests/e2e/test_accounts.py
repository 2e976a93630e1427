"""A key of another account sees no machine of ours: what it misses is not gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from .cli import pulumi_fal
from .conftest import API_KEY
from .harness import Stack, machine
from .recovery import as_documented, says


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API, which takes any key: each is of an account of its own."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None, say=print) as server:
        yield server


def use(stack: Stack, emulator: EmulatorServer, key: str) -> str:
    """Set this key; what state calls the account that it is of."""
    stack.env["FAL_ADMIN_API_KEY"] = key
    return Settings(emulator.url, key, "").account


def test_with_another_accounts_key_nothing_is_lost_deleted_or_made(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Each failure says whose the machine is; with that key all is as before."""
    owner = use(stack, emulator, API_KEY)
    stack.up()
    (id_,) = stack.state_ids()

    other = use(stack, emulator, "another-accounts")
    for result in (stack.refresh(fails=True), stack.destroy(fails=True)):
        as_documented(result, "Another account's key")
        says(result, f"Machine {id_} was last", f"({owner})", f"(account {other}, from")
    stack.up("--expect-no-changes")
    audit = pulumi_fal(stack, "audit", code=2)
    assert f"seen with another key (account {owner})" in audit
    assert "pulumi refresh" not in audit
    report = json.loads(pulumi_fal(stack, "audit", "--json", code=2))
    assert (report["machines"], report["gone"]) == ([], [])
    assert [each["id"] for each in report["other_account"]] == [id_]
    assert stack.state_ids() == emulator.state.alive() == {id_}
    assert emulator.state.creations == 1
    assert emulator.state.calls["delete"] == 0

    use(stack, emulator, API_KEY)
    stack.destroy()
    assert stack.state_ids() == emulator.state.alive() == set()


def test_a_rotated_key_drops_just_the_machine_that_is_gone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """That it sees one of the stack's machines shows that it is of their account."""
    use(stack, emulator, API_KEY)
    stack.write(machine("gone"), machine("there"))
    stack.up()
    gone, there = (stack.outputs()[name]["id"] for name in ("gone", "there"))
    emulator.state.kill(gone)
    emulator.state.same_account(API_KEY, "rotated")
    rotated = use(stack, emulator, "rotated")
    stack.refresh()
    assert stack.state_ids() == {there}
    assert stack.resources()[0]["outputs"]["account"] == rotated
