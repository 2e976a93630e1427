"""What a program says is secret is so wherever it is kept or shown."""

from __future__ import annotations

from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine
from .recovery import PATIENCE, finish, one_machine

OPTS = "additional_secret_outputs=['ip'], custom_timeouts=pulumi.CustomTimeouts(create='1s')"


def test_a_secret_sector_is_never_in_state_in_the_clear_nor_is_a_secret_ip_printed(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """By whatever writes state: a create that times out, a refresh, and the `up` that goes on."""
    stack.env |= PATIENCE
    program = machine(opts=OPTS, instance_type="gpu_8x_h100_sxm5", sector="sector_1")
    stack.write(program.replace("'sector_1'", "pulumi.Output.secret('sector_1')"))
    emulator.state.provisioning = inf
    timed_out = stack.up(fails=True)
    assert_hidden(stack, "sector_1")
    refreshed = stack.refresh()
    assert_hidden(stack, "sector_1")
    finish(emulator.state, 0.5)
    up = stack.up()
    made = emulator.state.machines[one_machine(stack, emulator)]
    assert made.requested_sector == "sector_1"
    assert_hidden(stack, "sector_1")
    assert_hidden(stack, made.ip)
    for result in (timed_out, refreshed, up):
        assert made.ip not in result.output


def assert_hidden(stack: Stack, secret: str) -> None:
    """The text is not in what `stack export` prints, nor in any file of the backend."""
    assert secret not in stack.run("stack", "export").output
    assert [each for each in stack.files_with(secret) if each.startswith(".pulumi")] == []
