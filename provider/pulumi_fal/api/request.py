"""One request to the API: what to send, and how to parse the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import APIError

T = TypeVar("T")
E = TypeVar("E", bound=APIError)

Kind = Literal["create", "list", "get", "delete"]
"""The kinds of requests, which every version of the API has."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request in one version of the API. The client may send it more than once."""

    kind: Kind
    method: str
    path: str
    parse: Callable[[Any], T]
    """Parses the decoded body of an answer. Raises ValueError if its shape is wrong."""
    reason: Callable[[Any], str | None]
    """Returns the API's message from the decoded body of an error, or None if it has none."""
    body: Mapping[str, str] | None = None
    """The body to send as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to send in addition to those that every request has."""
    instance_id: str | None = None
    """The machine that the request is about, for error messages."""
    is_idempotent: bool = False
    """Whether the API may carry out the request twice without harm."""
    json_expected: bool = True
    """Whether a successful answer must be JSON."""
    needed_key: str = "a key with the ADMIN scope"
    """The kind of API key that the call needs, for error messages."""

    @property
    def creates(self) -> bool:
        """Whether the request creates a machine, which takes longer than any other call."""
        return self.kind == "create"

    def error(self, type_: Callable[..., E], detail: str, **attributes: Any) -> E:
        """Return an exception of type `type_` about this request."""
        attributes |= {"instance_id": self.instance_id}
        attributes |= {"has_key": self.creates and self.is_idempotent}
        return type_(self.method, self.path, detail, **attributes)


@dataclass(frozen=True)
class Page:
    """One page of a list of machines."""

    instances: list[Instance]
    next_cursor: str | None = None
    """The cursor to request the next page with; None on the last page."""


class Dialect(Protocol):
    """The interface of a module that builds the requests of one version of the API."""

    def list_instances(self, cursor: str | None = None, /) -> Request[Page]: ...
    def get_instance(self, instance_id: str, /) -> Request[Instance]: ...
    def new_idempotency_key(self) -> str: ...
    def create_instance(
        self, new: NewInstance, idempotency_key: str = "", /
    ) -> Request[Instance]: ...
    def delete_instance(self, instance_id: str, /) -> Request[None]: ...
