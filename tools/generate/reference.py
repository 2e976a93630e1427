"""The text of docs/reference.md, from the package's docstrings and annotations."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pulumi_fal
from pulumi_fal.tokens import TYPE_TOKEN

from .declarations import Field, definition, fields, paragraphs

HEAD = f"""\
---
meta_desc: The resources, functions and enums of the Python package.
---

# Reference

Everything below is imported from `pulumi_fal`. The type token of a machine is `{TYPE_TOKEN}`.
"""
OF_A_MACHINE = ("ssh_key", "wait_for_capacity", "wait_for_ssh", "max_age")
"""Inputs of a cluster that the page describes once, for a machine."""

UNTIL = " It is None until all machines have an ip."
"""The page says it once."""


def text() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    resource, args = pulumi_fal.ComputeInstance, pulumi_fal.ComputeInstanceArgs
    yield f"## ComputeInstance\n\n{_doc(resource)}\n"
    yield "Name, inputs and options: `ComputeInstance(name, opts, **inputs)`, or"
    yield "`ComputeInstance(name, ComputeInstanceArgs(**inputs), opts)`.\n"
    yield "### Inputs\n"
    yield "Each can be an Output, except a cluster's `size`.\n"
    yield from _table("input", "type", _inputs(args))
    yield f"{_doc(resource.__init__, after=1)}\n"
    yield "### Outputs\n"
    id_ = next(field for field in fields(pulumi_fal.Instance) if field.name == "id")
    outputs = [replace(id_, type="pulumi.Output[str]"), *fields(resource)]
    yield from _table("output", "type", outputs)
    yield _function(resource.get, "ComputeInstance.get")
    cluster = pulumi_fal.ComputeCluster
    yield f"## ComputeCluster\n\n{_doc(cluster)}\n"
    yield "### Inputs of a cluster\n"
    cluster_inputs = [*_inputs(pulumi_fal.ComputeClusterArgs)]
    yield from _table("input", "type", (f for f in cluster_inputs if f.name not in OF_A_MACHINE))
    same = ", ".join(f"`{field.name}`" for field in cluster_inputs if field.name in OF_A_MACHINE)
    yield f"{same}: the [inputs of a ComputeInstance](#inputs), for each machine.\n"
    yield f"{_doc(cluster.__init__, after=1)}\n"
    yield "### Outputs of a cluster\n"
    outputs = [replace(field, doc=field.doc.replace(UNTIL, "")) for field in fields(cluster)]
    yield from _table("output", "type", outputs)
    yield "From `hostfile` on, they are None until all machines have an ip.\n"
    yield f"## Functions\n\n{_doc(inspect.getmodule(pulumi_fal.get_instance), after=1)}\n"
    for function in (pulumi_fal.get_instance, pulumi_fal.get_instances):
        yield _function(function, function.__name__)
    yield f"## Instance\n\n{_doc(pulumi_fal.Instance)}\n"
    yield "Its attributes are [outputs of a ComputeInstance](#outputs) as plain values:\n"
    plain = ", ".join(f"{field.name}: {field.type}" for field in fields(pulumi_fal.Instance))
    yield f"`{plain}`\n"
    yield f"It also has `is_ready: bool`. {_doc(pulumi_fal.Instance.is_ready)}\n"
    for enum in (pulumi_fal.InstanceType, pulumi_fal.Sector, pulumi_fal.Status):
        yield f"## {enum.__name__}\n\n{_doc(enum)} The members are these in upper case.\n"
        members = {field.name: field.doc for field in fields(enum)}
        yield from (f"- `{it.value}`{members[it.name] and ': '}{members[it.name]}" for it in enum)
        yield ""


def _table(name: str, type_: str, declared: Iterable[Field]) -> Iterator[str]:
    rows = [
        # An unescaped bar would end the cell, even in code.
        (f"`{field.name}`", f"`{field.type}`".replace("|", r"\|"), field.doc)
        for field in declared
    ]
    for row in [(name, type_, ""), ("---",) * 3, *rows]:
        yield f"| {' | '.join(row)} |"
    yield ""


def _function(function: Callable[..., object], name: str) -> str:
    tree = definition(function)
    signature = ast.unparse(tree.args).replace("None=None", "None = None")
    returns = ast.unparse(tree.returns)
    return f"### {name}\n\n`{name}({signature}) -> {returns}`\n\n{_doc(function)}\n"


def _inputs(cls: type) -> Iterator[Field]:
    """Yield the fields of the arguments class; those with a default are marked as optional."""
    for field in fields(cls):
        plain = field.type.replace("pulumi.Input[", "").replace("]", "").replace(" | None", "")
        doc = f"Optional. {field.doc}" if field.has_default else field.doc
        yield replace(field, type=plain, doc=doc)


def _doc(thing: object, after: int = 0) -> str:
    """Return the docstring without its first `after` paragraphs."""
    return "\n\n".join(paragraphs(thing)[after:])
