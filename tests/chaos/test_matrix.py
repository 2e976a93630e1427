"""Every fault at every call of create, read and delete, under the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from .matrix import cases
from .report import broken, play_all, print_table
from .world import Template

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def test_no_fault_of_any_call_loses_a_machine_or_makes_a_second(
    template: Template, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alive is what is in state, each made once; and each failure named those at risk."""
    outcomes = play_all(cases(), template, tmp_path)
    with capsys.disabled():
        print_table(outcomes, "every fault, at every call")
    assert not broken(outcomes), broken(outcomes)
