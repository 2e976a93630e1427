"""The fault matrix and kills, with the native plugin in the place of the dynamic provider."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import pytest

from ..e2e.native import NativeStack
from . import capacity, keyed, matrix
from .report import Play, drawn
from .test_any_moment import kills
from .world import Template

PARTS = 5
"""So many tests share the cases, so that several processes can play them."""


@pytest.fixture(scope="module")
def template(new_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Stacks to be copied for each case, whose engine finds the native plugin."""
    return Template(new_stack, tmp_path_factory.mktemp("native"), NativeStack)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_of_any_call_and_no_kill_loses_a_machine_or_creates_a_second(
    play: Play, part: int
) -> None:
    """The hosts differ in how they learn of a call's end, and in what the engine is told."""
    tables = (matrix, keyed, capacity)
    cases = chain(drawn(chain.from_iterable(table.cases() for table in tables)), kills())
    play(islice(cases, part, None, PARTS), "native plugin")
