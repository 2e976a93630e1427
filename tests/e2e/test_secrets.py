"""What a program declares secret is secret wherever it is kept or shown."""

from __future__ import annotations

from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT
from .harness import Stack, machine
from .recovery import PATIENCE, finish, one_machine

OPTS = "additional_secret_outputs=['ip'], custom_timeouts=pulumi.CustomTimeouts(create='2s')"


def test_a_secret_sector_or_ip_is_never_in_state_in_the_clear_and_never_printed(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A create that times out, a refresh, and the `up` that finishes the machine all hide it."""
    stack.env |= PATIENCE
    program = machine(opts=OPTS, instance_type=EIGHT, sector="sector_1")
    program = program.replace("'sector_1'", "pulumi.Output.secret('sector_1')")
    stack.write(program)
    emulator.state.provisioning = inf
    timed_out = stack.up(fails=True)
    assert_hidden(stack, "sector_1")
    refreshed = stack.refresh()
    assert_hidden(stack, "sector_1")
    finish(emulator.state, 0.5)
    stack.write(program.replace("create=", "update='300s', create="))
    up = stack.up()
    made = emulator.state.machines[one_machine(stack, emulator)]
    assert made.requested.sector == "sector_1"
    assert_hidden(stack, "sector_1")
    assert_hidden(stack, made.ip)
    for result in (timed_out, refreshed, up):
        assert made.ip not in result.output


def assert_hidden(stack: Stack, secret: str) -> None:
    """The text is in no file of the backend, and so not in what `stack export` prints."""
    assert [path for path in stack.files_with(secret) if path.startswith(".pulumi")] == []
