"""In a plugin host whose internals have changed everything still works; the journal stands guard.

tests/chaos switches each seam off by itself.
"""

from __future__ import annotations

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack
from .seams import OFF, live, switch_off


def test_without_any_seam_the_journal_alone_loses_no_machine(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """And makes none twice."""
    switch_off(stack, *OFF)
    live(stack, emulator)


def test_without_partial_state_the_journal_keeps_what_it_would_have_kept(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Likewise, with all the other seams."""
    switch_off(stack, "keep_partial_state")
    live(stack, emulator)
