"""Each seam into the plugin host switched off by itself."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Stack
from ..e2e.seams import OFF, live, switch_off

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("seam", OFF)
def test_without_it_no_machine_is_lost_or_made_twice(
    seam: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """What it adds is missing, and everything else goes on."""
    switch_off(stack, seam)
    live(stack, emulator)
