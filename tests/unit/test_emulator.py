"""The emulator as it is served: who may use it, its controls, capacity, report, page and end.

test_contract.py has the APIs; tests/e2e/test_emulator_page.py looks at the page in a browser.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
import requests

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import resolve
from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.emulator.state import CAPACITY_ANSWERS, TurnedClock
from pulumi_fal.errors import APIError

from ..docs import ROOT
from ..fakes import ED25519, EIGHT, KEY, ONE, wait_until

DOCS = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
BODY = {"instance_type": ONE, "ssh_key": ED25519}
HEADERS = {"Authorization": f"Key {API_KEY}"}


@pytest.fixture
def said() -> list[str]:
    """The lines on the console."""
    return []


@pytest.fixture
def emulator(said: list[str]) -> Iterator[EmulatorServer]:
    """Machines that need ten seconds, on a clock that stands still."""
    clock = TurnedClock()
    with EmulatorServer(provisioning=10, deletion=2, clock=clock, say=said.append) as emulator:
        yield emulator


@pytest.fixture
def open_to_all() -> Iterator[EmulatorServer]:
    """It takes any key."""
    with EmulatorServer(api_key=None) as emulator:
        yield emulator


@pytest.fixture(params=["legacy", "v1"])
def either(request: pytest.FixtureRequest) -> Iterator[EmulatorServer]:
    with EmulatorServer(api=request.param) as emulator:
        yield emulator


def call(
    emulator: EmulatorServer, method: str, path: str, key: str = API_KEY, **more: Any
) -> requests.Response:
    options = {"headers": {"Authorization": f"Key {key}"}, "timeout": 10, **more}
    return requests.request(method, emulator.url + path, **options)


def report(emulator: EmulatorServer, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = requests.get(
        f"{emulator.url}/_emulator/report{query}", timeout=10
    ).json()
    return found


def control(emulator: EmulatorServer, path: str, body: object) -> requests.Response:
    return requests.post(f"{emulator.url}/_emulator/{path}", json=body, timeout=10)


def listed(emulator: EmulatorServer, key: str) -> list[str] | int:
    """The ids that a key lists, or the status where it is refused."""
    answer = call(emulator, "GET", "/compute/instances", key)
    return [machine["id"] for machine in answer.json()] if answer.ok else answer.status_code


# Keys


@pytest.mark.parametrize("authorization", [None, "", "Key", "Key ", f"Bearer {API_KEY}"])
def test_no_key(open_to_all: EmulatorServer, authorization: str | None) -> None:
    """A call without a key is refused, even where any key is accepted."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = call(open_to_all, "GET", "/compute/instances", headers=headers)
    assert answer.status_code == 401


def test_each_key_has_machines(open_to_all: EmulatorServer) -> None:
    """Another key's machines are 404; the controls, which need no key, show all."""
    id_ = call(open_to_all, "POST", "/compute/instance", "mine", json=BODY).json()["id"]
    path = f"/compute/instance/{id_}"
    assert (listed(open_to_all, "mine"), listed(open_to_all, "another")) == ([id_], [])
    for method in ("GET", "DELETE"):
        assert call(open_to_all, method, path, "another").status_code == 404
    assert call(open_to_all, "GET", path, "mine").json()["id"] == id_
    found = report(open_to_all)
    assert ([machine["id"] for machine in found["machines"]], found["any_key"]) == ([id_], True)
    assert call(open_to_all, "DELETE", path, "mine").ok
    assert open_to_all.state.alive() == set()


def test_rotated_key(emulator: EmulatorServer) -> None:
    """A rotated key sees what the old one made, which goes on working; no other key is taken."""
    id_ = call(emulator, "POST", "/compute/instance", json=BODY).json()["id"]
    assert listed(emulator, "rotated") == 401
    emulator.state.same_account(API_KEY, "rotated")
    assert [listed(emulator, key) for key in (API_KEY, "rotated", "x")] == [[id_], [id_], 401]


# Controls and the report


