"""The table at the end of a run that has searched for lost and doubled machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from . import tally

# As in an activated environment, where messages name commands without a path.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how much was searched, and what was found, in all processes."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    found = tally.table(reports)
    if found:
        terminalreporter.section("searched and found")
        terminalreporter.write(found)
