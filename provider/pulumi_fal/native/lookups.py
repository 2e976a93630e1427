"""The functions of the schema, which look up machines without managing them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Settings
from pulumi_fal.errors import FalError

GET_INSTANCE, GET_INSTANCES = "fal:index:getInstance", "fal:index:getInstances"
_FILTERS = ("instance_type", "sector", "status", "region")


def invoke(token: str, args: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Call a function and return its result.

    Raises FalError if the call to the API fails, or if there is no such machine or function.
    """
    client = _client(settings)
    if token == GET_INSTANCE:
        return _shown(client.get_instance(str(args.get("id", ""))))
    if token != GET_INSTANCES:
        raise FalError(f"There is no function {token}.")
    found = [
        _shown(instance)
        for instance in client.list_instances()
        if all(args.get(name) in (None, getattr(instance, name)) for name in _FILTERS)
    ]
    return {"instances": found}


@functools.cache
def _client(settings: Settings) -> Client:
    return Client(settings)


def _shown(instance: Instance) -> dict[str, Any]:
    from pulumi_fal.native.properties import camel

    return {camel(name): value for name, value in vars(instance).items() if value is not None}
