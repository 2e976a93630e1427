"""An API that is down while machines are awaited: it ends no wait, but for the wait's own time."""

from __future__ import annotations

from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine, wait_until
from .recovery import PATIENCE, as_documented, finish, in_plugin, one_machine, says

DOWN = (
    ("522", "answered 522: 522 Connection timed out"),
    ("403", "answered 403: The key does not have the scope that this call needs"),
    ("reset_before", "got no answer: connection reset by peer"),
)


def test_an_outage_in_a_wait_is_told_and_waited_out(stack: Stack, emulator: EmulatorServer) -> None:
    """Whatever the answers are: the same `up` ends well, with the machines that it made."""
    in_plugin(stack, "from pulumi_fal.api import retry\nretry._LONGEST = 0.2")
    emulator.state.provisioning = inf
    stack.write(machine("one"), machine("other"))
    run = stack.start("up")
    wait_until(lambda: emulator.state.creations == 2)
    for fault, _ in DOWN:
        emulator.faults.add("list", fault, 4)
    wait_until(lambda: not emulator.faults.left() or run.process.poll() is not None)
    finish(emulator.state)
    up = run.wait()
    assert up.exit_code == 0
    for _, answer in DOWN:
        says(up, f"GET /compute/instances {answer}")
    says(up, "The wait goes on.", "The API answers again.")
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2


def test_a_wait_that_ends_in_an_outage_tells_of_it_and_is_gone_on_with(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """However often it does, each wait lasts for as long as `custom_timeouts` says for create.

    And a preview does not hang because the API does.
    """
    stack.env |= PATIENCE
    stack.write(machine(opts="custom_timeouts=pulumi.CustomTimeouts(create='2s')"))
    emulator.state.provisioning = inf
    emulator.faults.add("list", "ok", 2)  # before the POST, and after it
    emulator.faults.add("list", "503", inf)
    first = stack.up(fails=True)
    (id_,) = emulator.state.alive()

    emulator.faults.clear()
    emulator.faults.add("list", "hold", inf)
    preview = stack.preview()
    assert emulator.faults.held == 1
    assert preview.seconds < 20  # the API could take its time for a minute
    assert "1 to update" in preview.output

    emulator.faults.clear()
    emulator.faults.release()
    emulator.faults.add("list", "503", inf)
    for result in (first, stack.up(fails=True)):
        as_documented(result, "The API was unavailable")
        says(result, f"Machine {id_} (gpu_1x_h100_sxm5) runs")
    emulator.faults.clear()
    finish(emulator.state)
    stack.up()
    assert one_machine(stack, emulator) == id_
