"""The schema of the native plugin: names that are for ever, and what the engine reads in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import pulumi_fal
from pulumi_fal.native.servicer import FalProvider

from ..docs import ROOT, schema_examples

NAMES = """\
config absence: number
config api: string
config apiKey: string, secret
config endpoint: string
config parallel: integer
config pollInterval: number
config retryBudget: number
config settle: number
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
input fal:index:ComputeInstance waitForCapacity: string
input fal:index:ComputeInstance waitForSsh: boolean
list fal:index:ComputeInstance instanceType: string
list fal:index:ComputeInstance status: string
output fal:index:ComputeInstance creatorUserNickname: string
output fal:index:ComputeInstance instanceType: string, required
output fal:index:ComputeInstance ip: string, required
output fal:index:ComputeInstance region: string
output fal:index:ComputeInstance sector: string
output fal:index:ComputeInstance sshKey: string, required
output fal:index:ComputeInstance status: string, required
input fal:index:ComputeCluster instanceType: string or fal:index:InstanceType
input fal:index:ComputeCluster sector: string or fal:index:Sector
input fal:index:ComputeCluster size: integer, required, plain
input fal:index:ComputeCluster sshKey: string, required
input fal:index:ComputeCluster wait: boolean
input fal:index:ComputeCluster waitForCapacity: string
input fal:index:ComputeCluster waitForSsh: boolean
output fal:index:ComputeCluster hostfile: string
output fal:index:ComputeCluster inventory: string
output fal:index:ComputeCluster ips: list of string, required
output fal:index:ComputeCluster machines: list of fal:index:ComputeInstance, required
output fal:index:ComputeCluster mainIp: string
output fal:index:ComputeCluster sector: string
output fal:index:ComputeCluster sshConfig: string
output fal:index:ComputeCluster torchrun: list of string
component fal:index:ComputeCluster
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
    """The schema has exactly the names and types that are written down here."""
    assert sorted(named()) == sorted(NAMES.splitlines())


def test_provider() -> None:
    """The schema has the package's version, and a declared provider takes a stack's config."""
    assert SCHEMA["version"] == pulumi_fal.__version__
    assert SCHEMA["provider"]["inputProperties"] == SCHEMA["config"]["variables"]


def test_repository() -> None:
    """The plugin, the logo and the Go SDK are those of the repository in pyproject.toml."""
    urls = (ROOT / "pyproject.toml").read_text().partition("[project.urls]")[2]
    found = re.search(r'(?m)^Repository = "https://github\.com/(.+/pulumi-fal)"$', urls)
    assert found is not None
    assert SCHEMA["repository"] == f"https://github.com/{found[1]}"
    assert SCHEMA["pluginDownloadURL"] == f"github://api.github.com/{found[1]}"
    assert SCHEMA["language"]["go"]["importBasePath"].startswith(f"github.com/{found[1]}/")
    branch = f"https://raw.githubusercontent.com/{found[1]}/main/"
    assert (ROOT / SCHEMA["logoUrl"].removeprefix(branch)).is_file()


def test_descriptions() -> None:
    """Each resource, function and property is described."""
    resources, functions = SCHEMA["resources"].values(), SCHEMA["functions"].values()
    types = [type_ for type_ in SCHEMA["types"].values() if "enum" not in type_]
    objects = [function[name] for function in functions for name in ("inputs", "outputs")]
    described = [*resources, *functions, *SCHEMA["config"]["variables"].values()]
    for spec in [*resources, *types, *objects]:
        described += spec["properties"].values()
    for spec in resources:
        described += spec["inputProperties"].values()
    assert len(described) > 40
    for spec in described:
        assert spec.get("description", "").partition("\n\n{{%")[0].rstrip().endswith("."), spec


@pytest.mark.parametrize("token", [*SCHEMA["resources"], *SCHEMA["functions"]])
def test_examples(token: str) -> None:
    """Each resource and function has an example in every language, with the inputs it requires."""
    spec = {**SCHEMA["resources"], **SCHEMA["functions"]}[token]
    name = token.rpartition(":")[2]
    codes = re.findall(r"\{\{% (/?\w+) %\}\}", spec["description"])
    assert codes == ["examples", "example", "/example", "/examples"]
    languages = schema_examples()[name]
    assert list(languages) == ["typescript", "python", "go", "csharp", "java", "yaml"]
    for language, text in languages.items():
        words = text.replace("_", "").lower()  # each language has a case of its own
        for wanted in (name, *spec.get("requiredInputs", ())):
            assert wanted.lower() in words, (language, wanted)
