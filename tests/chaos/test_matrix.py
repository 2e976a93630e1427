"""Every fault at every call of create, read and delete, under the real engine; and what lasts.

That is an outage in the middle of a wait, another account's key, a rotated one, and a new name.
`CHAOS_ONLY=REGEX` plays those cases only of whose row and name a part matches.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from . import accounts, matrix, outages, renames
from .report import broken, play_all, print_table
from .world import Template

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def test_no_fault_of_any_call_loses_a_machine_or_makes_a_second(
    template: Template, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alive is what is in state, each made once; and each failure named those at risk."""
    tables = (matrix, outages, accounts, renames)
    cases = chain.from_iterable(each.cases() for each in tables)
    outcomes = play_all(cases, template, tmp_path)
    with capsys.disabled():
        print_table(outcomes, "every fault, at every call; outages, keys and names")
    assert not broken(outcomes), broken(outcomes)
