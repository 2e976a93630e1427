"""In a plugin host whose internals have changed, the journal alone loses no machine.

tests/plugin breaks each seam by itself, and tests/chaos switches each off by itself.
"""

from __future__ import annotations

import inspect

import pytest

from pulumi_fal.dynamic import lifetime, patches
from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack
from .recovery import replaced
from .seams import OFF, live, switch_off

NO_SEAM = {"dynamic.lifetime.guarded"}


def test_every_seam_can_be_switched_off() -> None:
    """A function that changes the plugin host has a replacement in OFF, under its present name."""
    functions = {
        f"dynamic.{module.__name__.rpartition('.')[2]}.{name}"
        for module in (lifetime, patches)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert functions - NO_SEAM <= set(OFF)
    for name in OFF:
        replaced(name, OFF[name])  # fails for a name that the package doesn't have


@pytest.mark.chaos
def test_without_any_seam_no_machine_is_lost_or_created_twice(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A create that fails while it waits, and one that is killed, are resumed from the journal."""
    switch_off(stack, *OFF)
    live(stack, emulator)
