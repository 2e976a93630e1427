"""The emulator's own: keys and accounts, log, controls, end. test_contract.py has the APIs."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.emulator.state import TurnedClock

from .. import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = {"instance_type": fakes.ONE, "ssh_key": fakes.ED25519}
HEADERS = {"Authorization": f"Key {API_KEY}"}
LINES: list[str] = []


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines that need ten seconds, on a clock that stands still."""
    LINES.clear()
    clock = TurnedClock()
    with EmulatorServer(provisioning=10, deletion=2, clock=clock, say=LINES.append) as emulator:
        yield emulator


def call(emulator: EmulatorServer, method: str, path: str, **more: Any) -> requests.Response:
    return requests.request(
        method, emulator.url + path, **{"headers": HEADERS, "timeout": 10, **more}
    )


@pytest.mark.parametrize("authorization", [None, "", "Key", f"Bearer {API_KEY}"])
def test_a_call_without_a_key_is_refused(
    emulator: EmulatorServer, authorization: str | None
) -> None:
    """The key is in a header of its own scheme."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    assert call(emulator, "GET", "/compute/instances", headers=headers).status_code == 401


def test_without_a_key_of_its_own_it_takes_any() -> None:
    """A call without any key is refused all the same."""
    with EmulatorServer(api_key=None) as emulator:
        any_key = {"Authorization": "Key whatever"}
        assert call(emulator, "GET", "/compute/instances", headers=any_key).status_code == 200
        no_key = {"Authorization": "Key "}
        assert call(emulator, "GET", "/compute/instances", headers=no_key).status_code == 401
        assert call(emulator, "GET", "/compute/instances", headers={}).status_code == 401


def test_each_key_sees_its_own_machines_only() -> None:
    """Another key's machines are 404; the controls, which need no key, show all."""
    with EmulatorServer(api_key=None) as emulator:
        mine, another = ({"Authorization": f"Key {name}"} for name in ("mine", "another"))
        id_ = call(emulator, "POST", "/compute/instance", json=ONE, headers=mine).json()["id"]
        assert call(emulator, "GET", "/compute/instances", headers=another).json() == []
        for method in ("GET", "DELETE"):
            answer = call(emulator, method, f"/compute/instance/{id_}", headers=another)
            assert answer.status_code == 404
        (listed,) = call(emulator, "GET", "/compute/instances", headers=mine).json()
        found = call(emulator, "GET", f"/compute/instance/{id_}", headers=mine).json()
        assert listed == found
        report = call(emulator, "GET", "/_emulator/report", headers={}).json()
        assert [machine["id"] for machine in report["machines"]] == [id_]
        assert call(emulator, "DELETE", f"/compute/instance/{id_}", headers=mine).ok
        assert emulator.state.alive() == set()


def test_a_rotated_key_is_taken_and_sees_what_the_old_one_made(emulator: EmulatorServer) -> None:
    """The old one goes on working, and no other key is taken."""
    id_ = call(emulator, "POST", "/compute/instance", json=ONE).json()["id"]
    rotated = {"Authorization": "Key rotated"}
    assert call(emulator, "GET", "/compute/instances", headers=rotated).status_code == 401
    emulator.state.same_account(API_KEY, "rotated")
    for headers in (HEADERS, rotated):
        (listed,) = call(emulator, "GET", "/compute/instances", headers=headers).json()
        assert listed["id"] == id_
    other = {"Authorization": "Key other"}
    assert call(emulator, "GET", "/compute/instances", headers=other).status_code == 401


def test_each_request_is_a_line_and_a_log_entry_without_headers(emulator: EmulatorServer) -> None:
    """Unknown paths are logged too, so that a wrong endpoint shows on the console."""
    call(emulator, "GET", "/compute/instances")
    call(emulator, "GET", "/v2/compute/instances")
    call(emulator, "GET", "/v1/compute/instances")
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /compute/instances 200 \d+ ms", LINES[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /v2/compute/instances 404 \d+ ms", LINES[1])
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /v1/compute/instances 200 \d+ ms", LINES[2])
    assert [(entry.path, entry.status, entry.api) for entry in emulator.log] == [
        ("/compute/instances", 200, "legacy"),
        ("/v2/compute/instances", 404, None),
        ("/v1/compute/instances", 200, "v1"),
    ]
    assert API_KEY not in str(emulator.log)


