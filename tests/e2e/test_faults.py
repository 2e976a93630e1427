"""One fault for each law, in the worlds of tests/chaos, which has every fault at every call."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from ..chaos.matrix import case
from ..chaos.report import broken, play_all, print_table
from ..chaos.world import Template

CASES = (
    case("create: POST, others rent", "truncated"),
    case("create: poll", "wrong_shape", inf),
    case("read: list", "empty", inf),
    case("delete: DELETE", "reset_after"),
)


@pytest.mark.chaos
def test_no_fault_of_any_call_loses_a_machine_or_creates_a_second(
    new_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """State has exactly the machines that are alive, and a failure names those at risk."""
    outcomes = play_all(CASES, Template(new_stack, tmp_path), tmp_path)
    with capsys.disabled():
        print_table(outcomes, "one fault for each law")
    assert not broken(outcomes), broken(outcomes)
