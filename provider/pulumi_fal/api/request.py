"""A call as the wire sees it: what is sent, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import APIError

T = TypeVar("T")
E = TypeVar("E", bound=APIError)

Call = Literal["create", "list", "get", "delete"]


@dataclass(frozen=True)
class Request(Generic[T]):
    """One request of one dialect of the API. The client may send the same one several times."""

    call: Call
    method: str
    path: str
    parse: Callable[[Any], T]
    """Reads the decoded body of an answer; ValueError where it has another shape."""
    reason: Callable[[Any], str | None]
    """The API's own words in the decoded body of an error; None where it has none."""
    body: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    instance_id: str | None = None
    is_idempotent: bool = False
    """Whether it does no more when it is taken twice than when it is taken once."""
    json_expected: bool = True
    needed_key: str = "a key with the ADMIN scope"
    """The kind of API key that the call needs, in words."""
    conflict_passes: bool = False
    """Whether a 409 says that the same request is being served, so that it may be sent again."""

    @property
    def creates(self) -> bool:
        """Whether it makes a machine, which takes the API longer than any other call."""
        return self.call == "create"

    def error(self, kind: Callable[..., E], detail: str, **attributes: Any) -> E:
        """An error of that kind, about this request."""
        return kind(self.method, self.path, detail, instance_id=self.instance_id, **attributes)


@dataclass(frozen=True)
class Page:
    """One answer to a list."""

    instances: list[Instance]
    next_cursor: str | None = None
    """What the next page is asked for with; None after the last one."""


class Dialect(Protocol):
    """One version of the API: a module that builds its requests."""

    def list_instances(self, cursor: str | None = None, /) -> Request[Page]: ...
    def get_instance(self, instance_id: str, /) -> Request[Instance]: ...
    def create_instance(
        self, instance_type: str, ssh_key: str, sector: str | None, idempotency_key: str = "", /
    ) -> Request[Instance]: ...
    def delete_instance(self, instance_id: str, /) -> Request[None]: ...
