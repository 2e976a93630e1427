"""The fault matrix and kills, with the native plugin in the place of the dynamic provider."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from ..e2e.native import NativeStack
from . import capacity, keyed, matrix
from .report import Play
from .test_any_moment import KILLS, SEED, kill
from .world import Template


@pytest.fixture
def template(new_stack: Path, tmp_path: Path) -> Template:
    """Stacks to be copied for each case, whose engine finds the native plugin."""
    return Template(new_stack, tmp_path / "template", NativeStack)


def test_no_fault_of_any_call_and_no_kill_loses_a_machine_or_creates_a_second(play: Play) -> None:
    """The hosts differ in how they learn of a call's end, and in what the engine is told."""
    kills = map(kill, range(SEED, SEED + KILLS))
    cases = chain(matrix.cases(), keyed.cases(), capacity.cases(), kills)
    play(cases, f"native plugin: every fault, and kills with CHAOS_SEED={SEED}")
