"""The emulator: who may use it, its machines, controls, capacity, faults, page and end.

test_contract.py has the APIs; tests/e2e/test_emulator_page.py looks at the page in a browser.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any

import pytest
import requests

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import resolve
from pulumi_fal.emulator.faults import OUTCOMES, Faults, fault
from pulumi_fal.emulator.server import API_KEY, EmulatorServer
from pulumi_fal.emulator.state import (
    CAPACITY_ANSWERS,
    NoCapacityError,
    State,
    TurnedClock,
    UnknownMachineError,
)
from pulumi_fal.errors import APIError

from ..docs import ROOT
from ..fakes import ED25519, EIGHT, KEY, ONE, wait_until

DOCS = (ROOT / "docs" / "emulator-reference.md").read_text(encoding="utf-8")
LIST = "/compute/instances"


@pytest.fixture
def said() -> list[str]:
    """The lines on the console."""
    return []


@pytest.fixture
def emulator(said: list[str]) -> Iterator[EmulatorServer]:
    """Machines that need ten seconds, on a clock that stands still, with prices."""
    options: dict[str, Any] = {"provisioning": 10, "deletion": 2, "clock": TurnedClock()}
    with EmulatorServer(**options, say=said.append, prices={ONE: 3600}) as emulator:
        yield emulator


def call(
    emulator: EmulatorServer, method: str, path: str, key: str = API_KEY, **more: Any
) -> requests.Response:
    options = {"headers": {"Authorization": f"Key {key}"}, "timeout": 10, **more}
    return requests.request(method, emulator.url + path, **options)


def create(emulator: EmulatorServer, **more: Any) -> requests.Response:
    body = {"instance_type": ONE, "ssh_key": ED25519}
    more = {"json": body, "allow_redirects": False, **more}
    return call(emulator, "POST", "/compute/instance", **more)


def report(emulator: EmulatorServer, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = call(emulator, "GET", f"/_emulator/report{query}", headers={}).json()
    return found


def control(emulator: EmulatorServer, path: str, body: object) -> requests.Response:
    return call(emulator, "POST", f"/_emulator/{path}", json=body, headers={})


# Keys


@pytest.mark.parametrize("authorization", [None, "", "Key", "Key ", f"Bearer {API_KEY}"])
def test_no_key(authorization: str | None) -> None:
    """A call without a key is refused, even where any key is accepted."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    with EmulatorServer(api_key=None) as open_to_all:
        assert call(open_to_all, "GET", LIST, headers=headers).status_code == 401


def test_rotated_key(emulator: EmulatorServer) -> None:
    """A rotated key sees what the old one made, which goes on working; no other key is taken."""
    id_ = create(emulator).json()["id"]
    assert call(emulator, "GET", LIST, "rotated").status_code == 401
    emulator.state.same_account(API_KEY, "rotated")
    for key in (API_KEY, "rotated"):
        assert [machine["id"] for machine in call(emulator, "GET", LIST, key).json()] == [id_]
    assert call(emulator, "GET", LIST, "x").status_code == 401


# Machines, on a clock that the tests turn


@pytest.fixture
def state() -> State:
    """Ten seconds until a machine is ready, two until a deleted one is gone."""
    return State(TurnedClock(), provisioning=10, deletion=2)


def made(state: State, kind: str = ONE, sector: str | None = None, account: str = "") -> str:
    """The id of a new machine."""
    return state.create(NewInstance(kind, ED25519, sector), account or None).id


def is_gone(state: State, id_: str, account: str = "") -> bool:
    try:
        state.get(id_, account or None)
    except UnknownMachineError:
        return True
    return False


IP = "198.18.0.1"


@pytest.mark.parametrize(
    "seconds, kind, seen",
    [
        (0, ONE, ("pending", None, None)),
        (1, ONE, ("init", None, None)),
        (2.9, EIGHT, ("init", None, None)),
        (3, EIGHT, ("provisioning", None, "sector_1")),
        (7.9, ONE, ("provisioning", None, None)),
        (8, ONE, ("provisioning", IP, None)),
        (10, EIGHT, ("ready", IP, "sector_1")),
    ],
)
def test_provisioning(
    state: State, seconds: float, kind: str, seen: tuple[str | None, ...]
) -> None:
    """A machine gets its IP near the end, and only an 8x machine gets a sector."""
    id_ = made(state, kind)
    state.advance(seconds)
    machine = state.get(id_)
    assert (machine.status, machine.ip, machine.sector) == seen


def test_unique(state: State) -> None:
    """What a machine had that is gone is not given again; a seed makes the same ids again."""
    random.seed(7)
    first = made(state)
    state.kill(first)
    for _ in range(3):
        made(state)
    assert len({machine.ip for machine in state.machines.values()}) == len(state.machines) == 4
    random.seed(7)
    assert made(State()) == first


