"""A headless Chromium under Playwright: the one that this machine has, never one to download."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium here: install one (on Debian `apt-get install chromium`), "
    "or run `.venv/bin/playwright install chromium`"
)


@contextmanager
def running() -> Iterator[Browser]:
    """A browser for as long as the block runs. Skips the test where there is none."""
    with sync_playwright() as playwright, _launch(playwright) as browser:
        yield browser


def _launch(playwright: Playwright) -> Browser:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program:
        return playwright.chromium.launch(executable_path=program)
    # None is Playwright's own browser; the others it finds where their installers put them.
    for channel in (None, "chrome", "msedge"):
        try:
            return playwright.chromium.launch(channel=channel)
        except Error:
            continue
    pytest.skip(MISSING)
