"""What creates another machine in place of one that runs: a change of one of three inputs.

tests/chaos has the replacements that a user forces.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import Machine

from ..fakes import EIGHT, ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine
from .recovery import printed

# Each machine's inputs before and after.
REPLACED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "type_changed": ({"instance_type": ONE}, {"instance_type": EIGHT}),
    "key_changed": ({"ssh_key": SSH_KEY}, {"ssh_key": OTHER_SSH_KEY}),
    "sector_changed": (
        {"instance_type": EIGHT, "sector": "sector_1"},
        {"instance_type": EIGHT, "sector": "sector_2"},
    ),
}
KEPT = {
    "comment_changed": ({"ssh_key": SSH_KEY}, {"ssh_key": SSH_KEY.replace("laptop", "desktop")}),
    "comment_removed": ({"ssh_key": SSH_KEY}, {"ssh_key": SSH_KEY.rpartition(" ")[0]}),
    "white_space_added": ({"ssh_key": SSH_KEY}, {"ssh_key": f"  {SSH_KEY}\n"}),
}


def test_a_changed_type_key_or_sector_replaces_a_machine_once_and_nothing_else_does(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The new machine is ready before the old one goes, unless the program says the opposite.

    The same key written differently changes nothing. Neither does requesting the sector that the
    machine is in, nor no longer requesting it.
    """
    before = {name: inputs for name, (inputs, _) in (REPLACED | KEPT).items()}
    after = {name: inputs for name, (_, inputs) in (REPLACED | KEPT).items()}
    old = up(stack, SSH_KEY, {**before, "in_its_sector": {"instance_type": EIGHT}})
    own = str(emulator.state.get(old["in_its_sector"]).sector)

    in_its_sector = {"instance_type": EIGHT, "sector": own}
    new = up(stack, OTHER_SSH_KEY, {**after, "in_its_sector": in_its_sector})
    assert {name for name in old if old[name] != new[name]} == {*REPLACED, "old_first"}
    counts = re.findall(r"(\d+) (replaced|updated|unchanged)", stack.runs[-1].output)
    assert counts == [("1", "updated"), ("4", "replaced"), ("4", "unchanged")]  # the stack, too
    assert emulator.state.alive() == set(new.values())
    count = len(old) + len(REPLACED) + 1
    assert (emulator.state.creations, emulator.state.deletions) == (count, len(REPLACED) + 1)
    machines = emulator.state.machines
    for name in REPLACED:
        made = machines[new[name]]
        assert made.requested.instance_type == after[name].get("instance_type", ONE)
        assert made.requested.sector == after[name].get("sector")
        assert made.requested.ssh_key == after[name].get("ssh_key", SSH_KEY)
        assert ready_at(made) <= machines[old[name]].gone_at
    assert machines[old["old_first"]].gone_at <= machines[new["old_first"]].created

    # Nothing is left to be done; not even for the sector that is no longer requested.
    again = {**after, "in_its_sector": {"instance_type": EIGHT}}
    assert up(stack, OTHER_SSH_KEY, again) == new
    assert stack.outputs()["in_its_sector"]["sector"] == own

    other = "sector_2" if own == "sector_1" else "sector_1"
    moved = {"instance_type": EIGHT, "sector": other}
    last = up(stack, OTHER_SSH_KEY, {**after, "in_its_sector": moved})
    assert {name for name in new if last[name] != new[name]} == {"in_its_sector"}
    assert stack.outputs()["in_its_sector"]["sector"] == other
    assert stack.state_ids() == emulator.state.alive() == set(last.values())
    assert emulator.state.creations == count + 1


@pytest.mark.chaos("unit/test_operations.py::test_drift")
def test_a_sector_that_the_api_names_anew_replaces_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Only a request for another sector replaces, and no harmless change beside the new name."""

    def write(sector: str = "sector_1", **inputs: str) -> None:
        eight = {"instance_type": EIGHT, "sector": sector, **inputs}
        ignored = machine("ignored", opts="ignore_changes=['sector']", **eight)
        arguments = "".join(f", {name}={value!r}" for name, value in inputs.items())
        cluster = f"ComputeCluster('train', size=2, ssh_key={SSH_KEY!r}{arguments})\n"
        stack.write(machine("requested", **eight), ignored, cluster)

    write()
    stack.up()
    made = {resource["urn"]: resource["id"] for resource in stack.resources()}
    for there in emulator.state.machines.values():
        there.requested = replace(there.requested, sector="sector_3")
    stack.refresh()
    assert {resource["outputs"]["sector"] for resource in stack.resources()} == {"sector_3"}
    stack.up("--expect-no-changes")
    write(wait_for_capacity="6h")
    assert "4 to update" in stack.preview().output
    assert "4 updated" in stack.up().output
    write("sector_2", wait_for_capacity="6h")
    assert "+-1 to replace" in stack.preview().output
    assert "+-1 replaced" in stack.up().output
    now = {resource["urn"]: resource["id"] for resource in stack.resources()}
    (moved,) = (urn for urn in made if made[urn] != now[urn])
    assert moved.endswith("::requested")


@pytest.mark.chaos("unit/test_operations.py::test_billed_as_well")
def test_two_interrupted_replacements_name_all_machines(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """All three are billed. The command that the output advises deletes them, and no other."""
    short = "custom_timeouts=pulumi.CustomTimeouts(create='2s')"
    stack.write(machine(), machine("another"))
    stack.up()
    another = stack.outputs()["another"]["id"]
    emulator.state.provisioning = inf
    for instance_type in (ONE, EIGHT):
        changed = machine(opts=short, ssh_key=OTHER_SSH_KEY, instance_type=instance_type)
        stack.write(changed, machine("another"))
        held = emulator.state.alive() - {another}
        output = stack.up(fails=True).output
        assert all(f"machine {id_}" in output for id_ in held)
    assert len(emulator.state.alive()) == 4
    (command,) = printed(output, "pulumi")
    stack.run(*command)
    assert stack.state_ids() == emulator.state.alive() == {another}


def up(stack: Stack, ssh_key: str, machines: dict[str, dict[str, str]]) -> dict[str, str]:
    """Run `up` with these machines, and one with that key that is deleted before it is replaced.

    Returns their ids by name.
    """
    old_first = machine("old_first", opts="delete_before_replace=True", ssh_key=ssh_key)
    stack.write(*(machine(name, **inputs) for name, inputs in machines.items()), old_first)
    stack.up()
    return {name: outputs["id"] for name, outputs in stack.outputs().items()}


def ready_at(machine: Machine) -> float:
    """When it was ready, on the emulator's clock."""
    assert machine.provisioning < inf
    return machine.created + machine.provisioning
