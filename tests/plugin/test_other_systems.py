"""The plugin on a system without Linux's own: no locks, no synced folders, no groups, no /proc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines.journal import Journal, default_folder

from ..fakes import ED25519
from ..other_system import TAKEN_AWAY
from .harness import URN, Plugin, plain

INPUTS = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519}
LAUNCHER = f"{TAKEN_AWAY}\nimport runpy\nrunpy.run_module('pulumi.dynamic', run_name='__main__')\n"


def test_a_machine_is_previewed_created_and_deleted(
    start: Callable[..., Plugin], emulator: EmulatorServer, tmp_path: Path
) -> None:
    """The create is on record, and the next process reads the record as it was written."""
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER)
    plugin = start(launcher=[str(launcher)])
    assert list(plugin.check(INPUTS).failures) == []
    made = plugin.create(INPUTS)
    outputs = plain(made.properties)
    assert outputs["status"] == "ready"
    (entry,) = Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")})).readable()
    assert (entry.origin.urn, entry.instance_id) == (URN, made.id)
    plugin.kill()

    plugin = start(launcher=[str(launcher)])
    plugin.check(INPUTS, INPUTS)
    other = {**INPUTS, "instance_type": "gpu_1x_h100_sxm5"}
    assert list(plugin.diff(made.id, outputs, other).replaces) == ["instance_type"]
    assert plain(plugin.read(made.id, outputs).properties) == outputs
    plugin.delete(made.id, outputs)
    assert emulator.state.alive() == set()
    assert emulator.state.creations == 1
