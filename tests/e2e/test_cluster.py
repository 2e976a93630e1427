"""A ComputeCluster under the real engine: one sector, whatever happens to its machines."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN

from .harness import OTHER_SSH_KEY, SSH_KEY, Stack
from .native import in_native
from .recovery import says


def cluster(
    size: int = 3, sector: str | None = None, ssh_key: str = SSH_KEY, opts: str = ""
) -> str:
    """A program's lines for a cluster whose outputs are the stack's."""
    return (
        f"train = ComputeCluster('train', size={size}, ssh_key={ssh_key!r}, sector={sector!r}, "
        f"opts=ResourceOptions({opts}))\n"
        "for name in ('ips', 'main_ip', 'sector', 'hostfile', 'torchrun', 'ssh_config'):\n"
        "    pulumi.export(name, getattr(train, name))\n"
    )


def sectors(state: State) -> list[str | None]:
    return [machine.sector for machine in state.existing()]


@pytest.fixture
def state(emulator: EmulatorServer) -> State:
    return emulator.state


@in_native
def test_one_sector(stack: Stack, state: State) -> None:
    """The cluster grows, loses its first machine, gets another key and shrinks, in one sector."""
    stack.write(cluster(2))
    says(stack.up(), "+ 4 created")  # with the stack and the component
    (sector,) = set(sectors(state))
    outputs, two = stack.outputs(), stack.ids()
    assert outputs["sector"] == sector
    assert outputs["hostfile"] == "".join(f"{ip} slots=8\n" for ip in outputs["ips"])
    rank = f"--node-rank=1 --rdzv-endpoint={outputs['main_ip']}:29500"
    assert outputs["torchrun"][1].endswith(rank)
    assert list(two) == ["train-0", "train-1"]

    # The first machine vanishes: what takes its place joins the others, and so does a new one.
    state.kill(two["train-0"])
    stack.refresh()
    stack.write(cluster(3))
    says(stack.up(), "+ 2 created", "3 unchanged")
    assert set(sectors(state)) == {sector}
    three = stack.ids()
    assert three["train-1"] == two["train-1"]

    # A new key replaces all, in their sector. The last ones go first.
    stack.write(cluster(2, ssh_key=OTHER_SSH_KEY))
    says(stack.up(), "2 replaced", "- 1 deleted")
    assert list(stack.ids()) == list(two)
    assert set(sectors(state)) == {sector}
    assert stack.state_ids() == state.alive()
    (parent,) = {resource["parent"] for resource in stack.resources()}
    assert {resource["urn"] for resource in stack.resources(CLUSTER_TYPE_TOKEN)} == {parent}
    assert not any(resource.get("dependencies") for resource in stack.resources())
