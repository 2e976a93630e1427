"""The fixtures of the end-to-end tests, and stacks to be copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..e2e.conftest import emulator, new_stack, stack, twins
from .world import Template

__all__ = ["emulator", "new_stack", "stack", "twins"]


@pytest.fixture(scope="session")
def template(new_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Stacks to be copied for each case."""
    return Template(new_stack, tmp_path_factory.mktemp("template"))