@pytest.mark.parametrize("hidden", ["list", "get", "lag"])
def test_hidden(state: State, hidden: str) -> None:
    """A machine that one call doesn't show for a time exists, and the other call shows it."""
    state.list_lag = 5 if hidden == "lag" else 0
    id_ = made(state)
    if hidden != "lag":
        state.hide(id_, hidden, 5)  # type: ignore[arg-type]
    assert (state.list() == [], is_gone(state, id_)) == (hidden != "get", hidden == "get")
    assert state.alive() == {id_}
    state.advance(5)
    assert (len(state.list()), is_gone(state, id_)) == (1, False)


def test_sector_capacity(state: State) -> None:
    """The choice of a sector skips the full ones, and 1x machines need no capacity in any."""
    state.sector_capacity = 2
    for sector in ("sector_1", "sector_1", None, None, None, None):
        made(state, EIGHT, sector)
    taken = Counter(machine.sector for machine in state.existing())
    assert taken == {"sector_1": 2, "sector_2": 2, "sector_3": 2}
    with pytest.raises(NoCapacityError, match="no capacity left in sector_1"):
        made(state, EIGHT, "sector_1")
    with pytest.raises(NoCapacityError, match="no capacity left in any sector"):
        made(state, EIGHT)
    made(state)


def test_accounts(state: State) -> None:
    """A machine of another account does not exist; one that no account made is every account's."""
    id_, free = made(state, account="mine"), made(state)
    assert is_gone(state, id_, "another")
    assert [machine.id for machine in state.list("another")] == [free]
    assert state.list("mine") == state.list() == [state.get(id_, "mine"), state.get(free, "mine")]
    state.delete(free, "another")
    with pytest.raises(UnknownMachineError, match=id_):
        state.delete(id_, "another")


def test_idempotency_key(state: State) -> None:
    """Once the key is forgotten, or for another account, the same create makes another machine."""

    def keyed(account: str) -> str:
        return state.create(NewInstance(ONE, ED25519), account, "key").id

    first = keyed("one")
    assert keyed("one") == first
    assert keyed("two") != first
    state.advance(600)
    assert keyed("one") != first


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
    for wrong in (f"machines/{killed}/kill", "elsewhere"):
        assert control(emulator, wrong, {}).status_code == 404
    assert (emulator.state.calls.total(), emulator.log.total, said) == (0, 0, [])


def test_report(emulator: EmulatorServer) -> None:
    """It has counts, all machines with their age, the faults left, unclaimed ids, and the cost."""
    emulator.state.advance(5)
    known, hidden, gone = (create(emulator).json()["id"] for _ in range(3))
    emulator.state.kill(gone)
    emulator.state.hide(hidden, "list")
    emulator.state.stuck(known)
    emulator.state.advance(12)
    emulator.state.delete(hidden)
    emulator.state.advance(1)
    emulator.faults.add("get", "429", times=2)
    found = report(emulator, f"?known={known},elsewhere")
    assert found["calls"] == {"create": 3, "list": 0, "get": 0, "delete": 0}
    assert (found["creations"], found["deletions"], found["most_in_flight"]) == (3, 1, 1)
    names = ("id", "age", "deleting", "stuck")
    machines = [tuple(one[name] for name in names) for one in found["machines"]]
    assert machines == [(known, 13, False, True), (hidden, 13, True, False)]
    assert (found["unclaimed"], found["any_key"]) == ([hidden], False)
    assert found["faults"] == {"get": ["429 x 2"]}
    assert found["cost"] == {"total": 26, "per_hour": 7200, "without_price": 0}


def test_log(emulator: EmulatorServer, said: list[str]) -> None:
    """Each request is a line and an entry without headers, and a wrong endpoint shows as well."""
    rows = [(LIST, 200, "legacy"), (f"/v2{LIST}", 404, None), (f"/v1{LIST}", 200, "v1")]
    for path, _, _ in rows:
        call(emulator, "GET", path)
    assert [(entry.path, entry.status, entry.api) for entry in emulator.log] == rows
    for line, (path, status, _) in zip(said, rows, strict=True):
        assert re.fullmatch(rf"\d\d:\d\d:\d\d GET {path} {status} \d+ ms", line)
    latest = report(emulator, "?log=2")
    assert [entry["path"] for entry in latest["log"]] == [f"/v2{LIST}", f"/v1{LIST}"]
    assert (latest["requests"], report(emulator, "?log=0")["log"]) == (3, [])
    assert call(emulator, "GET", "/_emulator/report?log=-1").status_code == 422
    assert API_KEY not in str(emulator.log)


