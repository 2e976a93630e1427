"""CONTRIBUTING.md and the marker `chaos` name tests that exist and that `make test` runs."""

from __future__ import annotations

import ast
import re

import pytest

from ..docs import ROOT

TESTS = ROOT / "tests"
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Which test shows")[2]
ROWS = [line.strip("|").split("|") for line in TABLE.splitlines() if line.startswith("| ")][1:]
MARKERS: dict[str, list[ast.expr]] = {
    f"{file.relative_to(TESTS).as_posix()}::{node.name}": [
        decorator
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("pytest.mark.chaos")
    ]
    for file in sorted(TESTS.rglob("test_*.py"))
    for node in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}
"""The markers `chaos` of each test. Those in the folder `chaos` have one from its conftest."""
QUICK = {test for test, markers in MARKERS.items() if not markers and "chaos/" not in test}
SLOW = [(test, marker) for test, markers in MARKERS.items() for marker in markers]


@pytest.mark.parametrize("promise, law, shown_by", ROWS, ids=[row[0].strip() for row in ROWS])
def test_promise(promise: str, law: str, shown_by: str) -> None:
    """A promise has a link to where it is made, and tests that `make test` runs."""
    assert re.search(r"\]\([^)]+\)", law)
    names = re.findall(r"`([^`]+)`", shown_by)
    assert names, promise
    assert set(names) <= QUICK


def test_stand_ins() -> None:
    """A slow test names the quick one that finds the same mistakes at a lower level."""
    assert SLOW
    for test, marker in SLOW:
        assert "chaos/" not in test, f"{test}: the folder has the marker already"
        assert isinstance(marker, ast.Call), f"{test}: name a quick test"
        assert {ast.literal_eval(name) for name in marker.args} <= QUICK, test