def test_controls(emulator: EmulatorServer, said: list[str]) -> None:
    """The controls change machines and time; they need no key, and are not counted or logged."""
    stuck, killed, odd = (emulator.state.create(NewInstance(ONE, "key")).id for _ in range(3))
    for path, body in (
        (f"machines/{stuck}/stuck", {}),
        (f"machines/{killed}/kill", {}),
        (f"machines/{odd}/status", {"status": "repairing"}),
        (f"machines/{odd}/hide", {"call": "list", "seconds": 20}),
        ("clock/advance", {"seconds": 10}),
    ):
        assert control(emulator, path, body).ok
    shown = [(machine.id, machine.status) for machine in emulator.state.list()]
    assert shown == [(stuck, "pending")]
    assert emulator.state.get(odd).status == "repairing"
    assert control(emulator, f"machines/{killed}/kill", {}).status_code == 404
    assert (emulator.state.calls.total(), emulator.log.total, said) == (0, 0, [])


def test_report(emulator: EmulatorServer) -> None:
    """The report has counts, all machines with their age, the faults left and unclaimed ids."""
    emulator.state.advance(5)
    known, hidden, gone = (
        call(emulator, "POST", "/compute/instance", json=BODY).json()["id"] for _ in range(3)
    )
    emulator.state.kill(gone)
    emulator.state.hide(hidden, "list")
    emulator.state.advance(12)
    emulator.state.delete(hidden)
    emulator.state.advance(1)
    emulator.faults.add("get", "429", times=2)
    found = report(emulator, f"?known={known},elsewhere")
    assert found["calls"] == {"create": 3, "list": 0, "get": 0, "delete": 0}
    assert (found["creations"], found["deletions"], found["most_in_flight"]) == (3, 1, 1)
    machines = [(one["id"], one["age"], one["deleting"]) for one in found["machines"]]
    assert machines == [(known, 13, False), (hidden, 13, True)]
    assert (found["unclaimed"], found["any_key"]) == ([hidden], False)
    assert found["faults"] == {"get": ["429 x 2"]}


def test_log(emulator: EmulatorServer, said: list[str]) -> None:
    """Each request is a line and an entry without headers, and a wrong endpoint shows as well."""
    rows = (
        ("/compute/instances", 200, "legacy"),
        ("/v2/compute/instances", 404, None),
        ("/v1/compute/instances", 200, "v1"),
    )
    for path, _, _ in rows:
        call(emulator, "GET", path)
    assert [(entry.path, entry.status, entry.api) for entry in emulator.log] == [*rows]
    for line, (path, status, _) in zip(said, rows, strict=True):
        assert re.fullmatch(rf"\d\d:\d\d:\d\d GET {path} {status} \d+ ms", line)
    latest = report(emulator, "?log=2")
    assert ([entry["path"] for entry in latest["log"]], latest["requests"]) == (
        [path for path, _, _ in rows[1:]],
        3,
    )
    assert report(emulator, "?log=0")["log"] == []
    assert call(emulator, "GET", "/_emulator/report?log=-1").status_code == 422
    assert API_KEY not in str(emulator.log)


# Capacity


def refused(emulator: EmulatorServer, sector: str | None = None) -> APIError:
    """What a client gets for a create, without retries."""
    client = Client(resolve(emulator.env, lambda key: None)).within(0)
    with pytest.raises(APIError) as caught:
        client.create_instance(NewInstance(EIGHT, ED25519, sector))
    return caught.value


@pytest.mark.parametrize("status", CAPACITY_ANSWERS)
@pytest.mark.parametrize("limits", [(0, None), (None, 0)], ids=["account", "sector"])
def test_no_capacity(either: EmulatorServer, status: int, limits: tuple[int | None, ...]) -> None:
    """The provider recognizes each answer that certainly made nothing. A 5xx may have."""
    body = {"machines": limits[0], "in_sector": limits[1], "status": status}
    assert control(either, "capacity", body).ok
    assert report(either)["capacity"] == body
    for sector in (None, "sector_2"):
        error = refused(either, sector)
        assert error.status == status
        assert retry.lacks_capacity(error) is (status != 503)
        assert retry.may_have_made_a_machine(error) is (status == 503)
        assert error.retry_after == (20.0 if status == 429 else None)
    assert either.state.creations == 0
    assert control(either, "capacity", {}).ok
    Client(resolve(either.env, lambda key: None)).create_instance(NewInstance(EIGHT, ED25519))


