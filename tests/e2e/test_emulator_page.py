"""The emulator's page in a real browser: the Chromium that this machine has, if any."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import (
    Browser,
    Error,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import TurnedClock

from ..fakes import ED25519, KEY
from ..fakes import EIGHT as EIGHT_GPUS
from ..fakes import ONE as ONE_GPU

NONE_YET = "\N{EN DASH}"
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "emulator-page.png"
ONE = {"instance_type": ONE_GPU, "ssh_key": ED25519}
EIGHT = {"instance_type": EIGHT_GPUS, "ssh_key": ED25519, "sector": "sector_2"}
MACHINES, LOG = "#machines tbody tr", "#log tbody tr"

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


NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium here: install one (on Debian `apt-get install chromium`), "
    "or run `.venv/bin/playwright install chromium`"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of this computer, or else Playwright's own."""
    expect.set_options(timeout=10_000)
    program = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program)
        except Error:
            pytest.skip(MISSING)
        with browser:
            yield browser


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """Machines are ready after ten seconds and gone after two, on a clock that stands still."""
    with EmulatorServer(
        provisioning=10, deletion=2, clock=TurnedClock(), api_key=KEY, prices={ONE_GPU: 3600}
    ) as emulator:
        yield emulator


@pytest.fixture
def page(browser: Browser, emulator: EmulatorServer) -> Iterator[Page]:
    """The live page. Afterwards it has had no error, shown no key and sent no request elsewhere."""
    errors: list[str] = []
    asked: list[Request] = []
    with browser.new_page(viewport={"width": 1000, "height": 720}) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: asked.append(request))
        page.goto(emulator.url)
        expect(page.locator("#connection")).to_have_text("live")
        yield page
        assert KEY not in page.content()
        sent = [(request.url, request.headers, request.post_data) for request in asked]
    assert KEY not in str(sent)
    assert errors == []
    assert {urlsplit(request.url).netloc for request in asked} == {urlsplit(emulator.url).netloc}
    paths = {urlsplit(request.url).path for request in asked} - {"/"}
    assert {path.partition("/_emulator/")[0] for path in paths} == {""}


def rows(page: Page, table: str) -> list[list[str]]:
    """The text of a table's body, as a person sees it."""
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    found: list[list[str]] = page.locator(table).evaluate_all(cells)
    return found


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def call(emulator: EmulatorServer, method: str, path: str, **more: object) -> requests.Response:
    headers = {"Authorization": f"Key {KEY}"}
    url = emulator.url + path
    return requests.request(method, url, headers=headers, timeout=10, **more)  # type: ignore[arg-type]


def test_machine(page: Page, emulator: EmulatorServer) -> None:
    """The page isn't reloaded, and says each change once for those who don't see the table."""
    news = page.locator("#news")
    expect(page.locator("#no-machines")).to_be_visible()
    page.evaluate("window.before = true")

    id_ = call(emulator, "POST", "/compute/instance", json=EIGHT).json()["id"]
    kind = "gpu_8x_h100_sxm5 · sector_2"
    expect(page.locator(MACHINES)).to_have_count(1)
    assert rows(page, MACHINES)[0][:4] == [f"{id_} {kind}", "pending", NONE_YET, "0 s"]
    expect(page.locator("#no-machines")).to_be_hidden()
    expect(news).to_have_text(f"Machine {id_[:8]} is pending.")

    emulator.state.advance(100)
    expect(page.locator(MACHINES)).to_contain_text("ready")
    ip = emulator.state.get(id_).ip
    assert rows(page, MACHINES)[0][:4] == [f"{id_} {kind}", "ready", ip, "1 min 40 s"]
    expect(news).to_have_text(f"Machine {id_[:8]} is ready.")

    call(emulator, "DELETE", f"/compute/instance/{id_}")
    expect(page.locator(MACHINES)).to_contain_text("deleting")
    expect(news).to_have_text(f"Machine {id_[:8]} is being deleted.")
    emulator.state.advance(2)
    expect(page.locator(MACHINES)).to_have_count(0)
    expect(news).to_have_text(f"Machine {id_[:8]} is gone.")
    assert page.evaluate("window.before")


def test_numbers(page: Page, emulator: EmulatorServer) -> None:
    """Made are those alive and those gone, each the sum of what is beside it; the cost counts."""
    state = emulator.state
    ids = [state.create(NewInstance(ONE_GPU, "key")).id for _ in range(6)]
    state.delete(ids[0])
    state.advance(10)
    state.delete(ids[1])
    state.kill(ids[2])
    state.create(NewInstance(ONE_GPU, "key"))
    expect(page.locator("#made")).to_have_text("7")
    expect(page.locator("#alive")).to_have_text("5")
    expect(page.locator("#alive-how")).to_have_text("1 deleting · 1 pending · 3 ready")
    expect(page.locator("#gone")).to_have_text("2")
    expect(page.locator("#gone-how")).to_have_text("1 deleted · 1 killed")
    expect(page.locator("#cost")).to_have_text("52.00")
    expect(page.locator("#cost-how")).to_have_text("18000.00 an hour")
    state.create(NewInstance(EIGHT_GPUS, "key"))
    expect(page.locator("#cost-how")).to_contain_text(" an hour · 1 without a price")


