"""CONTRIBUTING.md: each promise is shown by a test that exists, and that `make test` runs.

A test with the marker `chaos` is none of these, so the marker names the quick one that stands in.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

from ..docs import ROOT

TESTS = ROOT / "tests"
ALWAYS_SLOW = "chaos/"
"""The folder whose conftest gives every test the marker."""
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Which test shows")[2]
ROWS = [line.strip("|").split("|") for line in TABLE.splitlines() if line.startswith("| ")][1:]


@functools.cache
def decorated() -> dict[str, list[ast.expr]]:
    """The decorators of each test, by its path below tests and its name."""
    found = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        path = file.relative_to(TESTS).as_posix()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path}::{node.name}"] = node.decorator_list
    return found


def markers(decorators: list[ast.expr]) -> Iterator[ast.expr]:
    """The decorators that are the marker `chaos`."""
    for decorator in decorators:
        marker = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(marker) == "pytest.mark.chaos":
            yield decorator


def is_quick(test: str) -> bool:
    """Whether `make test` runs the test."""
    return not test.startswith(ALWAYS_SLOW) and not [*markers(decorated()[test])]


def test_every_promise_has_a_law_and_a_quick_test() -> None:
    """A promise is linked to where it is made, and a test that is renamed is renamed there too."""
    assert len(ROWS) >= 20
    for promise, law, shown_by in ROWS:
        assert re.search(r"\]\([^)]+\)", law), promise
        names = re.findall(r"`([^`]+)`", shown_by)
        assert names, promise
        for name in names:
            assert name in decorated(), f"{promise}: {name} doesn't exist"
            assert is_quick(name), f"{promise}: `make test` doesn't run {name}"


def test_a_slow_test_names_the_quick_one_that_stands_in_for_it() -> None:
    """A mistake is found by `make test`, although perhaps by a lower level than the slow one."""
    for test, decorators in decorated().items():
        for marker in markers(decorators):
            assert not test.startswith(ALWAYS_SLOW), f"{test}: the folder has the marker already"
            assert isinstance(marker, ast.Call), f"{test}: name a quick test"
            (name,) = map(ast.literal_eval, marker.args)
            assert name in decorated(), f"{test}: {name} doesn't exist"
            assert is_quick(name), f"{test}: {name} is slow as well"
