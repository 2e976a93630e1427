"""Looking machines up from a program."""

from __future__ import annotations

from collections.abc import Iterator

import pulumi
import pytest

from pulumi_fal import get_instance, get_instances
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, ONE


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmulatorServer]]:
    """Two, each with one machine; nothing in the environment leads to either."""
    for name in ("FAL_COMPUTE_ENDPOINT", "FAL_ADMIN_API_KEY", "FAL_KEY", "FAL_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with EmulatorServer(api_key="one") as one, EmulatorServer(api_key="two") as two:
        for account in (one, two):
            account.state.create(ONE, ED25519, None)
        yield [one, two]
    pulumi.runtime.set_all_config({})


def test_each_stack_of_a_process_asks_with_its_own_key(accounts: list[EmulatorServer]) -> None:
    """A script that runs several stacks asks for each with its own key and endpoint."""
    for account in accounts:
        pulumi.runtime.set_all_config(
            {"fal:endpoint": account.url, "fal:apiKey": account.env["FAL_ADMIN_API_KEY"]}
        )
        (machine,) = get_instances()
        assert {machine.id} == account.state.alive()
        assert get_instance(machine.id) == machine


def test_machines_are_filtered_by_every_argument(accounts: list[EmulatorServer]) -> None:
    """A machine is left out if it differs in any of them, also in one that it lacks."""
    (machine_id,) = accounts[0].state.alive()
    pulumi.runtime.set_all_config({"fal:endpoint": accounts[0].url, "fal:apiKey": "one"})
    machine = get_instance(machine_id)
    assert get_instances(instance_type=ONE, status=machine.status) == [machine]
    for unlike in (
        {"instance_type": "other"},
        {"sector": "sector_1"},
        {"status": "other"},
        {"region": "us-west"},
    ):
        assert get_instances(**unlike) == []
