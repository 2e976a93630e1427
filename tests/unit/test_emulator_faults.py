"""Faults as scripts, and each of them as a client sees it over real HTTP."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
import requests

from pulumi_fal.emulator.faults import OUTCOMES, Faults, fault
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import ROOT
from ..fakes import ED25519, EIGHT, wait_until

TAKEN = {name for name, outcome in OUTCOMES.items() if outcome.taken}
HELD = {name for name, outcome in OUTCOMES.items() if outcome.held}
ANSWERED = {name for name, outcome in OUTCOMES.items() if outcome.status} - HELD


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(provisioning=10) as server:
        yield server


@pytest.fixture
def emulator(server: EmulatorServer) -> Iterator[EmulatorServer]:
    server.faults.clear()
    yield server
    server.faults.release()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait."""
    with ThreadPoolExecutor() as pool:
        yield pool


def create(
    emulator: EmulatorServer, timeout: float = 10, session: requests.Session | None = None
) -> requests.Response:
    return (session or requests.Session()).post(
        f"{emulator.url}/compute/instance",
        json={"instance_type": EIGHT, "ssh_key": ED25519},
        headers={"Authorization": "Key emulator"},
        timeout=timeout,
        allow_redirects=False,
    )


# Scripts


def test_order() -> None:
    """Each call meets one fault of its kind, as often as scripted, or for ever until cleared."""
    faults = Faults()
    faults.add("get", "ok", times=2)
    faults.script("get=429:retry_after=2,times=1")
    faults.script("list=late:seconds=0.5,times=forever")
    assert faults.left() == {"get": ["ok x 2", "429 x 1"], "list": ["late x inf"]}
    ok, rate_limited = fault("ok"), fault("429", retry_after=2)
    assert [faults.take("get") for _ in range(4)] == [ok, ok, rate_limited, None]
    assert [faults.take("list") for _ in range(50)] == [fault("late", seconds=0.5)] * 50
    faults.clear()
    assert faults.take("list") is None


@pytest.mark.parametrize(
    "line, problem",
    [
        ("list=418", "there is no fault '418'; the faults are ok, "),
        ("put=500", "there is no call 'put'; the calls are create, list, get, delete"),
        ("list", "there is no fault ''"),
        ("list=429:after=2", "there is no setting 'after'; they are times, seconds, "),
        ("list=429:retry_after=soon", "'soon'"),
    ],
)
def test_bad_line(line: str, problem: str) -> None:
    """The error says what the line could have said, and nothing is scripted."""
    faults = Faults()
    with pytest.raises(ValueError, match=f"^{line}: .*{problem}"):
        faults.script(line)
    assert faults.left() == {}


def test_docs() -> None:
    """The docs have a row for every fault, with what it says of itself."""
    page = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
    for outcome in OUTCOMES.values():
        taken = "yes" if outcome.taken else "no"
        assert f"| `{outcome.name}` | {outcome.says} | {taken} |" in page


# Answers


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_taken(emulator: EmulatorServer, name: str) -> None:
    """A `reset_after` has made a machine, and a `reset_before` has not."""
    before = emulator.state.creations
    emulator.faults.add("create", fault(name, seconds=1 if name == "late" else 0.0))
    try:
        create(emulator, timeout=0.2 if name in HELD | {"late"} else 10)
    except requests.RequestException:
        assert name not in ANSWERED
    else:
        assert name in ANSWERED
    if name in TAKEN:  # perhaps only after a caller with little patience gave up
        wait_until(lambda: emulator.state.creations > before)
    assert emulator.state.creations - before == (name in TAKEN)
    if name == "late":  # or its end would be among the calls of the next test
        wait_until(lambda: emulator.log and emulator.log[-1].fault == name)


@pytest.mark.parametrize("name", ["ok", "slow"])
def test_right_answer(emulator: EmulatorServer, name: str) -> None:
    """A slow answer is the right one, as late as scripted."""
    emulator.faults.add("create", fault(name, seconds=0.2))
    began = time.monotonic()
    answer = create(emulator)
    assert time.monotonic() - began >= 0.2
    assert answer.json()["id"] in emulator.state.alive()


DETAIL, HTML, BROKEN = '{"detail":"', "<!DOCTYPE html>", "no JSON"


