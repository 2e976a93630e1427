"""A ComputeCluster under the real engine: one sector, whatever happens to its machines."""

from __future__ import annotations

import re

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Code, Stack, machine
from .native import in_native
from .recovery import says


def cluster(
    size: int, name: str = "train", *, ssh_key: str = SSH_KEY, kind: str = EIGHT, opts: str = ""
) -> str:
    return (
        f"{name} = ComputeCluster({name!r}, size={size}, ssh_key={ssh_key!r}, "
        f"instance_type={kind!r}, opts=ResourceOptions({opts}))\n"
        "outputs = ('ips', 'main_ip', 'sector', 'hostfile', 'torchrun', 'ssh_config')\n"
        f"pulumi.export({name!r}, {{key: getattr({name}, key) for key in outputs}})\n"
    )


def sectors(state: State, kind: str = EIGHT) -> set[str | None]:
    existing = state.existing()
    return {machine.sector for machine in existing if machine.requested.instance_type == kind}


@pytest.fixture
def state(emulator: EmulatorServer) -> State:
    return emulator.state


@in_native
def test_one_sector(stack: Stack, state: State) -> None:
    """The cluster grows, loses its first machine, gets another key and shrinks, in one sector.

    Machines of the 1x type have no sector, so none of a fleet of them waits for another.
    """
    stack.write(cluster(2), cluster(2, "fleet", kind=ONE))
    says(stack.up(), "+ 7 created")  # with the stack and the components
    (sector,) = sectors(state)
    outputs, two = stack.outputs()["train"], stack.ids()
    assert outputs["sector"] == sector
    assert outputs["hostfile"] == "".join(f"{ip} slots=8\n" for ip in outputs["ips"])
    rank = f"--node-rank=1 --rdzv-endpoint={outputs['main_ip']}:29500"
    assert outputs["torchrun"][1].endswith(rank)
    assert sorted(two) == ["fleet-0", "fleet-1", "train-0", "train-1"]
    assert stack.outputs()["fleet"]["hostfile"].count(" slots=1\n") == 2

    # The first machine vanishes: what takes its place joins the others, and so does a new one.
    state.kill(two["train-0"])
    stack.refresh()
    fleet = cluster(3, "fleet", kind=ONE)
    stack.write(cluster(3), fleet)
    says(stack.up(), "+ 3 created", "6 unchanged")
    assert sectors(state) == {sector}
    assert sectors(state, ONE) == {None}
    three = stack.ids()
    assert three["train-1"] == two["train-1"]

    # A new key replaces all, in their sector. The last ones go first.
    stack.write(cluster(2, ssh_key=OTHER_SSH_KEY), fleet)
    says(stack.up(), "2 replaced", "- 1 deleted")
    assert set(stack.ids()) == {*two, "fleet-2"}
    assert sectors(state) == {sector}
    assert stack.state_ids() == state.alive()
    components = {row["urn"] for row in stack.resources(CLUSTER_TYPE_TOKEN)}
    assert {row["parent"] for row in stack.resources()} == components
    assert not any(row.get("dependencies") for row in stack.resources())


@pytest.mark.chaos("unit/test_operations.py::test_unknown_sector")
@in_native
def test_sector_passed_on(stack: Stack, state: State) -> None:
    """Who deletes a machine before its replacement must not delete all that are in its sector."""

    def write(size: int, ssh_key: str, sector: str) -> None:
        first = {"opts": "delete_before_replace=True", "ssh_key": ssh_key}
        stack.write(
            cluster(size, **first),
            machine("first", instance_type=EIGHT, sector=sector, **first),
            machine("friend", instance_type=EIGHT, sector=Code("train.sector")),
            machine("second", instance_type=EIGHT, sector=Code("first.sector")),
            f"pair = ComputeCluster('pair', size=2, ssh_key={SSH_KEY!r}, sector=train.sector)\n",
        )

    def replaced() -> set[str]:
        """The names of what `up` replaces. The preview has to show all of it."""
        shown = set(re.findall(r"\+- +\S+ (\S+) replace ", stack.preview().output))
        before = stack.ids()
        stack.up()
        after = stack.ids()
        changed = {name for name in before if after[name] != before[name]}
        assert shown >= changed
        return changed

    write(2, SSH_KEY, "sector_1")
    stack.up()
    write(2, OTHER_SSH_KEY, "sector_1")
    assert replaced() == {"train-0", "train-1", "first"}
    write(3, OTHER_SSH_KEY, "sector_2")
    assert replaced() == {"first", "second"}
    assert stack.outputs()["second"]["sector"] == "sector_2"
    assert stack.state_ids() == state.alive()
