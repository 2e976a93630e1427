"""The two versions of the REST API: what each request sends, and how its answer is parsed.

`LEGACY` is `https://rest.alpha.fal.ai`. Its create has no idempotency key, so it is retried only if
the API certainly did not accept it. `V1` is `https://api.fal.ai/v1`. Its create takes a key, and
within KEPT_SECONDS the same create can be sent again without creating a second machine.

Parsing raises ValueError, which describes the wrong type but never quotes the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from pulumi_fal.api import settings
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import APIError, printable

T = TypeVar("T")
E = TypeVar("E", bound=APIError)

KEPT_SECONDS = 600.0
"""Seconds for which the v1 API keeps the answer to a create with an idempotency key."""
Kind = Literal["create", "list", "get", "delete"]
"""The kinds of requests, which every version of the API has."""
_KEY_HEADER = "Idempotency-Key"
_NO_SUCH_PATH = ("Not Found", "Method Not Allowed")
"""What the legacy API's web framework answers for a path or a method that it does not have."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request in one version of the API. The client may send it more than once."""

    dialect: Dialect
    """The version of the API."""
    kind: Kind
    path: str
    parse: Callable[[Any], T]
    """Parses the decoded body of an answer. Raises ValueError if its shape is wrong."""
    body: Mapping[str, str] | None = None
    """The body to send as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to send in addition to those that every request has."""
    instance_id: str | None = None
    """The machine that the request is about, for error messages."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return {"create": "POST", "delete": "DELETE"}.get(self.kind, "GET")

    @property
    def creates(self) -> bool:
        """Whether the request creates a machine, which takes longer than any other call."""
        return self.kind == "create"

    @property
    def is_idempotent(self) -> bool:
        """Whether the API may carry out the request twice without harm."""
        return not self.creates or _KEY_HEADER in self.headers

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


@dataclass(frozen=True)
class Dialect:
    """One version of the API, which builds its requests."""

    instances: str
    """The path of the list."""
    instance: str
    """The path of a create, and before the id of a machine."""
    page: Callable[[Any], Page]
    """Parses the answer to a list."""
    reason: Callable[[Any], str | None]
    """Returns the API's message from the decoded body of an error, or None if it has none."""
    needed_key: str
    """The kind of API key that the calls need, for error messages."""
    has_idempotency_keys: bool

    def list_instances(self, cursor: str | None = None) -> Request[Page]:
        """List the account's machines: the first page, or that of the cursor.

        This sends no `limit`, because fal does not document its maximum.
        """
        query = f"?cursor={quote(cursor, safe='')}" if cursor else ""
        return Request(self, "list", self.instances + query, self.page)

    def get_instance(self, instance_id: str) -> Request[Instance]:
        """Get one machine."""
        return Request(
            self,
            "get",
            self._path(instance_id),
            lambda body: same_instance(instance_id, body),
            instance_id=instance_id,
        )

    def create_instance(self, new: NewInstance, idempotency_key: str = "") -> Request[Instance]:
        """Create a machine. With an `idempotency_key`, sending the request again creates no other.

        A key is ignored if the API does not support keys.
        """
        has_key = idempotency_key and self.has_idempotency_keys
        headers = {_KEY_HEADER: idempotency_key} if has_key else {}
        return Request(self, "create", self.instance, created, new.body, headers)

    def delete_instance(self, instance_id: str) -> Request[None]:
        """Delete a machine. Any 2xx counts as success: v1 sends no body, legacy documents none."""
        path = self._path(instance_id)
        return Request(self, "delete", path, lambda body: None, instance_id=instance_id)

    def _path(self, instance_id: str) -> str:
        return f"{self.instance}/{quote(instance_id, safe='')}"


def mismatch(api: str, body: Any) -> str:
    """Return what shows that the answer is not from the selected version, or "" if nothing does.

    `body` is the decoded JSON of an answer. What is returned continues a sentence.
    """
    other = _version_of(body)
    if other in ("", api):
        return ""
    return f"as the {other} API answers, although {settings.API.names} is {api}"


