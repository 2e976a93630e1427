"""Properties as the protocol has them, and as `resource` does: other names, and UNKNOWN."""

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
"""The names that differ. All others are the same in both."""
_OWN_NAMES = {theirs: ours for ours, theirs in NAMES.items()}
DYNAMIC_PROVIDER = "__provider"
"""In properties that the dynamic provider wrote, which keep its names."""


def camel(name: str) -> str:
    """The schema's name of a property."""
    return NAMES.get(name, name)


def received(properties: struct_pb2.Struct) -> dict[str, Any]:
    """The properties by our names, with UNKNOWN in place of the protocol's own unknown values.

    Those of a machine that the dynamic provider made, which have our names already, are read too.
    """
    return {
        _OWN_NAMES.get(name, name): UNKNOWN if value == rpc.UNKNOWN else value
        for name, value in json_format.MessageToDict(properties).items()
        if name != DYNAMIC_PROVIDER and value is not None
    }


def sent(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The properties by the schema's names."""
    struct = struct_pb2.Struct()
    struct.update(
        {
            camel(name): rpc.UNKNOWN if value is UNKNOWN else value
            for name, value in properties.items()
        }
    )
    return struct
