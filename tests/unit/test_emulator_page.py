"""The emulator's page as it is served; tests/e2e/test_emulator_page.py looks at it in a browser."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import requests

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines that need ten seconds, and two to go, on a clock that stands still."""
    with EmulatorServer(
        provisioning=10, deletion=2, clock=TurnedClock(), api_key="s3cr3t"
    ) as emulator:
        yield emulator


def get(emulator: EmulatorServer, path: str) -> requests.Response:
    return requests.get(emulator.url + path, timeout=10)


def test_the_page_needs_no_key_shows_none_and_is_no_call(emulator: EmulatorServer) -> None:
    """Looking must not change what a test counts."""
    page = get(emulator, "/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "s3cr3t" not in page.text + get(emulator, "/_emulator/report").text
    assert (emulator.state.calls.total(), emulator.log.total) == (0, 0)


@pytest.mark.parametrize("api_key, is_any", [(None, True), ("s3cr3t", False)])
def test_the_report_says_whether_any_key_is_accepted(api_key: str | None, is_any: bool) -> None:
    """The page tells those who want to use it."""
    with EmulatorServer(api_key=api_key) as emulator:
        assert get(emulator, "/_emulator/report").json()["any_key"] is is_any


def test_its_policy_allows_its_own_two_elements_and_nothing_else(emulator: EmulatorServer) -> None:
    """The policy has hashes of exactly what is there: a stale one would leave the page blank."""
    page = get(emulator, "/")
    directives = dict(
        directive.split(" ", 1) for directive in page.headers["Content-Security-Policy"].split("; ")
    )
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}[^>]*>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert directives.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_it_fetches_nothing_from_outside_and_puts_no_html_in(emulator: EmulatorServer) -> None:
    """The page is one file, and what others sent is shown as text."""
    page = get(emulator, "/").text
    assert "://" not in page
    assert re.findall(r'\b(?:src|href|action)="([^"]*)"', page) == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert not re.search(r"<(?:button|form|input|a)\b|POST|DELETE", page)


def test_the_report_says_how_old_a_machine_is_and_whether_it_goes(
    emulator: EmulatorServer,
) -> None:
    """The age is in the machines' own time."""
    going, staying = (
        emulator.state.create(NewInstance("gpu_1x_h100_sxm5", "key")).id for _ in range(2)
    )
    emulator.state.advance(12)
    emulator.state.delete(going)
    emulator.state.advance(1)
    machines = get(emulator, "/_emulator/report").json()["machines"]
    assert [(one["id"], one["age"], one["deleting"]) for one in machines] == [
        (going, 13, True),
        (staying, 13, False),
    ]


def test_the_report_can_be_asked_for_the_latest_requests_only(emulator: EmulatorServer) -> None:
    """The report counts all requests, so that whoever asks again knows which are new."""
    for path in ("/1", "/2", "/3"):
        get(emulator, path)
    report = get(emulator, "/_emulator/report?log=2").json()
    assert ([entry["path"] for entry in report["log"]], report["requests"]) == (["/2", "/3"], 3)
    assert get(emulator, "/_emulator/report?log=0").json()["log"] == []
    assert get(emulator, "/_emulator/report?log=-1").status_code == 422


def test_answers_on_a_kept_connection_come_at_once(emulator: EmulatorServer) -> None:
    """An answer doesn't wait the 40 ms for which the kernel puts off an acknowledgement."""
    with requests.Session() as session:
        began = time.monotonic()
        for _ in range(50):
            session.get(f"{emulator.url}/compute/instances", timeout=10)
    assert time.monotonic() - began < 50 * 0.04
