"""The marker of this folder, and the fixtures of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..e2e.conftest import api_key, emulator, host, new_stack, stack

__all__ = ["api_key", "emulator", "host", "new_stack", "stack"]

FOLDER = Path(__file__).parent
SECONDS = 900
"""How long a test of this folder may take."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder the marker `chaos`."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(SECONDS))
