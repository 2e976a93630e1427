"""A list that the API returns in pages: the client reads all of them, or fails."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import Request
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import APIError, UnusableAnswerError

from ..fakes import ED25519, ONE, FakeApi, TurnedClock, settings


def paged(machines: int, page_size: int) -> tuple[FakeApi, Client, list[str]]:
    """A v1 client on an API whose list has pages; the cursors that it asks for."""
    clock = TurnedClock()
    api, cursors = FakeApi(clock.now), list[str]()
    ids = [api.state.create(NewInstance(ONE, ED25519)).id for _ in range(machines)]

    def send(request: Request[Any], timeout: float | None = None) -> Any:
        cursor = request.path.partition("cursor=")[2] or "0"
        cursors.append(cursor)
        api.send(request)
        start = int(cursor)
        shown = [{"id": machine} for machine in ids[start : start + page_size]]
        following = str(start + page_size) if start + page_size < len(ids) else None
        return {"instances": shown, "next_cursor": following}

    return api, Client(settings(api="v1"), clock, send=send), cursors


def test_a_list_is_all_of_its_pages() -> None:
    """Seven machines on pages of three take three requests."""
    _, client, cursors = paged(7, 3)
    assert len(client.list_instances()) == 7
    assert cursors == ["0", "3", "6"]


def test_a_page_that_fails_is_repeated_and_not_the_whole_list() -> None:
    """A poll makes one attempt of a list, and would rarely get to the end of many pages."""
    api, client, cursors = paged(7, 3)
    api.faults.add("list", "ok")
    api.faults.add("list", "503", 2)
    assert len(client.within(0).list_instances()) == 7
    assert cursors == ["0", "3", "3", "3", "6"]


def test_the_first_page_fails_as_any_call_does() -> None:
    """A poll makes one attempt of a list, and gets its error at once."""
    api, client, cursors = paged(7, 3)
    api.faults.add("list", "503")
    with pytest.raises(APIError):
        client.within(0).list_instances()
    assert cursors == ["0"]


def test_a_cursor_that_comes_back_is_an_error() -> None:
    """A list whose cursors go in a circle would never end."""

    def send(request: Request[Any], timeout: float | None = None) -> Any:
        return {"instances": [], "next_cursor": "same"}

    with pytest.raises(UnusableAnswerError, match="the pages of the list have no end"):
        Client(settings(api="v1"), TurnedClock(), send=send).list_instances()