def test_a_hundred_slow_calls_are_in_flight_together() -> None:
    """A handler in a thread pool would stop at 40."""
    with ThreadPoolExecutor(100) as pool, EmulatorServer(latency=60) as emulator:
        for _ in range(100):
            pool.submit(call, emulator, "GET", "/compute/instances")
        fakes.wait_until(lambda: emulator.state.in_flight == 100)


def test_it_stops_quickly_even_with_a_call_in_flight() -> None:
    """A test must not wait for the faults that it scripted."""
    with ThreadPoolExecutor() as pool:
        with EmulatorServer(latency=60) as emulator:
            waiting = pool.submit(call, emulator, "GET", "/compute/instances")
            fakes.wait_until(lambda: emulator.state.in_flight)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert waiting.exception(10) or waiting.result().status_code == 500
    with pytest.raises(requests.ConnectionError):
        call(emulator, "GET", "/compute/instances")


def test_its_env_is_what_a_client_needs(emulator: EmulatorServer) -> None:
    """The endpoint, the key and the SSH server have the names that the provider reads."""
    ssh = emulator.env["FAL_COMPUTE_SSH_ADDRESS"]
    assert ssh.startswith("127.0.0.1:")
    assert emulator.env == {
        "FAL_COMPUTE_SSH_ADDRESS": ssh,
        "FAL_COMPUTE_API": "legacy",
        "FAL_COMPUTE_ENDPOINT": emulator.url,
        "FAL_ADMIN_API_KEY": API_KEY,
    }


def test_the_controls_change_machines_and_time(emulator: EmulatorServer) -> None:
    """The controls need no key, and are neither counted nor logged."""
    stuck, killed, odd = (
        emulator.state.create(NewInstance("gpu_1x_h100_sxm5", "key")).id for _ in range(3)
    )
    for path, body in (
        (f"machines/{stuck}/stuck", {}),
        (f"machines/{killed}/kill", {}),
        (f"machines/{odd}/status", {"status": "repairing"}),
        (f"machines/{odd}/hide", {"call": "list", "seconds": 20}),
        ("clock/advance", {"seconds": 10}),
    ):
        assert call(emulator, "POST", f"/_emulator/{path}", json=body, headers={}).ok
    assert [(machine.id, machine.status) for machine in emulator.state.list()] == [
        (stuck, "pending")
    ]
    assert emulator.state.get(odd).status == "repairing"
    gone = f"/_emulator/machines/{killed}/kill"
    assert call(emulator, "POST", gone, json={}).status_code == 404
    assert call(emulator, "POST", "/_emulator/faults", json=["create=418"]).status_code == 422
    assert (emulator.state.calls.total(), list(emulator.log), LINES) == (0, [], [])


def test_the_report_tells_what_happened_and_what_nobody_knows(emulator: EmulatorServer) -> None:
    """The report has counts, all machines, the log, the faults left and unclaimed ids."""
    known, forgotten, gone = (
        call(emulator, "POST", "/compute/instance", json=ONE).json()["id"] for _ in range(3)
    )
    emulator.state.kill(gone)
    emulator.state.hide(forgotten, "list")
    emulator.faults.add("get", "429", times=2)
    report = call(emulator, "GET", f"/_emulator/report?known={known},elsewhere", headers={}).json()
    assert report["calls"] == {"create": 3, "list": 0, "get": 0, "delete": 0}
    assert (report["creations"], report["deletions"], report["most_in_flight"]) == (3, 0, 1)
    assert [machine["id"] for machine in report["machines"]] == [known, forgotten]
    assert report["unclaimed"] == [forgotten]
    assert report["faults"] == {"get": ["429 x 2"]}
    assert [entry["path"] for entry in report["log"]] == ["/compute/instance"] * 3
