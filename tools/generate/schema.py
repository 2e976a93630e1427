"""The text of schema.json, from the same declarations as the reference.

Descriptions are docstrings, with camel case and other words that are not only Python's. Those of
resources and functions end with an example in every language, from the files in examples/, in the
form of Pulumi's registry. The generator of an SDK takes the blocks of its own language.
"""

from __future__ import annotations

import inspect
import json
import re
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

import pulumi_fal
from pulumi_fal.api.settings import OPTIONS, Option
from pulumi_fal.native.base import FILTERS, GET_INSTANCE, GET_INSTANCES, LIST_FILTERS
from pulumi_fal.native.properties import camel, camel_words
from pulumi_fal.resource.inputs import REPLACING
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN

from .declarations import Field, fields, paragraphs

METADATA = metadata.metadata("pulumi-fal")
"""What pyproject.toml says of the package."""
REPOSITORY = dict(url.split(", ") for url in METADATA.get_all("Project-URL", []))["Repository"]
OWNER_AND_NAME = REPOSITORY.removeprefix("https://github.com/")
ENUMS = (pulumi_fal.InstanceType, pulumi_fal.Sector, pulumi_fal.Status)
PACKAGE = {
    "name": "fal",
    "displayName": "fal Compute",
    "version": pulumi_fal.__version__,
    "description": "Rent NVIDIA H100 machines on fal Compute, billed by the hour.",
    "keywords": ["pulumi", "fal", "gpu", "h100", "category/cloud", "kind/native"],
    "homepage": "https://fal.ai",
    "repository": REPOSITORY,
    "license": METADATA["License-Expression"],
    "publisher": "pulumi-fal",
    "logoUrl": f"https://raw.githubusercontent.com/{OWNER_AND_NAME}/main/docs/logo.svg",
    # Its releases, in which Pulumi looks for an archive of the plugin.
    "pluginDownloadURL": f"github://api.github.com/{OWNER_AND_NAME}",
    # `pulumi new` shows mistakes in the settings, found offline, with the address of the page.
    "validateCredentialsOnNew": True,
    "configurationDocsUrl": f"{REPOSITORY}/blob/main/docs/installation-configuration.md",
    "meta": {"supportPack": True},
}
PROVIDER = (
    "The account, the API, and how calls to it are retried. These arguments override environment "
    "variables. A provider that the program declares does not use the stack's config: not "
    "fal:endpoint, not fal:api, nor any other fal: value."
)
LANGUAGES = {
    "nodejs": {"packageName": "@fal-ai/pulumi-fal", "respectSchemaVersion": True},
    "python": {
        "packageName": "pulumi_fal_sdk",
        "pyproject": {"enabled": True},
        "respectSchemaVersion": True,
    },
    "go": {
        "importBasePath": f"github.com/{OWNER_AND_NAME}/sdk/go/fal",
        # Without them, a property that is a list of machines has no type.
        "generateResourceContainerTypes": True,
        "respectSchemaVersion": True,
    },
    "csharp": {
        "rootNamespace": "FalAi",
        "namespaces": {"fal": "Fal"},
        "respectSchemaVersion": True,
    },
    "java": {"basePackage": "ai.fal.pulumi", "buildFiles": "gradle"},
}
EXAMPLES = Path(__file__).with_name("examples")
"""A file for each resource and function, named as it is in a program."""
TYPES = {"str": "string", "bool": "boolean", "int": "integer", "float": "number"}
"""The schema's names of Python's types."""


def text() -> str:
    """Return the whole file."""
    return json.dumps(_schema(), indent=2) + "\n"


def _schema() -> dict[str, Any]:
    options = {option.name: _option(option) for option in OPTIONS}
    return {
        **PACKAGE,
        "config": {"variables": options},
        "provider": {"description": PROVIDER, "inputProperties": options},
        "types": {
            **{_token(enum): _enum(enum) for enum in ENUMS},
            _token(pulumi_fal.Instance): {
                "type": "object",
                "description": _doc(pulumi_fal.Instance),
                **_outputs(pulumi_fal.Instance),
            },
        },
        "resources": _with_examples(
            {NATIVE_TYPE_TOKEN: _machine(), CLUSTER_TYPE_TOKEN: _cluster()}
        ),
        "functions": _with_examples(
            {GET_INSTANCE: _get_instance(), GET_INSTANCES: _get_instances()}
        ),
        "language": LANGUAGES,
    }


def _with_examples(described: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        token: {**spec, "description": f"{spec['description']}\n\n{_example(token)}"}
        for token, spec in described.items()
    }


def _example(token: str) -> str:
    file = EXAMPLES / f"{token.rpartition(':')[2]}.md"
    return file.read_text(encoding="utf-8").rstrip()


def _option(option: Option[Any]) -> dict[str, Any]:
    described = option.description
    if option.default is not None:
        is_text = isinstance(option.default, str)
        default = f"`{option.default}`" if is_text else f"{option.default:g}"
        described += f" The default is {default}."
    type_ = "str" if option.default is None else type(option.default).__name__
    secret = {"secret": True} if option.is_secret else {}
    return {"type": TYPES[type_], "description": described, **secret}