def test_no_room_fault(either: EmulatorServer) -> None:
    """A script can refuse a create for want of capacity so many times."""
    either.faults.add("create", fault("no_room"))
    assert retry.lacks_capacity(refused(either))


@pytest.mark.parametrize("body", [{"machines": -1}, {"in_sector": "many"}, {"status": 418}])
def test_wrong_capacity(emulator: EmulatorServer, body: object) -> None:
    """A wrong capacity changes nothing."""
    emulator.state.capacity = 5
    assert control(emulator, "capacity", body).status_code == 422
    assert (emulator.state.capacity, emulator.state.capacity_status) == (5, 400)


def test_capacity_docs() -> None:
    """A person looks up in the docs what a status stands for."""
    section = DOCS.partition("## Capacity")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"(?m)^\| (\d+).*? \| `(.+?)`", section))
    answers = {str(code): text.format(f"for {ONE}") for code, text in CAPACITY_ANSWERS.items()}
    assert rows == answers


# Addresses and hosts


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this computer has no IPv6")


@pytest.mark.parametrize(
    "host, shown",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        pytest.param("::1", "[::1]", marks=ipv6),
        pytest.param("0:0:0:0:0:0:0:1", "[::1]", marks=ipv6),
        pytest.param("::", "[::1]", marks=ipv6),
    ],
)
@pytest.mark.parametrize("api, path", [("legacy", ""), ("v1", "/v1")])
def test_address(host: str, shown: str, api: str, path: str) -> None:
    """The provider accepts the endpoint of every address, and all of IPv6 include IPv4."""
    with EmulatorServer(host=host, api=api) as emulator:
        port = emulator.url.rpartition(":")[2]
        ssh = emulator.env["FAL_COMPUTE_SSH_ADDRESS"]
        assert ssh.startswith("127.0.0.1:")
        assert emulator.env == {
            "FAL_COMPUTE_SSH_ADDRESS": ssh,
            "FAL_COMPUTE_API": api,
            "FAL_COMPUTE_ENDPOINT": f"http://{shown}:{port}{path}",
            "FAL_ADMIN_API_KEY": API_KEY,
        }
        assert Client(resolve(emulator.env, lambda key: None)).list_instances() == []
        if host in ("0.0.0.0", "::"):
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).ok


minds_case = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Starlette for Python 3.10 minds case"
)
NAME = socket.gethostname()


@pytest.mark.parametrize(
    "host, allowed, listens_on",
    [
        *((host, [], "127.0.0.1") for host in ("127.0.0.1", "localhost", "[::1]", "[::1]:8900")),
        pytest.param("LOCALHOST:1", [], "127.0.0.1", marks=minds_case),
        (f"{NAME}:8900", [], "0.0.0.0"),
        ("fal.example", ["fal.example"], "127.0.0.1"),
        ("localhost", ["fal.example"], "127.0.0.1"),
        ("macbook.local:8900", ["MacBook.local"], "127.0.0.1"),
    ],
)
def test_host(host: str, allowed: list[str], listens_on: str) -> None:
    """A request may name the loopback with any port, a name that is allowed, or the computer."""
    with EmulatorServer(host=listens_on, allowed_hosts=allowed) as emulator:
        assert call(emulator, "GET", "/_emulator/report", headers={"Host": host}).ok


@pytest.mark.parametrize(
    "host, listens_on",
    [
        *(
            (host, "127.0.0.1")
            for host in ("fal.example", "127.0.0.1.fal.example:8900", "", "10.0.0.1", NAME)
        ),
        ("fal.example", "0.0.0.0"),
        ("www.fal.test", "127.0.0.1"),
    ],
)
def test_wrong_host(host: str, listens_on: str) -> None:
    """A page elsewhere whose name resolves to this computer could read and control it."""
    headers = {**HEADERS, "Host": host, "Content-Type": "application/json"}
    with EmulatorServer(host=listens_on, allowed_hosts=["fal.test"]) as emulator:
        for method, path in (
            ("GET", "/"),
            ("GET", "/_emulator/report"),
            ("POST", "/_emulator/faults/release"),
            ("GET", "/compute/instances"),
            ("GET", "/v1/compute/instances"),
            ("GET", "/elsewhere"),
        ):
            answer = call(emulator, method, path, headers=headers)
            assert (answer.status_code, answer.text) == (400, "Invalid host header")
        assert emulator.state.calls.total() == 0


