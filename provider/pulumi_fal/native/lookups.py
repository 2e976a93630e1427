"""The functions of the schema, which look up machines without managing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import FalError
from pulumi_fal.native.properties import camel
from pulumi_fal.resource.call import UNKNOWN
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

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
LIST_FILTERS = ("status", "instance_type")
"""Those by which List finds machines. There may be more, but a name can never be taken back."""


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
    return {"instances": [_result(instance) for instance in _matching(args, client)]}


def list_ids(token: str, query: Mapping[str, Any], limit: int, client: Client) -> list[str] | None:
    """Return the ids of the machines that match a query, at most `limit` unless that is 0.

    None if a preview does not know a value of the query yet. Raises FalError if the machines can't
    be listed, or if the token is that of something else.
    """
    if token != NATIVE_TYPE_TOKEN:
        raise FalError(f"There is no list of {token}.")
    if UNKNOWN in query.values():
        return None
    found = (instance.id for instance in _matching(query, client))
    return list(islice(found, limit if limit > 0 else None))


def _matching(filters: Mapping[str, Any], client: Client) -> Iterator[Instance]:
    return (
        instance
        for instance in client.list_instances()
        if all(filters.get(name) in (None, getattr(instance, name)) for name in FILTERS)
    )


def _result(instance: Instance) -> dict[str, Any]:
    return {camel(name): value for name, value in vars(instance).items() if value is not None}
