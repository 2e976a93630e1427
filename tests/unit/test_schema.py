"""The schema of the native plugin: names that are for ever, and the same facts as in Python."""

from __future__ import annotations

import inspect
import json
import re
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pulumi_fal
from pulumi_fal import lookups
from pulumi_fal.api.models import Instance, InstanceType, Sector, Status
from pulumi_fal.api.options import API
from pulumi_fal.api.settings import ENDPOINTS, Settings
from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
from pulumi_fal.native.properties import NAMES as NAMES_THAT_DIFFER
from pulumi_fal.native.properties import camel
from pulumi_fal.native.servicer import FalProvider
from pulumi_fal.resource import inputs
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

REFERENCE = Path(__file__).resolve().parents[2] / "tools" / "reference.py"
NAMES = """\
config api: string
config apiKey: string, secret
config endpoint: string
config parallel: integer
config pollInterval: number
config retryBudget: number
config settle: number
provider api: string
provider apiKey: string, secret
provider endpoint: string
provider parallel: integer
provider pollInterval: number
provider retryBudget: number
provider settle: number
enum fal:index:InstanceType Gpu1xH100Sxm5 = gpu_1x_h100_sxm5
enum fal:index:InstanceType Gpu8xH100Sxm5 = gpu_8x_h100_sxm5
enum fal:index:Sector Sector1 = sector_1
enum fal:index:Sector Sector2 = sector_2
enum fal:index:Sector Sector3 = sector_3
enum fal:index:Status Init = init
enum fal:index:Status Pending = pending
enum fal:index:Status Provisioning = provisioning
enum fal:index:Status Ready = ready
enum fal:index:Status Stopped = stopped
enum fal:index:Status Unknown = unknown
type fal:index:Instance creatorUserNickname: string
type fal:index:Instance id: string, required
type fal:index:Instance instanceType: string, required
type fal:index:Instance ip: string
type fal:index:Instance region: string
type fal:index:Instance sector: string
type fal:index:Instance status: string, required
input fal:index:ComputeInstance instanceType: string or fal:index:InstanceType, required, replaces
input fal:index:ComputeInstance sector: string or fal:index:Sector, replaces
input fal:index:ComputeInstance sshKey: string, required, replaces
input fal:index:ComputeInstance wait: boolean
output fal:index:ComputeInstance creatorUserNickname: string
output fal:index:ComputeInstance instanceType: string, required
output fal:index:ComputeInstance ip: string, required
output fal:index:ComputeInstance region: string
output fal:index:ComputeInstance sector: string
output fal:index:ComputeInstance sshKey: string, required
output fal:index:ComputeInstance status: string, required
argument fal:index:getInstance id: string, required
argument fal:index:getInstances instanceType: string or fal:index:InstanceType
argument fal:index:getInstances region: string
argument fal:index:getInstances sector: string or fal:index:Sector
argument fal:index:getInstances status: string or fal:index:Status
result fal:index:getInstance creatorUserNickname: string
result fal:index:getInstance id: string, required
result fal:index:getInstance instanceType: string, required
result fal:index:getInstance ip: string
result fal:index:getInstance region: string
result fal:index:getInstance sector: string
result fal:index:getInstance status: string, required
result fal:index:getInstances instances: list of fal:index:Instance, required
nodejs @fal-ai/pulumi-fal
python pulumi_fal_sdk
go github.com/fal-ai/pulumi-fal/sdk/go/fal
csharp FalAi.Fal
java ai.fal.pulumi.fal
"""
"""Programs and states have these names in them. A line may be added; none may change or go."""

SCHEMA: dict[str, Any] = json.loads(FalProvider().GetSchema(None, None).schema)
MACHINE = SCHEMA["resources"][NATIVE_TYPE_TOKEN]
FUNCTIONS = SCHEMA["functions"]


def named() -> Iterator[str]:
    """Everything that the schema names, a line each."""
    yield from properties("config", SCHEMA["config"]["variables"])
    yield from properties("provider", SCHEMA["provider"]["inputProperties"])
    for token, type_ in SCHEMA["types"].items():
        for member in type_.get("enum", ()):
            yield f"enum {token} {member['name']} = {member['value']}"
        yield from properties(f"type {token}", **properties_of(type_))
    for token, resource in SCHEMA["resources"].items():
        wanted = resource["requiredInputs"]
        yield from properties(f"input {token}", resource["inputProperties"], wanted)
        yield from properties(f"output {token}", **properties_of(resource))
    for token, function in FUNCTIONS.items():
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
        }
        said = "".join(f", {flag}" for flag, is_set in flags.items() if is_set)
        yield f"{what} {name}: {type_name(spec)}{said}"


def type_name(spec: Mapping[str, Any]) -> str:
    if "oneOf" in spec:
        return " or ".join(map(type_name, spec["oneOf"]))
    if "$ref" in spec:
        return str(spec["$ref"]).removeprefix("#/types/")
    return f"list of {type_name(spec['items'])}" if "items" in spec else str(spec["type"])


def test_no_name_has_changed() -> None:
    """The schema has exactly the names and types that are written down here."""
    assert sorted(named()) == sorted(NAMES.splitlines())


def test_the_schema_says_which_version_it_is_of() -> None:
    """A generated SDK asks the engine for the plugin of its own version."""
    assert SCHEMA["version"] == pulumi_fal.__version__


def test_nobody_is_asked_for_a_plugin_to_download() -> None:
    """There is none to download, and whoever had the address could give people another one."""
    assert re.match(r"https://[\w-]+\.invalid/", SCHEMA["pluginDownloadURL"])


