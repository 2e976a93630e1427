"""What several files of tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulumi_fal import errors

from .cli_support import line as line
from .world import World

errors._command()  # found before a test changes PATH


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")
