"""The documents of both APIs, to which tests hold the client and the emulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from requests.adapters import HTTPAdapter

APIS = ("legacy", "v1")
FILES = {api: Path(__file__).with_name(f"fal_{api}.yaml") for api in APIS}


def document(api: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES[api].read_text(encoding="utf-8"))
    return found


def statuses(api: str) -> dict[str, set[int]]:
    """The statuses that the answers to each kind of call may have."""
    return {
        operation["operationId"]: {int(status) for status in operation["responses"]}
        for path in document(api)["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    }


@dataclass
class Contract:
    """Holds requests and answers at an endpoint to the document of its API.

    Each method raises an OpenAPIError where they are not as documented.
    """

    api: str
    endpoint: str
    _openapi: OpenAPI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A test of its own holds the documents themselves to OpenAPI, which takes its time.
        here = {**document(self.api), "servers": [{"url": self.endpoint}]}
        self._openapi = OpenAPI.from_dict(here, config=Config(spec_validator_cls=None))

    def check_request(self, sent: requests.PreparedRequest) -> None:
        self._openapi.validate_request(RequestsOpenAPIRequest(sent))

    def check_answer(self, sent: requests.PreparedRequest, answer: requests.Response) -> None:
        self._openapi.validate_response(
            RequestsOpenAPIRequest(sent), RequestsOpenAPIResponse(answer)
        )


@dataclass
class Wire:
    """Records what is sent over HTTP in this process, and what comes back."""

    exchanges: list[tuple[requests.PreparedRequest, requests.Response]] = field(
        default_factory=list
    )

    @classmethod
    def recorded(cls, monkeypatch: pytest.MonkeyPatch) -> Wire:
        wire, send = cls(), HTTPAdapter.send

        def record(
            adapter: HTTPAdapter, sent: requests.PreparedRequest, *args: Any, **kwargs: Any
        ) -> requests.Response:
            answer = send(adapter, sent, *args, **kwargs)
            wire.exchanges.append((sent, answer))
            return answer

        monkeypatch.setattr(HTTPAdapter, "send", record)
        return wire

    @property
    def lines(self) -> list[str]:
        """The method and the status of each exchange, as in "POST 201"."""
        return [f"{sent.method} {answer.status_code}" for sent, answer in self.exchanges]
