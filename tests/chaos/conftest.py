"""The marker of this folder, the fixtures of the end-to-end tests, and stacks to be copied."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ..e2e.conftest import emulator, new_stack, stack
from ..tally import SEED, Record
from .report import Case, Play, broken, count, play_all
from .world import Template

__all__ = ["emulator", "new_stack", "stack"]

FOLDER = Path(__file__).parent
SECONDS = 3600
"""How long a test of this folder may take, unless it says otherwise: most play many cases."""


@pytest.fixture(scope="session")
def template(new_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Stacks to be copied for each case."""
    return Template(new_stack, tmp_path_factory.mktemp("template"))


@pytest.fixture
def play(template: Template, tmp_path: Path, record_property: Record) -> Play:
    """Play all of these cases and count their outcomes. No law is broken in any of them."""

    def play(cases: Iterable[Case], host: str) -> None:
        outcomes = play_all(cases, template, tmp_path)
        count(outcomes, host, record_property)
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
