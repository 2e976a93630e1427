"""A machine's first day: made once, seen as it is, and left alone from then on."""

from __future__ import annotations

from pulumi_fal.emulator.server import EmulatorServer

from .harness import SSH_KEY, Stack, machine

EIGHT = "gpu_8x_h100_sxm5"


def test_create_gives_id_ip_ready_and_the_sector_that_the_api_chose(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """All that a program can ask of a machine is there when `up` ends."""
    stack.write(machine(instance_type=EIGHT))
    stack.up()
    (made,) = emulator.state.list()
    assert made.sector is not None
    assert stack.outputs()["machine"] == {
        "id": made.id,
        "ip": made.ip,
        "status": "ready",
        "sector": made.sector,
        "instance_type": EIGHT,
    }
    assert stack.state_ids() == {made.id}
    assert emulator.state.machines[made.id].ssh_key == SSH_KEY


def test_a_second_up_and_a_preview_find_nothing_to_do(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Neither makes a call, and a sector that the API chose is no difference."""
    stack.write(machine(instance_type=EIGHT))
    stack.up()
    calls = dict(emulator.state.calls)
    stack.up("--expect-no-changes")
    stack.preview("--expect-no-changes")
    assert emulator.state.calls == calls
