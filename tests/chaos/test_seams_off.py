"""Each seam into the plugin host, switched off by itself under the real engine."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..e2e.harness import Stack
from ..e2e.seams import OFF, live, switch_off

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("seam", OFF)
def test_without_one_seam_no_machine_is_lost_or_created_twice(
    seam: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """A create that fails while it waits, and one that is killed, are resumed."""
    switch_off(stack, seam)
    live(stack, emulator)
