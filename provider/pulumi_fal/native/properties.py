"""Translates properties between the protocol and `resource`: their names, and unknown values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

from pulumi_fal.resource.call import UNKNOWN

NAMES = {
    "instance_type": "instanceType",
    "ssh_key": "sshKey",
    "creator_user_nickname": "creatorUserNickname",
}
"""The schema's names of the properties whose names differ."""
_OWN_NAMES = {theirs: ours for ours, theirs in NAMES.items()}
DYNAMIC_PROVIDER = "__provider"
"""The property in every state that the dynamic provider wrote."""


def camel(name: str) -> str:
    """Return the schema's name of a property."""
    return NAMES.get(name, name)


def received(properties: struct_pb2.Struct) -> dict[str, Any]:
    """Return the properties by the names of `resource`, with UNKNOWN for unknown values.

    This also reads the state of a machine that the dynamic provider made, which has these names.
    """
    return {
        _OWN_NAMES.get(name, name): UNKNOWN if value == rpc.UNKNOWN else value
        for name, value in json_format.MessageToDict(properties).items()
        if name != DYNAMIC_PROVIDER and value is not None
    }


def sent(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the properties by the schema's names, with the protocol's value for UNKNOWN."""
    struct = struct_pb2.Struct()
    struct.update(
        {
            camel(name): rpc.UNKNOWN if value is UNKNOWN else value
            for name, value in properties.items()
        }
    )
    return struct
