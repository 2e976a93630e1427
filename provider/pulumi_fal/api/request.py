"""A call as the wire sees it: what is sent, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

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
    instance_id: str | None = None
    is_idempotent: bool = False
    """Whether it does no more when it is taken twice than when it is taken once."""
    json_expected: bool = True

    @property
    def creates(self) -> bool:
        """Whether it makes a machine, which takes the API longer than any other call."""
        return self.call == "create"

    def error(self, kind: Callable[..., E], detail: str, **attributes: Any) -> E:
        """An error of that kind, about this request."""
        return kind(self.method, self.path, detail, instance_id=self.instance_id, **attributes)
