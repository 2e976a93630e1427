"""docs/recovering.md: its table is the one that the code goes by, and its quotes are tested."""

from __future__ import annotations

import re
from pathlib import Path

from pulumi_fal.api import retry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "recovering.md").read_text(encoding="utf-8")


def test_the_table_of_what_is_repeated_is_the_codes_own() -> None:
    """Row by row, in its order."""
    rows = [
        (
            row.failure,
            _repeated(row.repeat),
            _repeated(row.repeat and not row.taken),
            ["no", "yes"][row.taken],
        )
        for row in retry.TABLE
    ]
    table = TEXT.partition("## What is repeated")[2]
    found = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert found[1:] == rows


def test_every_quoted_message_is_compared_with_a_real_run() -> None:
    """By an end-to-end test, which names the heading that the quote stands under."""
    sources = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("test_*.py"))
    compared = set(re.findall(r'as_documented\(\s*\w[^"]*"([^"]+)"', sources))
    sections = re.split(r"^##+ ", TEXT, flags=re.MULTILINE)[1:]
    quoted = {each.partition("\n")[0] for each in sections if "```text" in each}
    assert quoted == compared


def test_every_link_within_the_page_leads_somewhere() -> None:
    """Headings are easily renamed."""
    headings = re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def _repeated(value: bool) -> str:
    return "repeated" if value else "not repeated"