@pytest.mark.parametrize(
    "name, status, body",
    [
        *((name, int(name), DETAIL) for name in ("401", "403", "404", "409", "429", "500")),
        ("500_after", 500, DETAIL),
        *((name, int(name), HTML) for name in ("502", "503", "504", "522")),
        ("html", 200, HTML),
        ("html_after", 200, HTML),
        ("truncated", 200, BROKEN),
        ("empty", 200, BROKEN),
        ("wrong_shape", 200, '{"result": {}}'),
        ("lapse", 200, "[]"),
        ("redirect", 307, ""),
    ],
)
def test_answer(emulator: EmulatorServer, name: str, status: int, body: str) -> None:
    """The service refuses with a detail, a gateway answers in HTML, and a body may be broken."""
    emulator.faults.add("create", name)
    answer = create(emulator)
    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    assert answer.headers.get("Content-Type", "").startswith("text/html") is (body == HTML)
    assert ("Location" in answer.headers) is (name == "redirect")
    if body in (HTML, BROKEN):
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    if body != BROKEN:
        assert answer.text.startswith(body)


def test_retry_after(emulator: EmulatorServer) -> None:
    """Retry-After has both forms of RFC 9110, with any fault that has a status."""
    emulator.faults.add("create", fault("429", retry_after=7))
    emulator.faults.add("create", fault("503", retry_at=60))
    assert create(emulator).headers["Retry-After"] == "7"
    date = parsedate_to_datetime(create(emulator).headers["Retry-After"])
    assert 50 < date.timestamp() - time.time() <= 60


@pytest.mark.parametrize("name", ["reset_before", "reset_after"])
def test_reset(emulator: EmulatorServer, name: str) -> None:
    """The reset never comes while the client still sends, which would look different.

    On Windows, asyncio closes the connection before it can be reset.
    """
    how = "RemoteDisconnected|ConnectionResetError" if os.name == "nt" else "reset by peer"
    emulator.faults.add("create", name, times=50)
    for _ in range(50):
        with pytest.raises(requests.ConnectionError, match=how):
            create(emulator)
    assert (emulator.log[-1].fault, emulator.log[-1].status) == (name, None)


def test_hold(emulator: EmulatorServer, pool: ThreadPoolExecutor) -> None:
    """A held call has done its work, and ends at the next release; later ones wait for another."""
    before = emulator.state.alive()
    emulator.faults.add("create", "hold", times=2)
    first = [pool.submit(create, emulator) for _ in range(2)]
    wait_until(lambda: len(emulator.state.alive() - before) == 2)
    emulator.faults.clear()
    assert create(emulator).ok
    assert emulator.faults.held == 2
    emulator.faults.release()
    assert {answer.result(10).json()["id"] for answer in first} <= emulator.state.alive() - before
    emulator.faults.add("create", "hold")
    later = pool.submit(create, emulator)
    wait_until(lambda: emulator.faults.held == 1)
    assert not later.done()


def test_end_while_held(pool: ThreadPoolExecutor) -> None:
    """An emulator that ends waits for no release, and a release after its end does no harm."""
    with EmulatorServer() as emulator:
        emulator.faults.add("create", "hold")
        waiting = pool.submit(create, emulator)
        wait_until(lambda: emulator.faults.held == 1)
    assert waiting.exception(10) or waiting.result().status_code == 500
    emulator.faults.release()


def test_lapse(emulator: EmulatorServer) -> None:
    """A lapse empties one list, although there are machines."""
    made = create(emulator).json()
    emulator.faults.add("list", "lapse")
    headers = {"Authorization": "Key emulator"}
    lists = [
        requests.get(f"{emulator.url}/compute/instances", headers=headers, timeout=10).json()
        for _ in range(2)
    ]
    assert lists[0] == []
    assert made in lists[1]


def test_same_connection(emulator: EmulatorServer) -> None:
    """After any fault the emulator goes on, on the same connection where there still is one."""
    for name in sorted(OUTCOMES.keys() - {"late", "slow"} - HELD):
        emulator.faults.add("create", name)
    with requests.Session() as session:
        while emulator.faults.left():
            with contextlib.suppress(requests.ConnectionError):
                create(emulator, session=session)
        assert create(emulator, session=session).json()["status"] == "pending"


def test_controls(emulator: EmulatorServer, pool: ThreadPoolExecutor) -> None:
    """Another process scripts, clears and releases faults by control calls."""
    control, report = f"{emulator.url}/_emulator/faults", f"{emulator.url}/_emulator/report"
    lines = ["create=409", "create=hold", "get=500:times=2"]
    assert requests.post(control, json=lines, timeout=10).ok
    assert create(emulator).status_code == 409
    waiting = pool.submit(create, emulator)
    wait_until(lambda: requests.get(report, timeout=10).json()["held"] == 1)
    assert requests.post(f"{control}/release", json={}, timeout=10).ok
    assert waiting.result(10).status_code == 200
    assert requests.delete(control, timeout=10).ok
    assert emulator.faults.left() == {}
    refused = requests.post(control, json=["create=418"], timeout=10)
    assert (refused.status_code, refused.json()["detail"][:10]) == (422, "create=418")