# As in Python


def camels(names: Any) -> set[str]:
    return {camel(name) for name in names}


def test_the_inputs_are_those_of_python() -> None:
    """Names, which of them are required, and which replace the machine."""
    args = fields(ComputeInstanceArgs)
    assert set(MACHINE["inputProperties"]) == camels(each.name for each in args)
    assert set(MACHINE["requiredInputs"]) == camels(
        each.name for each in args if each.default is MISSING
    )
    replacing = {
        name for name, spec in MACHINE["inputProperties"].items() if "willReplaceOnChanges" in spec
    }
    assert replacing == camels(inputs.REPLACING)
    assert set(MACHINE["inputProperties"]) == camels(inputs.NAMES)


def test_the_outputs_are_those_of_python() -> None:
    """Names, and which of them every machine has."""
    declared = inspect.get_annotations(ComputeInstance)
    assert set(MACHINE["properties"]) == camels(declared)
    assert set(MACHINE["required"]) == camels(
        name for name, type_ in declared.items() if type_ == "pulumi.Output[str]"
    )


@pytest.mark.parametrize("enum", [InstanceType, Sector, Status])
def test_the_enums_are_those_of_python(enum: type[Enum]) -> None:
    """Values, and names that differ in nothing but their spelling."""
    members = SCHEMA["types"][f"fal:index:{enum.__name__}"]["enum"]
    assert {each["name"].lower(): each["value"] for each in members} == {
        each.name.replace("_", "").lower(): each.value for each in enum
    }


def test_a_looked_up_machine_is_that_of_python() -> None:
    """The function for one machine and that for several give what Python's give."""
    hints = get_type_hints(Instance)
    for type_ in (
        SCHEMA["types"]["fal:index:Instance"],
        FUNCTIONS["fal:index:getInstance"]["outputs"],
    ):
        assert set(type_["properties"]) == camels(hints)
        assert set(type_["required"]) == camels(name for name, hint in hints.items() if hint is str)


def test_lookups_take_what_those_of_python_take() -> None:
    """One takes an id, the other the same filters."""
    filters = inspect.signature(lookups.get_instances).parameters
    assert set(FUNCTIONS["fal:index:getInstances"]["inputs"]["properties"]) == camels(filters)
    assert list(FUNCTIONS["fal:index:getInstance"]["inputs"]["properties"]) == ["id"]


def test_the_config_is_described_once_and_with_its_defaults() -> None:
    """A declared provider takes what the stack's config takes, and both name the real defaults."""
    variables = SCHEMA["config"]["variables"]
    assert SCHEMA["provider"]["inputProperties"] == variables
    defaults = {"api": f"`{API.default}`"}
    settings = Settings("", "", "")
    for name, attribute in (
        ("parallel", "parallel"),
        ("pollInterval", "poll_interval"),
        ("retryBudget", "retry_budget"),
        ("settle", "appear_seconds"),
    ):
        defaults[name] = f"{getattr(settings, attribute):g}"
    for name, value in defaults.items():
        assert variables[name]["description"].endswith(f"The default is {value}."), name
    for api in ENDPOINTS:
        assert f"`{api}`" in variables["api"]["description"]


def as_in_the_schema(docstring: str) -> str:
    """A docstring as the schema says it, which is for no language in particular."""
    for ours, theirs in {
        "True": "true",
        "False": "false",
        "None for 1x machines": "1x machines have none",
        "None with the legacy API": "Only the v1 API returns it",
        **NAMES_THAT_DIFFER,
    }.items():
        docstring = docstring.replace(ours, theirs)
    return docstring


def test_descriptions_are_the_docstrings() -> None:
    """Whoever rewords a docstring rewords the description, too."""
    fields_of = runpy.run_path(str(REFERENCE), run_name="reference")["_fields"]
    described = [
        (MACHINE["inputProperties"], fields_of(ComputeInstanceArgs)),
        (MACHINE["properties"], fields_of(ComputeInstance)),
    ]
    for specs, documented in described:
        for field in documented:
            description = specs[camel(field.name)]["description"]
            assert description == as_in_the_schema(field.doc), field.name
    tokens = {**SCHEMA["types"], **SCHEMA["resources"]}
    for token, documented in (
        (NATIVE_TYPE_TOKEN, ComputeInstance),
        ("fal:index:InstanceType", InstanceType),
        ("fal:index:Sector", Sector),
        ("fal:index:Status", Status),
        ("fal:index:Instance", Instance),
    ):
        doc = inspect.getdoc(documented) or ""
        assert tokens[token]["description"] == as_in_the_schema(doc), token
    for enum in (InstanceType, Status):
        members = tokens[f"fal:index:{enum.__name__}"]["enum"]
        by_value = {each["value"]: each["description"] for each in members}
        for field in fields_of(enum):
            value = enum[field.name].value
            assert by_value[value].endswith(as_in_the_schema(field.doc)), field.name


def test_everything_is_described() -> None:
    """Each property, type and function has a sentence that ends as one."""

    def descriptions(node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict):
            is_spec = "type" in node or "oneOf" in node or "inputs" in node
            if is_spec and not path.endswith(("items", "outputs")) and "oneOf/" not in path:
                yield path, node.get("description", "")
            for name, child in node.items():
                yield from descriptions(child, f"{path}/{name}")

    described = dict(descriptions({k: v for k, v in SCHEMA.items() if k != "language"}, ""))
    assert len(described) > 40
    assert {path for path, text in described.items() if not text.endswith((".", ".\n"))} == set()