def test_fault_buttons(page: Page, emulator: EmulatorServer) -> None:
    """Each button is a control, and can be taken back where that makes sense."""
    state = emulator.state
    state.capacity = 7
    stuck, killed = (state.create(NewInstance(ONE_GPU, "key")).id for _ in range(2))
    button(page, f"stuck {stuck[:8]}").click()
    expect(button(page, f"stuck {stuck[:8]}")).to_be_disabled()
    button(page, f"kill {killed[:8]}").click()
    expect(page.locator(MACHINES)).to_have_count(1)
    state.advance(10)
    assert state.get(stuck).status == "pending"
    for pressed, capacity in (("true", 0), ("false", 7)):
        button(page, "No capacity").click()
        expect(button(page, "No capacity")).to_have_attribute("aria-pressed", pressed)
        assert state.capacity == capacity
    expect(button(page, "Clear faults")).to_be_hidden()
    button(page, "Slow calls").click()
    expect(page.locator("#faults")).to_contain_text("create: slow always; list: slow always; get")
    expect(button(page, "Slow calls")).to_be_disabled()
    button(page, "Clear faults").click()
    expect(page.locator("#faults")).to_be_hidden()
    assert emulator.faults.left() == {}


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_copy(browser: Browser, has_clipboard: bool) -> None:
    """The lines that the emulator prints, as seen from here; without a clipboard they are selected.

    A browser keeps the clipboard from pages of other computers.
    """
    with (
        EmulatorServer(api="v1", api_key=None) as emulator,
        browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context,
    ):
        page, port = context.new_page(), emulator.url.rpartition(":")[2]
        if not has_clipboard:
            page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: null})")
        page.goto(f"http://localhost:{port}")
        emulator.state.create(NewInstance(ONE_GPU, "key"))
        expect(page.locator(MACHINES)).to_have_count(1)
        expect(page.locator("#exports")).to_be_hidden()
        button(page, "Copy variables").click()
        said = "The variables are copied" if has_clipboard else "The variables are selected"
        expect(page.locator("#news")).to_contain_text(said)
        how = "navigator.clipboard.readText()" if has_clipboard else "String(getSelection())"
        copied = page.evaluate(how).strip()
    assert copied == emulator.exports.replace("127.0.0.1:" + port, "localhost:" + port)
    assert "FAL_ADMIN_API_KEY" in copied


@pytest.mark.parametrize(
    "key, said",
    [
        (None, "Any key works; each has machines of its own."),
        (KEY, "This emulator accepts only the key that it was started with."),
    ],
    ids=["any key", "one key"],
)
def test_empty_page(browser: Browser, key: str | None, said: str) -> None:
    """The endpoint, the key, and that nobody can log in to what comes."""
    with EmulatorServer(api_key=key) as emulator, browser.new_page() as page:
        page.goto(emulator.url)
        expect(page.get_by_text(said)).to_be_visible()
        shown = page.locator("main").inner_text()
        assert emulator.exports in shown
        assert ("Any key works" in shown) == ("FAL_ADMIN_API_KEY" in shown) == (key is None)
        assert "nobody can log in to them" in shown
        expect(page.locator("#costs")).to_be_hidden()


def test_requests(page: Page, emulator: EmulatorServer) -> None:
    """Each row has the answer and the fault, and the faults that are still to come are named."""
    expect(page.locator("#no-log")).to_be_visible()
    emulator.faults.add("create", "500_after")
    emulator.faults.add("list", "reset_before")
    emulator.faults.add("get", "429", times=2)
    expect(page.locator("#faults")).to_be_visible()
    with pytest.raises(requests.ConnectionError):
        call(emulator, "GET", "/compute/instances")
    expect(page.locator(LOG)).to_have_count(1)
    call(emulator, "POST", "/compute/instance", json=ONE)
    call(emulator, "GET", "/v1/compute/instances")
    call(emulator, "GET", "/v2/compute/instances")  # of neither API, as with a wrong endpoint
    expect(page.locator(LOG)).to_have_count(4)
    assert [row[1:4] for row in rows(page, LOG)] == [
        ["GET /v2/compute/instances", "404", NONE_YET],
        ["GET /v1/compute/instances", "200", "v1"],
        ["POST /compute/instance", "500 fault 500_after", "legacy"],
        ["GET /compute/instances", "reset fault reset_before", "legacy"],
    ]
    expect(page.locator("#requests")).to_have_text("4 · create 1 · list 2")
    assert page.locator("#faults").inner_text().endswith("get: 429 x 2")


