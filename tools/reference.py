#!/usr/bin/env python3
"""Generate docs/reference.md from the package's docstrings and annotations."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pulumi_fal
from pulumi_fal.tokens import TYPE_TOKEN

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"

HEAD = f"""\
---
title: fal Compute reference
meta_desc: The resource, the functions and the enums of the fal Compute provider for Pulumi.
layout: package
---

# Reference

Everything below is imported from `pulumi_fal`. The type token of a machine is `{TYPE_TOKEN}`.
`python tools/reference.py` generates this page from the docstrings.
"""


@dataclass(frozen=True)
class Field:
    """An attribute in a class's body, with the docstring below it."""

    name: str
    type: str
    doc: str


def page() -> str:
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    resource, args = pulumi_fal.ComputeInstance, pulumi_fal.ComputeInstanceArgs
    yield f"## ComputeInstance\n\n{_doc(resource)}\n"
    yield "Name, inputs and options: `ComputeInstance(name, opts, **inputs)`, or"
    yield "`ComputeInstance(name, ComputeInstanceArgs(**inputs), opts)`.\n"
    yield "### Inputs\n"
    yield from _table("input", "type", _inputs(args))
    yield f"{_doc(resource.__init__, after=1)}\n"
    yield "### Outputs\n"
    id_ = Field("id", "pulumi.Output[str]", "The machine's id at the API, a UUID.")
    yield from _table("output", "type", [id_, *_fields(resource)])
    yield _function(resource.get, "ComputeInstance.get")
    cluster = pulumi_fal.ComputeCluster
    yield f"## ComputeCluster\n\n{_doc(cluster)}\n"
    yield "Name, inputs and options: `ComputeCluster(name, opts, **inputs)`, or"
    yield "`ComputeCluster(name, ComputeClusterArgs(**inputs), opts)`.\n"
    yield "### Inputs of a cluster\n"
    yield from _table("input", "type", _inputs(pulumi_fal.ComputeClusterArgs))
    yield f"{_doc(cluster.__init__, after=1)}\n"
    yield "### Outputs of a cluster\n"
    yield from _table("output", "type", _fields(cluster))
    yield f"## Functions\n\n{_doc(inspect.getmodule(pulumi_fal.get_instance), after=1)}\n"
    for function in (
        pulumi_fal.get_instance,
        pulumi_fal.get_instances,
        pulumi_fal.get_instance_output,
        pulumi_fal.get_instances_output,
    ):
        yield _function(function, function.__name__)
    yield f"## Instance\n\n{_doc(pulumi_fal.Instance)}\n"
    ready = Field("is_ready", "bool", _doc(pulumi_fal.Instance.is_ready))
    yield from _table("attribute", "type", [*_fields(pulumi_fal.Instance), ready])
    for enum in (pulumi_fal.InstanceType, pulumi_fal.Sector, pulumi_fal.Status):
        yield f"## {enum.__name__}\n\n{_doc(enum)}\n"
        docs = {each.name: each.doc for each in _fields(enum)}
        members = [Field(each.name, each.value, docs[each.name]) for each in enum]
        yield from _table("member", "value", members)


def _table(name: str, type_: str, fields: Iterable[Field]) -> Iterator[str]:
    # An unescaped bar would end the cell, even in code.
    rows = [(f"`{each.name}`", f"`{each.type}`".replace("|", r"\|"), each.doc) for each in fields]
    width = 3 if any(doc for *_, doc in rows) else 2
    for row in [(name, type_, ""), ("---",) * 3, *rows]:
        yield f"| {' | '.join(row[:width])} |"
    yield ""


def _function(function: Callable[..., object], name: str) -> str:
    definition = _definition(function)
    signature = ast.unparse(definition.args).replace("None=None", "None = None")
    returns = ast.unparse(definition.returns)
    return f"### {name}\n\n`{name}({signature}) -> {returns}`\n\n{_doc(function)}\n"


def _inputs(cls: type) -> Iterator[Field]:
    """The fields of the arguments class; those with a default are marked as optional."""
    required = {each.name for each in fields(cls) if each.default is MISSING}
    for each in _fields(cls):
        yield each if each.name in required else replace(each, doc=f"Optional. {each.doc}")


def _fields(cls: type) -> Iterator[Field]:
    lines = _definition(cls).body
    for line, below in zip(lines, [*lines[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign):
            yield Field(ast.unparse(line.target), ast.unparse(line.annotation), _string(below))
        elif isinstance(line, ast.Assign):
            yield Field(ast.unparse(line.targets[0]), "", _string(below))


def _string(line: ast.stmt | None) -> str:
    """The text of a docstring, or "" if the statement isn't one."""
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
        return " ".join(str(line.value.value).split())
    return ""


def _definition(thing: Callable[..., object]) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _doc(thing: object, after: int = 0) -> str:
    """The docstring without its first `after` paragraphs."""
    return "\n\n".join((inspect.getdoc(thing) or "").split("\n\n")[after:])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
