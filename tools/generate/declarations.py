"""Reads classes and functions: fields with the docstrings below them, and paragraphs of text.

griffe, which tools/breaking.py uses, reads the same; so few lines need no model of a whole program.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """An attribute in a class's body, with the docstring below it."""

    name: str
    type: str
    """The annotation. Members of an enum have none."""
    doc: str
    has_default: bool


def fields(cls: type) -> Iterator[Field]:
    """Yield the attributes of a class in their order."""
    lines = definition(cls).body
    for line, below in zip(lines, [*lines[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign):
            type_ = ast.unparse(line.annotation)
            yield Field(ast.unparse(line.target), type_, _string(below), line.value is not None)
        elif isinstance(line, ast.Assign):
            yield Field(ast.unparse(line.targets[0]), "", _string(below), has_default=True)


def definition(thing: Callable[..., object]) -> Any:
    """Return the syntax tree of a class or a function."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def paragraphs(thing: object) -> list[str]:
    """Return the paragraphs of a docstring, with its line breaks."""
    return (inspect.getdoc(thing) or "").split("\n\n")


def _string(line: ast.stmt | None) -> str:
    """Return the text of a docstring in one line, or "" if the statement isn't one."""
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
        return " ".join(str(line.value.value).split())
    return ""
