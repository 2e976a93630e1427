"""The marker of this folder, the fixtures of the end-to-end tests, and the player of cases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ..e2e.conftest import api_key, emulator, host, new_stack, stack
from ..e2e.harness import Stack
from ..e2e.native import NativeStack
from ..tally import SEED, Record
from .world import Case, Play, broken, count, play_all

__all__ = ["api_key", "emulator", "host", "new_stack", "stack"]

FOLDER = Path(__file__).parent
SECONDS = 3600
"""How long a test of this folder may take, unless it says otherwise: most play many cases."""


@pytest.fixture
def play(host: type[Stack], new_stack: Path, tmp_path: Path, record_property: Record) -> Play:
    """Play all of these cases and count their outcomes. No law is broken in any of them."""
    name = "native plugin" if host is NativeStack else "Python package"

    def play(cases: Iterable[Case]) -> None:
        outcomes = play_all(cases, host, new_stack, tmp_path)
        count(outcomes, name, record_property)
        assert not broken(outcomes), f"CHAOS_SEED={SEED}\n{broken(outcomes)}"

    return play


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder the marker `chaos`."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.chaos)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SECONDS))
