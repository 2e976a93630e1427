"""Interrupts of programs that run `pulumi` themselves, beyond those of tests/e2e."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import wait_until
from ..e2e.test_demo import demo, interrupt
from ..e2e.test_examples import Script, script

__all__ = ["demo", "script"]


def test_a_terminated_demo_ends_and_says_so(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """SIGTERM is treated like Ctrl-C."""
    interrupt(demo, tmp_path, signal.SIGTERM)


def test_ctrl_c_while_the_automation_script_waits_deletes_the_machine(
    script: Script, emulator: EmulatorServer
) -> None:
    """The script's `up` ends early, and its machine is deleted although it was never ready."""
    emulator.state.provisioning = 3600
    script.start("true")
    wait_until(lambda: emulator.state.creations)
    script.interrupt()
    assert script.wait() != 0
    assert "Traceback" not in script.output
    assert emulator.state.creations == 1
    assert emulator.state.alive() == set()
