"""The seams into the plugin host, switched off under the real engine: each by itself, and all."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Stack
from ..e2e.seams import live, switch_off
from ..processes import OFF


@pytest.mark.parametrize("seams", [*((seam,) for seam in OFF), tuple(OFF)], ids="+".join)
def test_without_a_seam_no_machine_is_lost_or_created_twice(
    seams: tuple[str, ...], stack: Stack, emulator: EmulatorServer
) -> None:
    """A create that fails while it waits, and one that is killed, are resumed."""
    switch_off(stack, *seams)
    live(stack, emulator)
