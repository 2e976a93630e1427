"""What makes another machine of one that runs: three inputs, each once, and nothing else."""

from __future__ import annotations

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"

# A machine for each change, so that one `up` shows them all: its inputs before and after.
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


def test_each_changed_input_replaces_its_machine_exactly_once(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """One POST and one DELETE each: the old machine is gone, and the new one is left alone."""
    old = up(stack, {name: before for name, (before, _) in REPLACED.items()})
    new = up(stack, {name: after for name, (_, after) in REPLACED.items()})
    assert {name for name in REPLACED if old[name] != new[name]} == set(REPLACED)
    assert emulator.state.alive() == set(new.values())
    stack.up("--expect-no-changes")
    assert emulator.state.calls["create"] == 2 * len(REPLACED)
    assert emulator.state.calls["delete"] == len(REPLACED)
    for name, (_, after) in REPLACED.items():
        asked = emulator.state.machines[new[name]]
        assert asked.instance_type == after.get("instance_type", ONE)
        assert asked.requested_sector == after.get("sector")
        assert asked.ssh_key == after.get("ssh_key", SSH_KEY)


def test_the_same_key_written_otherwise_does_nothing(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A key is its type and its blob: neither a comment nor white space is worth a machine."""
    old = up(stack, {name: before for name, (before, _) in KEPT.items()})
    stack.write(*(machine(name, **after) for name, (_, after) in KEPT.items()))
    stack.up("--expect-no-changes")
    assert stack.state_ids() == emulator.state.alive() == set(old.values())


def test_only_another_sector_than_the_machines_own_replaces_it(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """To ask for the one that the API chose, and then for none, is worth no machine."""
    stack.write(machine(instance_type=EIGHT))
    stack.up()
    (id_,) = stack.state_ids()
    own = str(emulator.state.get(id_).sector)
    stack.write(machine(instance_type=EIGHT, sector=own))
    assert "1 updated" in stack.up().output
    stack.write(machine(instance_type=EIGHT))
    stack.up()
    assert stack.state_ids() == emulator.state.alive() == {id_}
    assert stack.outputs()["machine"]["sector"] == own
    other = "sector_2" if own == "sector_1" else "sector_1"
    stack.write(machine(instance_type=EIGHT, sector=other))
    assert "1 replaced" in stack.up().output
    assert stack.state_ids() == emulator.state.alive() != {id_}
    assert stack.outputs()["machine"]["sector"] == other
    assert emulator.state.creations == 2


def test_the_new_machine_is_ready_before_the_old_one_goes(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Create before delete, as everywhere in Pulumi."""
    stack.up()
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    stack.up()
    calls = [call.method for call in emulator.state.log if call.method in ("POST", "DELETE")]
    assert calls == ["POST", "POST", "DELETE"]


def test_delete_before_replace_is_the_programs_choice(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """With room for one machine only, the old one must go first."""
    emulator.state.capacity = 1
    stack.write(machine(opts="delete_before_replace=True"))
    stack.up()
    stack.write(machine(opts="delete_before_replace=True", ssh_key=OTHER_SSH_KEY))
    stack.up()
    calls = [call.method for call in emulator.state.log if call.method in ("POST", "DELETE")]
    assert calls == ["POST", "DELETE", "POST"]
    assert stack.state_ids() == emulator.state.alive()


def up(stack: Stack, machines: dict[str, dict[str, str]]) -> dict[str, str]:
    """Run `up` with these machines; their ids by name."""
    stack.write(*(machine(name, **inputs) for name, inputs in machines.items()))
    stack.up()
    return {name: outputs["id"] for name, outputs in stack.outputs().items()}
