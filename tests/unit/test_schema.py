"""The schema of the native plugin, and the YAML programs of examples and docs that it describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.languages.__main__ import examples

import pulumi_fal
from pulumi_fal.native.servicer import FalProvider

from ..docs import ROOT, blocks

RECORDED = Path(__file__).parent / "recorded" / "schema-names.txt"
"""Programs and states have these names in them. A line may be added; none may change or go."""

SCHEMA: dict[str, Any] = json.loads(FalProvider().GetSchema(None, None).schema)


def named() -> Iterator[str]:
    """Everything that the schema names, a line each."""
    yield from properties("config", SCHEMA["config"]["variables"])
    for token, type_ in SCHEMA["types"].items():
        for member in type_.get("enum", ()):
            yield f"enum {token} {member['name']} = {member['value']}"
        yield from properties(f"type {token}", **properties_of(type_))
    for token, resource in SCHEMA["resources"].items():
        wanted = resource["requiredInputs"]
        yield from properties(f"input {token}", resource["inputProperties"], wanted)
        yield from properties(f"list {token}", **properties_of(resource.get("listInputs", {})))
        yield from properties(f"output {token}", **properties_of(resource))
        if resource.get("isComponent"):
            yield f"component {token}"
    for token, function in SCHEMA["functions"].items():
        yield from properties(f"argument {token}", **properties_of(function["inputs"]))
        yield from properties(f"result {token}", **properties_of(function["outputs"]))
    language = SCHEMA["language"]
    yield f"nodejs {language['nodejs']['packageName']}"
    yield f"python {language['python']['packageName']}"
    yield f"go {language['go']['importBasePath']}"
    csharp = language["csharp"]
    yield f"csharp {csharp['rootNamespace']}.{csharp['namespaces']['fal']}"
    yield f"java {language['java']['basePackage']}.{SCHEMA['name']}"


def properties_of(type_: Mapping[str, Any]) -> dict[str, Any]:
    return {"of": type_.get("properties", {}), "required": type_.get("required", ())}


def properties(what: str, of: Mapping[str, Any], required: Any = ()) -> Iterator[str]:
    for name, spec in of.items():
        flags = {
            "required": name in required,
            "replaces": spec.get("willReplaceOnChanges"),
            "secret": spec.get("secret"),
            "plain": spec.get("plain"),
        }
        said = "".join(f", {flag}" for flag, is_set in flags.items() if is_set)
        yield f"{what} {name}: {type_name(spec)}{said}"


def type_name(spec: Mapping[str, Any]) -> str:
    if "oneOf" in spec:
        return " or ".join(map(type_name, spec["oneOf"]))
    if "$ref" in spec:
        return re.sub(r"^#/\w+/", "", spec["$ref"])
    return f"list of {type_name(spec['items'])}" if "items" in spec else str(spec["type"])


def test_no_name_has_changed() -> None:
    """The schema has exactly the names and types that are written down."""
    assert sorted(named()) == sorted(RECORDED.read_text(encoding="utf-8").splitlines())


def test_provider() -> None:
    """The schema is of this package and repository, and a provider takes a stack's config."""
    assert SCHEMA["version"] == pulumi_fal.__version__
    assert SCHEMA["provider"]["inputProperties"] == SCHEMA["config"]["variables"]
    urls = (ROOT / "pyproject.toml").read_text().partition("[project.urls]")[2]
    (found,) = re.findall(r'(?m)^Repository = "https://github\.com/(.+/pulumi-fal)"$', urls)
    assert SCHEMA["repository"] == f"https://github.com/{found}"
    assert SCHEMA["pluginDownloadURL"] == f"github://api.github.com/{found}"
    assert SCHEMA["language"]["go"]["importBasePath"].startswith(f"github.com/{found}/")
    branch = f"https://raw.githubusercontent.com/{found}/main/"
    assert (ROOT / SCHEMA["logoUrl"].removeprefix(branch)).is_file()
    main = f"https://github.com/{found}/blob/main/"
    assert (ROOT / SCHEMA["configurationDocsUrl"].removeprefix(main)).is_file()


def test_descriptions() -> None:
    """Each is described, in no words of Python, since all languages show it."""
    plain = re.sub(r"```python.*?```", "", json.dumps(SCHEMA))
    assert not re.search(r"instance_type|ssh_key|True|False|None|pulumi\.RunError", plain)
    functions = SCHEMA["functions"].values()
    types = [type_ for type_ in SCHEMA["types"].values() if "enum" not in type_]
    objects = [function[name] for function in functions for name in ("inputs", "outputs")]
    described = [*SCHEMA["resources"].values(), *functions, *SCHEMA["config"]["variables"].values()]
    for spec in [*SCHEMA["resources"].values(), *types, *objects]:
        described += [*spec["properties"].values(), *spec.get("inputProperties", {}).values()]
    assert len(described) > 40
    for spec in described:
        assert spec.get("description", "").partition("\n\n{{%")[0].rstrip().endswith("."), spec


# YAML programs. `make languages` runs the examples.


def programs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each program or part of one, with where it stands."""
    for name in ("yaml", "cluster-yaml"):
        file = ROOT / "examples" / name / "Pulumi.yaml"
        yield str(file.relative_to(ROOT)), yaml.safe_load(file.read_text())
    for block in blocks("yaml"):
        text = yaml.safe_load(block.text)
        if "resources" in text:
            yield str(block), text
    for name, example in examples("yaml").items():
        yield f"schema: {name}", yaml.safe_load(example)


PROGRAMS = dict(programs())


def declared(kind: str, name: str) -> dict[str, Any]:
    """What the schema has for the name of a resource or function, such as fal:ComputeInstance."""
    if name == "pulumi:providers:fal":
        return {**SCHEMA["provider"], "requiredInputs": ()}
    found: dict[str, Any] = SCHEMA[kind][name.replace(":", ":index:")]
    return found


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: dict[str, Any]) -> None:
    """It gives all inputs that are required and no others, and uses outputs that there are."""
    assert len(PROGRAMS) == 11
    outputs: dict[str, set[str]] = {}
    for name, resource in program.get("resources", {}).items():
        spec, given = declared("resources", resource["type"]), set(resource.get("properties", ()))
        assert set(spec["requiredInputs"]) <= given <= set(spec["inputProperties"])
        outputs[name] = {"id", *spec.get("properties", ())}
    for name, variable in program.get("variables", {}).items():
        call = variable["fn::invoke"]
        spec, given = declared("functions", call["function"]), set(call["arguments"])
        inputs, outputs[name] = spec["inputs"], set(spec["outputs"]["properties"])
        assert set(inputs.get("required", ())) <= given <= set(inputs["properties"])
        assert call.get("return") in {None, *outputs[name]}
    for name, output in re.findall(r"\$\{(\w+)\.(\w+)\}", json.dumps(program)):
        assert output in outputs[name]