def _version_of(body: Any) -> str:
    if isinstance(body, list):
        return "legacy"
    if not isinstance(body, Mapping):
        return ""
    if isinstance(body.get("instances"), list):
        return "v1"
    return "legacy" if body.get("detail") in _NO_SUCH_PATH else ""


def instance(body: object) -> Instance:
    """Parse a machine. Unknown fields are ignored, unknown statuses are kept."""
    return _instance(body, needed=("id", "instance_type"), checked=("sector", "ip", "status"))


def created(body: object) -> Instance:
    """Parse the answer to a create, which needs only an id: a machine is running."""
    return _instance(body, needed=("id",))


def same_instance(instance_id: str, body: object) -> Instance:
    """Parse a machine, which must have the given id."""
    found = instance(body)
    if found.id != instance_id:
        raise ValueError("the answer is about another machine")
    return found


def listed_instances(value: object) -> list[Instance]:
    """Parse a list of machines, in which only the `id` is required.

    Unreadable fields are ignored, because one malformed machine must not hide all others. The
    `instance_type` is then "".
    """
    if not isinstance(value, list):
        raise ValueError(f"expected an array, not {type(value).__name__}")
    return [created(item) for item in value]


def _instance(body: object, needed: Sequence[str], checked: Sequence[str] = ()) -> Instance:
    """Parse a machine. It must have the `needed` fields, and no `checked` one that is not a string.

    Any other field that is not a string is ignored.
    """
    found = _mapping(body)
    for name in needed:
        if found.get(name) in (None, ""):
            raise ValueError(f"{name!r} is missing")
    shown = {
        field.name: _text(found, field.name)
        for field in fields(Instance)
        if field.name in (*needed, *checked) or isinstance(found.get(field.name), str)
    }
    known = {name: value for name, value in shown.items() if value}
    return Instance(**{"instance_type": "", **known})


def _mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object, not {type(value).__name__}")
    return value


def _text(body: Mapping[Any, Any], name: str) -> str:
    """Return the value of a field that has to be a string, or "" if it is null or absent."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is not a string")
    # The text may be printed to a terminal, so control characters are replaced.
    return printable(value)


def _legacy_reason(body: Any) -> str | None:
    """Return the message of an error: FastAPI's `detail` or a gateway's `error`; None if absent."""
    detail = body.get("detail", body.get("error")) if isinstance(body, Mapping) else None
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    if isinstance(detail, list):
        return "; ".join(_field_errors(detail))
    return detail if isinstance(detail, str) else None


def _field_errors(details: list[Any]) -> Iterator[str]:
    """Yield `field: message` for each error, without FastAPI's `input`, which may be a secret."""
    for detail in details:
        if isinstance(detail, str):
            yield detail
        if isinstance(detail, Mapping):
            loc = detail.get("loc")
            parts = loc if isinstance(loc, list) else []
            location = [str(part) for part in parts if part != "body"]
            yield ": ".join(filter(None, [".".join(location), str(detail.get("msg", ""))]))


def _v1_reason(body: Any) -> str | None:
    """Return the message of an error with the request id, which fal's support asks for.

    Returns None if there is no message.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return error if isinstance(error, str) else None
    message, request_id = error.get("message"), error.get("request_id")
    if not isinstance(message, str):
        return None
    known = isinstance(request_id, str) and request_id
    return f"{message.rstrip('.')} (request id {request_id})" if known else message


def _v1_page(body: Any) -> Page:
    found = _mapping(body)
    instances = listed_instances(found.get("instances"))
    cursor = _text(found, "next_cursor") or None
    if found.get("has_more") is True and cursor is None:
        raise ValueError("there are more pages, and no cursor for the next one")
    return Page(instances, cursor)


LEGACY = Dialect(
    instances="/compute/instances",
    instance="/compute/instance",
    page=lambda body: Page(listed_instances(body)),
    reason=_legacy_reason,
    needed_key="a key with the ADMIN scope",
    has_idempotency_keys=False,
)
V1 = Dialect(
    instances="/compute/instances",
    instance="/compute/instances",
    page=_v1_page,
    reason=_v1_reason,
    needed_key="an admin API key of an account that has the compute permission",
    has_idempotency_keys=True,
)
DIALECTS: Mapping[str, Dialect] = {"legacy": LEGACY, "v1": V1}
