"""The YAML programs of examples and docs, held to the schema: `make languages` runs one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pulumi_fal.native.servicer import FalProvider

from ..docs import ROOT, blocks

SCHEMA: dict[str, Any] = json.loads(FalProvider().GetSchema(None, None).schema)
MACHINE = SCHEMA["resources"]["fal:index:ComputeInstance"]


def programs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each program or part of one, with where it stands."""
    example = ROOT / "examples" / "yaml" / "Pulumi.yaml"
    yield str(example), yaml.safe_load(example.read_text())
    for block in blocks("yaml"):
        text = yaml.safe_load(block.text)
        if "resources" in text:
            yield str(block), text


PROGRAMS = dict(programs())
every_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def test_example_and_docs_are_found() -> None:
    """The example and three blocks of the docs declare resources."""
    assert len(PROGRAMS) == 4


@every_program
def test_resources_have_properties_of_the_schema(program: dict[str, Any]) -> None:
    """A machine has all that is required, and neither it nor a provider has what is unknown."""
    for resource in program["resources"].values():
        names = set(resource["properties"])
        if resource["type"] == "pulumi:providers:fal":
            assert names <= set(SCHEMA["provider"]["inputProperties"])
        else:
            assert resource["type"] == "fal:ComputeInstance"
            assert set(MACHINE["requiredInputs"]) <= names <= set(MACHINE["inputProperties"])


@every_program
def test_what_is_referred_to_exists(program: dict[str, Any]) -> None:
    """Outputs that a program uses are in the schema, and the resources are in the program."""
    for name, output in re.findall(r"\$\{(\w+)\.(\w+)\}", json.dumps(program)):
        assert program["resources"][name]["type"] == "fal:ComputeInstance"
        assert output in {"id", *MACHINE["properties"]}


@every_program
def test_lookups_are_functions_of_the_schema(program: dict[str, Any]) -> None:
    """A lookup has the arguments that are required, and uses a result that there is."""
    for variable in program.get("variables", {}).values():
        call = variable["fn::invoke"]
        package, name = call["function"].split(":")
        function = SCHEMA["functions"][f"{package}:index:{name}"]
        assert set(call["arguments"]) == set(function["inputs"]["required"])
        assert call["return"] in function["outputs"]["properties"]
