"""Faults as scripts, and each of them as a client sees it over real HTTP."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from pulumi_fal.emulator.faults import OUTCOMES, Faults, fault
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TAKEN = {name for name, outcome in OUTCOMES.items() if outcome.taken}
HELD = {name for name, outcome in OUTCOMES.items() if outcome.held}
ANSWERED = {name for name, outcome in OUTCOMES.items() if outcome.status} - HELD
RIGHT = {"ok", "slow"}


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
        headers={"Authorization": f"Key {emulator.env['FAL_ADMIN_API_KEY']}"},
        timeout=timeout,
        allow_redirects=False,
    )


def names(faults: Faults, kind: str, calls: int) -> list[str | None]:
    met = (faults.take(kind) for _ in range(calls))
    return [outcome.name if outcome else None for outcome in met]


def test_order() -> None:
    """Each call meets one fault of its kind, as often as scripted, or for ever until cleared."""
    faults = Faults()
    faults.add("get", "ok", times=2)
    faults.add("get", "500")
    faults.add("list", "503", times=inf)
    assert names(faults, "get", 4) == ["ok", "ok", "500", None]
    assert names(faults, "list", 50) == ["503"] * 50
    faults.clear()
    assert faults.take("list") is None


def test_a_line_says_call_fault_and_settings() -> None:
    """The command line and the control call take the same lines."""
    faults = Faults()
    faults.script("list=429:retry_after=2,times=2")
    faults.script("list=late:seconds=0.5,times=forever")
    assert faults.left() == {"list": ["429 x 2", "late x inf"]}
    first, _, third = (faults.take("list") for _ in range(3))
    assert first == fault("429", retry_after=2)
    assert third == fault("late", seconds=0.5)


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
def test_a_bad_line_is_refused_with_what_it_could_have_said(line: str, problem: str) -> None:
    """The error names the line too, and nothing is scripted."""
    faults = Faults()
    with pytest.raises(ValueError, match=f"^{line}: .*{problem}"):
        faults.script(line)
    assert faults.left() == {}


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_the_request_is_taken_exactly_when_the_fault_says_so(
    emulator: EmulatorServer, name: str
) -> None:
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


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_no_fault_is_the_right_answer(emulator: EmulatorServer, name: str) -> None:
    """A slow answer is the right one, as late as scripted and no later."""
    emulator.faults.add("create", fault(name, seconds=0.2))
    began = time.monotonic()
    answer = create(emulator)
    assert 0.2 <= time.monotonic() - began < 2
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
    assert answer.headers.get("Location") == (
        "https://elsewhere.invalid/" if name == "redirect" else None
    )
    if body in (HTML, BROKEN):
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    if body != BROKEN:
        assert answer.text.startswith(body)


def test_retry_after_comes_in_seconds_and_as_a_date(emulator: EmulatorServer) -> None:
    """Retry-After has both forms of RFC 9110, with any fault that has a status."""
    emulator.faults.add("create", fault("429", retry_after=7))
    emulator.faults.add("create", fault("503", retry_at=60))
    assert create(emulator).headers["Retry-After"] == "7"
    date = parsedate_to_datetime(create(emulator).headers["Retry-After"])
    assert 55 < date.timestamp() - time.time() <= 60


@pytest.mark.parametrize("name", ["reset_before", "reset_after"])
def test_a_reset_is_a_connection_error_and_no_answer(emulator: EmulatorServer, name: str) -> None:
    """The reset never comes while the client still sends, which would look different.

    On Windows, asyncio closes the connection before it can be reset.
    """
    how = "RemoteDisconnected|ConnectionResetError" if os.name == "nt" else "reset by peer"
    emulator.faults.add("create", name, times=50)
    for _ in range(50):
        with pytest.raises(requests.ConnectionError, match=how):
            create(emulator)
    assert (emulator.log[-1].fault, emulator.log[-1].status) == (name, None)


def test_a_held_call_has_done_its_work_and_is_answered_when_released(
    emulator: EmulatorServer, pool: ThreadPoolExecutor
) -> None:
    """Meanwhile other calls are answered, and clearing the script does not release it."""
    before = emulator.state.alive()
    emulator.faults.add("create", "hold")
    waiting = pool.submit(create, emulator)
    wait_until(lambda: len(emulator.state.alive() - before) == 1)
    assert emulator.faults.held == 1
    emulator.faults.clear()
    (made,) = emulator.state.alive() - before
    assert create(emulator).json()["id"] != made
    assert not waiting.done()
    emulator.faults.release()
    assert waiting.result(10).json()["id"] == made
    assert emulator.faults.held == 0


def test_a_release_is_for_the_calls_that_are_held_then_and_for_all_of_them(
    emulator: EmulatorServer, pool: ThreadPoolExecutor
) -> None:
    """A call that is held later waits for the next release."""
    emulator.faults.release()
    emulator.faults.add("create", "hold", times=3)
    first = [pool.submit(create, emulator) for _ in range(2)]
    wait_until(lambda: emulator.faults.held == 2)
    emulator.faults.release()
    assert [answer.result(10).status_code for answer in first] == [200, 200]
    later = pool.submit(create, emulator)
    wait_until(lambda: emulator.faults.held == 1)
    assert not later.done()
    emulator.faults.release()
    assert later.result(10).status_code == 200


def test_held_calls_are_counted_and_released_by_control_calls(
    emulator: EmulatorServer, pool: ThreadPoolExecutor
) -> None:
    """An emulator in another process can be used the same way."""
    emulator.faults.add("create", "hold")
    waiting = pool.submit(create, emulator)
    report = f"{emulator.url}/_emulator/report"
    wait_until(lambda: requests.get(report, timeout=10).json()["held"] == 1)
    release = f"{emulator.url}/_emulator/faults/release"
    assert requests.post(release, json={}, timeout=10).ok
    assert waiting.result(10).status_code == 200
    assert requests.get(report, timeout=10).json()["held"] == 0


def test_an_emulator_that_ends_waits_for_no_release(pool: ThreadPoolExecutor) -> None:
    """A release after its end does no harm."""
    with EmulatorServer() as emulator:
        emulator.faults.add("create", "hold")
        waiting = pool.submit(create, emulator)
        wait_until(lambda: emulator.faults.held == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert waiting.exception(10) or waiting.result().status_code == 500
    emulator.faults.release()


def test_a_late_answer_is_a_timeout(emulator: EmulatorServer) -> None:
    """The machine is made before the caller gives up."""
    before = emulator.state.creations
    emulator.faults.add("create", fault("late", seconds=0.5))
    with pytest.raises(requests.ReadTimeout):
        create(emulator, timeout=0.1)
    assert emulator.state.creations == before + 1


def test_a_lapse_is_an_empty_list_although_there_are_machines(emulator: EmulatorServer) -> None:
    """A lapse of the list lasts for one call, and makes any other answer unusable."""
    made = create(emulator).json()
    emulator.faults.add("list", "lapse")
    emulator.faults.add("create", "lapse")
    url = f"{emulator.url}/compute/instances"
    headers = {"Authorization": f"Key {emulator.env['FAL_ADMIN_API_KEY']}"}
    assert requests.get(url, headers=headers, timeout=10).json() == []
    assert made in requests.get(url, headers=headers, timeout=10).json()
    assert create(emulator).json() == []


def test_after_a_fault_the_emulator_goes_on_as_if_nothing_was(emulator: EmulatorServer) -> None:
    """After a fault the emulator goes on, on the same connection where there still is one."""
    for name in sorted(OUTCOMES.keys() - {"late", "slow"} - HELD):
        emulator.faults.add("create", name)
    with requests.Session() as session:
        while emulator.faults.left():
            with contextlib.suppress(requests.ConnectionError):
                create(emulator, session=session)
        assert create(emulator, session=session).json()["status"] == "pending"


def test_faults_are_scripted_and_cleared_by_control_calls(emulator: EmulatorServer) -> None:
    """A bad line is refused, and the answer names it."""
    control = f"{emulator.url}/_emulator/faults"
    assert requests.post(control, json=["create=409", "get=500:times=2"], timeout=10).ok
    assert create(emulator).status_code == 409
    assert requests.delete(control, timeout=10).ok
    assert emulator.faults.left() == {}
    refused = requests.post(control, json=["create=418"], timeout=10)
    assert refused.status_code == 422
    assert "create=418: there is no fault '418'" in refused.json()["detail"]


def test_the_documentation_lists_every_fault_as_it_is() -> None:
    """Every fault has a row with what it says of itself."""
    page = (Path(__file__).parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
    for outcome in OUTCOMES.values():
        taken = "yes" if outcome.taken else "no"
        assert f"| `{outcome.name}` | {outcome.says} | {taken} |" in page
