"""A key of another account doesn't see our machines, which does not mean that they are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import KEY
from .cli import pulumi_fal
from .harness import Stack, machine
from .recovery import as_documented, says


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API, which takes any key: each is of an account of its own."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None, say=print) as server:
        yield server


def use(stack: Stack, emulator: EmulatorServer, key: str) -> str:
    """Set this key, and return what state calls its account."""
    stack.env["FAL_ADMIN_API_KEY"] = key
    return Settings(emulator.url, key, "").account


@pytest.mark.chaos("unit/test_operations.py::test_another_account")
def test_only_a_key_of_the_account_that_made_a_machine_can_drop_it(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """With another account's key, each command fails and names the owner, and nothing is changed.

    A rotated key sees one of the machines, so it is of the same account, and drops just the other
    one, which is gone.
    """
    owner = use(stack, emulator, KEY)
    stack.write(machine("gone"), machine("there"))
    stack.up()
    gone, there = (stack.outputs()[name]["id"] for name in ("gone", "there"))

    other = use(stack, emulator, "another-accounts")
    for result in (stack.refresh(fails=True), stack.destroy(fails=True)):
        as_documented(result, "Another account's key")
        says(result, f"({owner})", f"(account {other}, from")
        assert any(f"Machine {id_} was last" in result.output for id_ in (gone, there))
    stack.up("--expect-no-changes")
    report = json.loads(pulumi_fal(stack, "audit", "--json", code=2))
    assert (report["machines"], report["gone"]) == ([], [])
    assert {row["id"] for row in report["other_account"]} == {gone, there}
    assert stack.state_ids() == emulator.state.alive() == {gone, there}
    assert emulator.state.creations == 2
    assert emulator.state.calls["delete"] == 0

    emulator.state.kill(gone)
    emulator.state.same_account(KEY, "rotated")
    rotated = use(stack, emulator, "rotated")
    stack.refresh()
    assert stack.state_ids() == {there}
    assert stack.resources()[0]["outputs"]["account"] == rotated
