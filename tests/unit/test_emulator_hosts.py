"""Who can use the emulator: its addresses, its names, and what a web page may send to it."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import resolve
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import TurnedClock

from ..fakes import ONE

if TYPE_CHECKING:
    from collections.abc import Iterator


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this computer has no IPv6")


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(clock=TurnedClock()) as emulator:
        yield emulator


def answer(
    emulator: EmulatorServer, method: str, path: str, **headers: str | None
) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, emulator.url + path, headers=names, timeout=10)


# Addresses


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
@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_the_provider_accepts_the_endpoint_of_every_address(
    host: str, shown: str, api: str
) -> None:
    """An address of IPv6 has brackets, and in place of all addresses the loopback one is used."""
    with EmulatorServer(host=host, api=api) as emulator:
        port = emulator.url.rpartition(":")[2]
        assert emulator.url == f"http://{shown}:{port}"
        client = Client(resolve(emulator.env, lambda key: None))
        emulator.state.create(NewInstance(ONE, "key"))
        assert len(client.list_instances()) == 1


@ipv6
def test_all_addresses_of_ipv6_include_those_of_ipv4() -> None:
    """A container's published port may arrive at either."""
    with EmulatorServer(host="::") as emulator:
        port = emulator.url.rpartition(":")[2]
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).ok


# Host headers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param(
            "LOCALHOST:1",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 11), reason="Starlette for Python 3.10 minds case"
            ),
        ),
        "[::1]",
        "[::1]:8900",
        "127.0.0.1:80",
    ],
)
def test_a_request_may_name_the_loopback_with_any_port(emulator: EmulatorServer, host: str) -> None:
    """A port that is forwarded or published may have another number there."""
    assert answer(emulator, "GET", "/_emulator/report", Host=host).ok


PATHS = (
    ("GET", "/"),
    ("GET", "/_emulator/report"),
    ("POST", "/_emulator/faults/release"),
    ("GET", "/compute/instances"),
    ("GET", "/v1/compute/instances"),
    ("GET", "/elsewhere"),
)


@pytest.mark.parametrize("host", ["fal.example", "127.0.0.1.fal.example:8900", "", "10.0.0.1"])
def test_a_request_that_names_another_host_is_refused(emulator: EmulatorServer, host: str) -> None:
    """A page elsewhere whose name resolves to this computer could read and control it."""
    key = f"Key {emulator.env['FAL_ADMIN_API_KEY']}"
    json = "application/json"
    for method, path in PATHS:
        refused = answer(emulator, method, path, Host=host, Authorization=key, Content_Type=json)
        assert (refused.status_code, refused.text) == (400, "Invalid host header")
    assert emulator.state.calls.total() == 0


def test_the_name_of_the_computer_is_for_all_addresses_only(emulator: EmulatorServer) -> None:
    """Other containers call one by its host name, which a loopback address has no use for."""
    name = socket.gethostname()
    assert answer(emulator, "GET", "/", Host=f"{name}:8900").status_code == 400
    with EmulatorServer(host="0.0.0.0") as everywhere:
        assert answer(everywhere, "GET", "/", Host=f"{name}:8900").ok
        assert answer(everywhere, "GET", "/", Host="fal.example").status_code == 400


def test_further_names_can_be_allowed() -> None:
    """A proxy hands on the name that its own clients use."""
    with EmulatorServer(allowed_hosts=["fal.example"]) as emulator:
        assert answer(emulator, "GET", "/", Host="fal.example").ok
        assert answer(emulator, "GET", "/", Host="www.fal.example").status_code == 400
        assert answer(emulator, "GET", "/", Host="localhost").ok


def test_a_name_with_capital_letters_can_be_called_without_them() -> None:
    """Computers have such names, and browsers and most clients write them small."""
    with EmulatorServer(allowed_hosts=["MacBook.local"]) as emulator:
        assert answer(emulator, "GET", "/", Host="macbook.local:8900").ok


# Controls


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=json"],
)
def test_a_control_that_is_not_json_is_refused(
    emulator: EmulatorServer, content_type: str | None
) -> None:
    """A page elsewhere can send these without the browser asking first, and no others."""
    id_ = emulator.state.create(NewInstance(ONE, "key")).id
    for path in (f"machines/{id_}/kill", f"machines/{id_}/status", "clock/advance", "faults"):
        refused = answer(emulator, "POST", f"/_emulator/{path}", Content_Type=content_type)
        assert refused.status_code == 415
        assert "`Content-Type: application/json`" in refused.json()["detail"]
    assert emulator.state.alive() == {id_}


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_a_control_without_a_body_is_json_if_it_says_so(
    emulator: EmulatorServer, content_type: str
) -> None:
    """The header alone is what a page can't send."""
    id_ = emulator.state.create(NewInstance(ONE, "key")).id
    path = f"/_emulator/machines/{id_}/kill"
    assert answer(emulator, "POST", path, Content_Type=content_type).ok
    assert emulator.state.alive() == set()


@pytest.mark.skipif(not shutil.which("curl"), reason="this computer has no curl")
def test_the_commands_in_the_docs_are_accepted(emulator: EmulatorServer) -> None:
    """The commands are run as they are printed, but for the address and the machine's id."""
    page = (Path(__file__).parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
    lines = re.findall("^curl .*", page, re.MULTILINE)
    for line in lines:
        id_ = emulator.state.create(NewInstance(ONE, "key")).id
        here = line.replace("http://127.0.0.1:8900", emulator.url).replace("/ID/", f"/{id_}/")
        subprocess.run([*shlex.split(here), "--fail", "--silent"], check=True, timeout=10)
    assert len(emulator.state.alive()) == len(lines) - 1  # one of them kills its machine
    assert emulator.state.now() == 3600


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_browser_that_asks_first_is_told_no(emulator: EmulatorServer, method: str) -> None:
    """A page may send JSON or DELETE elsewhere only if the answer to OPTIONS allows it."""
    asked: dict[str, Any] = {
        "Origin": "https://fal.example",
        "Access_Control_Request_Method": method,
        "Access_Control_Request_Headers": "content-type",
    }
    told = answer(emulator, "OPTIONS", "/_emulator/faults", **asked)
    assert told.status_code == 405
    assert not [name for name in told.headers if name.lower().startswith("access-control")]