# Capacity


@pytest.mark.parametrize("status", CAPACITY_ANSWERS)
@pytest.mark.parametrize("api, limit", [("legacy", "machines"), ("v1", "in_sector")])
def test_no_capacity(api: str, limit: str, status: int) -> None:
    """The provider recognizes each answer that certainly made nothing. A 5xx may have."""
    with EmulatorServer(api=api) as emulator:
        client = Client(resolve(emulator.env, lambda key: None)).within(0)
        body = {"machines": None, "in_sector": None, "status": status, limit: 0}
        assert control(emulator, "capacity", body).ok
        assert report(emulator)["capacity"] == body
        with pytest.raises(APIError) as caught:
            client.create_instance(NewInstance(EIGHT, ED25519, "sector_2"))
        assert retry.lacks_capacity(caught.value) is (status != 503)
        assert retry.may_have_made_a_machine(caught.value) is (status == 503)
        assert caught.value.status == status
        assert caught.value.retry_after == (20.0 if status == 429 else None)
        assert emulator.state.creations == 0
        assert control(emulator, "capacity", {}).ok
        emulator.faults.add("create", "no_room")
        with pytest.raises(APIError) as caught:
            client.create_instance(NewInstance(EIGHT, ED25519))
        assert retry.lacks_capacity(caught.value)
        client.create_instance(NewInstance(EIGHT, ED25519))


# Faults


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    """One for all tests that use up the faults that they script."""
    with EmulatorServer() as server:
        yield server


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
    """The docs have every fault, and whether it takes effect; so have the tests below."""
    assert OUTCOMES.keys() == ANSWERS.keys() | {"late", "hold", "reset_before", "reset_after"}
    rows = re.findall(r"(?m)^\| (`.+) \| .+ \| (yes|no) \|$", DOCS)
    listed = {name: word for names, word in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: "yes" if it.taken else "no" for name, it in OUTCOMES.items()}


DETAIL, HTML, BROKEN, MACHINE = '{"detail":"', "<!DOCTYPE html>", "no JSON", '{"id":"'
ANSWERS = {
    "ok": (200, MACHINE, 1),
    "slow": (200, MACHINE, 1),
    **{name: (int(name), DETAIL, 0) for name in ("401", "403", "404", "409", "429", "500")},
    "no_room": (409, DETAIL, 0),
    "500_after": (500, DETAIL, 1),
    **{name: (int(name), HTML, 0) for name in ("502", "503", "504", "522")},
    "html": (200, HTML, 0),
    "html_after": (200, HTML, 1),
    "truncated": (200, BROKEN, 1),
    "empty": (200, BROKEN, 1),
    "wrong_shape": (200, '{"result": {}}', 1),
    "lapse": (200, "[]", 0),
    "redirect": (307, "", 0),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(server: EmulatorServer, name: str) -> None:
    """The status, how the body begins, and how many machines there are more."""
    status, body, machines = ANSWERS[name]
    before, began = server.state.creations, time.monotonic()
    server.faults.add("create", fault(name, seconds=0.2 if name == "slow" else None))
    answer = create(server)
    assert (answer.status_code, server.state.creations - before) == (status, machines)
    assert "Retry-After" not in answer.headers
    assert answer.headers.get("Content-Type", "").startswith("text/html") is (body == HTML)
    assert ("Location" in answer.headers) is (name == "redirect")
    if body in (HTML, BROKEN):
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    assert body == BROKEN or answer.text.startswith(body)
    assert name != "slow" or time.monotonic() - began >= 0.2


def test_retry_after(server: EmulatorServer) -> None:
    """Retry-After has both forms of RFC 9110, with any fault that has a status."""
    server.faults.add("create", fault("429", retry_after=7))
    server.faults.add("create", fault("503", retry_at=60))
    assert create(server).headers["Retry-After"] == "7"
    date = parsedate_to_datetime(create(server).headers["Retry-After"])
    assert 50 < date.timestamp() - time.time() <= 60


@pytest.mark.parametrize("name, machines", [("reset_before", 0), ("reset_after", 20)])
def test_reset(server: EmulatorServer, name: str, machines: int) -> None:
    """The reset never comes while the client still sends, which would look different.

    On Windows, asyncio closes the connection before it can be reset.
    """
    how = "RemoteDisconnected|ConnectionResetError" if os.name == "nt" else "reset by peer"
    before = server.state.creations
    server.faults.add("create", name, times=20)
    for _ in range(20):
        with pytest.raises(requests.ConnectionError, match=how):
            create(server)
    assert server.state.creations - before == machines
    assert (server.log[-1].fault, server.log[-1].status) == (name, None)


def test_hold() -> None:
    """A held call has done its work, and ends at the next release, or with the emulator."""
    with ThreadPoolExecutor() as pool:
        with EmulatorServer() as server:
            lines = ["create=hold:times=2", "create=409", "get=500:times=2"]
            assert control(server, "faults", lines).ok
            first = [pool.submit(create, server) for _ in range(2)]
            wait_until(lambda: server.faults.held == server.state.creations == 2)
            assert create(server).status_code == 409
            assert call(server, "DELETE", "/_emulator/faults").ok
            assert (server.faults.left(), server.faults.held) == ({}, 2)
            assert control(server, "faults/release", {}).ok
            assert {answer.result(10).json()["id"] for answer in first} == server.state.alive()
            assert control(server, "faults", ["create=418"]).json()["detail"][:10] == "create=418"
            server.faults.add("create", "hold")
            later = pool.submit(create, server)
            wait_until(lambda: server.faults.held == 1)
        assert later.exception(10) or later.result().status_code == 500
        server.faults.release()


# Addresses and hosts


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this computer has no IPv6")


@pytest.mark.parametrize(
    "host, shown, api",
    [
        ("127.0.0.1", "127.0.0.1", "v1"),
        ("localhost", "localhost", "legacy"),
        ("0.0.0.0", "127.0.0.1", "legacy"),
        pytest.param("0:0:0:0:0:0:0:1", "[::1]", "v1", marks=ipv6),
        pytest.param("::", "[::1]", "legacy", marks=ipv6),
    ],
)
def test_address(host: str, shown: str, api: str) -> None:
    """The provider accepts the endpoint of every address, and all of IPv6 include IPv4."""
    with EmulatorServer(host=host, api=api) as emulator:
        port = emulator.url.rpartition(":")[2]
        settings = resolve(emulator.env, lambda key: None)
        assert settings.endpoint == f"http://{shown}:{port}" + ("/v1" if api == "v1" else "")
        assert Client(settings).list_instances() == []
        assert emulator.env["FAL_COMPUTE_SSH_ADDRESS"].startswith("127.0.0.1:")
        if host in ("0.0.0.0", "::"):
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).ok


