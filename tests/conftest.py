"""The table at the end of a run that has searched for lost and doubled machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from . import tally

# As in an activated environment, where messages name commands without a path.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the report of a test say that it has the marker `chaos`."""
    if item.get_closest_marker("chaos"):
        item.user_properties.append((tally.CHAOS, True))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how much was searched, and what was found, in all processes."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    found = tally.lines(reports)
    if found:
        terminalreporter.section("searched and found")
        terminalreporter.write(tally.table(found, is_drawn=tally.is_drawn(reports)))