@pytest.mark.chaos("e2e/test_emulator_page.py::test_requests")
def test_many(page: Page, emulator: EmulatorServer) -> None:
    """News are one sentence, and the log of days does not grow. A header stays in sight."""
    for _ in range(100):
        emulator.state.create(NewInstance(ONE_GPU, "key"))
    expect(page.locator("#machines-count")).to_have_text("100")
    emulator.state.advance(10)
    expect(page.locator("#news")).to_have_text("100 machines are ready.")
    with requests.Session() as session:
        for _ in range(205):
            session.get(f"{emulator.url}/compute/instances", timeout=10)
    expect(page.locator("#requests")).to_contain_text("the latest 200 of 205 · list 205")
    expect(page.locator(LOG)).to_have_count(200)
    page.keyboard.press("End")
    table = page.get_by_role("table", name="Requests")
    expect(table.get_by_role("row").last).to_be_in_viewport()
    expect(page.locator("h1")).not_to_be_in_viewport()
    expect(table.get_by_role("columnheader").first).to_be_in_viewport()


def test_html_is_text(page: Page, emulator: EmulatorServer) -> None:
    """A path or a status that looks like HTML is shown as text."""
    evil = "<img src=x onerror='window.evil=1'><b>"
    requests.get(f"{emulator.url}/%3Cimg src=x onerror='window.evil=1'%3E%3Cb%3E", timeout=10)
    id_ = emulator.state.create(NewInstance(ONE_GPU, "key")).id
    emulator.state.set_status(id_, evil)
    expect(page.locator(f"{MACHINES} >> td >> nth=0")).to_have_text(evil)
    expect(page.locator(LOG)).to_have_count(1)
    assert rows(page, LOG)[0][1] == f"GET /{evil}"
    expect(page.locator("img, table b")).to_have_count(0)
    assert page.evaluate("window.evil") is None


@pytest.mark.chaos("e2e/test_emulator_page.py::test_machine")
def test_restart(browser: Browser) -> None:
    """Machines and requests of the first emulator are not mixed with those of the second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with browser.new_page() as page:
        with EmulatorServer(port=port) as first:
            first.state.create(NewInstance(ONE_GPU, "key"))
            call(first, "GET", "/compute/instances")
            page.goto(first.url)
            expect(page.locator(MACHINES)).to_have_count(1)
        expect(page.locator("#connection")).to_contain_text("has ended")
        with EmulatorServer(port=port) as second:
            call(second, "POST", "/compute/instance", json=ONE)
            expect(page.locator("#connection")).to_have_text("live")
            expect(page.locator(LOG)).to_have_count(1)
            assert rows(page, LOG)[0][1] == "POST /compute/instance"


@pytest.mark.chaos("e2e/test_emulator_page.py::test_machine")
def test_readable(page: Page, emulator: EmulatorServer) -> None:
    """Contrast is 4.5 in both schemes, nothing scrolls sideways, no id is wrapped; tables have
    headers.

    With PULUMI_FAL_DOCS_PICTURE=1, a picture is saved in docs first.
    """
    ids = [call(emulator, "POST", "/compute/instance", json=EIGHT).json()["id"] for _ in range(2)]
    emulator.state.advance(12)
    call(emulator, "GET", "/compute/instances")
    emulator.faults.add("create", "500_after")
    call(emulator, "POST", "/compute/instance", json=ONE)
    call(emulator, "GET", "/compute/instances")
    emulator.faults.add("list", "429", times=2)
    call(emulator, "GET", "/compute/instances")
    call(emulator, "DELETE", f"/compute/instance/{ids[0]}")
    expect(page.locator(LOG)).to_have_count(7)
    expect(page.locator(MACHINES)).to_have_count(3)
    expect(page.locator("#news")).to_contain_text("deleted")
    if os.environ.get("PULUMI_FAL_DOCS_PICTURE"):
        take_picture(page)
    emulator.state.set_status(ids[1], "a_status_that_nobody_has_ever_thought_of")
    call(emulator, "GET", f"/v1/compute/instances/{ids[1]}")
    expect(page.locator(LOG)).to_have_count(8)
    expect(page.locator("#faults")).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 700, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            lines = "all => all.map(one => one.getClientRects().length)"
            assert page.locator(".id").evaluate_all(lines) == [1] * 5
        assert [(ratio, text) for ratio, text in page.evaluate(CONTRASTS) if ratio < 4.5] == []
    for table, headers in {
        "Machines": ("Machine", "Status", "IP", "Age", "Fault"),
        "Requests": ("Time", "Request", "Answer", "API", "Took"),
    }.items():
        shown = page.get_by_role("table", name=table)
        expect(shown.get_by_role("columnheader")).to_have_text(headers)
    expect(page.get_by_role("rowheader")).to_have_count(3)
    assert page.locator("[aria-live=polite]").evaluate_all("all => all.map(n => n.id)") == ["news"]


def take_picture(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    height = page.evaluate("document.querySelector('#log').getBoundingClientRect().bottom | 0")
    page.set_viewport_size({"width": 960, "height": height + 24})
    page.screenshot(path=PICTURE)
