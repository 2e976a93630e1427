"""A key of another account doesn't see our machines, which does not mean that they are gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, KEY
from .harness import SSH_KEY, Code, Stack, machine
from .native import in_native, provider
from .recovery import says


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API, which takes any key: each is of an account of its own."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None, say=print) as server:
        yield server


@pytest.mark.chaos("unit/test_operations.py::test_another_account")
def test_another_key(stack: Stack, emulator: EmulatorServer) -> None:
    """With another account's key, each command fails and names the owner, and nothing is changed.

    A rotated key sees one of the machines, so it is of the same account, and drops just the other
    one, which is gone.
    """
    stack.env["FAL_ADMIN_API_KEY"] = KEY
    stack.write(machine("gone"), machine("there"))
    stack.up()
    held = stack.ids()
    stack.env["FAL_ADMIN_API_KEY"] = "another-accounts"
    owner, other = (Settings(emulator.url, key, "").account for key in (KEY, "another-accounts"))
    for result in (stack.refresh(fails=True), stack.destroy(fails=True)):
        says(
            result,
            "was last seen with the key of another account",
            f"({owner})",
            f"(account {other}, from",
        )
        assert any(f"Machine {id_} was last" in result.output for id_ in held.values())
    assert stack.state_ids() == emulator.state.alive() == set(held.values())
    assert emulator.state.calls["delete"] == 0

    emulator.state.kill(held["gone"])
    emulator.state.same_account(KEY, "rotated")
    stack.env["FAL_ADMIN_API_KEY"] = "rotated"
    stack.refresh()
    assert stack.state_ids() == {held["there"]}
    rotated = Settings(emulator.url, "rotated", "").account
    assert stack.resources()[0]["outputs"]["account"] == rotated


THEIRS = "provider=theirs"


@pytest.mark.chaos("plugin/test_accounts.py::test_other_account")
@in_native
def test_two_providers(stack: Stack, emulator: EmulatorServer) -> None:
    """Each provider's process works with its own key, whatever the variables say.

    A machine keeps its account until the user replaces it. No secret is in state.
    """
    keys = {"MINE": "the-key-of-mine", "THEIRS": "the-key-of-theirs"}
    stack.env |= {**keys, "FAL_ADMIN_API_KEY": keys["MINE"]}
    theirs = provider("theirs", apiKey=Code("os.environ['THEIRS']"))
    secret = Code(f"Output.secret({SSH_KEY!r})")
    here, there, moved = (
        machine(name, opts=opts, ssh_key=secret)
        for name, opts in (("here", ""), ("there", THEIRS), ("here", THEIRS))
    )
    group = f"ComputeCluster('group', size=1, ssh_key={secret}, opts=ResourceOptions({{}}))\n"
    stack.write(theirs, here, there, group.format(THEIRS))
    says(stack.preview("--diff"), "apiKey: [secret]")
    assert "warning" not in stack.up().output
    mine, other = (Settings(emulator.url, key, "").account for key in keys.values())
    accounts = {
        row["urn"].rpartition("::")[2]: row["outputs"]["account"] for row in stack.resources()
    }
    assert accounts == {"here": mine, "there": other, "group-0": other}

    stack.write(theirs, moved, there)
    says(stack.up(fails=True), f"pulumi up --replace {stack.urn('here')}")
    assert stack.state_ids() == emulator.state.alive()
    stack.up("--replace", stack.urn("here"))
    assert {row["outputs"]["account"] for row in stack.resources()} == {other}
    stack.destroy()
    assert emulator.state.alive() == set()
    assert all(stack.files_with(key) == [] for key in keys.values())
    blob = ED25519.split()[1]
    assert [path for path in stack.files_with(blob) if path.startswith(".pulumi")] == []
