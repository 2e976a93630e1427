"""Translates properties between the protocol and `resource`: names, unknown values and secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

from pulumi_fal.resource.call import UNKNOWN
from pulumi_fal.resource.inputs import CLUSTER_FIELDS, FIELDS

NAMES = {
    field.name: field.camel for field in (*FIELDS, *CLUSTER_FIELDS) if field.camel != field.name
}
"""The schema's names of the properties whose names differ."""
_WORDS = {**NAMES, "True": "true", "False": "false"}
_OWN_NAMES = {theirs: ours for ours, theirs in NAMES.items()}
DYNAMIC_PROVIDER = "__provider"
"""The property in every state that the dynamic provider wrote."""
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How the protocol marks an object that wraps a secret value."""


def camel(name: str) -> str:
    """Return the schema's name of a property."""
    return NAMES.get(name, name)


def camel_words(text: str) -> str:
    """Return a text about Python in words for all languages: the schema's names, true and false."""
    return re.sub(rf"\b({'|'.join(_WORDS)})\b", lambda found: _WORDS[found[1]], text)


def received(properties: struct_pb2.Struct) -> dict[str, Any]:
    """Return the properties by the names of `resource`, with UNKNOWN for unknown values.

    This also reads the state of a machine that the dynamic provider made, which has these names.
    """
    values = {
        _OWN_NAMES.get(name, name): _plain(value)
        for name, value in json_format.MessageToDict(properties).items()
        if name != DYNAMIC_PROVIDER
    }
    return {name: value for name, value in values.items() if value is not None}


def sent(properties: Mapping[str, Any], secrets: Collection[str] = ()) -> struct_pb2.Struct:
    """Return the properties by the schema's names, with the protocol's value for UNKNOWN.

    Those that `secrets` names are marked as secrets. The engine stores all others in the clear.
    """
    struct = struct_pb2.Struct()
    for name, value in properties.items():
        known = rpc.UNKNOWN if value is UNKNOWN else value
        struct[camel(name)] = _secret(known) if name in secrets else known
    return struct


def secrets_in(*received_properties: struct_pb2.Struct) -> set[str]:
    """Return the names, as in `resource`, of the properties that the engine sent as secrets."""
    return {
        _OWN_NAMES.get(name, name)
        for properties in received_properties
        for name, value in properties.fields.items()
        if _is_secret(json_format.MessageToDict(value))
    }


def secret(properties: struct_pb2.Struct, name: str) -> struct_pb2.Struct:
    """Return a copy of the properties in which the one with that name is a secret, if it is set."""
    marked = struct_pb2.Struct()
    marked.CopyFrom(properties)
    if name in properties:
        marked[name] = _secret(_unwrapped(json_format.MessageToDict(properties.fields[name])))
    return marked


def _plain(value: Any) -> Any:
    value = _unwrapped(value)
    return UNKNOWN if value == rpc.UNKNOWN else value


def _secret(value: Any) -> dict[str, Any]:
    return {_SIGNATURE: _SECRET, "value": value}


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET


def _unwrapped(value: Any) -> Any:
    """Return the value itself, without the object that marks it as a secret."""
    return value.get("value") if _is_secret(value) else value