minds_case = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Starlette for Python 3.10 minds case"
)
NAME = socket.gethostname()
PATHS = ("/", "/_emulator/report", LIST, f"/v1{LIST}")


@pytest.mark.parametrize(
    "host, listens_on, is_own",
    [
        *((host, "127.0.0.1", True) for host in ("127.0.0.1", "localhost", "[::1]:8900")),
        pytest.param("LOCALHOST:1", "127.0.0.1", True, marks=minds_case),
        (f"{NAME}:8900", "0.0.0.0", True),
        ("fal.test", "127.0.0.1", True),
        ("macbook.local:8900", "127.0.0.1", True),
        ("fal.example", "127.0.0.1", False),
        ("127.0.0.1.fal.example:8900", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("10.0.0.1", "127.0.0.1", False),
        (NAME, "127.0.0.1", False),
        ("fal.example", "0.0.0.0", False),
        ("www.fal.test", "127.0.0.1", False),
    ],
)
def test_host(host: str, listens_on: str, is_own: bool) -> None:
    """A request names the loopback, the computer, or what is allowed.

    A page elsewhere whose name resolves to this computer could read and control it.
    """
    headers = {"Authorization": f"Key {API_KEY}", "Host": host}
    allowed = ["fal.test", "MacBook.local"]
    with EmulatorServer(host=listens_on, allowed_hosts=allowed) as emulator:
        answers = [call(emulator, "GET", path, headers=headers) for path in PATHS]
        assert [answer.ok for answer in answers] == [is_own] * 4
        assert is_own or {answer.text for answer in answers} == {"Invalid host header"}
        assert is_own or emulator.state.calls.total() == 0


# What a page elsewhere can make a browser send


@pytest.mark.parametrize(
    "content_type, is_json",
    [
        (None, False),
        ("text/plain", False),
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


# The page and connections


def test_page() -> None:
    """The page is one file, shows no key, is no call, and its policy allows its two elements."""
    with EmulatorServer(api_key=KEY) as emulator:
        page = requests.get(f"{emulator.url}/", timeout=10)
        assert KEY not in page.text + str(report(emulator))
        assert (emulator.state.calls.total(), emulator.log.total) == (0, 0)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"://|innerHTML|outerHTML|insertAdjacentHTML|eval\(", page.text)
    policy = page.headers["Content-Security-Policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}[^>]*>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert directives.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert (directives.pop("connect-src"), directives.pop("img-src")) == ("'self'", "data:")
    assert set(directives.values()) == {"'none'"}
    assert {"default-src", "base-uri", "form-action", "frame-ancestors"} == directives.keys()
