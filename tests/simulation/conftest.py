"""Sums up what the enumeration has searched, also where several processes shared it."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the size, the time and the shortest schedule that breaks a law."""
    reports = [
        (report, dict(report.user_properties))
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if "test_enumeration.py" in report.nodeid and report.when == "call"
    ]
    if not reports:
        return
    schedules = sum(found.get("schedules", 0) for _, found in reports)
    seconds = sum(report.duration for report, _ in reports)
    terminalreporter.section("enumeration")
    terminalreporter.line(f"{schedules} schedules in {seconds:.0f} s of one processor")
    broken = [tuple(found["shortest"]) for _, found in reports if "shortest" in found]
    if broken:
        terminalreporter.line(f"The shortest one that breaks a law:\n{min(broken)[1]}")
