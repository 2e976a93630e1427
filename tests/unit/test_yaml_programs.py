"""The YAML programs of examples and docs, held to the schema. `make languages` runs examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pulumi_fal.native.servicer import FalProvider

from ..docs import ROOT, blocks, schema_examples

SCHEMA: dict[str, Any] = json.loads(FalProvider().GetSchema(None, None).schema)


def programs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each program or part of one, with where it stands."""
    for name in ("yaml", "cluster-yaml"):
        example = ROOT / "examples" / name / "Pulumi.yaml"
        yield str(example), yaml.safe_load(example.read_text())
    for block in blocks("yaml"):
        text = yaml.safe_load(block.text)
        if "resources" in text:
            yield str(block), text
    for name, languages in schema_examples().items():
        yield f"schema: {name}", yaml.safe_load(languages["yaml"])


PROGRAMS = dict(programs())
every_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def test_example_and_docs_are_found() -> None:
    """The examples and five blocks of the docs declare resources, and the schema has four."""
    assert len(PROGRAMS) == 11


@every_program
def test_resources_have_properties_of_the_schema(program: dict[str, Any]) -> None:
    """A resource has all that is required, and neither it nor a provider has what is unknown."""
    for resource in program.get("resources", {}).values():
        names = set(resource["properties"])
        if resource["type"] == "pulumi:providers:fal":
            assert names <= set(SCHEMA["provider"]["inputProperties"])
        else:
            declared = resource_of(resource)
            assert set(declared["requiredInputs"]) <= names <= set(declared["inputProperties"])


@every_program
def test_what_is_referred_to_exists(program: dict[str, Any]) -> None:
    """Outputs that a program uses are in the schema, and the resources are in the program."""
    for name, output in re.findall(r"\$\{(\w+)\.(\w+)\}", json.dumps(program)):
        if name in program.get("variables", {}):
            assert output in function_of(program["variables"][name])["outputs"]["properties"]
        else:
            assert output in {"id", *resource_of(program["resources"][name])["properties"]}


@every_program
def test_lookups_are_functions_of_the_schema(program: dict[str, Any]) -> None:
    """A lookup has the arguments that are required, and uses a result that there is."""
    for variable in program.get("variables", {}).values():
        call, function = variable["fn::invoke"], function_of(variable)
        inputs = function["inputs"]
        assert (
            set(inputs.get("required", ())) <= set(call["arguments"]) <= set(inputs["properties"])
        )
        if "return" in call:
            assert call["return"] in function["outputs"]["properties"]


def resource_of(resource: dict[str, Any]) -> dict[str, Any]:
    package, name = resource["type"].split(":")
    declared: dict[str, Any] = SCHEMA["resources"][f"{package}:index:{name}"]
    return declared


def function_of(variable: dict[str, Any]) -> dict[str, Any]:
    package, name = variable["fn::invoke"]["function"].split(":")
    function: dict[str, Any] = SCHEMA["functions"][f"{package}:index:{name}"]
    return function
