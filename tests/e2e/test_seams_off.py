"""Every seam into the plugin host can be switched off, as tests/chaos does."""

from __future__ import annotations

import inspect

from pulumi_fal.dynamic import lifetime, patches

from .recovery import replaced
from .seams import OFF

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