# What a page elsewhere can make a browser send


@pytest.mark.parametrize(
    "content_type, is_json",
    [
        (None, False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=json", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
    ],
)
def test_content_type(emulator: EmulatorServer, content_type: str | None, is_json: bool) -> None:
    """A control, even without a body, says that it is JSON, which such a page can't."""
    id_ = emulator.state.create(NewInstance(ONE, "key")).id
    headers = {"Content-Type": content_type}
    answer = call(emulator, "POST", f"/_emulator/machines/{id_}/kill", headers=headers)
    assert answer.status_code == (200 if is_json else 415)
    assert is_json or "`Content-Type: application/json`" in answer.json()["detail"]
    assert emulator.state.alive() == (set() if is_json else {id_})


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_preflight(emulator: EmulatorServer, method: str) -> None:
    """A page may send JSON or DELETE elsewhere only if the answer to OPTIONS allows it."""
    headers = {
        "Origin": "https://fal.example",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    told = call(emulator, "OPTIONS", "/_emulator/faults", headers=headers)
    assert told.status_code == 405
    assert not [name for name in told.headers if name.lower().startswith("access-control")]


@pytest.mark.skipif(not shutil.which("curl"), reason="this computer has no curl")
def test_commands_in_docs(emulator: EmulatorServer) -> None:
    """The commands are run as they are printed, but for the address and the machine's id."""
    lines = re.findall("^curl .*", DOCS, re.MULTILINE)
    for line in lines:
        id_ = emulator.state.create(NewInstance(ONE, "key")).id
        here = line.replace("http://127.0.0.1:8900", emulator.url).replace("/ID/", f"/{id_}/")
        subprocess.run([*shlex.split(here), "--fail", "--silent"], check=True, timeout=10)
    assert len(emulator.state.alive()) == len(lines) - 1  # one of them kills its machine
    assert emulator.state.now() == 3600


# The page


def test_page() -> None:
    """The page is one file. It needs no key, shows none, and is no call."""
    with EmulatorServer(api_key=KEY) as emulator:
        page = requests.get(f"{emulator.url}/", timeout=10)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert KEY not in page.text + str(report(emulator))
        assert (emulator.state.calls.total(), emulator.log.total) == (0, 0)
    assert "://" not in page.text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.text
    )
    assert not re.search(r"<(?:button|form|input|a)\b|POST|DELETE", page.text)


def test_page_policy(emulator: EmulatorServer) -> None:
    """The policy allows exactly the page's own two elements. A stale hash would leave it blank."""
    page = call(emulator, "GET", "/")
    policy = page.headers["Content-Security-Policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}[^>]*>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert directives.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert directives.pop("connect-src") == "'self'"
    assert directives.pop("img-src") == "data:"
    assert set(directives.values()) == {"'none'"}
    assert {"default-src", "base-uri", "form-action", "frame-ancestors"} == directives.keys()
    assert page.headers["X-Content-Type-Options"] == "nosniff"


# Connections


def test_kept_connection(emulator: EmulatorServer) -> None:
    """An answer doesn't wait the 40 ms for which the kernel puts off an acknowledgement."""
    took = []
    with requests.Session() as session:
        for _ in range(50):
            began = time.monotonic()
            session.get(f"{emulator.url}/compute/instances", timeout=10)
            took.append(time.monotonic() - began)
    assert sorted(took)[25] < 0.04


def test_hundred_in_flight() -> None:
    """A handler in a thread pool would stop at 40, and no call keeps the server from ending."""
    with ThreadPoolExecutor(100) as pool:
        with EmulatorServer(latency=60) as emulator:
            waiting = [pool.submit(call, emulator, "GET", "/compute/instances") for _ in range(100)]
            wait_until(lambda: emulator.state.in_flight == 100)
            began = time.monotonic()
        assert time.monotonic() - began < 30
        assert all(one.exception(10) or one.result().status_code == 500 for one in waiting)
    with pytest.raises(requests.ConnectionError):
        call(emulator, "GET", "/compute/instances")