def _enum(enum: type[Enum]) -> dict[str, Any]:
    members = []
    for field in (declared for declared in fields(enum) if declared.name in enum.__members__):
        name = "".join(word.capitalize() for word in field.name.split("_"))
        description = {"description": _words(field.doc)} if field.doc else {}
        members.append({"name": name, "value": enum[field.name].value, **description})
    return {"type": "string", "description": _doc(enum), "enum": members}


def _machine() -> dict[str, Any]:
    inputs = list(fields(pulumi_fal.ComputeInstanceArgs))
    return {
        "description": _doc(pulumi_fal.ComputeInstance),
        "inputProperties": {
            camel(field.name): {
                **_property(field.type, field.doc),
                **({"willReplaceOnChanges": True} if field.name in REPLACING else {}),
            }
            for field in inputs
        },
        "requiredInputs": [camel(field.name) for field in inputs if not field.has_default],
        # `pulumi do` makes no flags for values that may be an enum, so these are plain text.
        "listInputs": {
            "type": "object",
            "description": "What to list. Without a filter, all machines of the account are.",
            "properties": {camel(name): _property("str", FILTERS[name]) for name in LIST_FILTERS},
        },
        **_outputs(pulumi_fal.ComputeInstance),
    }


def _cluster() -> dict[str, Any]:
    inputs = list(fields(pulumi_fal.ComputeClusterArgs))
    return {
        "description": _doc(pulumi_fal.ComputeCluster),
        "isComponent": True,
        "inputProperties": {camel(field.name): _cluster_input(field) for field in inputs},
        "requiredInputs": [camel(field.name) for field in inputs if not field.has_default],
        **_outputs(pulumi_fal.ComputeCluster),
    }


def _cluster_input(field: Field) -> dict[str, Any]:
    """Return the property. One that can't be an Output is plain."""
    is_plain = {} if "Input[" in field.type else {"plain": True}
    return {**_property(field.type, field.doc), **is_plain}


def _get_instance() -> dict[str, Any]:
    outputs = _outputs(pulumi_fal.Instance)
    return {
        "description": _first_paragraph(pulumi_fal.get_instance),
        "inputs": {"properties": {"id": outputs["properties"]["id"]}, "required": ["id"]},
        "outputs": outputs,
    }


def _get_instances() -> dict[str, Any]:
    parameters = inspect.signature(pulumi_fal.get_instances).parameters.values()
    filters = {
        camel(filter_.name): _property(str(filter_.annotation), FILTERS[filter_.name])
        for filter_ in parameters
    }
    machines = {
        "type": "array",
        "items": {"$ref": f"#/types/{_token(pulumi_fal.Instance)}"},
        "description": "The machines.",
    }
    return {
        "description": _first_paragraph(pulumi_fal.get_instances),
        "inputs": {"properties": filters},
        "outputs": {"properties": {"instances": machines}, "required": ["instances"]},
    }


def _outputs(cls: type) -> dict[str, Any]:
    """Return the properties of a class. Those that can't be None are required."""
    declared = list(fields(cls))
    return {
        "properties": {camel(field.name): _property(field.type, field.doc) for field in declared},
        "required": [
            camel(field.name) for field in declared if not re.search(r"\| None\]?$", field.type)
        ],
    }


def _property(annotation: str, doc: str) -> dict[str, Any]:
    """Return the type and the description. A property with an enum takes other text as well."""
    words = re.findall(r"\w+", annotation)
    if pulumi_fal.ComputeInstance.__name__ in words:
        type_: dict[str, Any] = {"$ref": f"#/resources/{NATIVE_TYPE_TOKEN}"}
    else:
        (plain,) = [{"type": TYPES[word]} for word in words if word in TYPES]
        enums = [enum for enum in ENUMS if enum.__name__ in words]
        references = [{**plain, "$ref": f"#/types/{_token(enum)}"} for enum in enums]
        type_ = {"oneOf": [plain, *references]} if references else plain
    if "list" in words:
        type_ = {"type": "array", "items": type_}
    return {**type_, "description": _words(doc)}


def _token(type_: type) -> str:
    return f"{PACKAGE['name']}:index:{type_.__name__}"


def _doc(thing: object) -> str:
    lines = (" ".join(paragraph.split()) for paragraph in paragraphs(thing))
    return _words("\n\n".join(lines))


def _words(text: str) -> str:
    """Return a docstring in words for all languages, as far as only Python has them."""

    def camel_option(found: re.Match[str]) -> str:
        first, *others = found[1].split("_")
        return "".join(["`", first, *(word.capitalize() for word in others), "`"])

    options = re.sub(r"`([a-z]+(?:_[a-z]+)+)`", camel_option, camel_words(text))
    return re.sub(r"\bNone\b", "null", options)


def _first_paragraph(function: object) -> str:
    """Return what a function does. The rest of its docstring is about exceptions of Python."""
    return _doc(function).partition("\n\n")[0]
