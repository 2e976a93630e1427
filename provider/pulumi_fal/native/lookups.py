"""The functions of the schema, which look up machines without managing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import FalError
from pulumi_fal.native.properties import camel

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client
    from pulumi_fal.api.models import Instance

GET_INSTANCE, GET_INSTANCES = "fal:index:getInstance", "fal:index:getInstances"
FILTERS = {
    "instance_type": "Only machines of this type.",
    "sector": "Only machines in this sector.",
    "status": "Only machines with this status.",
    "region": "Only machines in this region. Only the v1 API returns regions.",
}
"""The arguments of getInstances, with their descriptions in the schema."""


def invoke(token: str, args: Mapping[str, Any], client: Client) -> dict[str, Any]:
    """Call a function and return its result.

    Raises FalError if the call to the API fails, or if there is no such machine or function.
    """
    if token == GET_INSTANCE:
        if not args.get("id"):
            raise FalError("getInstance needs the id of a machine.")
        return _result(client.get_instance(str(args["id"])))
    if token != GET_INSTANCES:
        raise FalError(f"There is no function {token}.")
    found = [
        _result(instance)
        for instance in client.list_instances()
        if all(args.get(name) in (None, getattr(instance, name)) for name in FILTERS)
    ]
    return {"instances": found}


def _result(instance: Instance) -> dict[str, Any]:
    return {camel(name): value for name, value in vars(instance).items() if value is not None}
