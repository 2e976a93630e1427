"""Looking machines up from a program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pulumi
import pytest

from pulumi_fal import get_instance, get_instances, get_instances_output
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, ONE


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmulatorServer]]:
    """Two, each with one machine; nothing in the environment leads to either."""
    for name in ("FAL_COMPUTE_ENDPOINT", "FAL_ADMIN_API_KEY", "FAL_KEY", "FAL_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with EmulatorServer(api_key="one") as one, EmulatorServer(api_key="two") as two:
        for account in (one, two):
            account.state.create(NewInstance(ONE, ED25519))
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


REGIONS = ("us-west", "us-west", "eu-north")


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    """Three machines in two regions."""
    with EmulatorServer(api="v1") as emulator:
        for name, value in emulator.env.items():
            monkeypatch.setenv(name, value)
        for region in REGIONS:
            made = emulator.state.create(NewInstance("gpu_1x_h100_sxm5", ED25519))
            emulator.state.machines[made.id].region = region
        yield emulator


def test_machines_are_found_by_their_region(regions: EmulatorServer) -> None:
    """The region can be combined with any other filter."""
    assert [machine.region for machine in get_instances()] == list(REGIONS)
    assert [machine.region for machine in get_instances(region="us-west")] == ["us-west"] * 2
    assert get_instances(region="us-west", status="pending") == []
    assert get_instances(region="us-east") == []


def test_the_region_may_be_known_only_later(regions: EmulatorServer) -> None:
    """The region may be the output of another resource."""

    async def found() -> list[str | None]:
        region = pulumi.Output.from_input("eu-north")
        machines = await get_instances_output(region=region).future()
        return [machine.region for machine in machines or ()]

    # In a thread of its own: the main thread's event loop is Pulumi's in other tests.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, found()).result() == ["eu-north"]


def test_the_legacy_api_has_no_machine_of_any_region(
    regions: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The legacy API tells no region, and a machine without one is not in a requested region."""
    monkeypatch.setenv("FAL_COMPUTE_API", "legacy")
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", regions.url)
    assert len(get_instances()) == 3
    assert get_instances(region="us-west") == []
