"""The emulator's page in a real browser."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import TurnedClock

from . import chromium
from .chromium import Browser, Page

API_KEY = "the-key-that-must-never-show"
PROGRAM = chromium.find() or ""
NONE_YET = "\N{EN DASH}"
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "emulator-page.png"
ONE = {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": "ssh-ed25519 AAAA"}
EIGHT = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": "ssh-ed25519 AAAA", "sector": "sector_2"}

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="no Chromium here; on Debian `apt-get install chromium` brings it"
)

# The text of a table's body: a list of rows of cells.
ROWS = "[...document.querySelectorAll('#{} tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
MACHINES, LOG = ROWS.format("machines"), ROWS.format("log")

# Of every text that is seen: how well its colour stands out from what is behind it (WCAG 2).
CONTRASTS = """(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && [...node.childNodes]
      .some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => {
      const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
      return [(pair[0] + .05) / (pair[1] + .05), node.innerText];
    });
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(PROGRAM, tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines that need ten seconds, and two to go, on a clock that stands still."""
    with EmulatorServer(
        provisioning=10, deletion=2, clock=TurnedClock(), api_key=API_KEY
    ) as emulator:
        yield emulator


@pytest.fixture
def page(browser: Browser, emulator: EmulatorServer) -> Iterator[Page]:
    """The page, open and live. It must have had no error, and asked for nothing elsewhere."""
    page = browser.open(emulator.url)
    page.wait_for("document.querySelector('#connection').innerText === 'live'")
    yield page
    assert page.events("Runtime.exceptionThrown") == []
    assert page.events("Log.entryAdded") == []
    asked = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert {urlsplit(url)[1:3] for url in asked} == {
        (urlsplit(emulator.url).netloc, "/"),
        (urlsplit(emulator.url).netloc, "/_emulator/report"),
    }


def call(emulator: EmulatorServer, method: str, path: str, **more: object) -> requests.Response:
    headers = {"Authorization": f"Key {API_KEY}"}
    url = emulator.url + path
    return requests.request(method, url, headers=headers, timeout=10, **more)  # type: ignore[arg-type]


def test_machines_come_change_and_go_before_ones_eyes(page: Page, emulator: EmulatorServer) -> None:
    """Without a reload, and each change is said once for those who don't see the table."""
    assert page.js("document.querySelector('#no-machines').checkVisibility()")
    page.js("window.before = true")

    id_ = call(emulator, "POST", "/compute/instance", json=EIGHT).json()["id"]
    kind = "gpu_8x_h100_sxm5 · sector_2"
    page.wait_for(f"{MACHINES}.length === 1")
    assert page.js(MACHINES) == [[f"{id_}\n{kind}", "pending", NONE_YET, "0 s"]]
    assert page.js("document.querySelector('#no-machines').checkVisibility()") is False
    assert page.js("document.querySelector('#news').innerText") == f"Machine {id_[:8]} is pending."

    emulator.state.advance(100)
    page.wait_for(f"{MACHINES}[0][1] === 'ready'")
    ip = emulator.state.get(id_).ip
    assert page.js(MACHINES) == [[f"{id_}\n{kind}", "ready", ip, "1 min 40 s"]]
    assert page.js("document.querySelector('#news').innerText") == f"Machine {id_[:8]} is ready."

    call(emulator, "DELETE", f"/compute/instance/{id_}")
    page.wait_for(f"{MACHINES}[0][1] === 'deleting'")
    said = page.js("document.querySelector('#news').innerText")
    assert said == f"Machine {id_[:8]} is being deleted."
    emulator.state.advance(2)
    page.wait_for(f"{MACHINES}.length === 0")
    assert page.js("document.querySelector('#news').innerText") == f"Machine {id_[:8]} is gone."
    assert page.js("window.before")


def test_a_fleet_is_one_sentence_and_not_a_hundred(page: Page, emulator: EmulatorServer) -> None:
    """Whoever listens to the page must be able to."""
    for _ in range(100):
        emulator.state.create("gpu_1x_h100_sxm5", "key")
    page.wait_for(f"{MACHINES}.length === 100")
    emulator.state.advance(10)
    page.wait_for("document.querySelector('#ready').innerText === '100'")
    assert page.js("document.querySelector('#news').innerText") == "100 machines are ready."


def test_requests_show_as_they_come_the_latest_first(page: Page, emulator: EmulatorServer) -> None:
    """With their answers and faults, each once; the faults that still wait are named."""
    assert page.js("document.querySelector('#no-log').checkVisibility()")
    emulator.faults.add("create", "500_after")
    emulator.faults.add("list", "reset_before")
    emulator.faults.add("get", "429", times=2)
    page.wait_for("document.querySelector('#faults').checkVisibility()")
    with pytest.raises(requests.ConnectionError):
        call(emulator, "GET", "/compute/instances")
    page.wait_for(f"{LOG}.length === 1")
    call(emulator, "POST", "/compute/instance", json=ONE)
    call(emulator, "GET", "/compute/instances")
    page.wait_for(f"{LOG}.length === 3")
    assert [row[1:3] for row in page.js(LOG)] == [
        ["GET /compute/instances", "200"],
        ["POST /compute/instance", "500\nfault 500_after"],
        ["GET /compute/instances", "reset\nfault reset_before"],
    ]
    assert page.js("document.querySelector('#requests').innerText") == "create 1 · list 2"
    assert page.js("document.querySelector('#faults').innerText").endswith("get: 429 x 2")


def test_a_long_log_is_cut_and_says_so(page: Page, emulator: EmulatorServer) -> None:
    """A page that runs for days must not grow for days."""
    with requests.Session() as session:
        for _ in range(205):
            session.get(f"{emulator.url}/compute/instances", timeout=10)
    page.wait_for("document.querySelector('#requests').innerText.endsWith('200 of 205 shown')")
    assert page.js(f"{LOG}.length") == 200


def test_what_somebody_sent_is_text_and_nothing_else(page: Page, emulator: EmulatorServer) -> None:
    """A path or a status may look like HTML."""
    evil = "<img src=x onerror='window.evil=1'><b>"
    requests.get(f"{emulator.url}/%3Cimg src=x onerror='window.evil=1'%3E%3Cb%3E", timeout=10)
    id_ = emulator.state.create("gpu_1x_h100_sxm5", "key").id
    emulator.state.set_status(id_, evil)
    page.wait_for(f"{MACHINES}[0]?.[1] === {evil!r}".replace("\\'", "'").replace('"', "`"))
    page.wait_for(f"{LOG}.length === 1")
    assert page.js(LOG)[0][1] == f"GET /{evil}"
    assert page.js("document.querySelectorAll('img, table b').length") == 0
    assert page.js("window.evil") is None


def test_nothing_but_the_page_itself_may_run_in_it(browser: Browser) -> None:
    """The policy holds even for what gets into the document somehow."""
    with EmulatorServer() as emulator:
        page = browser.open(emulator.url)
        page.js(
            "document.body.append(Object.assign(document.createElement('script'),"
            " {textContent: 'window.evil = 1'}))"
        )
        assert page.js("window.evil") is None
        refused = "fetch('http://127.0.0.1:9/').then(() => '', (e) => String(e))"
        assert "Failed to fetch" in page.js(refused)
        assert "Content Security Policy" in str(page.events("Log.entryAdded"))


def test_the_key_is_nowhere_on_the_page(page: Page, emulator: EmulatorServer) -> None:
    """And the page needed none."""
    call(emulator, "GET", "/compute/instances")
    page.wait_for(f"{LOG}.length === 1")
    assert API_KEY not in page.js("document.documentElement.outerHTML")
    assert API_KEY not in str(page.events("Network.requestWillBeSent"))


def test_an_emulator_that_ended_is_said_so_and_the_next_one_is_shown(browser: Browser) -> None:
    """What the first one had is not mixed into the second's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with EmulatorServer(port=port) as first:
        first.state.create("gpu_1x_h100_sxm5", "key")
        call(first, "GET", "/compute/instances")
        page = browser.open(first.url)
        page.wait_for(f"{MACHINES}.length === 1")
    page.wait_for("document.querySelector('#connection').innerText.includes('has ended')")
    with EmulatorServer(port=port) as second:
        call(second, "POST", "/compute/instance", json=ONE)
        page.wait_for("document.querySelector('#connection').innerText === 'live'")
        page.wait_for(f"{LOG}.length === 1")
        assert page.js(LOG)[0][1] == "POST /compute/instance"


def test_it_is_readable_in_the_dark_on_a_phone_and_by_ear(
    page: Page, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """Contrast of 4.5 in both schemes, no scrolling sideways, and headers for the tables."""
    ids = [call(emulator, "POST", "/compute/instance", json=EIGHT).json()["id"] for _ in range(3)]
    emulator.state.advance(12)
    call(emulator, "POST", "/compute/instance", json=ONE)
    emulator.state.advance(4)
    call(emulator, "DELETE", f"/compute/instance/{ids[0]}")
    emulator.state.set_status(ids[1], "a_status_that_nobody_has_ever_thought_of")
    emulator.faults.add("get", "503")
    call(emulator, "GET", f"/compute/instance/{ids[1]}")
    emulator.faults.add("create", "500_after")
    page.wait_for(f"{LOG}.length === 6 && {MACHINES}.length === 4")
    page.wait_for("document.querySelector('#faults').checkVisibility()")
    for scheme in ("light", "dark"):
        page.colours(scheme)
        for width in (1000, 390):
            page.resize(width, 844)
            page.screenshot(tmp_path / f"{scheme}-{width}.png")
            assert page.js("document.documentElement.scrollWidth") == width
        assert [(ratio, text) for ratio, text in page.js(CONTRASTS) if ratio < 4.5] == []
    assert page.js("[...document.querySelectorAll('thead th')].every(h => h.scope === 'col')")
    assert page.js("[...document.querySelectorAll('tbody th')].every(h => h.scope === 'row')")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    names = {node.get("name", {}).get("value") for node in nodes if not node["ignored"]}
    assert {"Machines", "Status", "IP", "Age", "Request", "Answer"} <= names
    live = "[...document.querySelectorAll('[aria-live=polite]')].map(n => n.id)"
    assert page.js(live) == ["news"]


def test_the_picture_in_the_docs_can_be_taken_anew(browser: Browser, tmp_path: Path) -> None:
    """PULUMI_FAL_DOCS_PICTURE=1 puts it there."""
    picture = PICTURE if os.environ.get("PULUMI_FAL_DOCS_PICTURE") else tmp_path / PICTURE.name
    with EmulatorServer(provisioning=100, deletion=2, clock=TurnedClock()) as emulator:
        url, headers = emulator.url, {"Authorization": "Key emulator"}

        def send(method: str, path: str, **more: object) -> requests.Response:
            return requests.request(method, url + path, headers=headers, timeout=10, **more)  # type: ignore[arg-type]

        ids = [send("POST", "/compute/instance", json=EIGHT).json()["id"] for _ in range(2)]
        emulator.state.advance(75)
        send("GET", "/compute/instances")
        emulator.state.advance(61)
        send("GET", "/compute/instances")
        page = browser.open(url, width=900)
        page.wait_for(f"{LOG}.length === 4")
        emulator.faults.add("create", "500_after")
        send("POST", "/compute/instance", json=ONE)
        send("GET", "/compute/instances")
        emulator.state.advance(42)
        emulator.faults.add("list", "429", times=2)
        send("GET", "/compute/instances")
        send("DELETE", f"/compute/instance/{ids[1]}")
        page.wait_for(f"{LOG}.length === 8")
        page.wait_for("document.querySelector('#news').innerText.includes('deleted')")
        page.colours("light")
        height = page.js("document.querySelector('#log').getBoundingClientRect().bottom | 0")
        page.resize(900, height + 24)
        page.screenshot(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
